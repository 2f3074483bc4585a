"""Running a run again in a working copy of its own, and whether the same weights and metrics come out."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from reprise.analysis.working_copy import WorkingCopy, demand_trust, lend_data, make_environment, working_copy
from reprise.config import CheckpointConfig, tracking_config
from reprise.data import store
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.stages.train import NONDETERMINISTIC
from reprise.tracking import backend, lineage, record, recovery
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import BEST
from reprise.tracking.record import RunRecord
from reprise.tracking.repository import last_line
from reprise.training.checkpoint import load_weights
from reprise.training.learner import SPEED

MACHINE = ("processor", "device", "devices", "threads", "precision", "tf32")
"""Tags of what bits depend on, beside code, config, data and packages."""
TOLERANCE = 1e-2
"""By how much metrics may differ, absolute or relative, where the machine is another and nothing else was said."""

PATIENCE = CheckpointConfig(steps=None, minutes=None).patience
"""Seconds that a training has to end in when we are stopped: recorded configs have no grace of their own, so the usual one."""


@dataclass(frozen=True)
class Verdict:
    """What came of a run that was run again."""

    identical: bool
    """Weights bit for bit, and every metric exactly."""
    difference: str
    """The first tensor and epoch that differ, "" where none does."""
    surroundings: str
    """Why bits may differ: in what the machine differs, operations that are not deterministic."""
    within: float | None
    """The tolerance within which all metrics lie, where one was asked for or the machine differs."""
    new: str
    """The run that was made."""

    @property
    def passed(self) -> bool:
        """Whether it is the same, as far as could be asked."""
        return self.identical or self.within is not None


def run(
    paths: ProjectPaths, wanted: str, tolerance: float | None, fresh_environment: bool, trusted: bool, console: Console
) -> Verdict:
    """Run a run again and compare.

    A run that lies in this project's mlruns/ is trusted: whoever could write there could change src/ as well. Of any other run
    the code is shown, and executed only if it is `trusted`.

    Raises:
        UserError: when it cannot be run again: not trusted, no commit, a patch that does not apply, damaged data, a failing
            training.

    """
    tracked = tracking_config(paths.root)
    _say_closed(recovery.adopt_reproductions(paths.store, tracked), paths, console)
    with recovery.reproduction(paths.store) as scratch:
        old = record.read(paths.store, wanted, tracked, store.made(scratch / "record"))
        if not trusted and not old.files.is_relative_to(paths.store / "runs"):
            demand_trust(old, fresh_environment, console)
        _recorded_weights(old)  # before anything is trained
        if not fresh_environment:
            installed = dict(line.split("==", 1) for line in lineage.packages().splitlines())
            _say_packages(old, platform.python_version(), installed, console, "; --env makes those of the run")
        with working_copy(paths.root, old, scratch) as copy:
            python = make_environment(old, copy.project, console) if fresh_environment else sys.executable
            lend_data(paths, old, copy.project, console)
            try:
                made = _train(paths, old, copy, python, console)
            finally:
                _say_closed(recovery.adopt_runs(paths.store, copy.project / "mlruns", tracked), paths, console)
        again = record.from_run_dir(paths.run_dir(made))
        if fresh_environment:
            _say_packages(old, again.tag("version.python"), again.packages, console)
        verdict = compare(old, again, tolerance)
    _note(paths, old, verdict)
    return verdict


def _say_closed(names: Sequence[str], paths: ProjectPaths, console: Console) -> None:
    """Of runs whose process died: the store is told too."""
    for name in names:
        console.print(f"reproduce  {name}: its process had died; closed as FAILED", highlight=False, soft_wrap=True)
    if names:
        recovery.deliver_waiting(paths.store, tracking_config(paths.root))


def _say_packages(old: RunRecord, python: str, packages: Mapping[str, str], console: Console, hint: str = "") -> None:
    """In what interpreter and packages differ from those of the run."""
    then, now = {"python": old.tag("version.python"), **old.packages}, {"python": python, **packages}
    others = [
        f"{name} {then.get(name, 'absent')} → {now.get(name, 'absent')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        console.print(f"reproduce  packages differ: {', '.join(others[:5])}{more}{hint}", highlight=False, soft_wrap=True)


def _train(paths: ProjectPaths, old: RunRecord, copy: WorkingCopy, python: str, console: Console) -> str:
    """Train with the recorded config in the working copy, and evaluate if that was done; the new run's id."""
    (copy.project / "recorded.json").write_text(json.dumps(old.config))
    uri = backend.address(tracking_config(paths.root), paths.store)
    python_path = copy.python_path(os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": python_path, "PYTHONSAFEPATH": "1", "MLFLOW_TRACKING_URI": uri}
    if python != sys.executable:  # its packages are not compiled yet: let the first process keep what it compiles
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    reprise = [python, "-m", "reprise"]
    command = [*reprise, "train", "--recorded", "recorded.json", "--reproduces", old.id]
    _finish("training", command, copy.project, environment, console.is_terminal)
    (run_dir,) = (copy.project / "mlruns" / "runs").iterdir()
    if any(key.startswith("test/") for key in old.metrics):
        _finish("evaluating", [*reprise, "evaluate", run_dir.name], copy.project, environment, False)
    return run_dir.name


def _finish(what: str, command: Sequence[str], copy: Path, environment: Mapping[str, str], shown: bool) -> None:
    """Run a command of the working copy to its end. A signal to us is passed on, and waited for: there are books to close.

    The command has a process group of its own, else Ctrl-C would reach it twice, and the second one does not wait.
    """
    with subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as child:
        try:
            _, said = child.communicate()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=PATIENCE)
            child.kill()
            raise
    if child.returncode:
        raise UserError(f"{what} again failed: {last_line(said) or child.returncode}")


def compare(old: RunRecord, again: RunRecord, tolerance: float | None) -> Verdict:
    """Weights bit for bit, metrics exactly; within a tolerance where one was asked for or bits may differ.

    They may on another machine, and after a training with operations that are not deterministic.
    """
    machine = [
        f"{key} {old.tags.get(key)} → {again.tags.get(key)}" for key in MACHINE if old.tags.get(key) != again.tags.get(key)
    ] + _nondeterminism(old)
    differences = [*_inputs(old, again), *_weights(old, again), *_metrics(old, again, 0.0)]
    asked = TOLERANCE if tolerance is None and machine else tolerance
    close = asked is not None and not _inputs(old, again) and not _metrics(old, again, asked)
    return Verdict(not differences, "; ".join(differences), ", ".join(machine), asked if close else None, again.id)


def _nondeterminism(old: RunRecord) -> list[str]:
    """Why bits may differ on the same machine, if they may."""
    if operations := old.tags.get(NONDETERMINISTIC):
        return [f"not deterministic: {operations}"]
    return ["trainer.deterministic=false"] if old.config["trainer"]["deterministic"] is False else []


def _inputs(old: RunRecord, again: RunRecord) -> list[str]:
    said = {"sha256.processed": "arrays", "sha256.windows": "windows", "sha256.config": "config", "sha256.code": "code"}
    return [f"the {name} are others" for key, name in said.items() if old.tags.get(key) != again.tags.get(key)]


def _weights(old: RunRecord, again: RunRecord) -> list[str]:
    """The first tensor that differs."""
    then, now = _recorded_weights(old), load_weights(again.weights)
    for name in {**then, **now}:
        if name not in then or name not in now or not torch.equal(then[name], now[name]):
            return [f"tensor {name} differs"]
    return []


def _recorded_weights(old: RunRecord) -> dict[str, Tensor]:
    recorded = old.tag("sha256.weights")
    if store.sha256(old.weights) != recorded:
        raise UserError(f"{old.weights} is not what was written (sha256 differs)", "the run's own weights were damaged since")
    beside = old.weights.with_suffix(".sha256")
    if not beside.is_file():  # of a run trained elsewhere: the store keeps weights alone
        beside.write_text(f"{recorded}  {old.weights.name}\n")
    return load_weights(old.weights)


def _metrics(old: RunRecord, again: RunRecord, tolerance: float) -> list[str]:
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


def _note(paths: ProjectPaths, old: RunRecord, verdict: Verdict) -> None:
    """Tell the dashboard: the old run was verified, or what is another. The last word counts."""
    how = f"different: {verdict.difference}"
    if verdict.passed:
        how = "bit for bit" if verdict.identical else f"within {verdict.within:g}"
    opened = tracking.reopen(tracking_config(paths.root), paths.store, old.id)
    opened.tag({"verified": f"{how}, {time.strftime('%Y-%m-%d')}, {lineage.processor()}", "verified_by": verdict.new})
    opened.flush()
