"""A sweep from its beginning to its end: workers, what is seen of it meanwhile, and what comes of it."""

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
from reprise.stages.project_paths import ProjectPaths
from reprise.sweeps import launchers, preflight, tuned
from reprise.sweeps import study as studies
from reprise.sweeps.launchers import Launcher, LaunchRequest, Worker
from reprise.sweeps.study import ERROR, Study
from reprise.sweeps.view import View, note, valued
from reprise.tracking import groups, lineage
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import GROUP
from reprise.tracking.mlflow_sync import NOTE

LOOK_EVERY = 1.0
"""Seconds between two looks at the study."""
DEATHS = 20
"""Workers that may die without a word before the sweep gives up."""


def run(sweep: Sweep, asked: LaunchRequest, paths: ProjectPaths, console: Console) -> Study:
    """Begin a sweep, or go on with it, and see it to its end.

    Raises:
        UserError: when it cannot be searched, too many trials failed, or the workers die of something that is no trial's.

    """
    if not studies.exists(sweep.name, paths.store, asked.storage):
        preflight.run(sweep, paths, console)
    study = studies.begin(sweep, paths.root, paths.store, asked.storage)
    return go_on(study, asked, paths, console)


def resume(resumed: Resumed, asked: LaunchRequest, paths: ProjectPaths, console: Console) -> Study:
    """Print the state of a sweep, and go on with it: also with more trials, or more that may fail.

    Raises:
        UserError: when there is no such sweep, or it was begun with other settings than are said now.

    """
    name = resumed.name
    study = studies.load(name, paths.store, asked.storage)
    resumed.demand_same(study.sweep)
    if resumed.changes:
        study = studies.extend(study, resumed.changes)
    counts = Counter(trial.state.name.lower() for trial in study.look().trials)
    console.print(f"sweep  {name}: {', '.join(f'{count} {state}' for state, count in counts.items())}", highlight=False)
    return go_on(study, asked, paths, console)


def go_on(study: Study, asked: LaunchRequest, paths: ProjectPaths, console: Console) -> Study:
    """Work on what is left of a sweep, then draw what came of it, and write the best config down."""
    sweep = study.sweep
    config = sweep.config(study.folder, {})
    lineage.record_code(paths.root, config.plugins)  # warns here; workers write to their logs
    study.demand_same_arrays(paths.processed(config.data.name))
    launcher = launchers.make(asked, study.folder, config.checkpoint.patience)
    workers = asked.workers or launcher.room()
    source = f"reprise sweep sweep={sweep.name} resume"
    tags = {GROUP: "sweep", "sweep": sweep.name, "data": config.data.name, "mlflow.source.name": source, NOTE: note(study)}
    parent = groups.parent(config.tracking, paths.store, study.token, f"sweep-{sweep.name}", sweep.model_dump(), tags)
    with tracking.ending(parent):
        parent.text(yaml.safe_dump(sweep.model_dump(), sort_keys=False), "sweep.yaml")
        try:
            _work(study, _Starter(launcher, workers, paths.root, study, parent.id), console)
        finally:
            launcher.close()
        _finalize_run(study, parent, paths, console)
        if len(failed := study.look().failures) > sweep.max_failures:
            raise UserError(
                f"{len(failed)} trials of sweep {sweep.name} failed, the last: {failed[-1].user_attrs.get(ERROR)}",
                f"mend what they died of; `reprise sweep sweep={sweep.name} resume sweep.max_failures=N` lets more fail",
            )
    return study


@dataclass(frozen=True)
class _Starter:
    """Starts workers of a sweep, which import everything once."""

    launcher: Launcher
    workers: int
    root: Path
    study: Study
    parent: str

    def start(self, place: int) -> Worker:
        command = [sys.executable, "-m", "reprise", "sweep", f"sweep={self.study.sweep.name}", "resume", "--worker", self.parent]
        return self.launcher.start(command, self.root, self.log(place), place, self.workers)

    def log(self, place: int) -> Path:
        return self.study.folder / f"worker-{place}.log"

    def last_line(self, place: int) -> str:
        lines = self.log(place).read_text("utf-8", "replace").strip().splitlines() if self.log(place).is_file() else []
        return lines[-1] if lines else "it said nothing"


def _work(study: Study, starter: _Starter, console: Console) -> None:
    """Keep workers at it until no trial is left, and show how it goes."""
    deaths = 0
    working: dict[int, Worker] = {}
    view = View(study, console)
    try:
        with view:
            while (standing := study.look()).is_unfinished or working:
                for place in set(range(starter.workers)) - working.keys():
                    if standing.is_unfinished and len(working) < len(standing.left) and study.has_free(standing):
                        working[place] = starter.start(place)
                for place, worker in list(working.items()):
                    if (code := worker.poll()) is not None:
                        del working[place]
                        deaths += code != 0
                        if code in (1, 2) or deaths > DEATHS:
                            raise UserError(f"a worker ended with code {code}: {starter.last_line(place)}")
                view.update(standing)
                time.sleep(LOOK_EVERY)
            view.update(standing)
    finally:
        for worker in working.values():
            worker.stop()
        for worker in working.values():
            worker.kill()


def _finalize_run(study: Study, parent: tracking.Run, paths: ProjectPaths, console: Console) -> None:
    """What the dashboard shows of the sweep; then the best config, as an experiment."""
    name, goals, best = study.sweep.name, [goal.metric for goal in study.sweep.objectives], study.best()
    importances = figures.importances(study.optuna, goals)
    shares = {f"importance.{key}": f"{share:.3f}" for key, share in importances.get(goals[0], {}).items()}
    parent.tag({NOTE: note(study), **shares})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study.optuna.trials_dataframe().to_csv(folder / "trials.csv", index=False)
        figures.draw(study.optuna, goals, importances, folder)
        parent.artifacts(folder, "sweep")
    if not best:
        console.print(f"sweep  {name}: no trial came to its end within the limits", highlight=False)
        return
    shown = "; ".join(f"trial {trial.number}: {valued(study, trial)}" for trial in best)
    parent.tag({"best": shown})
    if len(best) == 1:
        parent.log_once({f"best/{goal}": value for goal, value in zip(goals, best[0].values, strict=True)})
    console.print(f"sweep  {name}: best {shown}", highlight=False, soft_wrap=True)
    file = tuned.write(study, best[0], paths.root)
    console.print(
        f"sweep  {file.relative_to(paths.root)} holds {'the first of them' if len(best) > 1 else 'it'}; test is opened by "
        f"`reprise train experiment={file.stem}`, then `reprise evaluate`",
        highlight=False,
        soft_wrap=True,
    )
