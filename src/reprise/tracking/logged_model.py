"""Export a model that MLflow can show and load."""

import functools
import io
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from reprise.data.modalities.images import decoding
from reprise.tracking import lineage

if TYPE_CHECKING:  # PyTorch takes two seconds to import; callers that log a model have imported it already
    from torch import nn

LOADER, TABLES = (Path(__file__).with_name(name) for name in ("reprise_pyfunc.py", "reprise_tables.py"))
"""Files that are copied into the model."""
LOADER_MODULE = "reprise_pyfunc_2"
"""Name of the copied loader. A process keeps one module of a name: models of other versions need another name."""


def save(
    network: "nn.Module",
    folder: Path,
    example: Mapping[str, npt.NDArray[np.generic]],
    prediction: npt.NDArray[np.generic],
    metadata: Mapping[str, Any],
    reading: Mapping[str, Any],
    bounds: "nn.Module | None" = None,
) -> None:
    """Export a network into a new MLflow model at `folder`, with an example of each of its inputs `[B, …]`, by name.

    `reading` says how the model reads what users have; see `reprise_tables`. `bounds` is the network of the quantiles that
    intervals are calibrated from; None for point forecasts and for classes.

    The signature describes only the outputs, because the copied loader checks the inputs: with one-line errors, and with integers
    of any width for pixels, as a scoring server parses JSON. The metadata describe the inputs.
    """
    import mlflow  # late: its PyTorch part takes seconds to import
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]), name) for name, array in _named(example).items()])
    outputs = Schema([TensorSpec(prediction.dtype, (-1, *prediction.shape[1:]))])
    shutil.rmtree(folder, ignore_errors=True)  # an incomplete model, if a process was killed while it wrote one
    with warnings.catch_warnings(), _without_package_check(), _with_kept_graphs():
        warnings.filterwarnings("ignore", message=".*were assigned during export.*")  # LSTM weights are views of a flat buffer
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")  # likewise; each is stored by itself
        mlflow.pytorch.save_model(
            with_parameters(network, len(example)),
            folder,
            signature=ModelSignature(inputs, outputs),
            input_example=list(example.values()),
            serialization_format="pt2",
            pip_requirements=_requirements(reading),
        )
    input_specs = {name: {"dtype": str(array.dtype), "shape": list(array.shape[1:])} for name, array in example.items()}
    (folder / "data" / "inputs.json").write_text(json.dumps(input_specs), "utf-8")
    (folder / "data" / "reading.json").write_text(json.dumps(reading), "utf-8")
    if bounds is not None:
        _export(bounds, example, folder / "data" / "bounds.pt2")
    _copy_code(reading, folder / "code")
    # Model.load takes a path that holds % or ? for an address.
    model = Model.from_dict(yaml.safe_load((folder / "MLmodel").read_text("utf-8")))
    model.signature = ModelSignature(outputs=outputs)
    model.metadata = {
        **metadata,
        "inputs": input_specs,
        "output": {"dtype": str(prediction.dtype), "shape": list(prediction.shape[1:])},
    }
    env = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
    mlflow.pyfunc.add_to_model(model, LOADER_MODULE, data="data", code="code", **env)
    model.save(folder / "MLmodel")


@contextmanager
def _without_package_check() -> Iterator[None]:
    """Let MLflow save a model without comparing its requirements with the installed packages.

    MLflow reads the files of every installed package for that, which takes as long as the export. The requirements are the
    versions of this process, so nothing could differ.
    """
    from mlflow.utils import environment as module  # late: as above

    environment: Any = module
    check = environment.warn_dependency_requirement_mismatches
    environment.warn_dependency_requirement_mismatches = lambda _: None
    try:
        yield
    finally:
        environment.warn_dependency_requirement_mismatches = check


@contextmanager
def _with_kept_graphs() -> Iterator[None]:
    """Let MLflow export a network with `exported_graphs.export`."""
    import torch

    from reprise.tracking import exported_graphs  # late: PyTorch

    module: Any = torch.export
    export = module.export

    def reuse(network: "nn.Module", example: Any, dynamic_shapes: Any) -> Any:
        module.export = export
        return exported_graphs.export(network, example, dynamic_shapes)

    module.export = reuse
    try:
        yield
    finally:
        module.export = export


def _requirements(reading: Mapping[str, Any]) -> list[str]:
    pictures = ["pillow"] if "decoding" in reading else []
    return [f"torch=={lineage.versions()['version.torch'].split('+')[0]}", "numpy", "pandas", *pictures]


def _copy_code(reading: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir()
    shutil.copyfile(LOADER, folder / f"{LOADER_MODULE}.py")
    shutil.copyfile(TABLES, folder / TABLES.name)
    if "decoding" in reading:
        shutil.copyfile(decoding.__file__, folder / "reprise_decoding.py")


def _export(network: "nn.Module", example: Mapping[str, npt.NDArray[np.generic]], file: Path) -> None:
    """Write a graph of torch.export that takes any number of samples."""
    import torch

    tensors = tuple(torch.from_numpy(np.array(array)) for array in example.values())
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `save`
        shapes = [{0: batch} for _ in tensors]
        program = torch.export.export(with_parameters(network, len(example)), tensors, dynamic_shapes=shapes)
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    file.write_bytes(buffer.getvalue())


def _named(example: Mapping[str, npt.NDArray[np.generic]]) -> Mapping[str | None, npt.NDArray[np.generic]]:
    """Return the inputs as MLflow names them: a single one has no name."""
    names = [None] if len(example) == 1 else list(example)
    return dict(zip(names, example.values(), strict=True))


def with_parameters(network: "nn.Module", inputs: int) -> "nn.Module":
    """Return a network whose `forward` has one parameter per input: torch.export matches dynamic shapes with parameters."""
    return _wrappers()[inputs](network).eval()


@functools.cache
def _wrappers() -> "dict[int, Callable[[nn.Module], nn.Module]]":
    """Return the classes of `with_parameters` by number of inputs. They are created once: `exported_graphs` compares classes."""
    from torch import Tensor, nn

    class OneInput(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.predictor = network

        def forward(self, first: Tensor) -> Any:
            return self.predictor(first)

    class TwoInputs(OneInput):
        def forward(self, first: Tensor, second: Tensor) -> Any:  # type: ignore[override]
            return self.predictor(first, second)

    class ThreeInputs(OneInput):
        def forward(self, first: Tensor, second: Tensor, third: Tensor) -> Any:  # type: ignore[override]
            return self.predictor(first, second, third)

    return {1: OneInput, 2: TwoInputs, 3: ThreeInputs}
