"""Write the model that MLflow shows and loads."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reprise.tracking import lineage

if TYPE_CHECKING:  # PyTorch takes two seconds, and only whoever logs a model has it imported anyway
    from torch import nn

LOADER = Path(__file__).with_name("reprise_pyfunc.py")


def save(
    network: "nn.Module",
    folder: Path,
    example: npt.NDArray[np.generic],
    answer: npt.NDArray[np.generic],
    metadata: Mapping[str, Any],
) -> None:
    """Export a network into a new MLflow model at `folder`, with an example of its input `[B, …]`.

    The model's signature names its outputs alone: the copied loader checks inputs, in one line, and takes whole numbers of any
    width for pixels, as a scoring server parses them from JSON. What goes in stands in the metadata.
    """
    import mlflow  # late: its PyTorch part takes seconds to import
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    taken, given = (Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]))]) for array in (example, answer))
    shutil.rmtree(folder, ignore_errors=True)  # half of one, if a kill came while it was written
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*were assigned during export.*")  # an LSTM's flat weights: views
        mlflow.pytorch.save_model(
            network,
            folder,
            signature=ModelSignature(taken, given),
            input_example=example,
            serialization_format="pt2",
            pip_requirements=[f"torch=={lineage.versions()['version.torch'].split('+')[0]}", "numpy"],
        )
    described = {"dtype": str(example.dtype), "shape": list(example.shape[1:])}
    (folder / "data" / "input.json").write_text(json.dumps(described), "utf-8")
    (folder / "code").mkdir()
    shutil.copyfile(LOADER, folder / "code" / LOADER.name)
    model = Model.load(folder)
    model.signature = ModelSignature(outputs=given)
    model.metadata = {**metadata, "input": described, "output": {"dtype": str(answer.dtype), "shape": list(answer.shape[1:])}}
    env = {"conda_env": "conda.yaml", "python_env": "python_env.yaml"}
    mlflow.pyfunc.add_to_model(model, LOADER.stem, data="data", code="code", **env)
    model.save(folder / "MLmodel")
