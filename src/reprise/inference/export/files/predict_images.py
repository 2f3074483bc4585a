"""Classify pictures: `python predict.py PICTURE [PICTURE ...]`. Needs numpy, onnxruntime and Pillow."""

import argparse
import json
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="model.onnx", help="model.onnx, or model.int8.onnx if it was exported")
    arguments = parser.parse_args()
    answers = classify(
        onnxruntime.InferenceSession(str(HERE / arguments.model)), [file.read_bytes() for file in arguments.pictures]
    )
    for file, answer in zip(arguments.pictures, answers, strict=True):
        print(json.dumps({"file": str(file), "class": max(answer, key=answer.get), "probabilities": answer}))
