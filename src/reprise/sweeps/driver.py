"""Run a sweep: start and supervise workers, show progress, log results and write the best config."""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from reprise.config.sweep import Resumed, Sweep
from reprise.errors import UserError
from reprise.figures import sweeps as figures
from reprise.project_paths import ProjectPaths
from reprise.sweeps import launchers, preflight, studies, tuned
from reprise.sweeps.launchers import Launcher, LaunchRequest, Worker
from reprise.sweeps.study import ERROR, Study
from reprise.sweeps.view import View, describe, format_objectives
from reprise.tracking import groups, lineage
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import GROUP, NOTE

POLL_SECONDS = 1.0
"""Seconds between two snapshots of the study."""
MAX_WORKER_FAILURES = 20
"""Maximum number of workers that may fail before the sweep stops."""


def run(sweep: Sweep, request: LaunchRequest, paths: ProjectPaths, console: Console) -> Study:
    """Start or resume a sweep, and run it to its end.

    Raises:
        UserError: if its preflight fails, too many trials failed, or workers fail for a reason outside of their trials.

    """
    if not studies.exists(sweep.name, paths.store, request.storage):
        sweep = preflight.run(sweep, paths, console)
    elif not sweep.objectives:  # its preflight has chosen them
        started = studies.load(sweep.name, paths.store, request.storage).sweep
        sweep = sweep.model_copy(update={"objectives": started.objectives})
    study = studies.create_or_load(sweep, paths.root, paths.store, request.storage)
    return _run_to_end(study, request, paths, console)


def resume(resumed: Resumed, request: LaunchRequest, paths: ProjectPaths, console: Console) -> Study:
    """Print the state of a sweep and resume it, if requested with more trials or more allowed failures.

    Raises:
        UserError: if there is no such sweep, or it started with settings that differ from those given now.

    """
    name = resumed.name
    study = studies.load(name, paths.store, request.storage)
    resumed.check_same(study.sweep)
    if resumed.changes:
        study = studies.extend(study, resumed.changes)
    counts = Counter(trial.state.name.lower() for trial in study.snapshot().trials)
    console.print(f"sweep  {name}: {', '.join(f'{count} {state}' for state, count in counts.items())}", highlight=False)
    return _run_to_end(study, request, paths, console)


def _run_to_end(study: Study, request: LaunchRequest, paths: ProjectPaths, console: Console) -> Study:
    """Run the remaining trials of a sweep, then draw figures and write the best config."""
    sweep = study.sweep
    config = sweep.config(study.folder, {})
    lineage.record_code(paths.root, config.plugins)  # here, because warnings of workers go to their logs
    study.check_same_arrays(paths.processed(config.data.name))
    launcher = launchers.make_launcher(request, study.folder, config.checkpoint.patience)
    workers = request.workers or launcher.default_workers()
    source = f"reprise sweep sweep={sweep.name} resume"
    tags = {GROUP: "sweep", "sweep": sweep.name, "data": config.data.name, "mlflow.source.name": source, NOTE: describe(study)}
    name, content = f"sweep-{sweep.name}", sweep.model_dump()
    with groups.open_parent(config.tracking, paths.store, study.token, name, content, tags) as parent:
        parent.log_text(yaml.safe_dump(sweep.model_dump(), sort_keys=False), "sweep.yaml")
        try:
            _run_workers(study, _WorkerStarter(launcher, workers, paths.root, study, parent.id), console)
        finally:
            launcher.close()
        _finalize_run(study, parent, paths, console)
        if len(failed := study.snapshot().failures) > sweep.max_failures:
            raise UserError(
                f"{len(failed)} trials of sweep {sweep.name} failed, the last: {failed[-1].user_attrs.get(ERROR)}",
                f"fix the cause; `reprise sweep sweep={sweep.name} resume sweep.max_failures=N` accepts more failures",
            )
    return study


@dataclass(frozen=True)
class _WorkerStarter:
    """Starts worker processes of a sweep. A worker trains many trials, so it imports everything once."""

    launcher: Launcher
    workers: int
    root: Path
    study: Study
    parent: str

    def start(self, index: int) -> Worker:
        worker = ["sweep", f"sweep={self.study.sweep.name}", "resume", "--worker", self.parent]
        command = [sys.executable, "-P", "-m", "reprise", *worker]  # -P: do not import standard modules from the project
        return self.launcher.start(command, self.root, self.log(index), index, self.workers)

    def log(self, index: int) -> Path:
        return self.study.folder / f"worker-{index}.log"

    def last_line(self, index: int) -> str:
        lines = self.log(index).read_text("utf-8", "replace").strip().splitlines() if self.log(index).is_file() else []
        return lines[-1] if lines else "it printed nothing"


def _run_workers(study: Study, starter: _WorkerStarter, console: Console) -> None:
    """Keep workers running until no trial is left, and show progress."""
    failures = 0
    running: dict[int, Worker] = {}
    view = View(study, console)
    try:
        with view:
            while (snapshot := study.snapshot()).is_unfinished or running:
                for index in set(range(starter.workers)) - running.keys():
                    if snapshot.is_unfinished and len(running) < len(snapshot.unfinished) and study.has_available_trial(snapshot):
                        running[index] = starter.start(index)
                for index, worker in list(running.items()):
                    if (code := worker.poll()) is not None:
                        del running[index]
                        failures += code != 0
                        if code in (1, 2) or failures > MAX_WORKER_FAILURES:
                            raise UserError(f"a worker ended with code {code}: {starter.last_line(index)}")
                view.update(snapshot)
                time.sleep(POLL_SECONDS)
            view.update(snapshot)
    finally:
        for worker in running.values():
            worker.stop()
        for worker in running.values():
            worker.kill()


def _finalize_run(study: Study, parent: tracking.Run, paths: ProjectPaths, console: Console) -> None:
    """Log figures and results of the sweep in its run, then write the best config as an experiment."""
    name, goals, best = study.sweep.name, [goal.metric for goal in study.sweep.objectives], study.best()
    importances = figures.importances(study.optuna, goals)
    shares = {f"importance.{key}": f"{share:.3f}" for key, share in importances.get(goals[0], {}).items()}
    parent.tag({NOTE: describe(study), **shares})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study.optuna.trials_dataframe().to_csv(folder / "trials.csv", index=False)
        figures.draw(study.optuna, goals, importances, folder)
        parent.log_artifacts(folder, "sweep")
    if not best:
        console.print(f"sweep  {name}: no trial finished within the limits", highlight=False)
        return
    summary = "; ".join(f"trial {trial.number}: {format_objectives(study, trial)}" for trial in best)
    parent.tag({"best": summary})
    if len(best) == 1:
        parent.log_summary({f"best/{goal}": value for goal, value in zip(goals, best[0].values, strict=True)})
    console.print(f"sweep  {name}: best {summary}", highlight=False, soft_wrap=True)
    file = tuned.write(study, best[0], paths.root)
    console.print(
        f"sweep  {file.relative_to(paths.root)} holds {'the first of them' if len(best) > 1 else 'it'}; to evaluate it on test: "
        f"`reprise train experiment={file.stem}`, then `reprise evaluate`",
        highlight=False,
        soft_wrap=True,
    )
