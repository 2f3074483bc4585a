"""explain on a series: what each channel and time step of the input adds to the forecast.

Shapes: `N` windows, `T` time steps of the input, `C` input channels, `S` forecast steps (horizon), `K` blocks of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor

from reprise.data.modalities.series.arrays import Meta
from reprise.data.modalities.series.calendar import Calendar
from reprise.data.modalities.series.static import encode
from reprise.data.tables.continuation import steps_after
from reprise.data.timestamps import Nanoseconds
from reprise.errors import UserError
from reprise.figures import attribution as figures
from reprise.figures.style import save
from reprise.inference import explained
from reprise.inference.attribution import Attribution, Method, Values, attribute, recurrent_gradients
from reprise.inference.explained import Explained
from reprise.inference.forecast import iso, raw_inputs, read_file
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.tasks.forecasting import Forecasting

if TYPE_CHECKING:  # pyarrow and pandas take 0.6 s
    from reprise.data.tables.reader import Table
    from reprise.data.tables.series import Series

BLOCKS = 12
"""The most blocks into which the forecast steps are divided; each is explained by itself."""
BY_HORIZON = "importance_by_step.png"
LAGS = "lag: time steps before the first step of the forecast"
"""Lags of 0 and below are forecast steps, whose known columns and calendar features are inputs."""


@dataclass(frozen=True)
class Blocks:
    """Consecutive blocks of the forecast steps."""

    steps: list[tuple[int, int]]
    """First and last step of each, from 1."""

    @classmethod
    def of(cls, horizon: int) -> "Blocks":
        """Divide the horizon into at most `BLOCKS` blocks."""
        parts = np.array_split(np.arange(1, horizon + 1), min(BLOCKS, horizon))
        return cls([(int(part[0]), int(part[-1])) for part in parts])

    @property
    def weights(self) -> Values:
        """The share of each in all steps `[K]`."""
        lengths = np.array([last - first + 1 for first, last in self.steps], np.float64)
        shares: Values = lengths / lengths.sum()
        return shares

    def means(self, values: Tensor) -> Tensor:
        """Return the mean of each block of `[B, S]`, `[B, K]`."""
        return torch.stack([values[:, first - 1 : last].mean(1) for first, last in self.steps], dim=1)


def run(run: TrainedRun, path: Path, out: Path, console: Console, sample: str | None, target: str | None) -> Explained:
    """Explain the forecast after the last row of a file, and many windows of it; write attribution.csv and figures to `out`.

    `sample` is the name of a series if the file has several, by default the first; `target` the channel whose forecast is
    explained, by default the first.

    Raises:
        UserError: if the file cannot be read, or has no such series or channel.

    """
    predictor, meta = Predictor.from_run(run), run.windows.meta
    if not isinstance(meta, Meta) or not isinstance(predictor.task, Forecasting):
        raise UserError(f"{run.trained.name} does not forecast", "name a run with task=forecasting")
    if target is not None and target not in meta.targets:
        raise UserError(f"--target {target}: {run.trained.name} forecasts {', '.join(meta.targets)}", "name one of them")
    table = read_file(run, meta, path)
    names = [one.name for one in table.series]
    if sample is not None and sample not in names:
        known = f"has the series {', '.join(names[:20])}" if len(names) > 1 else "has one series"
        raise UserError(f"--sample {sample}: {path.name} {known}", "name one of them" if len(names) > 1 else "leave it out")
    zone = getattr(run.config.data, "timezone", None)
    explainer = Explainer(predictor, meta, table, zone, meta.targets.index(target or meta.targets[0]))
    chosen = table.series[names.index(sample) if sample is not None else 0]
    found = explainer.explain(chosen, path.name)
    for note in table.notes:
        console.print(f"explain  {path.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    found.result.write_table(out)
    _draw(found, meta, run.trained.name, out)
    return found.result


@dataclass(frozen=True)
class Found:
    """The attributions of a forecast, and what its figures show beside them."""

    result: Explained
    target: str
    by_block: Values
    """Mean absolute attribution of each block to each step of the input, over all channels, `[K, T]`."""
    blocks: Blocks
    input_time: Nanoseconds
    """Local time of the input steps, int64 [T]."""
    time: Nanoseconds
    """Local time of the forecast, int64 [S]."""
    forecast: Values
    """`[S]`."""


@dataclass(frozen=True)
class Explainer:
    """Explains the forecasts of one target channel."""

    predictor: Predictor
    meta: Meta
    table: "Table"
    timezone: str | None
    target: int
    """Index of the target channel."""

    def explain(self, chosen: "Series", file: str) -> Found:
        """Return the attributions of the forecast after the last row of a series, and those of many windows on average."""
        self.predictor.requires_grad_(False)
        meta, blocks = self.meta, Blocks.of(self.meta.horizon)
        for one in self.table.series:  # reports what a file lacks
            raw_inputs(meta, one.values[-meta.lookback :][:, self._columns], self._future(one)[0], file, self.table, one)
        raw = self._raw([(chosen, len(chosen.time) - meta.lookback)])
        found = self._attribute(raw, blocks, None)
        windows = self._spread_out(explained.most_samples(found))
        many = np.abs(self._attribute(self._raw(windows), blocks, found.method).values).mean(axis=0)  # [K, T, C]
        with torch.no_grad():
            forecast = self.predictor(*self.predictor.move(raw))[0, :, self.target].double().cpu().numpy()
        name, unit = meta.targets[self.target], meta.units[self.target]
        weights = blocks.weights[:, None, None]
        _, ahead = self._future(chosen)
        past = chosen.wall[-meta.lookback :]
        times = np.concatenate([past, ahead[: self._known_ahead]])
        steps = "the next step" if meta.horizon == 1 else f"mean of the next {meta.horizon} steps"
        series = f", series {chosen.name}" if len(self.table.series) > 1 else ""
        of_others = (", of known ones in lookback and horizon" if meta.known else "") + (
            ", of static ones in the training split" if meta.static else ""
        )
        result = Explained(
            sample=f"{file}{series}: {name} after {iso(int(past[-1])).replace('T', ' ').removesuffix(' 00:00:00')}",
            score=f"{steps}: {forecast.mean():.5g} {unit}".rstrip(),
            method=f"{found.method}; baseline: the mean of each channel in the lookback{of_others}",
            channels=[*meta.inputs[: len(meta.input_columns)], *(f"calendar: {feature}" for feature in meta.calendar)],
            steps=list(range(meta.lookback, -self._known_ahead, -1)),
            step="lag",
            times=[iso(int(one)) for one in times],
            values=self._values(raw),
            attributions=self._by_channel((found.values[0] * weights).sum(axis=0)),
            importance=self._by_channel((many * weights).sum(axis=0)),
            samples=len(windows),
            noun="windows",
        )
        by_block = np.stack([self._by_channel(block).sum(axis=1) for block in many])
        return Found(result, name, by_block, blocks, times, ahead, forecast)

    @property
    def _known_ahead(self) -> int:
        """Number of forecast steps that are inputs, because channels are known in advance."""
        return self.meta.horizon if self.meta.known else 0

    @property
    def _columns(self) -> list[int]:
        """Columns of the channels that are neither static nor known in advance."""
        return [self.table.channels.index(name) for name in self.meta.observed]

    def _future(self, one: "Series") -> tuple[Nanoseconds, Nanoseconds]:
        """Return the times of the forecast after the last row, UTC and local, `[S]` each."""
        return steps_after(one.time, one.wall, self.meta.horizon, self.timezone)

    def _by_channel(self, attributions: Values) -> Values:
        """Return `[T, C]` with the sum of sine and cosine of each calendar feature.

        At the forecast steps, channels that are not known in advance repeat their last value: these attributions are added to
        those of the last value.
        """
        count, past, lookback = len(self.meta.input_columns), self._past_channels, self.meta.lookback
        channels = attributions[:, :count].copy()
        channels[lookback - 1, :past] += channels[lookback:, :past].sum(axis=0)
        channels[lookback:, :past] = 0
        pairs = attributions[:, count:].reshape(len(attributions), -1, 2)
        return np.hstack([channels, pairs.sum(axis=2)])

    @property
    def _past_channels(self) -> int:
        """Number of input channels that are not known in advance: the first ones."""
        return len(self.meta.input_columns) - len(self.meta.known)

    def _values(self, raw: tuple[Tensor, ...]) -> Values:
        """Return the values of the first window, `[T, C]`; of a calendar feature its phase, from 0 to 1.

        At the forecast steps, channels that are not known in advance are NaN.
        """
        values, time = (part[0] for part in raw[:2])
        if self.meta.known:
            unknown = torch.full((self.meta.horizon, values.shape[1]), torch.nan, dtype=values.dtype)
            values = torch.cat([torch.cat([values, unknown]), raw[2][0]], dim=1)
        waves = Calendar(self.meta.calendar)(time).double().reshape(len(time), -1, 2) if self.meta.calendar else None
        phases = [] if waves is None else [(torch.atan2(waves[..., 0], waves[..., 1]) / (2 * torch.pi)) % 1]
        return torch.cat([values.double(), *phases], dim=1).numpy()

    def _spread_out(self, most: int) -> "list[tuple[Series, int]]":
        """Return evenly spaced windows of all series, with their first rows."""
        series = self.table.series
        ends = np.cumsum([len(one.time) - self.meta.lookback + 1 for one in series])  # known columns go on for the horizon
        windows = []
        for number in explained.evenly_spaced(int(ends[-1]), most).tolist():
            index = int(np.searchsorted(ends, number, side="right"))
            windows.append((series[index], number - (int(ends[index - 1]) if index else 0)))
        return windows

    def _raw(self, windows: "list[tuple[Series, int]]") -> tuple[Tensor, ...]:
        """Return the raw inputs of windows, given by a series and their first row."""
        parts = zip(*(self._raw_window(one, first) for one, first in windows), strict=True)
        return tuple(torch.from_numpy(np.stack(part)) for part in parts)

    def _raw_window(self, one: "Series", first: int) -> tuple[npt.NDArray[Any], ...]:
        """Return values and time stamps of a window and, if there are any, values known in advance."""
        meta, end = self.meta, first + self.meta.lookback
        static = encode(one.static, meta.static)
        values = np.hstack([one.values[first:end][:, self._columns], np.tile(static, (meta.lookback, 1))]).astype(meta.dtype)
        if not meta.known:
            return values, one.time[first:end]
        time = np.concatenate([one.time, self._future(one)[0]])[first : end + meta.horizon]
        known = np.concatenate([one.known, one.future_known])[first : end + meta.horizon]
        return values, time, known.astype(meta.dtype)

    def _attribute(self, raw: tuple[Tensor, ...], blocks: Blocks, method: Method | None) -> Attribution:
        """Return attributions of the mean forecast of each block, in units of the target, `[N, K, T, C]`."""
        inputs = self.predictor.transform(*self.predictor.move(raw))

        def score(batch: Tensor, samples: Tensor) -> Tensor:
            return blocks.means(self.predictor.predict(batch)[:, :, self.target])

        baselines = torch.zeros_like(inputs)  # of static channels: their mean; of the calendar: the middle of sine and cosine
        observed, count, past = len(self.meta.observed), len(self.meta.input_columns), self._past_channels
        baselines[..., :observed] = inputs[:, : self.meta.lookback, :observed].mean(dim=1, keepdim=True)
        baselines[..., past:count] = inputs[..., past:count].mean(dim=1, keepdim=True)
        with recurrent_gradients(self.predictor.network):
            return attribute(score, inputs, baselines, method)


def _draw(found: Found, meta: Meta, name: str, out: Path) -> None:
    """Draw the attributions of the sample, the importance of channels and lags, and that of lags by steps ahead."""
    result, units = found.result, dict(zip(meta.targets, meta.units, strict=True))
    unit = units[found.target]
    ahead = figures.Ahead(found.time.astype("datetime64[ns]"), found.forecast, found.target)
    title = f"{name}: {result.sample}\n{result.score}"
    panels, times = explained.panels(result, units), found.input_time.astype("datetime64[ns]")
    figure = figures.attributed(panels, times, title, f"attribution{unit and f', {unit}'}", ahead, ticks=True)
    save(figure, out / explained.FIGURE)
    heading = f"{name}: mean absolute attribution to the forecast of {found.target}, over {result.samples} windows"
    figure = figures.importance(result.importance, result.channels, result.steps, LAGS, heading)
    save(figure, out / explained.IMPORTANCE)
    if len(found.blocks.steps) > 1:
        save(figures.by_horizon(found.by_block, found.blocks.steps, result.steps, LAGS, heading), out / BY_HORIZON)
