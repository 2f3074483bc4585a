"""How the program of an exported model reads CSV files."""

from typing import Any

import numpy as np

from reprise.config.modalities.sequences import OwnSequences, PublishedSequences
from reprise.config.modalities.series import SeriesData
from reprise.config.own_tables import TableData
from reprise.data.modalities.series.arrays import Meta
from reprise.data.modalities.series.tensors import SeriesWindows
from reprise.inference.trained_run import TrainedRun


def table_of(opened: TrainedRun) -> dict[str, Any] | None:
    """Return columns and notation of the training data; None if the program cannot read what the model needs from a table.

    `auto` stands for what is detected in each file. `steps_ns` has the shortest and the longest step of the training windows.
    """
    data, meta = opened.config.data, opened.windows.meta
    classes = getattr(meta, "classes", [])
    if isinstance(data, OwnSequences):
        return {"label": data.label, "labels": classes, "separator": data.separator, "decimal": data.decimal}
    if isinstance(data, PublishedSequences):
        labels = list(dict.fromkeys([*classes, *data.classes]))
        return {"label": "first", "labels": labels, "separator": "auto", "decimal": "auto"}
    if not isinstance(meta, Meta) or meta.covariates():
        return None
    table: dict[str, Any] = {"time": [data.time] if isinstance(data, SeriesData) else [], "target": [], "id": None}
    table |= {"columns": "channels", "separator": "auto", "decimal": "auto", "date_format": "auto", "timezone": None}
    if isinstance(data, TableData):
        table |= {"time": data.time_columns, "target": data.targets if data.columns == "series" else []}
        table |= data.model_dump(include={"id", "columns", "separator", "decimal", "date_format", "timezone"})
    return table | {"steps_ns": _steps_of(opened)}


def _steps_of(opened: TrainedRun) -> list[int]:
    """Return the shortest and the longest step within the windows of the train split, in nanoseconds."""
    train, _ = opened.windows.learning()
    assert isinstance(train, SeriesWindows)
    starts, reach = train.starts.cpu().numpy(), train.lookback + train.horizon
    edges = np.bincount(starts, minlength=len(train.time)) - np.bincount(starts + reach - 1, minlength=len(train.time))
    steps = np.diff(train.time)[edges.cumsum()[:-1] > 0]
    return [int(steps.min()), int(steps.max())]
