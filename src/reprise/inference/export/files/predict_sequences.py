"""Classify sequences: `python predict.py FILE.csv`. Needs numpy and onnxruntime.

Each row of the file is a sequence without its class: all values of the first channel, then of the second, and so on, with decimal
points and without a header.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
SIGNATURE = json.loads((HERE / "signature.json").read_text("utf-8"))


def classify(session, sequences):
    """Return the probability of each class, by name, for sequences `[T, channel]`, at most as long as those of training."""
    steps, channels = SIGNATURE["inputs"]["values"]["shape"]
    values, lengths = np.zeros((len(sequences), steps, channels), np.float32), np.array([len(one) for one in sequences])
    known = {one.name for one in session.get_inputs()}
    if lengths.max() > steps or ("lengths" not in known and lengths.min() < steps):
        raise SystemExit(f"sequences of {lengths.min()} to {lengths.max()} steps, and the model reads {steps}")
    for row, sequence in enumerate(sequences):
        values[row, : len(sequence)] = sequence
    inputs = {"values": values, "lengths": lengths.astype(np.int64)}
    (probabilities,) = session.run(None, {name: array for name, array in inputs.items() if name in known})
    return [dict(zip(SIGNATURE["classes"], row.tolist(), strict=True)) for row in probabilities]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="model.onnx", help="model.onnx, or model.int8.onnx if it was exported")
    arguments = parser.parse_args()
    with arguments.file.open(newline="") as stream:
        rows = [np.array([cell for cell in row if cell], np.float32) for row in csv.reader(stream) if row]
    sequences = [row.reshape(SIGNATURE["inputs"]["values"]["shape"][1], -1).T for row in rows]
    for answer in classify(onnxruntime.InferenceSession(str(HERE / arguments.model)), sequences):
        print(json.dumps({"class": max(answer, key=answer.get), "probabilities": answer}))
