"""Settings of the table reader."""

from dataclasses import dataclass

from reprise.errors import UserError

ORDER = ("refuse", "sort")
DUPLICATES = ("refuse", "first", "last", "mean")
FILLS = ("refuse", "forward_fill", "interpolate")
EPOCHS = {"epoch_s": 10**9, "epoch_ms": 10**6, "epoch_us": 10**3, "epoch_ns": 1}
"""Names of numeric timestamps and the length of their unit in nanoseconds."""
CHOICES = {
    "columns": ("channels", "series"),
    "decimal": ("auto", ".", ","),
    "gaps": FILLS,
    "text_cells": FILLS,
    "duplicates": DUPLICATES,
    "order": ORDER,
    "constant": ("refuse", "keep"),
}
"""Allowed values of the settings of `TableFormat`."""


@dataclass(frozen=True)
class TableFormat:
    """How to read a table. `auto` is detected from the file."""

    time: tuple[str, ...] = ()
    """Column with the timestamps, or two columns with date and time of day. Empty: the only column that holds dates."""
    target: tuple[str, ...] = ()
    """Columns to forecast. Empty: all other columns of numbers."""
    id: str | None = None
    """Column that names the series of each row (long format). None: one series."""
    columns: str = "channels"
    """Whether the target columns are `channels` of one series, or one `series` each."""
    known: tuple[str, ...] = ()
    """Columns whose future values are known, such as holidays and prices."""
    static: tuple[str, ...] = ()
    """Columns that are constant within a series."""
    static_text: tuple[str, ...] = ()
    """Those of `static` that are text even if all of their cells are numbers."""
    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    date_format: str = "auto"
    """auto, a strptime format, or epoch_s, epoch_ms, epoch_us, epoch_ns."""
    timezone: str | None = None
    """Zone of naive timestamps, such as Europe/Berlin. None: UTC."""
    frequency: str = "auto"
    """auto, or a fixed step in pandas' notation (200ms, 15min, h): timestamps with jitter are moved to the nearest one."""
    gaps: str = "refuse"
    """Missing time steps and empty cells: refuse, forward_fill (from earlier values only) or interpolate (linear in time, from
    the values before and after)."""
    text_cells: str = "refuse"
    """Cells of number columns that hold text or infinity: refuse, forward_fill or interpolate."""
    duplicates: str = "refuse"
    """Rows of one series at the same time: refuse, or keep the first, the last or the mean."""
    order: str = "refuse"
    """Rows that are not in the order of time: refuse or sort."""
    constant: str = "refuse"
    """Target columns with one single value: refuse or keep."""

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise UserError(f"data.{key}={getattr(self, key)}: no such choice", f"use {', '.join(allowed)}")
        if self.date_format not in {"auto", *EPOCHS} and "%" not in self.date_format:
            formats = f"auto, {', '.join(EPOCHS)}, or a format such as %d/%m/%Y"
            raise UserError(f"data.date_format={self.date_format}: no format of dates", f"use {formats}")
        if self.columns == "series" and self.id is not None:
            raise UserError("data.columns=series and data.id are set", "a table has an id column, or one column for each series")
        if self.columns == "series" and self.static:
            raise UserError("data.columns=series and data.static are set", "static columns need an id column")
        named = [*self.time, *self.target, *self.known, *self.static, *([self.id] if self.id else [])]
        if twice := next((name for name in named if named.count(name) > 1), None):
            raise UserError(f"the column {twice!r} has two roles", "name it in one of data.time, target, id, known and static")
