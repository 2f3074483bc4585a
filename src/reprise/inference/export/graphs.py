"""Export a predictor as a graph that maps raw inputs to answers, for any batch size."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from reprise.errors import UserError
from reprise.inference.predictor import Predictor
from reprise.tracking.logged_model import with_parameters

Inputs = Mapping[str, npt.NDArray[np.generic]]
"""Raw inputs `[B, …]` by name, in the order of the predictor's `raw_inputs`."""
Format = Literal["onnx", "pt2"]
OUTPUT = "answer"


def write_onnx(predictor: Predictor, example: Inputs, file: Path) -> None:
    """Write an ONNX model.

    Raises:
        UserError: if an operation of the network has no ONNX form.

    """
    tensors = tuple(torch.from_numpy(np.asarray(array)) for array in example.values())
    try:
        with _quiet():
            program = torch.onnx.export(
                with_parameters(predictor, len(tensors)),
                tensors,
                dynamo=True,
                input_names=list(example),
                output_names=[OUTPUT],
                dynamic_shapes=[{0: torch.export.Dim("batch")} for _ in tensors],
                verbose=False,
            )
        assert program is not None
        program.save(file)
    except ImportError:
        raise UserError("the packages for ONNX are missing", "pip install 'reprise[export]'") from None
    except Exception as error:  # exporter and operators raise errors of many types
        reason = next(filter(None, str(error.__cause__ or error).splitlines()), type(error).__name__)
        raise UserError(f"{type(predictor.network).__name__} cannot be exported to ONNX: {reason}", "use --to pt2") from error


def write_pt2(predictor: Predictor, example: Inputs, file: Path) -> None:
    """Write a graph of torch.export, which PyTorch runs without reprise."""
    tensors = tuple(torch.from_numpy(np.asarray(array)) for array in example.values())
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.export.export(
            with_parameters(predictor, len(tensors)), tensors, dynamic_shapes=[{0: batch} for _ in tensors]
        )
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    file.write_bytes(buffer.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence notes of the exporter on its own progress and on packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
