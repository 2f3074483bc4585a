"""gc: show what a project takes on disk, and delete what the user names and nothing refers to."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprise.analysis.cleanup import selection
from reprise.analysis.cleanup.selection import Filters, Kept, size
from reprise.analysis.cleanup.usage import CHECKPOINTS
from reprise.config import TrackingConfig, tracking_config
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import deletion, references, resume
from reprise.tracking.references import LocalRun, Reason

WINDOWS_AGE = 3600.0
"""Seconds during which new windows are kept: a training that starts has made them, and no run names them yet."""


@dataclass
class Outcome:
    """What was deleted, or would be."""

    what: str
    dry: bool
    deleted: list[tuple[str, str, int]] = field(default_factory=list)
    """Id, name and bytes of each deleted entry."""
    kept: list[Kept] = field(default_factory=list)
    unfinished: int = 0
    """Entries of a killed `reprise gc` that were deleted now, or will be."""

    @property
    def bytes(self) -> int:
        """The bytes that are freed."""
        return sum(size for _, _, size in self.deleted)


def collect(paths: ProjectPaths, what: str, filters: Filters, dry: bool) -> Outcome:
    """Delete runs, checkpoints, windows or unused files of the DVC cache; with `dry`, only find out what would be deleted.

    Raises:
        UserError: if no run is named, or if it cannot be found out what refers to runs. Nothing is deleted then.

    """
    tracking = tracking_config(paths.root)
    if what in {"runs", "checkpoints"} and filters.is_empty:
        raise UserError(f"gc {what}: no runs named", "add --older-than AGE, --failed, --not-best or --not-registered")
    if what in {"windows", "cache"} and not filters.is_empty:
        raise UserError(f"gc {what}: the filters are for runs", f"`reprise gc {what}` deletes what nothing uses")
    collectors: dict[str, Callable[[Outcome], None]] = {
        "runs": lambda outcome: _runs(paths, tracking, filters, outcome),
        "checkpoints": lambda outcome: _checkpoints(paths, tracking, filters, outcome),
        "windows": lambda outcome: _windows(paths, tracking, outcome),
        "cache": lambda outcome: _cache(paths, outcome),
    }
    outcome = Outcome(what, dry, unfinished=len(deletion.interrupted(paths.store)))
    with deletion.exclusive(paths.store):
        if not dry:
            deletion.finish(paths.store, tracking)
        collectors[what](outcome)
    return outcome


def _read(paths: ProjectPaths, tracking: TrackingConfig) -> tuple[list[LocalRun], dict[str, Reason]]:
    """Return all runs, and why some must be kept.

    Active runs are read first: a training that ends in between has recorded before what refers to its runs.
    """
    active = resume.active_ids_and_tokens(paths.store)
    runs = references.local_runs(paths.store, tracking, active)
    return runs, references.reasons_to_keep(runs, paths.store, active)


def _runs(paths: ProjectPaths, tracking: TrackingConfig, filters: Filters, outcome: Outcome) -> None:
    runs, reasons = _read(paths, tracking)
    selected = selection.select(runs, filters, reasons)
    outcome.kept = selected.keep
    outcome.deleted = [(run.id, run.info.name, _size(run, paths)) for run in selected.delete]
    if outcome.dry:
        return
    with resume.reserve(paths.store, _ids(selected.delete)) as forget:
        for run in selected.delete:
            deletion.delete_run(run, paths.store)
        forget()
    deleted = {run.id for run in selected.delete}
    deletion.update_descriptions(selected.delete, [run for run in runs if run.id not in deleted], paths.store)


def _ids(runs: Sequence[LocalRun]) -> set[str]:
    return {value for run in runs for value in (run.id, run.info.token) if value}


def _size(run: LocalRun, paths: ProjectPaths) -> int:
    """Return the bytes of a run directory, and of its files and its model in the local MLflow store."""
    copies = paths.store / "artifacts" / run.mlflow_id if run.mlflow_id else None
    return size(run.run_dir) + (size(copies) + size(run.run_dir / "model") if copies and copies.is_dir() else 0)


def _checkpoints(paths: ProjectPaths, tracking: TrackingConfig, filters: Filters, outcome: Outcome) -> None:
    """Delete the checkpoints of the named runs, whoever refers to these: the runs stay. Trainings then start from scratch."""
    runs, reasons = _read(paths, tracking)
    in_use = {run_id: reason.text for run_id, reason in reasons.items() if reason.kind == "active"}
    requested = selection.named(runs, filters, reasons)
    with_checkpoints = [run for run in runs if run.id in requested and (run.run_dir / CHECKPOINTS).is_dir()]
    outcome.kept = [Kept(run, in_use[run.id]) for run in with_checkpoints if run.id in in_use]
    chosen = [run for run in with_checkpoints if run.id not in in_use]
    outcome.deleted = [(run.id, run.info.name, size(run.run_dir / CHECKPOINTS)) for run in chosen]
    if outcome.dry:
        return
    with resume.reserve(paths.store, _ids(chosen)):
        for run in chosen:
            deletion.delete_folder(run.run_dir / CHECKPOINTS, paths.store)


def _windows(paths: ProjectPaths, tracking: TrackingConfig, outcome: Outcome) -> None:
    """Delete windows outside of the pipeline that no run was trained on. A training that needs them again makes them again."""
    runs = references.local_runs(paths.store, tracking, resume.active_ids_and_tokens(paths.store))
    used = {run.tags.get("sha256.windows") for run in runs} | {_trained_on(run) for run in runs}
    for folder in sorted((paths.store / "windows").glob("*/")):
        manifest = folder / store.MANIFEST
        if manifest.is_file() and (
            store.digest(folder) in used
            or str(folder.relative_to(paths.root)) in used
            or time.time() - manifest.stat().st_mtime < WINDOWS_AGE
        ):
            continue
        outcome.deleted.append((folder.name, folder.name, size(folder)))
        if not outcome.dry:
            deletion.delete_folder(folder, paths.store)


def _trained_on(run: LocalRun) -> str | None:
    file = run.run_dir / "trained.json"
    return store.read_json(file).get("windows") if file.is_file() else None


def _cache(paths: ProjectPaths, outcome: Outcome) -> None:
    """Delete files of the DVC cache that neither the working tree nor a commit refers to, by `dvc gc`."""
    command = [sys.executable, "-P", "-m", "dvc", "gc", "--workspace", "--force"]
    if (paths.root / ".git").exists():
        command.append("--all-commits")
    listed = _run([*command, "--dry"], paths.root)
    files = [Path(line.removeprefix("Removing ")) for line in listed.splitlines() if line.startswith("Removing ")]
    outcome.deleted = [(file.parent.name + file.name, str(file.relative_to(paths.root)), size(file)) for file in files]
    if files and not outcome.dry:
        _run(command, paths.root)


def _run(command: Sequence[str], root: Path) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc gc: {(done.stderr.strip().splitlines() or [''])[-1]}", "look at `dvc gc --help`")
    return done.stdout
