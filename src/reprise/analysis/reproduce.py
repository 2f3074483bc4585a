"""Reproduce a run in a separate working copy and compare weights and metrics with the original."""

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

from reprise.analysis.lineage import MACHINE
from reprise.analysis.working_copy import (
    WorkingCopy,
    link_data,
    link_initial_weights,
    make_environment,
    refuse_untrusted_run,
    working_copy,
)
from reprise.config import CheckpointConfig, tracking_config
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages.seed_run import NONDETERMINISTIC
from reprise.tasks import metric_names
from reprise.tracking import backend, lineage, record, recovery
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import BEST
from reprise.tracking.event_log import EventLog
from reprise.tracking.record import RunRecord
from reprise.tracking.repository import last_line
from reprise.tracking.weights import load_weights

TOLERANCE = 1e-2
"""Default tolerance of metrics, absolute or relative, if the machine differs."""

PATIENCE = CheckpointConfig(steps=None, minutes=None).patience
"""Seconds that the child training has to exit after SIGTERM: the default, as recorded configs do not hold it."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a reproduction."""

    identical: bool
    """Whether weights are equal bit for bit, and all metrics exactly."""
    difference: str
    """The first tensor and epoch that differ; "" if none does."""
    surroundings: str
    """Why bits may differ: differences of the machine, nondeterministic operations."""
    within: float | None
    """The tolerance that all metrics satisfy, if one was given or the machine differs; otherwise None."""
    new: str
    """The id of the new run."""

    @property
    def passed(self) -> bool:
        """Whether the run is reproduced, exactly or within the tolerance."""
        return self.identical or self.within is not None


def run(
    paths: ProjectPaths, name: str, tolerance: float | None, fresh_environment: bool, trusted: bool, console: Console
) -> Verdict:
    """Train a run again, compare the two runs, and return the outcome.

    A run in mlruns/ of this project is trusted, since whoever can write there can change src/ as well. For any other run, the
    code is shown, and executed only if `trusted`.

    Raises:
        UserError: when the run cannot be repeated: it is not trusted, has no commit, its patch does not apply, its data is
            damaged, or the training fails.

    """
    tracked = tracking_config(paths.root)
    _report_closed(recovery.adopt_reproductions(paths.store, tracked), paths, console)
    with recovery.reproduction(paths.store) as scratch:
        old = record.read(paths.store, name, tracked, store.made(scratch / "record"))
        if not trusted and not old.files.is_relative_to(paths.store / "runs"):
            refuse_untrusted_run(old, fresh_environment, console)
        _verified_weights(old)  # before anything is trained
        if not fresh_environment:
            installed = dict(line.split("==", 1) for line in lineage.packages().splitlines())
            _report_package_differences(old, platform.python_version(), installed, console, "; --env makes those of the run")
        with working_copy(paths.root, old, scratch) as copy:
            python = make_environment(old, copy.project, console) if fresh_environment else sys.executable
            link_data(paths, old, copy.project, console)
            link_initial_weights(old, copy.project)
            try:
                made = _train(paths, old, copy, python, console)
            finally:
                _report_closed(recovery.adopt_runs(paths.store, copy.project / "mlruns", tracked), paths, console)
        again = record.from_run_dir(paths.run_dir(made))
        if fresh_environment:
            _report_package_differences(old, again.tag("version.python"), again.packages, console)
        verdict = compare(old, again, tolerance)
    _tag_verified(paths, old, verdict)
    return verdict


def _report_closed(names: Sequence[str], paths: ProjectPaths, console: Console) -> None:
    """Print the runs whose process died, and sync their event logs."""
    for name in names:
        console.print(f"reproduce  {name}: its process died; marked as FAILED", highlight=False, soft_wrap=True)
    if names:
        recovery.sync_waiting_runs(paths.store, tracking_config(paths.root))


def _report_package_differences(
    old: RunRecord, python: str, packages: Mapping[str, str], console: Console, hint: str = ""
) -> None:
    """Print the differences of Python version and packages from those of the run."""
    then, now = {"python": old.tag("version.python"), **old.packages}, {"python": python, **packages}
    changes = [
        f"{name} {then.get(name, 'absent')} → {now.get(name, 'absent')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    if changes:
        more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
        console.print(f"reproduce  packages differ: {', '.join(changes[:5])}{more}{hint}", highlight=False, soft_wrap=True)


def _train(paths: ProjectPaths, old: RunRecord, copy: WorkingCopy, python: str, console: Console) -> str:
    """Train with the recorded config in the working copy, evaluate if the run was evaluated, and return the id of the new run."""
    (copy.project / "recorded.json").write_text(json.dumps(old.config))
    uri = backend.address(tracking_config(paths.root), paths.store)
    python_path = copy.python_path(os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"PYTHONPATH": python_path, "PYTHONSAFEPATH": "1", "MLFLOW_TRACKING_URI": uri}
    if python != sys.executable:  # packages of the new environment have no bytecode yet: let the first process write it
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    reprise = [python, "-m", "reprise"]
    command = [*reprise, "train", "--recorded", "recorded.json", "--reproduces", old.id]
    _run_to_end("training", command, copy.project, environment, console.is_terminal)
    run_dir = _run_of_seed(copy.project / "mlruns" / "runs", old.tag("seed"))
    if any(key.startswith("test/") for key in old.metrics):
        _run_to_end("evaluating", [*reprise, "evaluate", run_dir.name], copy.project, environment, False)
    return run_dir.name


def _run_of_seed(folder: Path, seed: str) -> Path:
    """Return the run directory of a seed. If the run was trained in a stack, there are those of the other seeds, and a parent."""
    (run_dir,) = [run_dir for run_dir in folder.iterdir() if EventLog(run_dir).tags.get("seed") == seed]
    return run_dir


def _run_to_end(what: str, command: Sequence[str], copy: Path, environment: Mapping[str, str], shown: bool) -> None:
    """Run a command in the working copy until it exits. If interrupted, terminate it and wait: it must finalize its run.

    The command gets its own process group. Otherwise Ctrl-C would reach it twice, and the second SIGINT makes it exit at once.
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
            _, stderr = child.communicate()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=PATIENCE)
            child.kill()
            raise
    if child.returncode:
        raise UserError(f"{what} again failed: {last_line(stderr) or child.returncode}")


def compare(old: RunRecord, again: RunRecord, tolerance: float | None) -> Verdict:
    """Compare weights bit for bit and metrics exactly; also within a tolerance, if one is given or bits may differ.

    Bits may differ on another machine, and if the training used nondeterministic operations.
    """
    machine = [
        f"{key} {old.tags.get(key)} → {again.tags.get(key)}" for key in MACHINE if old.tags.get(key) != again.tags.get(key)
    ] + _nondeterminism(old)
    differences = [*_inputs(old, again), *_weights(old, again), *_metrics(old, again, 0.0)]
    if tolerance is None and machine:
        tolerance = TOLERANCE
    close = tolerance is not None and not _inputs(old, again) and not _metrics(old, again, tolerance)
    return Verdict(not differences, "; ".join(differences), ", ".join(machine), tolerance if close else None, again.id)


def _nondeterminism(old: RunRecord) -> list[str]:
    """Return why bits may differ on the same machine; empty if the training was deterministic."""
    if operations := old.tags.get(NONDETERMINISTIC):
        return [f"not deterministic: {operations}"]
    return ["trainer.deterministic=false"] if old.config["trainer"]["deterministic"] is False else []


def _inputs(old: RunRecord, again: RunRecord) -> list[str]:
    """Return which inputs of the training differ."""
    names = {"sha256.processed": "arrays", "sha256.windows": "windows", "sha256.config": "config", "sha256.code": "code"}
    return [f"the {name} are others" for key, name in names.items() if old.tags.get(key) != again.tags.get(key)]


def _weights(old: RunRecord, again: RunRecord) -> list[str]:
    """Return the first tensor that differs."""
    then, now = _verified_weights(old), load_weights(again.weights)
    for name in {**then, **now}:
        if name not in then or name not in now or not torch.equal(then[name], now[name]):
            return [f"tensor {name} differs"]
    return []


def _verified_weights(old: RunRecord) -> dict[str, Tensor]:
    """Return the run's weights after checking them against its tag. Write the .sha256 file if a copied run lacks it."""
    recorded = old.tag("sha256.weights")
    if store.sha256(old.weights) != recorded:
        raise UserError(f"{old.weights} is not what was written (sha256 differs)", "they were damaged after the run; train again")
    hash_file = old.weights.with_suffix(".sha256")
    if not hash_file.is_file():  # a run copied from the tracking store has none, and load_weights needs it
        hash_file.write_text(f"{recorded}  {old.weights.name}\n")
    return load_weights(old.weights)


def _metrics(old: RunRecord, again: RunRecord, tolerance: float) -> list[str]:
    """Return the first epoch at which a metric differs by more than a tolerance, absolute or relative."""
    first: tuple[int, str] | None = None
    for key in sorted({*old.metrics, *again.metrics} - set(metric_names.SPEED)):
        if key.startswith(BEST):  # the same value is also logged at its epoch
            continue
        then, now = dict(old.metrics.get(key, [])), dict(again.metrics.get(key, []))
        for step in sorted({*then, *now}):
            same = step in then and step in now and abs(then[step] - now[step]) <= tolerance * max(1.0, abs(then[step]))
            if not same and (first is None or step < first[0]):
                first = step, f"{key} {then.get(step)} → {now.get(step)}"
    return [] if first is None else [f"epoch {first[0]}: {first[1]}"]


def _tag_verified(paths: ProjectPaths, old: RunRecord, verdict: Verdict) -> None:
    """Tag the old run as verified, or with the difference. A later reproduction overwrites the tag."""
    outcome = f"different: {verdict.difference}"
    if verdict.passed:
        outcome = "bit for bit" if verdict.identical else f"within {verdict.within:g}"
    reopened = tracking.reopen(tracking_config(paths.root), paths.store, old.id)
    reopened.tag({"verified": f"{outcome}, {time.strftime('%Y-%m-%d')}, {lineage.processor()}", "verified_by": verdict.new})
    reopened.flush()
