"""Read the series of the user's own CSV or Parquet file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from reprise.config.own_tables import TableData
from reprise.data import rounding, store
from reprise.data.modalities.series import filled, static
from reprise.data.modality import Processed
from reprise.data.tables.format import TableFormat
from reprise.errors import UserError

if TYPE_CHECKING:  # pyarrow and pandas take 0.6 s
    from reprise.data.tables.series import Series

READER = {"id", "columns", "separator", "decimal", "encoding", "date_format", "timezone", "frequency"}
REPAIRS = {"gaps", "text_cells", "duplicates", "order", "constant"}
"""The keys that `TableData` shares with `TableFormat`."""


def table_format(data: TableData) -> TableFormat:
    """Return the settings of the table reader."""
    shared = data.model_dump(include=READER | REPAIRS)
    return TableFormat(
        time=tuple(data.time_columns),
        target=tuple(data.targets),
        known=tuple(data.known_columns),
        static=tuple(data.static_columns),
        **shared,
    )


def read(data: TableData, console: Console) -> Processed:
    """Return `values` float32 or float64 [time, channel], `time` int64 [time] and, if cells were filled, `filled`.

    Channels are the target columns, those known in advance, and those of the static columns. `filled` bool [time, channel] marks
    the cells of targets that are not in the file. meta.json counts them by channel. Several series follow one another, and
    meta.json has the name and the number of rows of each.
    """
    from reprise.data.tables.reader import read_table  # late: pyarrow and pandas take 0.6 s

    path = Path(data.path)
    digest = sha256_of(path)
    table = read_table(path, path.name, table_format(data))
    rows = {series.name: len(series.time) for series in table.series}
    for note in [*table.notes, *filled_notes(table.filled_cells(), sum(rows.values()))]:
        console.print(f"preprocess  {path.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    categories = static.categories_of([series.static for series in table.series])
    named = [*table.channels, *table.known]
    channels = [*named, *static.channels_of(categories)]
    if isinstance(data.units, dict) and (unknown := [name for name in data.units if name not in named]):
        raise UserError(f"data.units names {unknown[0]!r}", f"{path.name} has {', '.join(named)}")
    if twice := [name for name in channels if channels.count(name) > 1]:
        raise UserError(f"{path.name}: two channels would be called {twice[0]!r}", "rename the column")
    values = np.concatenate([_values(series, categories) for series in table.series])
    meta: dict[str, Any] = {
        "channels": [{"name": name, "unit": data.unit_of(name) if name in named else ""} for name in channels],
        "frequency": table.frequency.alias,
        "time_rounding_ns": table.frequency.unit,
        "dtype": str(values.dtype),
        "float64_channels": table.float64_channels,
        "filled_cells": table.filled_cells(),
        "sha256": digest,
    }
    if len(rows) > 1:
        meta["series"] = [{"name": name, "rows": length} for name, length in rows.items()]
    if table.known:
        meta["known_channels"] = table.known
    if categories:
        meta["static_categories"] = categories
    arrays = {"time": np.concatenate([series.time for series in table.series]), "values": values}
    if any(table.filled_cells().values()):
        mask = np.zeros(values.shape, bool)
        mask[:, : len(table.channels)] = np.concatenate([series.filled for series in table.series])
        arrays[filled.ARRAY] = mask
    return Processed(arrays, meta)


def _values(series: "Series", categories: static.Categories) -> npt.NDArray[Any]:
    """Return targets, known and static columns of a series, float32 or float64 [time, channel]."""
    fixed = static.encode(series.static, categories)
    if not fixed and not series.known.shape[1]:
        return series.values
    columns = np.hstack([series.known, np.tile(np.array(fixed, np.float64), (len(series.time), 1))])
    wide = any(rounding.needs_float64(column) for column in columns.T)
    return np.hstack([series.values, columns.astype(np.float64 if wide else series.values.dtype)])


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
