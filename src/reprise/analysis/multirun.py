"""Plain `--multirun`: one job after the other under one parent. Started again, it goes on with the jobs that are left."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from reprise.config import Config
from reprise.data import store
from reprise.errors import UserError
from reprise.stages import train
from reprise.stages.project_paths import ProjectPaths
from reprise.tracking import groups, recovery, resume
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import GROUP
from reprise.tracking.event_log import EventLog
from reprise.tracking.mlflow_sync import PARENT


@dataclass(frozen=True)
class Job:
    """One training, or several seeds of it."""

    config: Config
    command: str
    """By which it would be begun alone."""
    settings: str
    """What sets it apart from the others: `optimizer.lr=0.001`."""


def run(jobs: Sequence[Job], paths: ProjectPaths, console: Console, command: str) -> None:
    """Train them all, in order. One that fails does not keep the others from theirs.

    Raises:
        UserError: when one failed, or would need processes of its own.

    """
    for job in jobs:
        if job.config.trainer.world_size > 1:
            raise UserError(f"{job.settings}: --multirun trains on one device", "start a job of several devices by itself")
    first = jobs[0].config
    key = resume.key_of("multirun", [tracking.recorded(job.config) for job in jobs])
    with resume.hold(paths.store, key, train.PATIENCE) as begun:
        if not first.resume:
            begun.forget()
        token = begun.token(resume.PARENT)
        tags = {GROUP: "multirun", "experiment": first.name, "data": first.data.name, "mlflow.source.name": command}
        content: dict[str, Any] = {"jobs": [job.command for job in jobs]}
        name = f"{first.name}-{len(jobs)}jobs-{token[:4]}"
        parent = groups.parent(first.tracking, paths.store, token, name, content, tags)
        begun.opened(resume.PARENT, parent.id)
        with tracking.ending(parent):
            failures = [said for number, job in enumerate(jobs) if (said := _one(number, job, begun, parent, paths, console))]
            if failures:
                raise UserError(f"{len(failures)} of {len(jobs)} jobs failed, the first: {failures[0]}")
        begun.forget()
    console.print(f"multirun  {name}: {len(jobs)} jobs", highlight=False, soft_wrap=True)


def _one(
    number: int, job: Job, begun: resume.Training, parent: tracking.Run, paths: ProjectPaths, console: Console
) -> str | None:
    """Train one job, unless an earlier start did; None, or why it failed."""
    if begun.run_id(number) is not None:
        return None
    ended = _ended(job, parent, paths)
    if ended is None:
        try:
            trained = train.run(job.config, paths, console, job.command, also={PARENT: parent.id, "settings": job.settings})
        except UserError as error:
            console.print(f"multirun  {job.settings}: {error}", highlight=False, soft_wrap=True)
            return f"{job.settings}: {error}"
        above = EventLog(paths.run_dir(trained[0].run_id)).tags[PARENT]  # of several seeds, a parent of their own
        ended = trained[0].run_id if above == parent.id else above
    begun.opened(number, ended)
    groups.gather(parent, [known for turn in range(number + 1) if (known := begun.run_id(turn))])
    return None


def _ended(job: Job, parent: tracking.Run, paths: ProjectPaths) -> str | None:
    """The run of a job that came to its end, which a kill kept from being noted."""
    began = store.read_json(parent.run_dir / "run.json")["started"]
    found = recovery.finished_runs(paths.store, began, {PARENT: parent.id, "settings": job.settings})
    return next((run_dir.name for run_dir in found), None)
