"""Sums of floating-point numbers that do not depend on the order of the terms."""

from collections.abc import Sequence
from fractions import Fraction
from typing import final

import torch
from torch import Tensor

FRACTION_BITS = (-24, 16, 56, 96)
"""A number is split into four integers ("limbs"): the first counts units of 2^24, the last units of 2^-96."""
LIMB_BITS = 40
LARGEST = 2.0**55
"""Numbers of at least this magnitude are added in floating point, because no limb can hold them."""


@final
class ExactSums:
    """Column sums of float64 numbers that do not depend on the order of the terms.

    Each number is rounded to a multiple of 2^-96 and added as an integer, as in a long accumulator (Kulisch 2013, section 8).
    Numbers beyond ±2^55 and those that are not finite are added in floating point.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.limbs = torch.zeros(len(FRACTION_BITS), columns, dtype=torch.int64, device=device)
        self.beyond = torch.zeros(columns, dtype=torch.float64, device=device)

    def add(self, values: Tensor) -> None:
        """Add the rows of `float64 [N, columns]`."""
        inside = values.abs() < LARGEST
        self.beyond += torch.where(inside, 0.0, values).sum(0)
        for limb, part in zip(self.limbs, _limbs(torch.where(inside, values, 0.0)), strict=True):
            limb += part.sum(0)
        self._carry()

    def add_at(self, columns: Tensor, values: Tensor) -> None:
        """Add each of `values`, `float64 [N]` below `LARGEST` or NaN, to its column `int64 [N]`. A NaN makes all columns NaN."""
        missing = values.isnan()
        self.beyond += torch.where(missing, values, 0.0).sum()
        for limb, part in zip(self.limbs, _limbs(torch.where(missing, 0.0, values)), strict=True):
            limb.index_add_(0, columns, part)
        self._carry()

    def state(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of the sums, by name with a prefix."""
        return {f"{name}.limbs": self.limbs, f"{name}.beyond": self.beyond}

    def means(self, counts: Sequence[int | Fraction]) -> list[float]:
        """Return the sum of each column divided by its count, correctly rounded; NaN if the count is 0."""
        limbs, beyond = self.limbs.tolist(), self.beyond.tolist()
        unit = FRACTION_BITS[-1]
        sums = [
            sum(limb << (unit - bits) for limb, bits in zip(column, FRACTION_BITS, strict=True))
            for column in zip(*limbs, strict=True)
        ]
        return [
            float(total / (count * 2**unit)) + large / count if count else float("nan")
            for total, large, count in zip(sums, beyond, counts, strict=True)
        ]

    def _carry(self) -> None:
        """Reduce all limbs but the first below 2^40, so that none overflows however many numbers are added."""
        for lower in range(len(FRACTION_BITS) - 1, 0, -1):
            carried = self.limbs[lower] >> LIMB_BITS
            self.limbs[lower] -= carried << LIMB_BITS
            self.limbs[lower - 1] += carried


def _limbs(values: Tensor) -> list[Tensor]:
    """Return finite float64 numbers as one integer tensor for each of `FRACTION_BITS`. Only the last rounding is inexact."""
    parts = []
    for bits in FRACTION_BITS:
        part = (values * 2.0**bits).to(torch.int64)
        parts.append(part)
        values = values - part.to(torch.float64) * 2.0**-bits
    return parts


def mean_over_steps(values: Tensor) -> Tensor:
    """Return the means `[N, Y]` of `float64 [N, S, Y]`, by pairwise summation.

    `Tensor.sum` may add the numbers of a sample in an order that depends on the batch size.
    """
    steps = values.shape[1]
    while (length := values.shape[1]) > 1:
        half = length // 2
        paired = values[:, :half] + values[:, half : 2 * half]
        if length % 2:
            paired[:, 0] += values[:, -1]
        values = paired
    return values[:, 0] / steps
