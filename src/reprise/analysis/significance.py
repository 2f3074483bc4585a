"""Whether two sets of figures differ by more than luck: intervals, t tests, Holm's correction, power. Pure.

`n` figures of a group, one a seed. Distributions are SciPy's; of it only `scipy.special`, since `scipy.stats` takes a second to
import.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev, variance

from scipy import special

LEVEL = 0.05
"""The share of equal configs that may be called different."""
POWER = 0.8
"""With which a given number of seeds would tell two groups apart: Cohen 1988, section 2.4."""
MOST_SEEDS = 100
"""More than that nobody trains: a gap that would take them is called too small."""


@dataclass(frozen=True)
class Test:
    """A two-sided t test of `a - b`: its gap (difference of means) with a 95 % interval, t, degrees of freedom, p."""

    kind: str
    """paired: of the differences between figures of the same seed; Welch: of two independent groups."""
    gap: float
    low: float
    high: float
    t: float
    df: float
    p: float


def interval(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean of at least two figures (Student's t).

    It is cut off at the limits of the metric (`bounds`): the mean cannot lie beyond them, so it covers no less often.
    """
    mean, half = fmean(values), _quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return max(least, mean - half), min(most, mean + half)


def bounds(metric: str) -> tuple[float, float]:
    """Return the least and the largest value that a metric can have, by its name; of an unknown one, no limits."""
    _, *parts = f"/{metric.removeprefix('best/')}".split("/")
    name = parts[1] if len(parts) > 1 else parts[0]  # of test/mae/temp_max: mae
    if re.match(r"(accuracy|precision|recall|f1|ece|auroc)(_|$)", name):
        return 0.0, 1.0
    return (0.0, math.inf) if re.match(r"(loss|mae|mse|rmse|mase|smape)(_|$)", name) else (-math.inf, math.inf)


def paired(a: Sequence[float], b: Sequence[float]) -> Test | None:
    """Student's t test of the differences of at least two pairs; None where these have no spread to judge by."""
    differences = [one - other for one, other in zip(a, b, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5
    return _test("paired", fmean(differences), error, len(differences) - 1, _rounding(a, b))


def welch(a: Sequence[float], b: Sequence[float]) -> Test | None:
    """Welch's t test of two groups of at least two figures each; None where neither has a spread to judge by.

    Source: Welch 1947, with the degrees of freedom of Satterthwaite 1946.
    """
    shares = variance(a) / len(a), variance(b) / len(b)
    error = sum(shares) ** 0.5
    if error <= _rounding(a, b):
        return None
    df = sum(shares) ** 2 / (shares[0] ** 2 / (len(a) - 1) + shares[1] ** 2 / (len(b) - 1))
    return _test("Welch", fmean(a) - fmean(b), error, df, _rounding(a, b))


def largest_loss(a: Sequence[float], b: Sequence[float], is_paired: bool, higher: bool) -> tuple[float, Test | None]:
    """Return how much worse than `b` group `a` may be at most, by the 95 % interval of `a - b`, and its test; negative: better.

    `a` is not inferior to `b` by a margin if this is below the margin. Of groups whose true loss is the margin, at most one in
    forty passes (one-sided level 0.025, as ICH E9 asks of non-inferiority trials). At least two figures of each. Figures without
    any spread (no test) are taken as they are.
    """
    test = (paired if is_paired else welch)(a, b)
    if test is None:
        gap = fmean(a) - fmean(b)
        return (-gap if higher else gap), None
    return (-test.low if higher else test.high), test


def seeds_to_pass(test: Test, a: Sequence[float], b: Sequence[float], margin: float, higher: bool) -> int | None:
    """Return how many seeds (of each) would show, with `POWER`, that the loss is below the margin, were the gap as it was seen.

    None: more than `MOST_SEEDS`, or the gap itself is as large as the margin.
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
    """The p values of a family of tests, corrected so that any false finding among them is as rare as `LEVEL` says.

    Source: Holm 1979. In the order given.
    """
    corrected = [0.0] * len(ps)
    largest = 0.0
    for turn, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - turn) * ps[index]))
        corrected[index] = largest
    return corrected


def seeds_for(test: Test, a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> int | None:
    """How many seeds (of each) would tell a gap of this size and spread apart with `POWER`; None: more than `MOST_SEEDS`.

    For a paired test `a` and `b` are the figures of its pairs.
    """
    counts = range(2, MOST_SEEDS + 1)
    enough = bisect_left(counts, POWER, key=lambda count: _power(test, a, b, count, level))  # power grows with the count
    return counts[enough] if enough < len(counts) else None


def _power(test: Test, a: Sequence[float], b: Sequence[float], count: int, level: float) -> float:
    """Of the two-sided test with `count` seeds, were the gap and the spreads as they were seen."""
    spread, df = _spread(test, a, b, count)
    shift, threshold = abs(test.gap) / (spread / count) ** 0.5, _quantile(df, level)
    return float(1 - special.nctdtr(df, shift, threshold) + special.nctdtr(df, shift, -threshold))


def _spread(test: Test, a: Sequence[float], b: Sequence[float], count: int) -> tuple[float, float]:
    """Return the variance of a single difference of figures, and the degrees of freedom that a test of `count` seeds has."""
    if test.kind == "paired":
        return variance([one - other for one, other in zip(a, b, strict=True)]), float(count - 1)
    spread = variance(a) + variance(b)
    return spread, (count - 1) * spread**2 / (variance(a) ** 2 + variance(b) ** 2)


def _test(kind: str, gap: float, error: float, df: float, rounding: float) -> Test | None:
    """None where the standard error is nothing beside the figures' own rounding."""
    if error <= rounding:
        return None
    half = _quantile(df) * error
    return Test(kind, gap, gap - half, gap + half, gap / error, df, float(2 * special.stdtr(df, -abs(gap / error))))


def _rounding(a: Sequence[float], b: Sequence[float]) -> float:
    return 1e-12 * max(map(abs, (*a, *b)))


def _quantile(df: float, level: float = LEVEL) -> float:
    """Of Student's t: the half-width of a two-sided interval, in standard errors."""
    return float(special.stdtrit(df, 1 - level / 2))
