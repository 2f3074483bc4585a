"""Confidence intervals, t tests, Holm's correction and power, to test whether two groups of values differ.

A group has one value per seed. Only `scipy.special` is used, since `scipy.stats` takes a second to import.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

from scipy import special

LEVEL = 0.05
"""Significance level: the accepted probability that equal configs are called different."""
POWER = 0.8
"""The power for which numbers of seeds are computed: Cohen 1988, section 2.4."""
MOST_SEEDS = 100
"""The largest number of seeds that is suggested. A gap that needs more is called too small."""


@dataclass(frozen=True)
class Test:
    """A two-sided t test of `a - b`: gap (difference of means) with its 95 % interval, t, degrees of freedom, p."""

    kind: str
    """"paired": test of the differences between values of the same seed. "Welch": test of two independent groups."""
    gap: float
    low: float
    high: float
    t: float
    df: float
    p: float


def interval(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean of at least two values (Student's t).

    It is clipped to the limits of the metric (`bounds`). The mean cannot exceed them, so the coverage does not decrease.
    """
    mean, half = fmean(values), _quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return max(least, mean - half), min(most, mean + half)


def paired(a: Sequence[float], b: Sequence[float]) -> Test | None:
    """Return Student's t test of the differences of at least two pairs; None if the differences have no spread."""
    differences = [one - other for one, other in zip(a, b, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5
    return _test("paired", fmean(differences), error, len(differences) - 1, _rounding(a, b))


def welch(a: Sequence[float], b: Sequence[float]) -> Test | None:
    """Return Welch's t test of two groups of at least two values each; None if neither has any spread.

    Source: Welch 1947, with the degrees of freedom of Satterthwaite 1946.
    """
    shares = variance(a) / len(a), variance(b) / len(b)
    error = sum(shares) ** 0.5
    if error <= _rounding(a, b):
        return None
    df = sum(shares) ** 2 / (shares[0] ** 2 / (len(a) - 1) + shares[1] ** 2 / (len(b) - 1))
    return _test("Welch", fmean(a) - fmean(b), error, df, _rounding(a, b))


def largest_loss(a: Sequence[float], b: Sequence[float], is_paired: bool, higher: bool) -> tuple[float, Test | None]:
    """Return the largest loss of `a` against `b` within the 95 % interval of `a - b` (negative: a gain), and the test.

    `a` is non-inferior to `b` if the loss is below the margin. A group whose true loss equals the margin passes with probability
    0.025 (the one-sided level of ICH E9 for non-inferiority trials). Both groups need at least two values. Without any spread
    there is no test, and the loss is the difference of the means.
    """
    test = (paired if is_paired else welch)(a, b)
    if test is None:
        gap = fmean(a) - fmean(b)
        return (-gap if higher else gap), None
    return (-test.low if higher else test.high), test


def seeds_to_pass(test: Test, a: Sequence[float], b: Sequence[float], margin: float, higher: bool) -> int | None:
    """Return the number of seeds per group that shows, with `POWER`, a loss below the margin, if the observed gap is true.

    None if it exceeds `MOST_SEEDS`, or if the loss is at least as large as the margin.
    """
    room = margin + (test.gap if higher else -test.gap)
    counts = range(2, MOST_SEEDS + 1)
    if room <= 0:
        return None

    def power(count: int) -> float:
        spread, df = _spread(test, a, b, count)
        return float(1 - special.nctdtr(df, room / (spread / count) ** 0.5, _quantile(df)))

    enough = bisect_left(counts, POWER, key=power)
    return counts[enough] if enough < len(counts) else None


def holm(ps: Sequence[float]) -> list[float]:
    """Return the Holm-corrected p values of a family of tests, in the given order. They control the family-wise error rate.

    Source: Holm 1979.
    """
    corrected = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = largest
    return corrected


def seeds_for(test: Test, a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> int | None:
    """Return the number of seeds per group that detects this gap and spread with `POWER`; None if it exceeds `MOST_SEEDS`.

    For a paired test, `a` and `b` are the values of its pairs.
    """
    counts = range(2, MOST_SEEDS + 1)
    enough = bisect_left(counts, POWER, key=lambda count: _power(test, a, b, count, level))  # power grows with the count
    return counts[enough] if enough < len(counts) else None


def _power(test: Test, a: Sequence[float], b: Sequence[float], count: int, level: float) -> float:
    """Return the power of the two-sided test with `count` seeds, if the observed gap and spreads are the true ones."""
    spread, df = _spread(test, a, b, count)
    shift, threshold = abs(test.gap) / (spread / count) ** 0.5, _quantile(df, level)
    return float(1 - special.nctdtr(df, shift, threshold) + special.nctdtr(df, shift, -threshold))


def _spread(test: Test, a: Sequence[float], b: Sequence[float], count: int) -> tuple[float, float]:
    """Return the variance of a single difference of values, and the degrees of freedom of a test with `count` seeds."""
    if test.kind == "paired":
        return variance([one - other for one, other in zip(a, b, strict=True)]), float(count - 1)
    spread = variance(a) + variance(b)
    return spread, (count - 1) * spread**2 / (variance(a) ** 2 + variance(b) ** 2)


def _test(kind: str, gap: float, error: float, df: float, rounding: float) -> Test | None:
    """Return the test; None if the standard error is within the rounding error of the values."""
    if error <= rounding:
        return None
    half = _quantile(df) * error
    return Test(kind, gap, gap - half, gap + half, gap / error, df, float(2 * special.stdtr(df, -abs(gap / error))))


def _rounding(a: Sequence[float], b: Sequence[float]) -> float:
    return 1e-12 * max(map(abs, (*a, *b)))


def _quantile(df: float, level: float = LEVEL) -> float:
    """Return the half-width, in standard errors, of a two-sided interval of Student's t distribution."""
    return float(special.stdtrit(df, 1 - level / 2))
