"""Read the series of the user's own CSV or Parquet file."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reprise.config.own_tables import TableData
from reprise.data import store
from reprise.data.modalities.series import filled
from reprise.data.modality import Processed
from reprise.data.tables.format import TableFormat
from reprise.errors import UserError

READER = {"id", "columns", "separator", "decimal", "encoding", "date_format", "timezone", "frequency"}
REPAIRS = {"gaps", "text_cells", "duplicates", "order", "constant"}
"""The keys that `TableData` shares with `TableFormat`."""


def table_format(data: TableData) -> TableFormat:
    """Return the settings of the table reader."""
    shared = data.model_dump(include=READER | REPAIRS)
    return TableFormat(time=tuple(data.time_columns), target=tuple(data.targets), **shared)


def read(data: TableData, console: Console) -> Processed:
    """Return `values` float32 or float64 [time, channel], `time` int64 [time] and, if cells were filled, `filled`.

    `filled` bool [time, channel] marks the cells that are not in the file. meta.json counts them by channel. Several series
    follow one another, and meta.json has the name and the number of rows of each.
    """
    from reprise.data.tables.reader import read_table  # late: pyarrow and pandas take 0.6 s

    path = Path(data.path)
    digest = sha256_of(path)
    table = read_table(path, path.name, table_format(data))
    rows = {series.name: len(series.time) for series in table.series}
    for note in [*table.notes, *filled_notes(table.filled_cells(), sum(rows.values()))]:
        console.print(f"preprocess  {path.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    if isinstance(data.units, dict) and (unknown := [name for name in data.units if name not in table.channels]):
        raise UserError(f"data.units names {unknown[0]!r}", f"{path.name} has {', '.join(table.channels)}")
    meta: dict[str, Any] = {
        "channels": [{"name": name, "unit": data.unit_of(name)} for name in table.channels],
        "frequency": table.frequency.alias,
        "time_rounding_ns": table.frequency.unit,
        "dtype": str(table.series[0].values.dtype),
        "float64_channels": table.float64_channels,
        "filled_cells": table.filled_cells(),
        "sha256": digest,
    }
    if len(rows) > 1:
        meta["series"] = [{"name": name, "rows": length} for name, length in rows.items()]
    names = ("time", "values", filled.ARRAY) if any(table.filled_cells().values()) else ("time", "values")
    arrays = {name: np.concatenate([getattr(series, name) for series in table.series]) for name in names}
    return Processed(arrays, meta)


def filled_notes(counts: dict[str, int], rows: int) -> list[str]:
    """Return a sentence on each channel with filled cells."""
    return [f"{number:,} of {rows:,} values of {name} are filled." for name, number in counts.items() if number]


def list_sources(data: TableData) -> list[dict[str, Any]]:
    """Return the file with its sha256."""
    return [{"file": data.path, "sha256": sha256_of(Path(data.path))}]


def sources_changed(data: TableData, folder: Path) -> str:
    """Return a reason if the content of the file changed since the arrays in `folder` were made, else ""."""
    path = Path(data.path)
    if not path.is_file() or store.sha256(path) == store.read_json(folder / "meta.json")["sha256"]:
        return ""
    return f"holds other rows than {data.path} does now"


def sha256_of(path: Path, key: str = "data.path=") -> str:
    """Return the sha256 of a file. Raises UserError, which names the file after `key`, if it cannot be read."""
    try:
        return store.sha256(path)
    except OSError as error:
        raise UserError(f"{key}{path}: {error.strerror or error}", "check the path") from None
