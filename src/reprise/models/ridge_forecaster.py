"""Ridge regression from the lookback to the horizon, in closed form.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon), `N` past and
`M` future segments, `L` levels that may be subtracted.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reprise.errors import UserError
from reprise.models.channels import Segments, TargetChannels, flatten_forecast, steps_of_lookbacks
from reprise.models.closed_form import Batches
from reprise.models.ridge import solve_moments

Level = Literal["last", "season", "seven_seasons", "lookback", "seasonal_mean"]
SERIES_AT_ONCE = 2**22
"""Numbers of a block of windows whose products are added up at a time."""
TINY = torch.finfo(torch.float64).tiny


class RidgeForecaster(nn.Module):
    """Ridge regression of the horizon on the lookback, one for all channels, fitted on all training windows.

    Maps `float32 [B, T, C]` to `[B, S * Y]`. Lookback and horizon are cut into segments, and one map from past to future segments
    is shared by all phases of a segment. Segments of one step give a weight for each pair of steps (Toner and Darlow 2024: linear
    forecasters have closed-form solutions); segments of a season give a small map across seasons, that of SparseTSF (Lin et al.
    2024) without its convolution. A level of each window is subtracted from lookback and targets and added back to the forecast.
    Every combination of `lookbacks` and `levels` is a candidate with an `alpha` of its own, chosen on val.

    Products of all windows are added up once; candidates and their errors on val are computed from these sums. Memory depends on
    lookback and horizon, not on the number of windows.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all.
        season: steps of a season.
        segment: steps of a segment; by default a season.
        lookbacks: steps before the forecast that a candidate reads, each at most `T`; numbers with a decimal point are fractions
            of `T`. By default `T`.
        levels: what a candidate subtracts: the last value; the mean of the last season, of the last seven or of its lookback; or
            the `seasonal_mean`, the mean of all values of its lookback at the same phase of the season.
        combine: `best`, the candidate with the smallest error on val; `mean`, the mean of all candidates.
        alphas: strengths of the regularisation, in units of the mean of the squared features, summed over the training windows.
        temperature: 0, a candidate has the alpha with the smallest error on val; above 0, it is the mean over all alphas, whose
            weights fall by a factor of e for every `temperature` by which the error on val exceeds the smallest, as a ratio.

    Raises:
        ValueError: if an argument is invalid.

    """

    weights: Tensor
    level_weights: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        season: int = 24,
        segment: int | None = None,
        lookbacks: Sequence[int | float] | None = None,
        levels: Sequence[Level] = ("last", "season", "seven_seasons", "lookback"),
        combine: Literal["best", "mean"] = "best",
        alphas: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        temperature: float = 0.0,
    ) -> None:
        super().__init__()
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        period, name = (season, "season") if segment is None else (segment, "segment")
        self.segments = Segments(self.targets.lookback, self.targets.horizon, period, name)
        self.season, self.combine, self.temperature = season, combine, temperature
        self.alphas = torch.tensor(list(alphas), dtype=torch.float64)
        shortest = self._check(levels)
        self.lookbacks = steps_of_lookbacks([1.0] if lookbacks is None else lookbacks, self.targets.lookback, shortest)
        self.levels: list[Level] = list(levels)
        self.chosen: Mapping[str, float | str] = {}
        self.register_buffer("weights", torch.zeros(self.segments.outputs, self.segments.inputs))  # [M, N]
        self.register_buffer("level_weights", torch.zeros(self.segments.outputs, len(self._level_steps)))  # [M, L]

    def _check(self, levels: Sequence[Level]) -> int:
        """Return the steps of the shortest lookback that the levels allow."""
        period = self.segments.period
        if self.season < 1:
            raise ValueError(f"season={self.season}: must be at least 1")
        if not levels or len(set(levels)) < len(levels):
            raise ValueError(f"levels={list(levels)}: needs one or more different levels")
        if "seasonal_mean" in levels and self.season % period:
            raise ValueError(f"segment={period}: must divide the season of {self.season} steps for the level seasonal_mean")
        if not len(self.alphas) or self.alphas.min() <= 0:
            raise ValueError(f"alphas={self.alphas.tolist()}: needs one or more values above 0")
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature}: must be at least 0")
        return self.season if "seasonal_mean" in levels else period

    @property
    def _level_steps(self) -> list[int]:
        """Return the different numbers of last steps whose means are the levels of the candidates."""
        steps = (self._steps_of(level, lookback) for lookback, level in self._candidates)
        return list(dict.fromkeys(count for count in steps if count))

    @property
    def _candidates(self) -> list[tuple[int, Level]]:
        """Return lookbacks and levels; of levels that are the mean of equally many steps, the first."""
        different: dict[tuple[int, int], tuple[int, Level]] = {}
        for lookback, level in itertools.product(self.lookbacks, self.levels):
            different.setdefault((lookback, self._steps_of(level, lookback)), (lookback, level))
        return list(different.values())

    def _steps_of(self, level: Level, lookback: int) -> int:
        """Return the number of last steps whose mean is the level; 0 for `seasonal_mean`, unless the season is one step."""
        steps: dict[Level, int] = {"last": 1, "season": self.season, "seven_seasons": 7 * self.season, "lookback": lookback}
        steps["seasonal_mean"] = lookback if self.season == 1 else 0
        return min(steps[level], self.targets.lookback)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        series = self.targets(inputs)  # [B, Y, T]
        segments = self.segments.split(series) @ self.weights.T  # [B, Y, period, M]
        if self._level_steps:
            segments = segments + (self._levels(series) @ self.level_weights.T).unsqueeze(-2)
        return flatten_forecast(self.segments.join(segments))

    def _levels(self, series: Tensor) -> Tensor:
        """Return the means of the last steps of `[..., T]`, `[..., L]`."""
        levels = [series[..., -steps:].mean(-1) for steps in self._level_steps]
        return torch.stack(levels, dim=-1) if levels else series.new_zeros(*series.shape[:-1], 0)

    def fit(self, train: Batches, val: Batches) -> None:
        """Compute the weights from the windows of `train`; choose alphas and the best candidate on `val`.

        Of a window with missing targets (NaN), the phases of the segments that miss none are used.

        Raises:
            UserError: if no phase of any window has all its targets.

        """
        parts = self._parts()
        train_sums, val_sums = (self._moments(batches, parts) for batches in (train, val))
        for name, sums in (("train", train_sums), ("val", val_sums)):
            if not all(one.rows for one in sums):
                lacking = f"RidgeForecaster fits complete windows, and every window of {name} lacks targets"
                raise UserError(lacking, "make window.horizon smaller, or choose another model")
        moments = [one.products for one in train_sums], [one.products for one in val_sums]
        fits = [self._fit_candidate(*candidate, parts, *moments) for candidate in self._candidates]
        best = min(fits, key=lambda fit: fit.error)
        used = [best] if self.combine == "best" else fits
        self.weights.copy_(torch.stack([fit.weights for fit in used]).mean(0))
        self.level_weights.copy_(torch.stack([fit.level_weights for fit in used]).mean(0))
        values = sum(one.rows * part.width for one, part in zip(val_sums, parts, strict=True))
        self.chosen = {fit.name: f"alpha {fit.alphas}, val MSE {fit.error / values:.4g}" for fit in used}

    def _parts(self) -> list["_Part"]:
        """Return the future segments to be solved together. If the last one is cut by the horizon, it has fewer phases."""
        period, count = self.segments.period, self.segments.outputs
        cut = self.targets.horizon % period
        if not cut:
            return [_Part(slice(0, count), slice(0, period))]
        last = _Part(slice(count - 1, count), slice(0, cut))
        return [last] if count == 1 else [_Part(slice(0, count - 1), slice(0, period)), last]

    def _moments(self, batches: Batches, parts: Sequence["_Part"]) -> list["_Sums"]:
        """Return, for each part, the sums of products of past segments, levels and future segments."""
        width = self.segments.inputs + len(self._level_steps)
        sums = [_Sums(torch.zeros(width + part.width, width + part.width, dtype=torch.float64)) for part in parts]
        for past, future in self._blocks(batches):
            levels = self._levels(past).unsqueeze(-2).expand(-1, self.segments.period, -1)
            padding = self.segments.outputs * self.segments.period - self.targets.horizon
            inputs = torch.cat([self.segments.split(past.unsqueeze(0))[0], levels], dim=-1)  # [series, period, N + L]
            padded, incomplete = nn.functional.pad(future, (0, padding)), bool(future.isnan().any())
            targets = padded.reshape(len(padded), -1, self.segments.period).transpose(-1, -2)  # [series, period, M]
            for total, part in zip(sums, parts, strict=True):
                rows = torch.cat([inputs[:, part.phases], targets[:, part.phases, part.columns]], dim=-1).flatten(0, 1)
                if incomplete:
                    rows = rows[~rows.isnan().any(-1)]
                total.products += (rows.T @ rows).cpu()
                total.rows += len(rows)
        return sums

    def _blocks(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield lookbacks `[series, T]` and targets `[series, S]` in float64: every channel of every window is a series."""
        size = max(1, SERIES_AT_ONCE // (self.targets.lookback + self.targets.horizon))
        for batch in batches:
            past = self.targets(batch[0]).flatten(0, 1)
            future = batch[1].transpose(1, 2).flatten(0, 1)
            for past_block, future_block in zip(torch.split(past, size), torch.split(future, size), strict=True):
                yield past_block.double(), future_block.double()

    def _fit_candidate(
        self, lookback: int, level: Level, parts: Sequence["_Part"], train: Sequence[Tensor], val: Sequence[Tensor]
    ) -> "_Fit":
        count, total = lookback // self.segments.period, self.segments.inputs
        steps = self._steps_of(level, lookback)
        column = total + self._level_steps.index(steps) if steps else None
        seasonal_means = self._seasonal_means(count)
        weights = torch.zeros(self.segments.outputs, total, dtype=torch.float64)
        error, alphas = 0.0, []
        for part, *moments in zip(parts, train, val, strict=True):
            kept = [*range(total - count, total), *range(len(moments[0]) - part.width, len(moments[0]))]
            if column is None:
                used = torch.cat([seasonal_means[:count], seasonal_means[count:][part.columns]])
                train_part, val_part = (_subtract_means(moment[kept][:, kept], used) for moment in moments)
            else:
                train_part, val_part = (_subtract(moment, kept, column) for moment in moments)
            scale = (train_part[:count, :count].trace() / count).clamp(min=TINY)  # 0 for a constant series
            solution = solve_moments(train_part, val_part, count, self.alphas * scale, self.temperature)
            weights[part.columns, total - count :] = solution.weights.T
            error += solution.error
            alphas.append(f"{solution.alpha / scale:.3g}")
        level_weights = torch.zeros_like(self.level_weights, dtype=torch.float64, device="cpu")
        if column is None:
            kept_weights = weights[:, total - count :]
            weights[:, total - count :] = kept_weights + seasonal_means[count:] - kept_weights @ seasonal_means[:count]
        else:
            level_weights[:, column - total] = 1 - weights.sum(1)  # the level is added back to the map of what is left of it
        return _Fit(f"lookback {lookback}, level {level}", weights, level_weights, error, ", ".join(alphas))

    def _seasonal_means(self, count: int) -> Tensor:
        """Return the weights of the last `count` past segments in the seasonal mean of each of them and each future segment.

        Shape `[count + M, count]`. A segment lies within one season, at the same place as every other `season // segment`-th one.
        """
        place = torch.arange(count + self.segments.outputs) % max(1, self.season // self.segments.period)
        same = (place[:, None] == place[:count]).double()
        return same / same.sum(1, keepdim=True)


@dataclass
class _Sums:
    """Second moments `[N + L + M, N + L + M]` of so many rows."""

    products: Tensor
    rows: int = 0


@dataclass(frozen=True)
class _Part:
    """Future segments (columns) and the phases of the season at which all of them are within the horizon."""

    columns: slice
    phases: slice

    @property
    def width(self) -> int:
        return len(range(self.columns.stop)[self.columns])


@dataclass(frozen=True)
class _Fit:
    name: str
    weights: Tensor
    level_weights: Tensor
    error: float
    alphas: str


def _subtract_means(moments: Tensor, means: Tensor) -> Tensor:
    """Return the second moments of columns after `means @ past columns` was subtracted from them."""
    count = means.shape[1]
    products = means @ moments[:count]
    return moments - products - products.T + means @ moments[:count, :count] @ means.T


def _subtract(moments: Tensor, kept: Sequence[int], level: int) -> Tensor:
    """Return the second moments of the kept columns after the level was subtracted from each of them."""
    products = moments[kept, level]
    return moments[kept][:, kept] - products[:, None] - products[None, :] + moments[level, level]
