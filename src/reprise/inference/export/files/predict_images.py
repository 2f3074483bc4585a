"""Classify pictures: `python predict.py PICTURE [PICTURE ...]`. Needs numpy, onnxruntime and Pillow."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from decoding import Decoding, decode

HERE = Path(__file__).parent
SIGNATURE = json.loads((HERE / "signature.json").read_text("utf-8"))


def classify(session, contents):
    """Return the probability of each class, by name, for the contents of picture files."""
    settings = SIGNATURE["decoding"]
    limits = tuple(settings["limits"]) if settings["limits"] else None
    decoding = Decoding(tuple(settings["shape"]), settings["resize"], tuple(settings["background"]), limits)
    pixels = np.stack([decode(content, decoding).pixels for content in contents])
    (probabilities,) = session.run(None, {"pixels": pixels})
    return [dict(zip(SIGNATURE["classes"], row.tolist(), strict=True)) for row in probabilities]


def main():
    """Print a line of JSON for each picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="model.onnx", help="model.onnx, or model.int8.onnx if it was exported")
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(str(HERE / arguments.model))
    failed = 0
    for file in arguments.pictures:
        try:
            (answer,) = classify(session, [file.read_bytes()])
        except (OSError, ValueError) as error:
            print(f"{file}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
            failed += 1
            continue
        print(json.dumps({"file": str(file), "class": max(answer, key=answer.get), "probabilities": answer}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
