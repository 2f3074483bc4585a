"""Calendar features of timestamps: the phase within the hour, the day, the week, the month or the year.

Shape: `T` any number of dimensions of time stamps, `int64` nanoseconds since 1970 (UTC).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from reprise.data.timestamps import DAY, SECOND

PERIODS = {"minute": 3600.0, "hour": 86_400.0, "year": 365.2425 * 86_400}
"""Periods of fixed length in seconds, within which the phase moves continuously; a mean year of the Gregorian calendar."""
MONTHS = 4800
"""Months of 400 years, after which the Gregorian calendar repeats itself."""
MONDAY = 3
"""Days from a Monday to 1970-01-01, a Thursday."""


class Calendar(nn.Module):
    """Sine and cosine of the phase of each feature.

    `minute`, `hour` and `year` are the time since the last full hour, midnight and start of a mean year, as a share of that
    period. `weekday` (0 to 6 from Monday, of 7), `day` (of the month, of the days that it has) and `month` (of 12) change at
    midnight only. All follow UTC.
    """

    first_days: Tensor
    """The first day of each month of 400 years, and the day after the last, in days since 1970 (`int64 [4801]`)."""

    def __init__(self, features: list[str]) -> None:
        super().__init__()
        self.features = features
        months = np.arange(MONTHS + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        if {"day", "month"} & set(features):
            self.register_buffer("first_days", torch.from_numpy(months), persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        """Return `float32 [*T, 2 * features]`: sine and cosine of each feature in turn."""
        phases = [2 * math.pi * self._share(feature, time) for feature in self.features]
        return torch.stack([part.float() for phase in phases for part in (phase.sin(), phase.cos())], dim=-1)

    def _share(self, feature: str, time: Tensor) -> Tensor:
        """Return the elapsed share of the period, `float64 [*T]` from 0 to 1."""
        if feature in PERIODS:
            # float64 resolves current dates only to 256 ns, so seconds and their fraction are converted separately
            seconds = torch.div(time, SECOND, rounding_mode="floor").double()
            fraction = torch.remainder(time, SECOND).double() / SECOND
            return (torch.remainder(seconds, PERIODS[feature]) + fraction) / PERIODS[feature]
        days = torch.div(time, DAY, rounding_mode="floor")
        if feature == "weekday":
            return torch.remainder(days + MONDAY, 7).double() / 7
        day = torch.remainder(days, self.first_days[-1])
        month = torch.bucketize(day, self.first_days, right=True) - 1
        if feature == "month":
            return torch.remainder(month, 12).double() / 12
        first = self.first_days[month]
        return (day - first).double() / (self.first_days[month + 1] - first).double()
