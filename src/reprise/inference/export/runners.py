"""Run an exported graph, and compare it with the predictor it was made from."""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data.datasets import Dataset
from reprise.inference.export.graphs import Inputs
from reprise.inference.predictor import Predictor
from reprise.tasks.classification import Classification

Values = npt.NDArray[np.float64]
Runner = Callable[[Inputs], npt.NDArray[Any]]
"""Maps raw inputs of a batch to answers `[B, …]`."""
BATCH = 256
"""Samples in a batch while graphs are compared and timed."""
REPETITIONS, SECONDS = 3, 0.5
"""A rate is the best of so many measurements, each at least so long."""


@dataclass(frozen=True)
class Measured:
    """How a graph does on the val split."""

    metric: str
    """accuracy, or mae in units, of `value`."""
    value: float
    largest_difference: float
    """From the answers of the original: of probabilities, or of forecasts in standard deviations of the training split."""
    samples_per_second: float
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the entries for report.json."""
        return asdict(self)


def torch_runner(predictor: Predictor) -> Runner:
    """Return the runner of the original."""

    def run(inputs: Inputs) -> npt.NDArray[Any]:
        with torch.inference_mode():
            return np.asarray(predictor(*(torch.from_numpy(array) for array in inputs.values())).numpy())

    return run


def onnx_runner(file: Path) -> Runner:
    """Return the runner of an ONNX model, on as many threads as PyTorch uses."""
    import onnxruntime  # late: of the extra `export`

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(None, dict(inputs))[0])


def pt2_runner(file: Path) -> Runner:
    """Return the runner of a graph of torch.export."""
    graph = torch.export.load(file).module()

    def run(inputs: Inputs) -> npt.NDArray[Any]:
        with torch.inference_mode():
            return np.asarray(graph(*(torch.from_numpy(np.asarray(array)) for array in inputs.values())).numpy())

    return run


def raw_inputs(predictor: Predictor, split: Dataset, rows: Tensor) -> dict[str, npt.NDArray[Any]]:
    """Return the raw inputs of some rows of a split, by name."""
    return {name: part.numpy() for name, part in zip(predictor.transform.raw_inputs, split.raw(rows), strict=True)}


def measure(runner: Runner, predictor: Predictor, val: Dataset, file: Path) -> Measured:
    """Run a graph on the whole val split, compare its answers with those of the original, and time it."""
    original = torch_runner(predictor)
    largest, right, seen = 0.0, 0.0, 0
    for rows in torch.split(torch.arange(len(val)), BATCH):
        inputs = raw_inputs(predictor, val, rows)
        answers, expected = runner(inputs).astype(np.float64), original(inputs).astype(np.float64)
        largest = max(largest, float(np.abs((answers - expected) / scale_of(predictor)).max()))
        scores = _scores(predictor, answers, val.gather(rows).targets)
        right, seen = right + float(np.nansum(scores)), seen + int(np.isfinite(scores).sum())
    metric = "accuracy" if isinstance(predictor.task, Classification) else "mae"
    inputs = raw_inputs(predictor, val, torch.arange(BATCH) % len(val))
    return Measured(metric, right / seen, largest, _rate(runner, inputs), file.stat().st_size)


def scale_of(predictor: Predictor) -> Values:
    """Return the unit of differences between answers: 1 for probabilities, the standard deviation of each forecast channel."""
    std = getattr(predictor.task, "std", None)
    return np.ones(1) if std is None else std.double().numpy()


def _scores(predictor: Predictor, answers: Values, targets: Tensor) -> npt.NDArray[Any]:
    """Return 1 for each sample classified correctly and else 0, or the absolute error of each forecast value."""
    if isinstance(predictor.task, Classification):
        return np.asarray(answers.argmax(-1) == targets.numpy(), np.float64)
    truth = predictor.task.postprocess(targets).double().numpy()
    return np.asarray(np.abs(answers - truth))


def _rate(runner: Runner, inputs: Inputs) -> float:
    """Return samples per second: the best of several measurements after one call to warm up."""
    runner(inputs)
    return max(_samples_per_second(runner, inputs) for _ in range(REPETITIONS))


def _samples_per_second(runner: Runner, inputs: Inputs) -> float:
    started = time.perf_counter()
    for batches in itertools.count(1):
        runner(inputs)
        if (seconds := time.perf_counter() - started) > SECONDS:
            return batches * BATCH / seconds
    raise AssertionError("count ends never")
