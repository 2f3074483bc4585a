"""`--multirun` without a sweeper: run jobs one after the other under a parent run. A restart resumes with the remaining jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from reprise.config import Config
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import train
from reprise.tracking import groups, recovery, resume, run_info
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import FOLDS, GROUP
from reprise.tracking.event_log import EventLog
from reprise.tracking.links import PARENT_TAG


@dataclass(frozen=True)
class Job:
    """One training, with one or several seeds."""

    config: Config
    command: str
    """The command that runs this job alone."""
    settings: str
    """The settings that distinguish it from the other jobs: `optimizer.lr=0.001`."""


def run(jobs: Sequence[Job], paths: ProjectPaths, console: Console, command: str, group: str = "multirun") -> str:
    """Run all jobs in order, and return the name of their parent. If one fails, run the others all the same.

    The parent of the group `folds` has the mean and the standard deviation of all jobs, that of `multirun` the best job.

    Raises:
        UserError: when a job failed, or needs several devices.

    """
    for job in jobs:
        if job.config.trainer.world_size > 1:
            raise UserError(
                f"{job.settings}: {'--multirun' if group == 'multirun' else 'a fold'} trains on one device",
                "start a job of several devices by itself",
            )
    first = jobs[0].config
    key = resume.training_key(group, [tracking.recorded_config(job.config) for job in jobs])
    with resume.lock_training(paths.store, key, train.PATIENCE) as state:
        if not first.resume:
            recovery.close_all(paths.store, state.run_ids)
            state.forget()
        token = state.token(resume.PARENT_KEY)
        tags = {GROUP: group, "experiment": first.name, "data": first.data.name, "mlflow.source.name": command}
        content: dict[str, Any] = {"jobs": [job.command for job in jobs]}
        name = f"{first.name}-{len(jobs)}{group if group == FOLDS else 'jobs'}-{token[:4]}"
        parent = groups.start_parent(first.tracking, paths.store, token, name, content, tags)
        state.record_run_id(resume.PARENT_KEY, parent.id)
        with tracking.recording_outcome(parent):
            results = [_run_job(number, job, state, parent, paths, console) for number, job in enumerate(jobs)]
            failures = [error for error in results if error]
            if failures:
                raise UserError(f"{len(failures)} of {len(jobs)} jobs failed, the first: {failures[0]}")
        state.forget()
    console.print(f"{group}  {name}: {len(jobs)} jobs", highlight=False, soft_wrap=True)
    return name


def _run_job(
    number: int, job: Job, state: resume.Training, parent: tracking.Run, paths: ProjectPaths, console: Console
) -> str | None:
    """Run one job, unless it is done already. Return why it failed, or None."""
    if state.run_id(number) is not None:
        return None
    finished = _finished_run(job, parent, paths)
    if finished is None:
        try:
            trained = train.run(job.config, paths, console, job.command, also={PARENT_TAG: parent.id, "settings": job.settings})
        except UserError as error:
            console.print(f"multirun  {job.settings}: {error}", highlight=False, soft_wrap=True)
            return f"{job.settings}: {error}"
        parent_id = EventLog(paths.run_dir(trained[0].run_id)).tags[PARENT_TAG]  # several seeds have their own parent run
        finished = trained[0].run_id if parent_id == parent.id else parent_id
    state.record_run_id(number, finished)
    groups.record_children(parent, [run_id for index in range(number + 1) if (run_id := state.run_id(index))])
    return None


def _finished_run(job: Job, parent: tracking.Run, paths: ProjectPaths) -> str | None:
    """Return the finished run of a job that is not recorded because the process was killed; None if there is none."""
    started = run_info.read(parent.run_dir).started
    run_dirs = recovery.finished_runs(paths.store, started, {PARENT_TAG: parent.id, "settings": job.settings})
    return next((run_dir.name for run_dir in run_dirs), None)
