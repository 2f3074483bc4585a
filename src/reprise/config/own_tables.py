"""Config schema of the user's own tables of series."""

import os.path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field
from pydantic import model_validator as _model_validator

from reprise.config.sections import DataConfig

Fill = Literal["refuse", "forward_fill", "interpolate"]
Columns = str | Annotated[list[str], Field(min_length=1)]
"""One column, or several."""

VALUE = "value"
"""The name of the channel if each column is a series of its own."""


class TableData(DataConfig):
    """The user's own series in a CSV or Parquet file. The keys are those of `reprise.data.tables.format.TableFormat`."""

    kind: Literal["series"]
    reader: Literal["table"]
    """The reader of the files."""
    path: Annotated[str, AfterValidator(os.path.expanduser)]
    time: Columns | None
    target: Columns | None
    id: str | None
    columns: Literal["channels", "series"]
    known: Columns | None = None
    static: Columns | None = None
    units: dict[str, str] | str
    separator: str
    decimal: Literal["auto", ".", ","]
    encoding: str
    """The encoding of the text, such as utf-8 or cp1252; `auto`: detected."""
    date_format: str
    timezone: str | None
    frequency: str
    gaps: Fill
    text_cells: Fill
    duplicates: Literal["refuse", "first", "last", "mean"]
    order: Literal["refuse", "sort"]
    constant: Literal["refuse", "keep"]

    @_model_validator(mode="after")
    def _units_are_of_targets(self) -> Self:
        named = [*self.channels, *self.known_columns]
        if self.channels and isinstance(self.units, dict) and (unknown := [name for name in self.units if name not in named]):
            raise ValueError(f"units: {unknown[0]!r} is not in data.target")
        return self

    @_model_validator(mode="after")
    def _static_columns_tell_series_apart(self) -> Self:
        if self.static_columns and self.id is None:
            raise ValueError("static: has one value for each series, and data.id names no column that tells series apart")
        return self

    @property
    def channels(self) -> list[str]:
        """The channels, as far as the config names them. Empty: the table decides."""
        return [VALUE] if self.columns == "series" else self.targets

    @property
    def targets(self) -> list[str]:
        """The columns to forecast. Empty: the table decides."""
        return _listed(self.target)

    @property
    def known_columns(self) -> list[str]:
        """The columns whose values are known in advance."""
        return _listed(self.known)

    @property
    def static_columns(self) -> list[str]:
        """The columns with one value for each series."""
        return _listed(self.static)

    @property
    def time_columns(self) -> list[str]:
        """The columns of timestamps. Empty: the only one that holds dates."""
        return _listed(self.time)

    def unit_of(self, channel: str) -> str:
        """Return the unit of a channel, or an empty string."""
        return self.units.get(channel, "") if isinstance(self.units, dict) else self.units


def _listed(columns: str | list[str] | None) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or [])
