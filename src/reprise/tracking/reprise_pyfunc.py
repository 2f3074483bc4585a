"""Load a logged model without reprise: MLflow copies this file into the model and calls `_load_pyfunc`.

It checks the inputs itself, because MLflow's check of a signature prints the whole input array in its error message.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import reprise_tables as tables
import torch

INPUTS = "inputs.json"
"""File beside the graph with `dtype` and `shape` of one sample, by name of the input."""
READING = "reading.json"
"""File beside the graph: how pictures, tables and sequences become inputs, and the names and units of answers."""
GRAPH = "model.pt2"
BOUNDS = "bounds.pt2"
"""Graph of the quantiles that intervals are calibrated from; missing for point forecasts."""


class Model:
    """The exported graph: input transform, model and post-processing."""

    def __init__(self, folder: Path, device: str) -> None:
        self.inputs: dict[str, dict[str, Any]] = json.loads((folder / INPUTS).read_text("utf-8"))
        self.reading: dict[str, Any] = json.loads((folder / READING).read_text("utf-8"))
        self.device = device
        self.graph = _load(folder / GRAPH, device)
        self.bounds = _load(folder / BOUNDS, device) if (folder / BOUNDS).is_file() else None

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> "npt.NDArray[Any] | pd.DataFrame":
        """Return the predictions for a batch.

        Args:
            data: what users have, or raw inputs. Of pictures: a list, or a table with one column, of the contents of files (or
                their base64 text) or of arrays `uint8 [H, W]` or `[H, W, 3]` of any size. Of a series: a table with time stamps,
                as the CSV file. Of sequences: a table with a sequence a row, all values of the first channel, then of the second.
                Raw inputs are an array `[B, …]`, or a dict of arrays if the model has several.
            params: not used.

        Returns:
            For raw inputs an array of probabilities (of tiles, if pictures are cut) or forecasts. Otherwise a table: a row per
            sample with its class and the probability of each class; or a row per forecast step with its time, forecast, interval
            and unit.

        Raises:
            ValueError: if shape, type or range do not match the model's inputs. The message is one line.

        """
        if not tables.is_user_data(data):
            return self._answer(self.graph, self._by_name(data))
        if self.reading["kind"] == "series":
            return self._forecast(data)
        inputs, counts = tables.samples(data, self.reading, self.inputs)
        rows: pd.DataFrame = tables.classified(self._answer(self.graph, inputs), counts, self.reading["classes"])
        return rows

    def _forecast(self, data: Any) -> pd.DataFrame:
        windows = tables.windows(data, self.reading)
        inputs = tables.stacked(windows, list(self.inputs))
        bounds = None if self.bounds is None else self._answer(self.bounds, inputs)
        rows: pd.DataFrame = tables.forecasts(windows, self._answer(self.graph, inputs), bounds, self.reading)
        return rows

    def _answer(self, graph: Any, data: Mapping[str, Any]) -> npt.NDArray[Any]:
        arrays = [_checked(name, np.asarray(array), self.inputs[name]) for name, array in data.items()]
        if len({len(array) for array in arrays}) > 1:
            raise ValueError(f"the inputs {', '.join(self.inputs)} have different numbers of samples")
        with torch.no_grad():
            graph_inputs = [torch.from_numpy(array).to(self.device) for array in arrays]
            predictions: npt.NDArray[Any] = graph(*graph_inputs).cpu().numpy()
        return predictions

    def _by_name(self, data: Any) -> dict[str, Any]:
        if isinstance(data, Mapping):
            if set(data) != set(self.inputs):
                raise ValueError(f"the inputs are {', '.join(map(str, data))}; this model takes {', '.join(self.inputs)}")
            return {name: data[name] for name in self.inputs}
        if len(self.inputs) > 1:
            raise ValueError(f"this model takes a dict of arrays: {', '.join(self.inputs)}")
        return dict.fromkeys(self.inputs, data)


def _load(file: Path, device: str) -> Any:
    return torch.export.load(file).module().to(device)


def _checked(name: str, data: npt.NDArray[Any], spec: dict[str, Any]) -> npt.NDArray[Any]:
    """Return the array with the dtype of the input. Time stamps may also be `datetime64`."""
    dtype, shape = np.dtype(spec["dtype"]), tuple(spec["shape"])
    if dtype == np.int64 and data.dtype.kind == "M":
        data = data.astype("datetime64[ns]").view(np.int64)
    expected = f"this model takes {dtype} [B, {', '.join(map(str, shape))}]"
    if data.ndim != len(shape) + 1 or data.shape[1:] != shape or not len(data):
        raise ValueError(f"{name} has the shape {list(data.shape)}; {expected}")
    if dtype.kind in "iu":
        if data.dtype.kind not in "iu":
            hint = "pixels as whole numbers from 0 to 255" if dtype == np.uint8 else "whole numbers"
            raise ValueError(f"{name} is {data.dtype}; {expected}: {hint}")
        if dtype == np.uint8 and (data.min() < 0 or data.max() > 255):
            raise ValueError(f"{name} has values from {data.min()} to {data.max()}; {expected}: pixels from 0 to 255")
    elif data.dtype.kind not in "iuf":
        raise ValueError(f"{name} is {data.dtype}; {expected}")
    elif not np.isfinite(data).all():
        raise ValueError(f"{name} has values that are not finite; {expected}")
    return np.ascontiguousarray(data, dtype)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Model:
    """Load the model from its data folder, as `mlflow.pyfunc.load_model` requires."""
    device = (model_config or {}).get("device") or os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE") or "cpu"
    return Model(Path(path), device)
