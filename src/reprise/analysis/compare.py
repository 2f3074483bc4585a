"""Runs grouped by config without seed, and ranked where luck does not explain the ranking."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from reprise import config as configs
from reprise.analysis import significance
from reprise.analysis.significance import Test
from reprise.config.targets import nearest
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.tracking import listing
from reprise.tracking.descriptions import BEST, GROUP
from reprise.tracking.listing import Row
from reprise.tracking.runs_table import DECIDES_NOTHING
from reprise.tracking.statuses import SILENT

MAIN = ("accuracy", "mae", "mae_scaled", "loss")
"""The metric of a data set, the first that its runs have."""
HIGHER_IS_BETTER = ("accuracy", "f1", "auc", "precision", "recall", "r2")
"""How the names begin of metrics that are no errors, where the runs do not say of theirs which end is better."""
MEASURED_ON = (
    *(f"data.{key}" for key in ("name", "path", "broken", "duplicates")),
    *(f"window.{key}" for key in ("val_size", "test_size", "seed", "lookback", "horizon", "targets")),
)
"""Keys that decide which samples a figure was measured on: where they differ, figures cannot be compared.

So does the hash of those samples. The name of a data set does not identify it: images may have been added, rows appended.
"""
DIGITS = 8
"""Of a hash, as many characters as tell data of one name apart."""
SPEED = "train/samples_per_second"
Unit = tuple[tuple[tuple[str, str], ...], int]
"""What makes runs of two groups a pair: the part of the config that is not grouped by (without --by, nothing), and the seed."""


@dataclass(frozen=True)
class ComparisonQuery:
    """What is to be compared."""

    experiments: tuple[str, ...] = ()
    expression: str | None = None
    by: tuple[str, ...] = ()
    metric: str | None = None


@dataclass(frozen=True)
class ExcludedRun:
    """A run that is not compared, and why."""

    id: str
    name: str
    why: str


@dataclass(frozen=True)
class Group:
    """The runs of one config, one a seed."""

    name: str
    config: dict[str, str]
    runs: dict[Unit, tuple[Row, float]]
    """Each with its figure."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The least and the largest value that the metric can have."""

    @property
    def values(self) -> list[float]:
        """The figures."""
        return [value for _, value in self.runs.values()]

    @cached_property
    def mean(self) -> float:
        """Over seeds."""
        return fmean(self.values)

    @cached_property
    def std(self) -> float | None:
        """The sample standard deviation; None of a single seed."""
        return stdev(self.values) if len(self.runs) > 1 else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Of 95 % confidence, within the bounds of the metric; None of a single seed."""
        return significance.interval(self.values, *self.bounds) if len(self.runs) > 1 else None

    def cost(self, fact: str) -> float | None:
        """The mean over runs of a tag (`parameters`, `train_seconds`, `peak_memory`) or of `SPEED`."""
        found = [row.last.get(fact, row.tags.get(fact)) for row, _ in self.runs.values()]
        numbers = [float(number) for number in found if number is not None]
        return fmean(numbers) if numbers else None

    @property
    def versions(self) -> int:
        """Of the code that decides weights."""
        return len({row.tags["sha256.code"] for row, _ in self.runs.values() if "sha256.code" in row.tags})


@dataclass(frozen=True)
class PairwiseTest:
    """A group beside the next of the ranking; both are numbered from 0."""

    first: int
    second: int
    verdict: str
    """What the first is: better, not distinguishable, or worse (of those seeds alone that both have)."""
    test: Test | None
    """None where the figures have no spread to judge by."""
    p_holm: float | None
    """The p value, corrected over the table."""
    more_seeds: int | None
    """That would tell them apart; None where they are, or where no reasonable number would."""


@dataclass(frozen=True)
class Table:
    """The groups that were measured on the same samples, the best first."""

    data: str
    metric: str
    higher_is_better: bool
    groups: list[Group]
    beside: list[PairwiseTest]
    """Neighbours of the ranking; a group of a single seed is passed over."""
    measured_on: tuple[str | None, ...] = ()
    """The values of `MEASURED_ON`, and the hash of the samples."""

    @property
    def is_of_test(self) -> bool:
        """Whether only runs that `evaluate` opened can be in it."""
        return self.metric.startswith("test/")

    @cached_property
    def differing(self) -> list[str]:
        """The keys of the config in which the groups differ."""
        keys = dict.fromkeys(key for group in self.groups for key in group.config)
        return [key for key in keys if len({group.config.get(key) for group in self.groups}) > 1]


@dataclass(frozen=True)
class Comparison:
    """A table for each data set, and the runs that are in none."""

    asked: ComparisonQuery
    tables: list[Table]
    left_out: list[ExcludedRun]


def compare(paths: ProjectPaths, asked: ComparisonQuery) -> Comparison:
    """The runs of the store as they were asked for.

    Raises:
        UserError: for an experiment, key or expression that there is not, or a store that fails.

    """
    metric = asked.metric and (asked.metric if "/" in asked.metric else f"val/{asked.metric}").removeprefix(BEST)
    wanted = [metric] if metric else [f"val/{name}" for name in MAIN]
    rows = listing.read(paths.store, configs.tracking_config(paths.root), wanted, asked.expression)
    rows = _of_experiments(rows, asked.experiments)
    left = [ExcludedRun(row.id, row.name, why) for row in rows if (why := _unfit(row))]
    rows = [row for row in rows if not _unfit(row)]
    _demand_known(asked.by, rows)
    hashes = sample_hashes(rows, metric)
    sets = _sorted_by(rows, lambda row: (*_measured_on(row, metric), hashes[row.id]))
    tables = []
    for name, (measured_on, members) in zip(_names(list(sets)), sets.items(), strict=True):
        main = metric or next((key for key in wanted if any(key in row.at_best for row in members)), wanted[0])
        fit, without = _newest_with(main, members)
        left += without
        if fit:
            tables.append(replace(ranked(name, main, fit, asked.by), measured_on=measured_on))
    return Comparison(asked, sorted(tables, key=lambda table: table.data), left)


def ranked(data: str, metric: str, rows: Iterable[Row], by: Sequence[str] = ()) -> Table:
    """The table of runs that have the metric and were measured on the same samples."""
    rows = list(rows)
    higher = _higher_is_better(metric, rows)
    groups = _groups(rows, metric, by)
    groups.sort(key=lambda group: (-group.mean if higher else group.mean, group.name))
    return Table(data, metric, higher, groups, _neighbours(groups, higher))


def _higher_is_better(metric: str, rows: Iterable[Row]) -> bool:
    """As the runs say of the metric that they are judged by; of others, by its name."""
    name = metric.partition("/")[2]
    said = (row.tags.get("mode") for row in rows if row.tags.get("monitor") == f"val/{name}")
    mode = next(filter(None, said), None)
    return mode == "max" if mode else name.startswith(HIGHER_IS_BETTER)


def figure(row: Row, metric: str) -> float | None:
    """A run's metric: of training and val at its best epoch, else the only one there is."""
    return (row.at_best if metric.startswith(("train/", "val/")) else row.last).get(metric)


def _of_experiments(rows: list[Row], experiments: Sequence[str]) -> list[Row]:
    known = sorted({row.tags["experiment"] for row in rows if "experiment" in row.tags})
    for name in experiments:
        if name not in known:
            raise UserError(f"no run of experiment {name}", nearest(name, known) if known else "`reprise train` makes one")
    return [row for row in rows if not experiments or row.tags.get("experiment") in experiments]


def _unfit(row: Row) -> str | None:
    """Why a run is not to be compared."""
    if "seed" not in row.tags or GROUP in row.tags:
        return "no training"
    if "reproduces" in row.tags:
        return "repeats another run"
    if row.tags.get("error") == SILENT:
        return SILENT
    stopped = "given up by its sweep" if "pruned" in row.tags else "stopped"
    return {"FINISHED": None, "FAILED": "failed", "KILLED": stopped}.get(row.status, "still going")


def _demand_known(by: Sequence[str], rows: Iterable[Row]) -> None:
    keys = sorted({key for row in rows for key in row.params})
    for name in by:
        if keys and not any(_is_under(key, [name]) for key in keys):
            raise UserError(f"--by {name}: no such key", nearest(name, sorted({*keys, *(key.partition(".")[0] for key in keys)})))


def _is_under(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _measured_on(row: Row, metric: str | None) -> tuple[str | None, ...]:
    """The values of `MEASURED_ON`; a published test set is the same however much of the rest is set aside for val."""
    published = metric and metric.startswith("test/") and row.params.get("window.test_size") == "null"
    return tuple(None if published and key == "window.val_size" else row.params.get(key) for key in MEASURED_ON)


def sample_hashes(rows: Iterable[Row], metric: str | None) -> dict[str, str | None]:
    """Return, by run id, the hash of the samples that a metric was measured on: those of val, or of test.

    A run of an older version recorded the hash of all arrays alone. It counts among those of the same arrays.
    """
    rows = list(rows)
    tag = "sha256.test" if metric and metric.startswith("test/") else "sha256.val"

    def older(row: Row) -> tuple[str | None, ...]:
        return (*_measured_on(row, metric), row.tags.get("sha256.processed"))

    known = {older(row): row.tags[tag] for row in rows if tag in row.tags}
    return {row.id: row.tags.get(tag) or known.get(older(row)) or row.tags.get("sha256.processed") for row in rows}


def _sorted_by(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _names(measured: Sequence[tuple[str | None, ...]]) -> list[str]:
    """Of data sets: where parts of one are measured on, what tells them apart."""
    named = []
    for values in measured:
        same = [other for other in measured if other[0] == values[0]]
        differing = [place for place in range(1, len(MEASURED_ON)) if len({other[place] for other in same}) > 1]
        more = ", ".join(f"{MEASURED_ON[place]}={values[place] or '–'}" for place in differing)
        if len({other[-1] for other in same if other[:-1] == values[:-1]}) > 1:
            more = ", ".join(filter(None, [more, f"samples {(values[-1] or 'unknown')[:DIGITS]}"]))
        named.append(f"{values[0]} ({more})" if more else str(values[0]))
    return named


def _newest_with(metric: str, rows: Iterable[Row]) -> tuple[list[Row], list[ExcludedRun]]:
    """Of each config and seed the newest run that has the metric; why the others are left out."""
    kept: dict[Any, Row] = {}
    left = []
    for row in rows:
        if figure(row, metric) is None:
            left.append(ExcludedRun(row.id, row.name, _missing(metric, row)))
        elif kept.setdefault((_config(row), row.tags["seed"]), row) is not row:
            left.append(ExcludedRun(row.id, row.name, "made again since, with the same settings and seed"))
    return list(kept.values()), left


def _missing(metric: str, row: Row) -> str:
    """Why a run does not have a metric."""
    if reason := row.tags.get(f"undefined.{metric.partition('/')[2]}"):
        return f"{metric} is undefined: {reason}"
    return "not opened by `evaluate`" if metric.startswith("test/") and not row.tags.get("test_opened") else f"no {metric}"


def _config(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in row.params.items() if key not in DECIDES_NOTHING))


def _groups(rows: Iterable[Row], metric: str, by: Sequence[str]) -> list[Group]:
    found: dict[Any, dict[Unit, tuple[Row, float]]] = {}
    for row in rows:
        config, value = _config(row), figure(row, metric)
        assert value is not None
        shared = tuple(pair for pair in config if not by or _is_under(pair[0], by))
        rest = tuple(pair for pair in config if by and not _is_under(pair[0], by))
        found.setdefault(shared, {})[rest, int(row.tags["seed"])] = row, value
    limits = significance.bounds(metric)
    return [Group(_name(runs), dict(shared), dict(sorted(runs.items())), limits) for shared, runs in found.items()]


def _name(runs: Mapping[Unit, tuple[Row, float]]) -> str:
    """The experiment of a group's runs; where there are several, the first."""
    names = sorted({row.tags.get("experiment", row.name) for row, _ in runs.values()})
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _neighbours(groups: Sequence[Group], higher: bool) -> list[PairwiseTest]:
    """A test of each group with the next, of those that have at least two seeds.

    Paired where every run of one has a counterpart in the other, else Welch's: no figure is thrown away.
    """
    pairs = list(pairwise(index for index, group in enumerate(groups) if len(group.runs) > 1))
    samples_of = [samples(groups[first], groups[second]) for first, second in pairs]
    tests = [(significance.paired if is_paired else significance.welch)(a, b) for a, b, is_paired in samples_of]
    corrected = iter(significance.holm([test.p for test in tests if test]))
    found = []
    for (first, second), (a, b, _), test in zip(pairs, samples_of, tests, strict=True):
        p = next(corrected) if test else None
        verdict, more = "not distinguishable", None
        if test and p is not None and p < significance.LEVEL:
            verdict = "better" if (test.gap > 0) == higher else "worse"
        elif test and (enough := significance.seeds_for(test, a, b, significance.LEVEL / len(pairs))):
            more = max(1, enough - min(len(a), len(b)))
        found.append(PairwiseTest(first, second, verdict, test, p, more))
    return found


def samples(one: Group, other: Group) -> tuple[list[float], list[float], bool]:
    """The figures to be tested, and whether they come in pairs."""
    both = [unit for unit in one.runs if unit in other.runs]
    if len(both) == min(len(one.runs), len(other.runs)):
        return [one.runs[unit][1] for unit in both], [other.runs[unit][1] for unit in both], True
    return one.values, other.values, False


def stands_in(comparison: Comparison, row: Row, rows: Iterable[Row]) -> tuple[Table, Group] | None:
    """Return the table and the group of a run, one of all `rows`, also if it was made again since; None: it is not compared."""
    config, metric = dict(_config(row)), comparison.asked.metric
    measured_on = (*_measured_on(row, metric), sample_hashes(rows, metric)[row.id])
    tables = [table for table in comparison.tables if table.measured_on == measured_on]
    return next(((table, group) for table in tables for group in table.groups if group.config == config), None)


def test_of(one: Group, other: Group, higher: bool) -> PairwiseTest | None:
    """What two groups are beside each other; None where one is of a single seed."""
    return next(iter(_neighbours([one, other], higher)), None)
