"""The README of an exported model."""

from collections.abc import Mapping

from reprise.inference.export.graphs import Format
from reprise.inference.export.runners import Measured
from reprise.inference.trained_run import TrainedRun

QUANTIZED = "model.int8.onnx"


def readme(opened: TrainedRun, to: Format, quantized: bool, measured: Mapping[str, Measured], reads_files: bool) -> str:
    """Return the README of the folder; `reads_files`: whether it has predict.py."""
    packages, load = {
        "onnx": ("numpy and onnxruntime", ONNX_LINES),
        "pt2": ("numpy and PyTorch", PT2_LINES),
    }[to]
    rows = "\n".join(
        f"| {name} | {one.value:.4f} | {one.largest_difference:.1e} | {one.samples_per_second:,.0f} | {one.bytes / 1e6:.2f} |"
        for name, one in measured.items()
    )
    metric = next(iter(measured.values())).metric
    kind = opened.windows.meta.kind
    usage = f"\n`predict.py` reads {FILES[kind]}:\n\n```\n{USAGE[kind]}\n```\n" if reads_files else ""
    chosen = f" `{QUANTIZED}` has 8-bit integers." if quantized else ""
    return f"""# {opened.trained.name}

The model of the run `{opened.trained.name}` of {opened.config.data.title}, from raw inputs to answers.{chosen}
It needs {packages}. `signature.json` has the shapes and types of the inputs, and classes or units. Any number of
samples can be given at once.

```python
{load}```
{usage}
On the whole val split:

| | {metric} | largest difference from the original | samples a second | MB |
| --- | --- | --- | --- | --- |
{rows}

Differences are those of probabilities, or of forecasts in standard deviations of the training split. Rates are those of batches
of 256 samples on the machine that exported the model.
"""


ONNX_LINES = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
example = dict(np.load("example.npz"))
expected = example.pop("answer")
(answer,) = session.run(None, example)
print(np.abs(answer - expected).max())
"""
PT2_LINES = """\
import numpy as np
import torch

graph = torch.export.load("model.pt2").module()
example = dict(np.load("example.npz"))
expected = example.pop("answer")
answer = graph(*map(torch.from_numpy, example.values()))
print(np.abs(answer.detach().numpy() - expected).max())
"""
FILES = {
    "images": "picture files",
    "series": "CSV files with the columns of the training data; the forecast starts after the last row",
    "sequences": "CSV files with a sequence in each row, with or without its class",
}
USAGE = {
    "images": "pip install numpy onnxruntime pillow\npython predict.py PICTURE",
    "series": "pip install numpy onnxruntime\npython predict.py FILE.csv",
    "sequences": "pip install numpy onnxruntime\npython predict.py FILE.csv",
}
