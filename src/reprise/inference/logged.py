"""What a logged model needs to read pictures, tables and sequences, and to name its answers, without reprise."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from reprise.config import Config
from reprise.config.modalities.series import SeriesData
from reprise.config.own_tables import TableData
from reprise.data.contracts import WindowsMeta
from reprise.data.modalities.images.folder import decoding_of
from reprise.data.modalities.series.arrays import Meta as SeriesMeta
from reprise.data.modality import tensors_of
from reprise.inference.compute import COVERAGE
from reprise.inference.intervals import Intervals
from reprise.inference.predictor import Predictor
from reprise.tasks.forecasting import Forecasting


class Bounds(nn.Module):
    """The quantiles `[B, S, Y, 2]` in units that the intervals of a forecast are calibrated from."""

    def __init__(self, predictor: Predictor, task: Forecasting) -> None:
        super().__init__()
        self.predictor, self.task = predictor, task
        self.eval()

    def forward(self, *raw: Tensor) -> Tensor:
        """Return the lower and the upper quantile for raw inputs."""
        inputs = self.predictor.transform(*raw)
        predictions = self.task.decode(self.predictor.network(inputs), inputs)
        lower, upper = self.task.quantiles.bounds(predictions, COVERAGE)
        return torch.stack([self.task.in_units(lower), self.task.in_units(upper)], dim=-1)


def bounds_of(predictor: Predictor) -> Bounds | None:
    """Return the module of the quantiles; None if the model forecasts points or does not forecast."""
    task = predictor.task
    return Bounds(predictor, task) if isinstance(task, Forecasting) and task.quantiles else None


def reading_of(config: Config, meta: WindowsMeta, calibrated: Intervals | None) -> dict[str, Any]:
    """Return the content of reading.json; see `reprise.tracking.reprise_tables`."""
    described = tensors_of(meta.kind).describe_inputs(meta)
    if meta.kind == "images":
        return {**described, "decoding": asdict(decoding_of(config.data, meta.input_shape))}
    if not isinstance(meta, SeriesMeta):
        return described
    half_width = calibrated.half_width(COVERAGE) if calibrated else None
    return {
        **described,
        **_columns(config),
        "unsupported": ", ".join(meta.covariates()),
        "half_width": None if half_width is None else half_width.tolist(),
        "coverage": COVERAGE,
    }


def _columns(config: Config) -> dict[str, Any]:
    """Return the columns of time stamps and of names of series, and the time zone."""
    data = config.data
    if isinstance(data, TableData):
        time = data.time_columns if len(data.time_columns) == 1 else []
        return {"time": time, "id": data.id, "timezone": data.timezone}
    return {"time": [data.time] if isinstance(data, SeriesData) else [], "id": None, "timezone": None}
