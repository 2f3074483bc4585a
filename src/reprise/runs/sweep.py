"""A sweep from its beginning to its end: workers, what is seen of it meanwhile, and what comes of it."""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial
from rich.console import Console

from reprise.config import Config, compose
from reprise.config.compose import leaves
from reprise.config.sweep import Sweep, as_overrides, put
from reprise.data import store
from reprise.errors import UserError
from reprise.figures import sweeps as figures
from reprise.runs import launchers
from reprise.runs import study as studies
from reprise.runs.launchers import Asked, Launcher, Worker
from reprise.runs.study import ERROR, Study
from reprise.runs.sweep_view import View, note, valued
from reprise.stages.places import Places
from reprise.tracking import groups
from reprise.tracking import run as tracking
from reprise.tracking.delivery import NOTE
from reprise.tracking.notes import GROUP

LOOK_EVERY = 1.0
"""Seconds between two looks at the study."""
DEATHS = 20
"""Workers that may die without a word before the sweep gives up."""


def run(sweep: Sweep, asked: Asked, places: Places, console: Console) -> Study:
    """Begin a sweep, or go on with it, and see it to its end.

    Raises:
        UserError: when too many trials failed, or the workers die of something that is no trial's.

    """
    study = studies.begin(sweep, places.root, places.store, asked.storage)
    return go_on(study, asked, places, console)


def resume(name: str, asked: Asked, places: Places, console: Console) -> Study:
    """Say how a sweep stands, and go on with it."""
    study = studies.load(name, places.store, asked.storage)
    counts = Counter(trial.state.name.lower() for trial in study.look().trials)
    console.print(f"sweep  {name}: {', '.join(f'{count} {state}' for state, count in counts.items())}", highlight=False)
    return go_on(study, asked, places, console)


def go_on(study: Study, asked: Asked, places: Places, console: Console) -> Study:
    """Work on what is left of a sweep, then draw what came of it, and write the best config down."""
    sweep = study.sweep
    launcher = launchers.make(asked, study.folder)
    workers = asked.workers or launcher.room()
    config = sweep.config(study.folder, {})
    source = f"reprise sweep sweep={sweep.name} resume"
    tags = {GROUP: "sweep", "sweep": sweep.name, "data": config.data.name, "mlflow.source.name": source}
    parent = groups.parent(config.tracking, places.store, study.token, f"sweep-{sweep.name}", sweep.model_dump(), tags)
    with tracking.ending(parent):
        _work(study, _Starter(launcher, workers, places.root, study, parent.id), console)
        _close_books(study, parent, places, console)
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
        starter.launcher.close()
    if len(failed := standing.failures) > study.sweep.max_failures:
        raise UserError(
            f"{len(failed)} trials of sweep {study.sweep.name} failed, the last: {failed[-1].user_attrs.get(ERROR)}",
            "mend what they died of; sweep.max_failures says how many may",
        )


def _close_books(study: Study, parent: tracking.Run, places: Places, console: Console) -> None:
    """trials.csv, figures, the best config as an experiment, and the best values on the dashboard."""
    if not (best := study.best()):
        console.print(f"sweep  {study.sweep.name}: no trial came to its end within the limits", highlight=False)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study.optuna.trials_dataframe().to_csv(folder / "trials.csv", index=False)
        figures.draw(study.optuna, [goal.metric for goal in study.sweep.objectives], folder)
        parent.artifacts(folder, "sweep")
    shown = ", ".join(valued(study, trial) for trial in best)
    importance = figures.importances(study.optuna) if len(study.sweep.objectives) == 1 else {}
    parent.tag(
        {"best": shown, NOTE: note(study, shown), **{f"importance.{key}": f"{share:.3f}" for key, share in importance.items()}}
    )
    if len(best) == 1:
        parent.log_once(
            {f"best/{goal.metric}": value for goal, value in zip(study.sweep.objectives, best[0].values, strict=True)}
        )
    file = write_best(study, best[0], places)
    console.print(f"sweep  {study.sweep.name}: best {shown}", highlight=False, soft_wrap=True)
    console.print(
        f"sweep  {file.relative_to(places.root)} holds it; test is opened by `reprise train experiment={file.stem}`, "
        "then `reprise evaluate`",
        highlight=False,
        soft_wrap=True,
    )


def write_best(study: Study, trial: FrozenTrial, places: Places) -> Path:
    """A trial's config as an experiment of conf/, on top of the experiment that was searched.

    What conf/ says otherwise by now than when the sweep began is written out.
    """
    sweep = study.sweep
    name = f"{sweep.name}_tuned"
    said = [item.lstrip("+").partition("=")[::2] for item in [*sweep.overrides, *as_overrides(trial.params)]]
    groups = {key: value for key, value in said if "." not in key and (places.root / "conf" / key).is_dir()}
    values: dict[str, Any] = {"name": name}
    for key, value in said:
        if key not in groups and not key.startswith("tracking"):  # where runs are written down is no part of what was found
            put(values, key, yaml.safe_load(value))
    defaults = [sweep.experiment, *({f"override /{key}": value} for key, value in groups.items()), "_self_"]
    comment = (
        "# @package _global_\n"
        f"# reprise train experiment={name}\n"
        f"# Found by `reprise sweep sweep={sweep.name}`: trial {trial.number + 1} of {sweep.n_trials}, {valued(study, trial)}.\n"
    )
    file = places.root / "conf" / "experiment" / f"{name}.yaml"
    wanted = dict(leaves(_comparable(sweep.config(study.folder, trial.params))))
    for _ in range(2):
        tree = {"defaults": defaults, **values}
        store.write_atomically(file, (comment + yaml.safe_dump(tree, sort_keys=False)).encode())
        made = dict(leaves(_comparable(compose(places.root, [f"experiment={name}"]))))
        for key in sorted(wanted):
            if key not in made or made[key] != wanted[key]:
                put(values, key, wanted[key])
    if made != wanted:
        raise UserError(
            f"{file} makes another config than trial {trial.number + 1} had", "conf/ was changed since the sweep began"
        )
    return file


def _comparable(config: Config) -> dict[str, Any]:
    return config.model_dump(by_alias=True, exclude={"name", "published", "tracking"})
