"""Load a logged model without reprise: MLflow copies this file into the model and calls `_load_pyfunc`.

It checks the input itself. MLflow's own check of a signature prints the whole input array into its error message.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

INPUT = "input.json"
"""Beside the graph: `dtype` and `shape` of one sample."""
GRAPH = "model.pt2"


class Model:
    """The exported graph: normalisation, network and task."""

    def __init__(self, folder: Path, device: str) -> None:
        described = json.loads((folder / INPUT).read_text("utf-8"))
        self.dtype, self.shape = np.dtype(described["dtype"]), tuple(described["shape"])
        self.device = device
        self.graph = torch.export.load(folder / GRAPH).module().to(device)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> npt.NDArray[Any]:
        """Return the answers for a batch of raw inputs `[B, *shape]`.

        Raises:
            ValueError: in one line, when shape, type or range is not that of the model's input.

        """
        inputs = torch.from_numpy(self._checked(np.asarray(data))).to(self.device)
        with torch.no_grad():
            answer: npt.NDArray[Any] = self.graph(inputs).cpu().numpy()
        return answer

    def _checked(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        wanted = f"this model takes {self.dtype} [B, {', '.join(map(str, self.shape))}]"
        if data.ndim != len(self.shape) + 1 or data.shape[1:] != self.shape or not len(data):
            raise ValueError(f"the input has the shape {list(data.shape)}; {wanted}")
        if self.dtype == np.uint8:
            if data.dtype.kind not in "iu":
                raise ValueError(f"the input is {data.dtype}; {wanted}: pixels as whole numbers from 0 to 255")
            if data.min() < 0 or data.max() > 255:
                raise ValueError(f"the input has values from {data.min()} to {data.max()}; {wanted}: pixels from 0 to 255")
        elif data.dtype.kind not in "iuf":
            raise ValueError(f"the input is {data.dtype}; {wanted}")
        elif not np.isfinite(data).all():
            raise ValueError(f"the input has values that are not finite; {wanted}")
        return np.ascontiguousarray(data, self.dtype)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Model:
    """Called by `mlflow.pyfunc.load_model` with the data folder of the model."""
    device = (model_config or {}).get("device") or os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE") or "cpu"
    return Model(Path(path), device)
