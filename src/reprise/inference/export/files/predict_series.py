"""Forecast a series: `python predict.py FILE.csv`. Needs numpy and onnxruntime.

The file has a column `time` (ISO 8601, UTC unless it has an offset) and a column for each channel, with decimal points. Its last
rows are the lookback; the forecast starts one step after the last row.
"""

import argparse
import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
SIGNATURE = json.loads((HERE / "signature.json").read_text("utf-8"))


def forecast(session, time, values):
    """Return the forecast `[horizon, target]` after time stamps `[T]` in nanoseconds since 1970 and values `[T, channel]`."""
    lookback = SIGNATURE["lookback"]
    if len(values) < lookback:
        raise SystemExit(f"{len(values)} rows, and the model reads {lookback}")
    dtype = SIGNATURE["inputs"]["values"]["dtype"]
    inputs = {"values": np.asarray(values[-lookback:], dtype)[None], "time": np.asarray(time[-lookback:], np.int64)[None]}
    known = {one.name for one in session.get_inputs()}
    (answer,) = session.run(None, {name: array for name, array in inputs.items() if name in known})
    return answer[0]


def nanoseconds(text):
    """Return a time stamp as nanoseconds since 1970."""
    stamp = datetime.fromisoformat(text)
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1e6) * 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="model.onnx", help="model.onnx, or model.int8.onnx if it was exported")
    arguments = parser.parse_args()
    with arguments.file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    time = [nanoseconds(row["time"]) for row in rows]
    values = [[float(row[channel]) for channel in SIGNATURE["channels"]] for row in rows]
    answer = forecast(onnxruntime.InferenceSession(str(HERE / arguments.model)), time, values)
    for step, row in enumerate(answer.tolist(), 1):
        print(json.dumps({"step": step, **dict(zip(SIGNATURE["targets"], row, strict=True))}))
