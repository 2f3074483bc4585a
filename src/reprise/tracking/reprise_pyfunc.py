"""Load a logged model without reprise: MLflow copies this file into the model and calls `_load_pyfunc`.

It checks the input itself, because MLflow's check of a signature prints the whole input array in its error message.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

INPUT = "input.json"
"""File beside the graph with `dtype` and `shape` of one sample."""
GRAPH = "model.pt2"


class Model:
    """The exported graph: input transform, model and post-processing."""

    def __init__(self, folder: Path, device: str) -> None:
        spec = json.loads((folder / INPUT).read_text("utf-8"))
        self.dtype, self.shape = np.dtype(spec["dtype"]), tuple(spec["shape"])
        self.device = device
        self.graph = torch.export.load(folder / GRAPH).module().to(device)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> npt.NDArray[Any]:
        """Return the predictions for a batch of raw inputs `[B, *shape]`.

        Raises:
            ValueError: if shape, type or range do not match the model's input. The message is one line.

        """
        inputs = torch.from_numpy(self._checked(np.asarray(data))).to(self.device)
        with torch.no_grad():
            predictions: npt.NDArray[Any] = self.graph(inputs).cpu().numpy()
        return predictions

    def _checked(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        expected = f"this model takes {self.dtype} [B, {', '.join(map(str, self.shape))}]"
        if data.ndim != len(self.shape) + 1 or data.shape[1:] != self.shape or not len(data):
            raise ValueError(f"the input has the shape {list(data.shape)}; {expected}")
        if self.dtype == np.uint8:
            if data.dtype.kind not in "iu":
                raise ValueError(f"the input is {data.dtype}; {expected}: pixels as whole numbers from 0 to 255")
            if data.min() < 0 or data.max() > 255:
                raise ValueError(f"the input has values from {data.min()} to {data.max()}; {expected}: pixels from 0 to 255")
        elif data.dtype.kind not in "iuf":
            raise ValueError(f"the input is {data.dtype}; {expected}")
        elif not np.isfinite(data).all():
            raise ValueError(f"the input has values that are not finite; {expected}")
        return np.ascontiguousarray(data, self.dtype)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Model:
    """Load the model from its data folder, as `mlflow.pyfunc.load_model` requires."""
    device = (model_config or {}).get("device") or os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE") or "cpu"
    return Model(Path(path), device)
