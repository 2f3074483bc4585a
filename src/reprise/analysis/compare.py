"""Group runs by their config without the seed, rank the groups, and test whether neighbours in the ranking differ."""

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
from reprise.project_paths import ProjectPaths
from reprise.tasks import metric_names
from reprise.tracking import listing
from reprise.tracking.descriptions import BEST, GROUP
from reprise.tracking.listing import Row
from reprise.tracking.runs_table import DECIDES_NOTHING
from reprise.tracking.statuses import PROCESS_DIED

MEASURED_ON = (
    *(f"data.{key}" for key in ("name", "path", "broken", "duplicates")),
    *(f"window.{key}" for key in ("val_size", "test_size", "seed", "lookback", "horizon", "targets")),
)
"""Keys that decide which samples a metric was measured on: where they differ, values cannot be compared.

The hash of the samples is compared too, since the name of a data set does not identify it: images or rows may have been added.
"""
DIGITS = 8
"""The number of characters of a hash that are shown to distinguish data sets of the same name."""
SPEED = "train/samples_per_second"
Unit = tuple[tuple[tuple[str, str], ...], int]
"""Key by which runs of two groups are paired: the part of the config that is not in --by (empty without it), and the seed."""


@dataclass(frozen=True)
class ComparisonQuery:
    """What to compare: experiments, filter expression, keys to group by, and metric."""

    experiments: tuple[str, ...] = ()
    expression: str | None = None
    by: tuple[str, ...] = ()
    metric: str | None = None


@dataclass(frozen=True)
class ExcludedRun:
    """A run that is not compared, and the reason."""

    id: str
    name: str
    reason: str


@dataclass(frozen=True)
class Group:
    """The runs of one config, one per seed."""

    name: str
    config: dict[str, str]
    runs: dict[Unit, tuple[Row, float]]
    """Each run with its value of the metric."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The smallest and the largest possible value of the metric."""

    @property
    def values(self) -> list[float]:
        """The values of the metric, one per run."""
        return [value for _, value in self.runs.values()]

    @cached_property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.values)

    @cached_property
    def std(self) -> float | None:
        """The sample standard deviation; None for a single seed."""
        return stdev(self.values) if len(self.runs) > 1 else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean, within the bounds of the metric; None for a single seed."""
        return significance.interval(self.values, *self.bounds) if len(self.runs) > 1 else None

    def cost(self, fact: str) -> float | None:
        """Return the mean over runs of a tag (`parameters`, `train_seconds`, `peak_memory`) or of `SPEED`."""
        values = [row.last.get(fact, row.tags.get(fact)) for row, _ in self.runs.values()]
        numbers = [float(value) for value in values if value is not None]
        return fmean(numbers) if numbers else None

    @property
    def versions(self) -> int:
        """The number of versions of the code that decides the weights."""
        return len({row.tags["sha256.code"] for row, _ in self.runs.values() if "sha256.code" in row.tags})


@dataclass(frozen=True)
class PairwiseTest:
    """The test of a group against the next in the ranking. Groups are numbered from 0."""

    first: int
    second: int
    verdict: str
    """What the first group is: better, not distinguishable, or worse (possible since paired tests use only common seeds)."""
    test: Test | None
    """None if the values have no spread."""
    p_holm: float | None
    """The p value, Holm-corrected over the table."""
    more_seeds: int | None
    """The number of additional seeds needed to distinguish them; None if they differ, or if it exceeds `MOST_SEEDS`."""


@dataclass(frozen=True)
class Table:
    """The groups that were measured on the same samples, best first."""

    data: str
    metric: str
    higher_is_better: bool
    groups: list[Group]
    tests: list[PairwiseTest]
    """Tests of neighbours in the ranking. Groups of a single seed are skipped."""
    measured_on: tuple[str | None, ...] = ()
    """The values of `MEASURED_ON`, and the hash of the samples."""

    @property
    def is_of_test(self) -> bool:
        """Whether the metric is of the test split, which only evaluated runs have."""
        return self.metric.startswith("test/")

    @cached_property
    def differing(self) -> list[str]:
        """The keys of the config in which the groups differ."""
        keys = dict.fromkeys(key for group in self.groups for key in group.config)
        return [key for key in keys if len({group.config.get(key) for group in self.groups}) > 1]


@dataclass(frozen=True)
class Comparison:
    """A table per data set, and the runs that are in none."""

    query: ComparisonQuery
    tables: list[Table]
    excluded: list[ExcludedRun]


def compare(paths: ProjectPaths, query: ComparisonQuery) -> Comparison:
    """Return the comparison of the runs of the tracking store that a query selects.

    Raises:
        UserError: for an unknown experiment or key, an invalid expression, or a failing tracking store.

    """
    metric = query.metric and (query.metric if "/" in query.metric else f"val/{query.metric}").removeprefix(BEST)
    candidates = [metric] if metric else [f"val/{name}" for name in metric_names.MAIN]
    rows = listing.read(paths.store, configs.tracking_config(paths.root), candidates, query.expression)
    rows = _of_experiments(rows, query.experiments)
    excluded = [ExcludedRun(row.id, row.name, reason) for row in rows if (reason := _exclusion_reason(row))]
    rows = [row for row in rows if not _exclusion_reason(row)]
    _check_keys(query.by, rows)
    hashes = sample_hashes(rows, metric)
    by_samples = _group_by(rows, lambda row: (*_measured_on(row, metric), hashes[row.id]))
    tables = []
    for name, (measured_on, members) in zip(_names(list(by_samples)), by_samples.items(), strict=True):
        main = metric or next((key for key in candidates if any(key in row.at_best for row in members)), candidates[0])
        newest, others = _newest_with(main, members)
        excluded += others
        if newest:
            tables.append(replace(ranked(name, main, newest, query.by), measured_on=measured_on))
    return Comparison(query, sorted(tables, key=lambda table: table.data), excluded)


def ranked(data: str, metric: str, rows: Iterable[Row], by: Sequence[str] = ()) -> Table:
    """Return the table of runs that have the metric and were measured on the same samples."""
    rows = list(rows)
    higher = _higher_is_better(metric, rows)
    groups = _groups(rows, metric, by)
    groups.sort(key=lambda group: (-group.mean if higher else group.mean, group.name))
    return Table(data, metric, higher, groups, _neighbours(groups, higher))


def _higher_is_better(metric: str, rows: Iterable[Row]) -> bool:
    """Return the direction that runs monitoring this metric record; without any, decide by its name."""
    name = metric.partition("/")[2]
    modes = (row.tags.get("mode") for row in rows if row.tags.get("monitor") == f"val/{name}")
    mode = next(filter(None, modes), None)
    return mode == "max" if mode else metric_names.higher_is_better(name)


def figure(row: Row, metric: str) -> float | None:
    """Return a metric of a run: at its best epoch for train and val, else the last value; None if it has none."""
    return (row.at_best if metric.startswith(("train/", "val/")) else row.last).get(metric)


def _of_experiments(rows: list[Row], experiments: Sequence[str]) -> list[Row]:
    known = sorted({row.tags["experiment"] for row in rows if "experiment" in row.tags})
    for name in experiments:
        if name not in known:
            raise UserError(f"no run of experiment {name}", nearest(name, known) if known else "`reprise train` makes one")
    return [row for row in rows if not experiments or row.tags.get("experiment") in experiments]


def _exclusion_reason(row: Row) -> str | None:
    """Return why a run is not compared; None if it is."""
    if "seed" not in row.tags or GROUP in row.tags:
        return "no training"
    if "reproduces" in row.tags:
        return "repeats another run"
    if row.tags.get("error") == PROCESS_DIED:
        return PROCESS_DIED
    stopped = "pruned by its sweep" if "pruned" in row.tags else "stopped"
    return {"FINISHED": None, "FAILED": "failed", "KILLED": stopped}.get(row.status, "still running")


def _check_keys(by: Sequence[str], rows: Iterable[Row]) -> None:
    keys = sorted({key for row in rows for key in row.params})
    for name in by:
        if keys and not any(_is_under(key, [name]) for key in keys):
            raise UserError(f"--by {name}: no such key", nearest(name, sorted({*keys, *(key.partition(".")[0] for key in keys)})))


def _is_under(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _measured_on(row: Row, metric: str | None) -> tuple[str | None, ...]:
    """Return the values of `MEASURED_ON`. For a published test set, `window.val_size` does not matter and is None."""
    published = metric and metric.startswith("test/") and row.params.get("window.test_size") == "null"
    return tuple(None if published and key == "window.val_size" else row.params.get(key) for key in MEASURED_ON)


def sample_hashes(rows: Iterable[Row], metric: str | None) -> dict[str, str | None]:
    """Return, by run id, the hash of the val or test samples that a metric was measured on.

    Runs of an older version recorded only the hash of all arrays. They are matched with runs on the same arrays.
    """
    rows = list(rows)
    tag = "sha256.test" if metric and metric.startswith("test/") else "sha256.val"

    def by_arrays(row: Row) -> tuple[str | None, ...]:
        return (*_measured_on(row, metric), row.tags.get("sha256.processed"))

    known = {by_arrays(row): row.tags[tag] for row in rows if tag in row.tags}
    return {row.id: row.tags.get(tag) or known.get(by_arrays(row)) or row.tags.get("sha256.processed") for row in rows}


def _group_by(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    grouped: dict[Any, list[Row]] = {}
    for row in rows:
        grouped.setdefault(key(row), []).append(row)
    return grouped


def _names(measured: Sequence[tuple[str | None, ...]]) -> list[str]:
    """Return the names of data sets, with the settings that distinguish those of the same name."""
    names = []
    for values in measured:
        same = [other for other in measured if other[0] == values[0]]
        differing = [place for place in range(1, len(MEASURED_ON)) if len({other[place] for other in same}) > 1]
        more = ", ".join(f"{MEASURED_ON[place]}={values[place] or '–'}" for place in differing)
        if len({other[-1] for other in same if other[:-1] == values[:-1]}) > 1:
            more = ", ".join(filter(None, [more, f"samples {(values[-1] or 'unknown')[:DIGITS]}"]))
        names.append(f"{values[0]} ({more})" if more else str(values[0]))
    return names


def _newest_with(metric: str, rows: Iterable[Row]) -> tuple[list[Row], list[ExcludedRun]]:
    """Return the newest run of each config and seed that has the metric, and the runs that are excluded."""
    kept: dict[Any, Row] = {}
    excluded = []
    for row in rows:
        if figure(row, metric) is None:
            excluded.append(ExcludedRun(row.id, row.name, _missing(metric, row)))
        elif kept.setdefault((_config(row), row.tags["seed"]), row) is not row:
            excluded.append(ExcludedRun(row.id, row.name, "repeated by a newer run with the same settings and seed"))
    return list(kept.values()), excluded


def _missing(metric: str, row: Row) -> str:
    """Return why a run does not have a metric."""
    if reason := row.tags.get(f"undefined.{metric.partition('/')[2]}"):
        return f"{metric} is undefined: {reason}"
    return "not evaluated on the test split" if metric.startswith("test/") and not row.tags.get("test_opened") else f"no {metric}"


def _config(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in row.params.items() if key not in DECIDES_NOTHING))


def _groups(rows: Iterable[Row], metric: str, by: Sequence[str]) -> list[Group]:
    grouped: dict[Any, dict[Unit, tuple[Row, float]]] = {}
    for row in rows:
        config, value = _config(row), figure(row, metric)
        assert value is not None
        shared = tuple(pair for pair in config if not by or _is_under(pair[0], by))
        rest = tuple(pair for pair in config if by and not _is_under(pair[0], by))
        grouped.setdefault(shared, {})[rest, int(row.tags["seed"])] = row, value
    limits = metric_names.bounds(metric)
    return [Group(_name(runs), dict(shared), dict(sorted(runs.items())), limits) for shared, runs in grouped.items()]


def _name(runs: Mapping[Unit, tuple[Row, float]]) -> str:
    """Return the experiment of a group's runs: the first by name, and how many more there are."""
    names = sorted({row.tags.get("experiment", row.name) for row, _ in runs.values()})
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _neighbours(groups: Sequence[Group], higher: bool) -> list[PairwiseTest]:
    """Test each group of at least two seeds against the next such group in the ranking.

    The test is paired if every run of one group has a counterpart in the other, else Welch's, which uses all values.
    """
    pairs = list(pairwise(index for index, group in enumerate(groups) if len(group.runs) > 1))
    samples_of = [samples(groups[first], groups[second]) for first, second in pairs]
    tests = [(significance.paired if is_paired else significance.welch)(a, b) for a, b, is_paired in samples_of]
    corrected = iter(significance.holm([test.p for test in tests if test]))
    results = []
    for (first, second), (a, b, _), test in zip(pairs, samples_of, tests, strict=True):
        p = next(corrected) if test else None
        verdict, more = "not distinguishable", None
        if test and p is not None and p < significance.LEVEL:
            verdict = "better" if (test.gap > 0) == higher else "worse"
        elif test and (enough := significance.seeds_for(test, a, b, significance.LEVEL / len(pairs))):
            more = max(1, enough - min(len(a), len(b)))
        results.append(PairwiseTest(first, second, verdict, test, p, more))
    return results


def samples(one: Group, other: Group) -> tuple[list[float], list[float], bool]:
    """Return the values of both groups to be tested, and whether they are paired."""
    both = [unit for unit in one.runs if unit in other.runs]
    if len(both) == min(len(one.runs), len(other.runs)):
        return [one.runs[unit][1] for unit in both], [other.runs[unit][1] for unit in both], True
    return one.values, other.values, False


def find_group(comparison: Comparison, row: Row, rows: Iterable[Row]) -> tuple[Table, Group] | None:
    """Return the table and the group of a run, one of all `rows`, even if it was repeated since; None if it is not compared."""
    config, metric = dict(_config(row)), comparison.query.metric
    measured_on = (*_measured_on(row, metric), sample_hashes(rows, metric)[row.id])
    tables = [table for table in comparison.tables if table.measured_on == measured_on]
    return next(((table, group) for table in tables for group in table.groups if group.config == config), None)


def test_of(one: Group, other: Group, higher: bool) -> PairwiseTest | None:
    """Return the test of two groups; None if one has a single seed."""
    return next(iter(_neighbours([one, other], higher)), None)
