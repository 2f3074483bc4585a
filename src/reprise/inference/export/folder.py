"""Write the folder of an exported model: the graph, its signature, an example with its answer, and how to use it."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from reprise.data import store
from reprise.data.modalities.images import decoding
from reprise.data.modalities.images.folder import decoding_of
from reprise.data.modality import tensors_of
from reprise.errors import UserError
from reprise.inference.export import int8
from reprise.inference.export.graphs import Format, write_onnx, write_pt2
from reprise.inference.export.readme import QUANTIZED, readme
from reprise.inference.export.runners import (
    Measured,
    Runner,
    measure,
    onnx_runner,
    pt2_runner,
    raw_inputs,
    scale_of,
    torch_runner,
)
from reprise.inference.export.tables import table_of
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.tasks.classification import Classification

FILES = Path(__file__).with_name("files")
MODEL, EXAMPLE, ANSWER = {"onnx": "model.onnx", "pt2": "model.pt2"}, "example.npz", "answer"
TOLERANCE = 1e-5
"""Largest accepted difference of probabilities, or of forecasts in standard deviations of the training split."""


def run(opened: TrainedRun, to: Format, quantized: bool, out: Path, console: Console) -> dict[str, Measured]:
    """Export a run to a folder. Compare the graph with the original on the whole val split, and return the measurements.

    Raises:
        UserError: when the network cannot be exported, its arrays are missing, or the answers differ.

    """
    if quantized and to != "onnx":
        raise UserError("--int8 quantizes ONNX models only", "use --to onnx")
    if getattr(opened.windows.meta, "tiled", False):
        raise UserError(
            "export does not cut pictures into tiles (data.resize=tiles)", "use `reprise predict`, or train with data.resize=pad"
        )
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} exists already", "delete it, or name another folder with --out")
    predictor = Predictor.from_run(opened)
    train, val = opened.windows.learning()
    example = raw_inputs(predictor, val, torch.arange(min(2, len(val))).repeat(2)[:2])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        draft = Path(scratch) / out.name
        draft.mkdir()
        file = draft / MODEL[to]
        {"onnx": write_onnx, "pt2": write_pt2}[to](predictor, example, file)
        runners = {"torch": (torch_runner(predictor), opened.weights), to: (_runner(to, file), file)}
        if quantized:
            int8.quantize(file, draft / QUANTIZED, predictor, train)
            runners["int8"] = onnx_runner(draft / QUANTIZED), draft / QUANTIZED
        measured = {name: measure(runner, predictor, val, path) for name, (runner, path) in runners.items()}
        _demand_equal(predictor, measured[to], to)
        for name, one in measured.items():
            summary = f"val {one.metric} {one.value:.4f}, {one.samples_per_second:,.0f} samples/s, {one.bytes / 1e6:.2f} MB"
            console.print(f"export  {name:<5}  {summary}, largest difference {one.largest_difference:.1e}", highlight=False)
        answer = torch_runner(predictor)(example)
        np.savez(draft / EXAMPLE, **example, **{ANSWER: answer})  # type: ignore[arg-type]
        store.write_json(draft / "signature.json", signature(opened, predictor, example, answer))
        store.write_json(draft / "report.json", {name: one.as_dict() for name, one in measured.items()})
        reads_files = to == "onnx" and _copy_program(opened, draft)
        (draft / "README.md").write_text(readme(opened, to, quantized, measured, reads_files), "utf-8")
        if out.exists():
            out.rmdir()
        shutil.move(draft, out)
    return measured


def _runner(to: Format, file: Path) -> Runner:
    return onnx_runner(file) if to == "onnx" else pt2_runner(file)


def _demand_equal(predictor: Predictor, measured: Measured, to: Format) -> None:
    if not measured.largest_difference <= TOLERANCE:
        unit = "" if isinstance(predictor.task, Classification) else " standard deviations"
        raise UserError(
            f"the {to} model differs from the original by {measured.largest_difference:.1e}{unit} on val", "nothing was written"
        )


def signature(
    opened: TrainedRun, predictor: Predictor, example: Mapping[str, npt.NDArray[Any]], answer: npt.NDArray[Any]
) -> dict[str, Any]:
    """Return what a program needs: shapes and types of inputs and answer, classes or units, and how pictures are decoded."""
    described: dict[str, Any] = {
        "run": opened.trained.name,
        "weights_sha256": store.sha256(opened.weights),
        "inputs": {name: {"dtype": str(array.dtype), "shape": list(array.shape[1:])} for name, array in example.items()},
        "answer": {"dtype": str(answer.dtype), "shape": list(answer.shape[1:])},
        **tensors_of(opened.windows.meta.kind).describe_inputs(opened.windows.meta),
    }
    if isinstance(predictor.task, Classification):
        described["classes"] = predictor.task.classes
    else:
        described["train_std"] = scale_of(predictor).tolist()
    if opened.config.data.kind == "images":
        described["decoding"] = asdict(decoding_of(opened.config.data, opened.windows.input_shape))
    elif table := table_of(opened):
        described["table"] = table
    return described


def _copy_program(opened: TrainedRun, folder: Path) -> bool:
    """Copy the program that reads files and runs the model, with what it imports; return False if there is none."""
    kind = opened.windows.meta.kind
    program = FILES / f"predict_{kind}.py"
    if not program.is_file() or (kind != "images" and table_of(opened) is None):
        return False
    shutil.copyfile(program, folder / "predict.py")
    if kind == "images":
        shutil.copyfile(decoding.__file__, folder / "decoding.py")
    return True
