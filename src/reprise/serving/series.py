"""Answer requests with a series: a CSV or Parquet file, or rows in JSON."""

import csv
import io
from typing import Any, ClassVar

import numpy as np
import torch

from reprise.data.modalities.series.arrays import Meta
from reprise.inference.compute import COVERAGE, Compute
from reprise.inference.forecast import Forecasts, forecast_table, format_of, iso, read_content
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.serving.answerer import BYTES, JSON, READING, Payload, demand_finite, parse_json
from reprise.serving.limits import Limits, RequestError

NAME = "the body"
PARQUET = "application/vnd.apache.parquet"
MAGIC = b"PAR1"


class Series:
    """Forecasts the steps after the last row of a table. Files are read as `reprise predict` does."""

    kind: ClassVar[str] = "series"
    types: ClassVar[tuple[str, ...]] = ("text/csv", "text/plain", PARQUET, BYTES, JSON)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["rows"],
        "properties": {
            "rows": {
                "type": "array",
                "description": "The rows of the table, each with the same columns as the file that the model was trained on.",
                "items": {"type": "object"},
            }
        },
    }

    def __init__(self, run: TrainedRun, predictor: Predictor, compute: Compute, limits: Limits) -> None:
        meta = run.windows.meta
        assert isinstance(meta, Meta)
        self._run, self._meta, self._compute, self._limits = run, meta, compute, limits

    def describe(self) -> Payload:
        """Return the column that names the series, if there is one, channels, window, frequency, and units of the forecasts."""
        meta = self._meta
        named = getattr(self._run.config.data, "id", None)
        return {
            **({"id": named} if named else {}),
            "channels": [*meta.observed, *meta.known],
            "lookback": meta.lookback,
            "horizon": meta.horizon,
            "frequency": meta.frequency,
            "targets": dict(zip(meta.targets, meta.units, strict=True)),
            "coverage": COVERAGE,
        }

    def example(self) -> list[torch.Tensor]:
        """Return a window of zeros."""
        meta, dtype = self._meta, getattr(torch, self._meta.dtype)
        steps = meta.lookback + (meta.horizon if meta.known else 0)
        values = torch.zeros(1, meta.lookback, len(meta.input_columns) - len(meta.known), dtype=dtype)
        time = torch.arange(steps)[None] * 10**9
        return [values, time, torch.zeros(1, steps, len(meta.known), dtype=dtype)] if meta.known else [values, time]

    def answer(self, body: bytes, is_json: bool, with_history: bool) -> Payload:
        """Return a row per series, channel and step: times, forecast and interval; if asked, the last values of each series."""
        with READING:
            content = self._from_json(body) if is_json else body
            if content[:4] == MAGIC:
                self._check_parquet(content)
            self._check_count(content)
            table = read_content(self._run, self._meta, content, NAME)
        forecasts = forecast_table(self._compute, self._run, self._meta, table, NAME)
        for one in forecasts.series:
            demand_finite(one.values)
        history = {"history": _history(forecasts)} if with_history else {}
        return {"predictions": forecasts.rows(), "coverage": COVERAGE, "notes": forecasts.notes, **history}

    def _from_json(self, body: bytes) -> bytes:
        """Return rows as a CSV table, for the reader of files."""
        rows = parse_json(body, "rows")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
            raise RequestError(422, "rows is no list of objects with at least one")
        if odd := next((number for number, row in enumerate(rows, 1) if row.keys() != rows[0].keys()), None):
            raise RequestError(422, f"row {odd} has other columns than row 1")
        if bad := next((cell for row in rows for cell in row.values() if not isinstance(cell, str | int | float | None)), None):
            raise RequestError(422, f"rows holds a {type(bad).__name__} in place of a text or number")
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode("utf-8", "replace")

    def _check_count(self, content: bytes) -> None:
        """Refuse a table of too many series before they are built, which takes longer than reading the table."""
        settings = format_of(self._run.config.data, self._meta)
        if settings.id is None and settings.columns != "series":
            return
        from reprise.data.tables.columns import read_columns  # late, as below

        columns = read_columns(content, NAME, settings, [])
        count = len(columns.names) if settings.id else len(columns.target)
        if count > self._limits.batch:
            raise RequestError(413, f"{count:,} series, and a request may have {self._limits.batch}")

    def _check_parquet(self, content: bytes) -> None:
        """Refuse a table by its metadata, and texts that are stored once and repeated, before memory for them is taken."""
        from reprise.data.tables.arrow import arrow_parquet, pa, pc  # late: pyarrow takes 0.3 s

        try:
            file = arrow_parquet.ParquetFile(io.BytesIO(content))
            rows, columns = file.metadata.num_rows, file.metadata.num_columns
            size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.metadata.num_row_groups))
            self._check_size(rows * columns, size)
            texts = [column.path for column in map(file.schema.column, range(columns)) if column.physical_type == "BYTE_ARRAY"]
            stored = arrow_parquet.ParquetFile(io.BytesIO(content), read_dictionary=texts).read(texts)
            for column in stored.columns:
                for chunk in column.chunks:
                    lengths = pc.binary_length(chunk.dictionary) if pa.types.is_dictionary(chunk.type) else None
                    self._check_size(0, 0 if lengths is None else pc.sum(lengths.take(chunk.indices)).as_py() or 0)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RequestError(422, f"the body is no readable Parquet file: {error}"[:200]) from None

    def _check_size(self, cells: int, size: int) -> None:
        if cells > self._limits.cells or size > 8 * self._limits.body:
            limits = f"{self._limits.cells:,} cells or {8 * self._limits.body:,} bytes"
            raise RequestError(413, f"the table has more than {limits}")


def _history(forecasts: Forecasts) -> list[Payload]:
    return [
        {
            "series": one.series,
            "channel": channel,
            "time": [iso(int(time)) for time in one.past_time],
            "values": [float(value) if np.isfinite(value) else None for value in one.past[:, number]],
        }
        for one in forecasts.series
        for number, channel in enumerate(forecasts.channels)
    ]
