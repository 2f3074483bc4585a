"""Classify sequences: `python predict.py FILE.csv`. Needs numpy and onnxruntime.

Each row of the file is a sequence: all values of the first channel, then of the second, and so on. A header, and the class in the
column that has it in the training data, are recognised. Separator and decimal mark are detected. Empty cells at the end of a row
end its sequence.
"""

import argparse
import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
SIGNATURE = json.loads((HERE / "signature.json").read_text("utf-8"))
TABLE = SIGNATURE["table"]


def classify(session, sequences):
    """Return the probability of each class, by name, for sequences `[T, channel]`, at most as long as those of training."""
    steps, channels = SIGNATURE["inputs"]["values"]["shape"]
    values, lengths = np.zeros((len(sequences), steps, channels), np.float32), np.array([len(one) for one in sequences])
    known = {one.name for one in session.get_inputs()}
    if lengths.max() > steps or ("lengths" not in known and lengths.min() < steps):
        raise ValueError(f"sequences of {lengths.min()} to {lengths.max()} steps, and the model reads {steps}")
    for row, sequence in enumerate(sequences):
        values[row, : len(sequence)] = sequence
    inputs = {"values": values, "lengths": lengths.astype(np.int64)}
    (probabilities,) = session.run(None, {name: array for name, array in inputs.items() if name in known})
    return [dict(zip(SIGNATURE["classes"], row.tolist(), strict=True)) for row in probabilities]


def read(content):
    """Return sequences `[T, channel]` and their classes, None if the file has none; raise ValueError if it cannot be read."""
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    if text.lstrip()[:1] in {"@", "%"}:
        raise ValueError("a .ts file, and this program reads CSV files")
    separator = TABLE["separator"]
    if separator == "auto":
        separator = next((one for one in ";\t|" if one in text.partition("\n")[0]), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cell.strip() for cell in cells)]
    if not rows:
        raise ValueError("no rows")
    header = rows[0][1] if is_header(rows[0][1]) else None
    rows = rows[1:] if header else rows
    if not rows:
        raise ValueError("no sequence below the header")
    column = label_column(header, [cells for _, cells in rows])
    labels = [cells[column] if column is not None else None for _, cells in rows]
    for _, cells in rows if column is not None else []:
        del cells[column]
    cells = [cell for _, row in rows for cell in row]
    comma = has_decimal_comma(cells) if TABLE["decimal"] == "auto" else TABLE["decimal"] == ","
    return [sequence(cells, row, comma) for row, cells in rows], labels


def is_header(cells):
    """Return whether most cells are text, or the cells number the time steps."""
    text = [cell for cell in cells if cell and cell.lower() not in {"?", "nan"} and not is_number(cell)]
    parts = [cells] + [part for part, label in ((cells[1:], cells[0]), (cells[:-1], cells[-1])) if not is_number(label)]
    is_count = any(part == [str(step) for step in range(first, first + len(part))] for part in parts for first in (0, 1))
    return 2 * len(text) > len(cells) or is_count


def is_number(text):
    """Return whether a text is a number, with either decimal mark."""
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def label_column(header, rows):
    """Return the position of the class in each row, None if the file has none."""
    steps, channels = SIGNATURE["inputs"]["values"]["shape"]
    named = TABLE["label"]
    position = {"first": 0, "last": -1}.get(named, header.index(named) if header and named in header else None)
    has_classes = position is not None and all(cells[position] in TABLE["labels"] for cells in rows)
    is_padded = "lengths" in SIGNATURE["inputs"]
    return position if has_classes and (is_padded or all(len(cells) == steps * channels + 1 for cells in rows)) else None


def has_decimal_comma(cells):
    """Return whether commas in cells are decimal marks."""
    marked = [cell for cell in cells if "," in cell]
    if marked and all(re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", cell) for cell in marked):
        raise ValueError(f"{marked[0]!r} may be a thousand or a decimal fraction; write it with a point")
    return bool(marked)


def sequence(cells, row, comma):
    """Return the values `[T, channel]` of a row, up to its last one."""
    channels = SIGNATURE["inputs"]["values"]["shape"][1]
    if len(cells) % channels:
        raise ValueError(f"row {row}: {len(cells)} values are no multiple of {channels} channels")
    parts = [cells[first : first + len(cells) // channels] for first in range(0, len(cells), len(cells) // channels)]
    length = max((number for part in parts for number, cell in enumerate(part, 1) if cell), default=0)
    if not length:
        raise ValueError(f"row {row}: no values")
    values = np.empty((length, channels), np.float32)
    for channel, part in enumerate(parts):
        for step, cell in enumerate(part[:length]):
            if not is_number(cell) or not np.isfinite(value := float(cell.replace(",", ".") if comma else cell)):
                raise ValueError(f"row {row}, step {step + 1} of channel {channel + 1}: {cell!r} is no number")
            values[step, channel] = value
    return values


def main():
    """Print a line of JSON for each sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="model.onnx", help="model.onnx, or model.int8.onnx if it was exported")
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(str(HERE / arguments.model))
    try:
        sequences, labels = read(arguments.file.read_bytes())
        answers = classify(session, sequences)
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"{arguments.file}: {getattr(error, 'strerror', None) or error}")
    for label, answer in zip(labels, answers, strict=True):
        true = {"true": label} if label is not None else {}
        print(json.dumps({**true, "class": max(answer, key=answer.get), "probabilities": answer}))


if __name__ == "__main__":
    main()
