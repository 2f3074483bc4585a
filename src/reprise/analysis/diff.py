"""diff: what differs between two runs, from config to metrics, the most telling first."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.analysis.lineage import MACHINE
from reprise.config import tracking_config
from reprise.config.compose import leaves
from reprise.config.naming import SECTIONS
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tasks import metric_names
from reprise.tracking import lineage, record, repository
from reprise.tracking.descriptions import BEST, GROUP
from reprise.tracking.record import RunRecord
from reprise.tracking.repository import CodeDifference, Version
from reprise.tracking.runs_table import DECIDES_NOTHING

DATA = {
    "sha256.processed": "arrays",
    "sha256.splits": "splits",
    "sha256.windows": "windows",
    "sha256.val": "samples of val",
    "sha256.test": "samples of test",
}
"""Tags with the hashes of what a run reads, and their names."""
COSTS = ("parameters", "train_seconds", "peak_memory")
HASH_DIGITS = 12


@dataclass(frozen=True)
class Change:
    """A property in which the runs differ. A value is None if the run does not have it."""

    name: str
    first: Any
    second: Any
    is_decisive: bool = True
    """Whether it can change the weights, or is a result; a name or a display setting cannot."""


@dataclass(frozen=True)
class Group:
    """The changes of one kind, most telling first."""

    name: str
    changes: list[Change]


@dataclass(frozen=True)
class Difference:
    """How two runs differ."""

    first: RunRecord
    second: RunRecord
    weights: str
    """`equal`, `different`, or `unknown` if a run has none."""
    groups: list[Group]
    """Only groups with changes: those with decisive changes first, and `cost` last."""
    patch: bytes
    """The difference of the code."""
    notes: list[str]
    """What could not be compared, and why."""

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs but the cost, and all parts could be compared."""
        return self.weights == "equal" and not self.notes and all(group.name == "cost" for group in self.groups)


def diff(paths: ProjectPaths, first: str, second: str) -> Difference:
    """Compare two runs.

    Raises:
        UserError: if there is no such run, or one is the parent of several runs.

    """
    tracking = tracking_config(paths.root)
    with tempfile.TemporaryDirectory() as scratch:
        one, other = (
            record.read(paths.store, name, tracking, store.made(Path(scratch) / str(number)))
            for number, name in enumerate((first, second))
        )
        return compare(paths.root, one, other)


def compare(root: Path, one: RunRecord, other: RunRecord) -> Difference:
    """Compare the records of two runs."""
    for run in (one, other):
        if GROUP in run.tags:
            raise UserError(f"{run.name} is the parent of several runs", "name one of them; `reprise runs` lists them")
    notes: list[str] = []
    code = _code(root, one, other, notes)
    parts: dict[str, Callable[[], Iterable[Change]]] = {
        "config": lambda: _config(one.config, other.config),
        "data": lambda: _tags(one, other, DATA),
        "code": lambda: _code_changes(one, other, code),
        "packages": lambda: _packages(one, other),
        "machine": lambda: _tags(one, other, {key: key for key in MACHINE}),
        "metrics": lambda: _metrics(one, other),
        "cost": lambda: _cost(one, other),
    }
    groups = [Group(name, _collected(name, changes, notes)) for name, changes in parts.items()]
    groups = [group for group in groups if group.changes]
    groups.sort(key=lambda group: (group.name == "cost", not any(change.is_decisive for change in group.changes)))
    return Difference(one, other, _weights(one, other), groups, code.patch if code else b"", list(dict.fromkeys(notes)))


def _collected(name: str, changes: Callable[[], Iterable[Change]], notes: list[str]) -> list[Change]:
    """Return the changes, decisive ones first. A part that a run lacks, or that is damaged, becomes a note."""
    try:
        return sorted(changes(), key=lambda change: not change.is_decisive)
    except UserError as error:
        notes.append(f"{name}: {error}")
        return []


def _weights(one: RunRecord, other: RunRecord) -> str:
    hashes = [run.tags.get("sha256.weights") for run in (one, other)]
    return "unknown" if None in hashes else "equal" if hashes[0] == hashes[1] else "different"


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Change]:
    for name in {**first, **second}:
        if first.get(name) != second.get(name):
            yield Change(name, first.get(name), second.get(name))


def _config(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    """Return changed keys by section, model first."""
    order = {section: place for place, section in enumerate(("model", "data", "window", *SECTIONS))}
    changes = [
        Change(change.name, change.first, change.second, change.name not in DECIDES_NOTHING - {"seed"})
        for change in _changes(dict(leaves(dict(first))), dict(leaves(dict(second))))
    ]
    return sorted(changes, key=lambda change: order.get(change.name.partition(".")[0], len(order)))


def _tags(one: RunRecord, other: RunRecord, names: Mapping[str, str]) -> Iterator[Change]:
    """Yield the tags that differ, hashes shortened."""
    for tag, name in names.items():
        values = [run.tags.get(tag) for run in (one, other)]
        if values[0] != values[1]:
            length = HASH_DIGITS if tag.startswith("sha256") else None
            first, second = (value and value[:length] for value in values)
            yield Change(name, first, second)


def _code(root: Path, one: RunRecord, other: RunRecord, notes: list[str]) -> CodeDifference | None:
    """Return the difference of commits and patches; None, with a note, if this repository does not have them."""
    try:
        versions = [Version(run.tag("git.commit"), run.patch) for run in (one, other)]
        if versions[0] == versions[1]:
            return CodeDifference((), b"")
        return repository.difference(root, *versions)
    except UserError as error:
        notes.append(f"code: {error}")
        return None


def _code_changes(one: RunRecord, other: RunRecord, code: CodeDifference | None) -> Iterator[Change]:
    """Yield the hash of the sources that decide the weights, the changed files, and the commits."""
    decides = {"sha256.code": "sources that decide the weights", "sha256.plugins": "plugins"}
    hashes = list(_tags(one, other, decides))
    yield from hashes
    for path, added, removed in code.files if code else ():
        yield Change(path, f"-{removed}", f"+{added}", is_decisive=bool(hashes) and _decides_weights(path))
    commits = [run.tags.get("git.commit", "")[:HASH_DIGITS] for run in (one, other)]
    first, second = (f"{commit}{' and a patch' if run.patch else ''}" for commit, run in zip(commits, (one, other), strict=True))
    if first != second:
        yield Change("commit", first, second, is_decisive=False)


def _decides_weights(path: str) -> bool:
    _, found, inside = path.partition("src/reprise/")
    return not found or inside.startswith(lineage.TRAINING_SOURCES)


def _packages(one: RunRecord, other: RunRecord) -> Iterator[Change]:
    """Yield packages with other versions, those that compute numbers first."""
    first, second = ({"python": run.tags.get("version.python"), **run.packages} for run in (one, other))
    for change in _changes(first, second):
        yield Change(change.name, change.first, change.second, change.name in {"python", *lineage.PACKAGES})


def _metrics(one: RunRecord, other: RunRecord) -> Iterator[Change]:
    """Yield metrics with one value, the monitored one first, then test; the best epoch; and the first epoch that differs."""
    monitor = BEST + one.tags.get("monitor", "")
    first, second = ({key: points[-1][1] for key, points in run.metrics.items() if points[-1][0] == 0} for run in (one, other))
    changes = [change for change in _changes(first, second) if change.name not in metric_names.SPEED]
    ranks = (monitor, "test/", BEST)
    yield from sorted(changes, key=lambda change: next((n for n, start in enumerate(ranks) if change.name.startswith(start)), 9))
    yield from _tags(one, other, {"best_epoch": "best epoch"})
    yield from _first_epoch(one, other)


def _first_epoch(one: RunRecord, other: RunRecord) -> Iterator[Change]:
    """Yield the metric that differs first, which tells whether the runs differ from the start or drift apart."""
    steps = {
        (step, key)
        for run in (one, other)
        for key, points in run.metrics.items()
        for step, _ in points
        if step > 0 and key not in metric_names.SPEED
    }
    values = [{(step, key): value for key, points in run.metrics.items() for step, value in points} for run in (one, other)]
    for step, key in sorted(steps):
        if values[0].get((step, key)) != values[1].get((step, key)):
            yield Change(f"first in epoch {step}: {key}", values[0].get((step, key)), values[1].get((step, key)))
            return


def _cost(one: RunRecord, other: RunRecord) -> Iterator[Change]:
    for change in _tags(one, other, {key: key for key in COSTS}):
        yield Change(change.name, change.first, change.second, is_decisive=False)
