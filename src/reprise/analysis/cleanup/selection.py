"""Select the runs to delete: those that the user names, without those that something refers to."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprise.errors import UserError
from reprise.tracking import references
from reprise.tracking.descriptions import BEST, GROUP
from reprise.tracking.references import LocalRun, Reason

SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Filters:
    """What the user names. A run has to meet all that are set."""

    older_than: float | None = None
    """Seconds since the run started."""
    failed: bool = False
    """Failed, stopped or interrupted runs."""
    not_best: bool = False
    """Runs that are not the best of their experiment and data set by the monitored metric."""
    not_registered: bool = False
    """Runs that no registered model was made from."""

    @property
    def is_empty(self) -> bool:
        """Whether no filter is set."""
        return self == Filters()


@dataclass(frozen=True)
class Kept:
    """A run that the filters name and that is kept, and the reason."""

    run: LocalRun
    reason: str


@dataclass(frozen=True)
class Selection:
    """Runs to delete, those that refer to others first, and runs that were named and are kept."""

    delete: list[LocalRun]
    keep: list[Kept]


def parse_age(text: str) -> float:
    """Return the seconds of an age such as `12h`, `30d` or `8w`.

    Raises:
        UserError: if it is none.

    """
    match = re.fullmatch(r"(\d+)([mhdw])", text)
    if not match:
        raise UserError(f"--older-than {text}: not an age", "write a number and m, h, d or w: 12h, 30d, 8w")
    return int(match[1]) * SECONDS[match[2]]


def select(runs: Sequence[LocalRun], filters: Filters, reasons: Mapping[str, Reason]) -> Selection:
    """Select runs to delete. `reasons` are those of `references.reasons_to_keep`.

    A run is kept if a run that stays refers to it. Thus a group of seeds or of jobs is deleted as a whole or not at all.
    """
    by_id = {run.id: run for run in runs}
    requested = named(runs, filters, reasons)
    kept = {run_id: reasons[run_id].text for run_id in requested & reasons.keys()}
    chosen = requested - reasons.keys()
    referrers = references.referrers(runs)
    while blocked := [run_id for run_id in sorted(chosen) if referrers[run_id] - chosen]:
        for run_id in blocked:
            other = by_id[min(referrers[run_id] - chosen)]
            kept[run_id] = f"{'its group' if other.is_parent else 'run'} {other.info.name} stays, and refers to it"
        chosen -= set(blocked)
    delete = sorted((by_id[run_id] for run_id in chosen), key=lambda run: (references.depth(run, by_id), run.info.started))
    return Selection(delete, [Kept(by_id[run_id], reason) for run_id, reason in sorted(kept.items())])


def named(runs: Sequence[LocalRun], filters: Filters, reasons: Mapping[str, Reason]) -> set[str]:
    """Return the ids of the runs that meet all filters, whether they may be deleted or not."""
    best_runs = best(runs) if filters.not_best else set()
    registered = {run_id for run_id, reason in reasons.items() if reason.kind == "registered"}
    return {
        run.id
        for run in runs
        if (filters.older_than is None or run.info.started / 1000 < time.time() - filters.older_than)
        and (not filters.failed or run.status in {"FAILED", "KILLED"})
        and (not filters.not_registered or run.id not in registered)
        and run.id not in best_runs
    }


def best(runs: Sequence[LocalRun]) -> set[str]:
    """Return the ids of the best run of each experiment and data set, by the monitored metric. Of equal runs, all are the best.

    An experiment with several monitored metrics has a best run by each. A comparison is no training, so it is never the worse.
    """
    groups: dict[tuple[str | None, ...], dict[str, float]] = {}
    modes: dict[tuple[str | None, ...], str] = {}
    found = {run.id for run in runs if run.tags.get(GROUP) == "comparison"}
    for run in runs:
        monitor = run.tags.get("monitor", "")
        value = run.figures.get(BEST + monitor)
        if value is not None and not run.is_parent:
            key = tuple(run.tags.get(tag) for tag in ("experiment", "data", "sha256.val", "monitor"))
            groups.setdefault(key, {})[run.id] = value
            modes[key] = run.tags.get("mode", "max")
    for key, values in groups.items():
        top = (max if modes[key] == "max" else min)(values.values())
        found |= {run_id for run_id, value in values.items() if value == top}
    return found


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder. Files that vanish meanwhile count as 0."""
    if path.is_symlink() or not path.is_dir():
        return _file_size(path)
    return sum(_file_size(file) for file in path.rglob("*"))


def _file_size(file: Path) -> int:
    try:
        return file.lstat().st_size if not file.is_dir() or file.is_symlink() else 0
    except OSError:
        return 0
