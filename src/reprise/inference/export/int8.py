"""Quantize an ONNX model to 8-bit integers."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from reprise.data.datasets import Dataset
from reprise.inference.export.graphs import Inputs
from reprise.inference.export.runners import BATCH, raw_inputs
from reprise.inference.predictor import Predictor

CALIBRATION = 4 * BATCH
"""Training samples whose activations decide the ranges of static quantization."""


def quantize(source: Path, target: Path, predictor: Predictor, train: Dataset) -> None:
    """Write a model with 8-bit weights and, if it has convolutions, 8-bit activations.

    Activations of convolutions are quantized with ranges from training samples. Matrix products and recurrent layers quantize
    their activations as they compute, batch by batch.
    """
    from onnxruntime import quantization  # late: of the extra `export`

    has_convolution = any(isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d) for layer in predictor.network.modules())
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        if not has_convolution:
            quantization.quantize_dynamic(str(prepared), str(target))
            return
        quantization.quantize_static(
            str(prepared),
            str(target),
            _Samples(predictor, train),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )


class _Samples:
    """Batches of raw inputs, as onnxruntime's `CalibrationDataReader`."""

    def __init__(self, predictor: Predictor, train: Dataset) -> None:
        rows = torch.linspace(0, len(train) - 1, min(CALIBRATION, len(train))).long()
        self._batches = (dict(raw_inputs(predictor, train, part)) for part in torch.split(rows, BATCH))

    def get_next(self) -> Inputs | None:
        return next(self._batches, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice of the quantizer to do what is done here."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
