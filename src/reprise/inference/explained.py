"""The result of `explain` on a sequence or a series: attributions by channel and time step, and their summary.

Shapes: `T` and `L` time steps, `C` channels.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reprise.figures.attribution import Panel
from reprise.inference.attribution import SEGMENTS, Attribution, shortest_span

Values = npt.NDArray[np.float64]
TABLE, FIGURE, IMPORTANCE = "attribution.csv", "attribution.png", "importance.png"
LARGEST = 5
"""How many segments with the largest parts are listed."""
MOST_SAMPLES, MOST_OCCLUSIONS = 64, 1000
"""The most samples of a file over which attributions are averaged, and occlusions of them: each computes the network once."""


@dataclass(frozen=True)
class ChannelPart:
    """A channel's share of the attributions, and steps of it: the shortest span with half of the share, or one segment."""

    number: int
    """Index of the channel."""
    share: float
    first: int
    """Index of the first of the steps."""
    last: int


@dataclass(frozen=True)
class Explained:
    """Attributions of one sample of `T` steps, and their mean absolute values over several samples, of up to `L` steps."""

    sample: str
    """What is explained, as text."""
    score: str
    """The score that the attributions add up to, as text."""
    method: str
    """The method and its baseline, as text."""
    channels: list[str]
    steps: list[int]
    """The number of each time step `[L]`."""
    step: Literal["step", "lag"]
    """What the numbers are: steps from the first, or lags: steps before the first step of the forecast."""
    times: list[str]
    """The time of each step of the sample `[T]`; empty for sequences, which have none."""
    values: Values
    """The sample `[T, C]`, in units of the data; NaN where it is unknown."""
    attributions: Values
    """`[T, C]`."""
    importance: Values
    """Mean absolute attribution over `samples` samples, `[L, C]`."""
    samples: int
    noun: str
    """What several samples are called."""

    def parts(self) -> list[ChannelPart]:
        """Return the part of each channel in the explained sample, the largest first."""
        return _parts(np.abs(self.attributions))

    def mean_parts(self) -> list[ChannelPart]:
        """Return the part of each channel over all samples, the largest first."""
        return _parts(self.importance)

    def segments(self) -> list[ChannelPart]:
        """Return the segments of single channels with the largest parts in the explained sample, the largest first.

        The steps are divided into at most `SEGMENTS` segments of equal length.
        """
        strength = np.abs(self.attributions)
        parts = np.array_split(np.arange(len(strength)), min(SEGMENTS, len(strength)))
        shares = np.stack([strength[part].sum(axis=0) for part in parts]) / (strength.sum() or 1.0)  # [segment, C]
        order = np.argsort(-shares, axis=None, kind="stable")[:LARGEST]
        segments, channels = np.unravel_index(order, shares.shape)
        return [
            ChannelPart(int(channel), float(shares[segment, channel]), int(parts[segment][0]), int(parts[segment][-1]))
            for segment, channel in zip(segments, channels, strict=True)
            if shares[segment, channel] > 0
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each channel and step: value, attribution, and importance (mean absolute attribution).

        Value and attribution are None after the end of the sample.
        """
        return [
            {
                "channel": channel,
                self.step: name,
                **({"time": self.times[step]} if self.times else {}),
                "value": self._value(step, number),
                "attribution": float(self.attributions[step, number]) if step < len(self.values) else None,
                "importance": float(self.importance[step, number]),
            }
            for number, channel in enumerate(self.channels)
            for step, name in enumerate(self.steps)
        ]

    def _value(self, step: int, number: int) -> float | None:
        value = float(self.values[step, number]) if step < len(self.values) else math.nan
        return None if math.isnan(value) else value

    def described(self) -> dict[str, Any]:
        """Return the summary as JSON data."""
        return {
            "sample": self.sample,
            "score": self.score,
            "method": self.method,
            "channels": [self._described(part, "half_of_it") for part in self.parts()],
            "largest_segments": [self._described(part, self.step) for part in self.segments()],
            "samples": self.samples,
            "channels_of_all_samples": [self._described(part, "half_of_it") for part in self.mean_parts()],
        }

    def _described(self, part: ChannelPart, key: str) -> dict[str, Any]:
        steps = {"from": self.steps[part.first], "to": self.steps[part.last]}
        return {"channel": self.channels[part.number], "share": part.share, key: steps}

    def write_table(self, folder: Path) -> None:
        """Write a CSV table with a row per channel and step to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = self.rows()
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def panels(result: Explained, units: Mapping[str, str] = MappingProxyType({})) -> list[Panel]:
    """Return what the figure of a sample shows: a panel per channel, the most important first. `units` are by channel."""
    return [
        Panel(
            name=result.channels[part.number],
            share=part.share,
            values=result.values[:, part.number],
            attribution=result.attributions[:, part.number],
            span=(part.first, part.last),
            unit=units.get(result.channels[part.number], ""),
        )
        for part in result.parts()
    ]


def _parts(strength: Values) -> list[ChannelPart]:
    by_channel = strength.sum(axis=0)
    shares = by_channel / (by_channel.sum() or 1.0)
    order = np.argsort(-shares, kind="stable").tolist()
    return [ChannelPart(number, float(shares[number]), *shortest_span(strength[:, number])) for number in order]


def most_samples(found: Attribution) -> int:
    """Return over how many samples attributions by this method are to be averaged."""
    if found.method == "integrated gradients":
        return MOST_SAMPLES
    steps, channels = (int(size) for size in found.values.shape[2:])
    return max(1, min(MOST_SAMPLES, MOST_OCCLUSIONS // (channels * min(SEGMENTS, steps))))


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return indices of at most `most` of `count` samples, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
