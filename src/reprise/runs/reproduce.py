"""Running a run again: its code, config and data in a clean working copy, and whether the same weights and metrics come out."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from reprise.config import tracking_config
from reprise.data import store
from reprise.errors import UserError
from reprise.learning.checkpoint import load_weights
from reprise.learning.learner import SPEED
from reprise.stages.places import Places
from reprise.tracking import backend, lineage, record
from reprise.tracking import run as tracking
from reprise.tracking.notes import BEST
from reprise.tracking.record import Record

MACHINE = ("processor", "device", "devices", "threads", "precision")
"""Tags of what bits depend on, beside code, config, data and packages."""
TOLERANCE = 1e-2
"""By how much metrics may differ, absolute or relative, where the machine is another and nothing else was said."""


@dataclass(frozen=True)
class Verdict:
    """What came of a run that was run again."""

    identical: bool
    """Weights bit for bit, and every metric exactly."""
    difference: str
    """The first tensor and epoch that differ, "" where none does."""
    surroundings: str
    """In what the machine differs."""
    within: float | None
    """The tolerance within which all metrics lie, where one was asked for or the machine differs."""
    new: str
    """The run that was made."""

    @property
    def passed(self) -> bool:
        """Whether it is the same, as far as could be asked."""
        return self.identical or self.within is not None


def run(places: Places, wanted: str, tolerance: float | None, fresh_environment: bool, console: Console) -> Verdict:
    """Run a run again and compare.

    Raises:
        UserError: when it cannot be run again: no commit, a patch that does not apply, damaged data, a failing training.

    """
    scratch = places.store / "reproduce" / f"{wanted[:40]}-{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "record").mkdir(parents=True)
    try:
        old = record.read(places.store, wanted, tracking_config(places.root), scratch / "record")
        old.tag("sha256.weights")
        _say_packages(old, console)
        with working_copy(places.root, old, scratch / "copy") as copy:
            python = _environment(old, copy) if fresh_environment else sys.executable
            _lend_data(places, old, copy, console)
            again = _train(places, old, copy, python, console)
            verdict = compare(old, again, tolerance)
            _bring_home(places, copy, again.id)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _note(places, old, verdict)
    return verdict


@contextlib.contextmanager
def working_copy(root: Path, old: Record, copy: Path) -> Iterator[Path]:
    """The project as it was: a git worktree at the run's commit, its patch applied; gone after the block."""
    commit = old.tag("git.commit")
    if commit == "none":
        raise UserError(f"run {old.name} was made outside of git", "its code is not known, so it cannot be run again")
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(f"commit {commit[:12]} of run {old.name} is not in this repository", "fetch it: git fetch --all")
    added = _git(root, "worktree", "add", "--detach", "--force", str(copy), commit)
    if added.returncode:
        raise UserError(f"no working copy of {commit[:12]}: {_reason(added)}")
    try:
        if old.patch and (applied := _git(copy, "apply", "--whitespace=nowarn", "-", given=old.patch)).returncode:
            raise UserError(f"the uncommitted patch of run {old.name} does not apply: {_reason(applied)}")
        yield copy
    finally:
        _git(root, "worktree", "remove", "--force", str(copy))
        _git(root, "worktree", "prune")


def _git(folder: Path, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", folder, *arguments], input=given, capture_output=True)


def _reason(failed: subprocess.CompletedProcess[bytes]) -> str:
    """Why a command failed, in its own last words."""
    return (failed.stderr.decode("utf-8", "replace").strip().splitlines() or [f"code {failed.returncode}"])[-1]


def _say_packages(old: Record, console: Console) -> None:
    """In what the installed packages differ from those of the run."""
    then, now = (dict(line.split("==", 1) for line in text.split()) for text in (old.packages, lineage.packages()))
    others = [
        f"{name} {then.get(name, 'absent')} → {now.get(name, 'absent')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        console.print(
            f"reproduce  packages differ: {', '.join(others[:5])}{more}; --env makes those of the run",
            highlight=False,
            soft_wrap=True,
        )


def _environment(old: Record, copy: Path) -> str:
    """The Python of a virtual environment with the packages of the run, made under the working copy."""
    folder = copy / ".venv"
    listed = "".join(
        f"{line.partition('+')[0]}\n" for line in old.packages.splitlines() if not line.startswith("reprise==")
    )  # a local version (2.13.0+cpu) is no package index's
    (copy / "packages.txt").write_text(listed)
    python = str(folder / "bin" / "python")
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        [python, "-m", "pip", "install", "-q", "--no-deps", "-r", str(copy / "packages.txt")],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"no environment: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}", "leave --env away")
    return python


def _lend_data(places: Places, old: Record, copy: Path, console: Console) -> None:
    """The arrays, if those that lie here are those that the run read; else the run's own code makes them afresh."""
    name = old.config["data"]["name"]
    arrays = places.processed(name)
    if not arrays.is_dir():
        console.print(f"reproduce  no arrays of {name} here: they are made afresh", highlight=False)
        return
    store.verify(arrays, f"run `reprise preprocess data={name}`")
    if store.digest(arrays) != old.tag("sha256.processed"):
        console.print(f"reproduce  the arrays of {name} here are others than the run read: they are made afresh", highlight=False)
        return
    there = Places(copy).processed(name)
    there.parent.mkdir(parents=True, exist_ok=True)
    there.symlink_to(arrays.resolve(), target_is_directory=True)


def _train(places: Places, old: Record, copy: Path, python: str, console: Console) -> Record:
    """Train with the recorded config in the working copy, evaluate if that was done, and read what came of it."""
    (copy / "recorded.json").write_text(json.dumps(old.config))
    tested = any(key.startswith("test/") for key in old.metrics)
    uri = backend.address(tracking_config(places.root), places.store)
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "MLFLOW_TRACKING_URI": uri}
    said = subprocess.run(
        [python, "-m", "reprise", "train", "--recorded", "recorded.json", "--reproduces", old.id],
        cwd=copy,
        env=environment,
        stdout=None if console.is_terminal else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if said.returncode:
        raise UserError(f"training again failed: {(said.stderr.strip().splitlines() or [str(said.returncode)])[-1]}")
    (home,) = (copy / "mlruns" / "runs").iterdir()
    if tested:
        done = subprocess.run(
            [python, "-m", "reprise", "evaluate", home.name], cwd=copy, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(f"evaluating again failed: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return record.read(copy / "mlruns", home.name, None, copy)


def compare(old: Record, again: Record, tolerance: float | None) -> Verdict:
    """Weights bit for bit, metrics exactly; within a tolerance where one was asked for or the machine is another."""
    machine = [
        f"{key} {old.tags.get(key)} → {again.tags.get(key)}" for key in MACHINE if old.tags.get(key) != again.tags.get(key)
    ]
    differences = [*_inputs(old, again), *_weights(old, again), *_metrics(old, again, 0.0)]
    asked = TOLERANCE if tolerance is None and machine else tolerance
    close = asked is not None and not _inputs(old, again) and not _metrics(old, again, asked)
    return Verdict(not differences, "; ".join(differences), ", ".join(machine), asked if close else None, again.id)


def _inputs(old: Record, again: Record) -> list[str]:
    said = {"sha256.processed": "arrays", "sha256.windows": "windows", "sha256.config": "config", "sha256.code": "code"}
    return [f"the {name} are others" for key, name in said.items() if old.tags.get(key) != again.tags.get(key)]


def _weights(old: Record, again: Record) -> list[str]:
    """The first tensor that differs."""
    if store.sha256(old.weights) != old.tag("sha256.weights"):
        raise UserError(f"{old.weights} is not what was written (sha256 differs)", "the run's own weights were damaged since")
    then, now = torch.load(old.weights, weights_only=True), load_weights(again.weights)
    for name in {**then, **now}:
        if name not in then or name not in now or not torch.equal(then[name], now[name]):
            return [f"tensor {name} differs"]
    return []


def _metrics(old: Record, again: Record, tolerance: float) -> list[str]:
    """The first epoch at which a metric differs by more than a tolerance, absolute or relative."""
    first: tuple[int, str] | None = None
    for key in sorted({*old.metrics, *again.metrics} - set(SPEED)):
        if key.startswith(BEST):  # stands at its epoch too
            continue
        then, now = dict(old.metrics.get(key, [])), dict(again.metrics.get(key, []))
        for step in sorted({*then, *now}):
            same = step in then and step in now and abs(then[step] - now[step]) <= tolerance * max(1.0, abs(then[step]))
            if not same and (first is None or step < first[0]):
                first = step, f"{key} {then.get(step)} → {now.get(step)}"
    return [] if first is None else [f"epoch {first[0]}: {first[1]}"]


def _bring_home(places: Places, copy: Path, run_id: str) -> None:
    """The new run's home and windows, out of the working copy before that goes."""
    for folder in (
        Path("runs") / run_id,
        *(found.relative_to(copy / "mlruns") for found in (copy / "mlruns" / "windows").glob("*")),
    ):
        target = places.store / folder
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(copy / "mlruns" / folder, target)


def _note(places: Places, old: Record, verdict: Verdict) -> None:
    """Tell the dashboard: the old run was verified, or was not."""
    if verdict.passed:
        how = "bit for bit" if verdict.identical else f"within {verdict.within:g}"
        opened = tracking.reopen(tracking_config(places.root), places.store, old.id)
        opened.tag({"verified": f"{how}, {time.strftime('%Y-%m-%d')}, {lineage.processor()}", "verified_by": verdict.new})
        opened.settle()
