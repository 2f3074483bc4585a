"""train: one run per seed; keeps the weights of the best epoch on val. Never evaluates on the test split."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from filelock import FileLock
from rich.console import Console

from reprise.config import Config
from reprise.data import store
from reprise.data.windows import Windows, lock_test_split
from reprise.distributed import is_rank_zero, launched
from reprise.errors import Pruned
from reprise.project_paths import ProjectPaths
from reprise.stages import initial_weights
from reprise.stages.prepare import prepare
from reprise.stages.published import publish_weights
from reprise.stages.run_key import run_key
from reprise.stages.seed_run import train_seed
from reprise.stages.stack_run import train_stack
from reprise.tracking import dvc_files, groups, lineage, recovery, resume
from reprise.tracking.address import address
from reprise.tracking.trained import Trained
from reprise.training.devices import leave_process_group
from reprise.training.fit import CHECKPOINTS, preflight
from reprise.training.initial import InitialWeights
from reprise.training.learner import MetricCallback
from reprise.training.stacked_fit import check_stackable, stacks
from reprise.training.trainer import relaunch

PATIENCE, PIPELINE_PATIENCE = 2.0, 30.0
"""Seconds to wait for another process with the same training. A process whose `dvc repro` was killed is about to exit."""


def run(
    config: Config,
    paths: ProjectPaths,
    console: Console,
    command: str,
    publish: bool = False,
    also: Mapping[str, str] | None = None,
    watch: MetricCallback | None = None,
    then: Callable[[list[Trained]], None] | None = None,
) -> list[Trained]:
    """Train every seed and return the outcome of each.

    With `publish` (the pipeline), write weights, training.json and history to data/models/<experiment>/; otherwise do not touch
    the outputs of the pipeline. `command` is shown on the dashboard as the way to repeat the run; `also` are further tags.
    `watch` receives the metrics of each epoch and may stop the training by raising `Pruned`. `then` is called with the outcomes
    while the state to resume from still exists: if it raises, the same command calls it again without training. A run on several
    devices of this machine starts its own processes.
    """
    address(config.tracking, paths.store)  # reject a malformed address before anything is fetched or computed
    with FileLock(store.made(paths.store) / "prepare.lock"):  # ranks or trials on one machine prepare the data once
        remake = watch is None and not publish  # a sweep keeps the data it started with; DVC has checked the pipeline's
        windows = prepare(config, paths, console, remake, in_pipeline=publish)
        config, initial = initial_weights.find(config, windows, paths, console)
    lock_test_split()
    _preflight(config, windows, initial)
    lineage.check_plugins_unchanged(tuple(config.plugins))
    if config.trainer.world_size > 1 and not launched():
        relaunch(config.trainer, config.checkpoint)
    tags = {
        "origin": "pipeline" if publish else "by hand",
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        **(also or {}),
    }
    if publish:  # in a DVC stage: DVC has just checked the inputs
        known = dvc_files.output_hashes(paths.root)
        folders = (paths.processed(config.data.name), paths.windows(config.name))
        tags |= {f"dvc.{path}": known[path] for folder in folders if (path := str(folder.relative_to(paths.root))) in known}
    with contextlib.ExitStack() as stack:
        state = None
        if is_rank_zero():
            key, patience = run_key(config, windows, publish), PIPELINE_PATIENCE if publish else PATIENCE
            state = stack.enter_context(resume.lock_training(paths.store, key, patience))
            _recover_stale_runs(state, config, paths, console)
        try:
            trained = _train_seeds(config, windows, initial, paths, console, tags, state, watch)
        except Pruned:
            if state:
                _forget(state, paths)
            raise
        if state:
            if publish:
                publish_weights(config, trained, paths)
            if then:
                then(trained)
            _forget(state, paths)
    leave_process_group()
    return trained


def _preflight(config: Config, windows: Windows, initial: InitialWeights | None) -> None:
    preflight(config, windows, initial)
    if config.trainer.stacked:
        check_stackable(config, windows, initial)


def _train_seeds(
    config: Config,
    windows: Windows,
    initial: InitialWeights | None,
    paths: ProjectPaths,
    console: Console,
    tags: dict[str, Any],
    state: resume.Training | None,
    watch: MetricCallback | None,
) -> list[Trained]:
    """Train one run per seed. Several runs get a parent run, which logs their mean."""
    with contextlib.ExitStack() as stack:
        if state and len(config.every_seed) > 1:
            tags = stack.enter_context(groups.open_seeds_parent(config, paths.store, state, tags))
        if state and config.trainer.stacked:
            together = [train_stack(members, windows, initial, paths, console, tags, state) for members in stacks(config)]
            return [one for trained in together for one in trained]
        return [
            train_seed(config.model_copy(update={"seed": seed, "seeds": 1}), windows, initial, paths, console, tags, state, watch)
            for seed in config.every_seed
        ]


def _forget(training: resume.Training, paths: ProjectPaths) -> None:
    """Delete the resume state of a training and its checkpoints."""
    run_dirs = [paths.run_dir(run_id) for run_id in training.run_ids]
    training.forget()
    for run_dir in run_dirs:
        shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)


def _recover_stale_runs(training: resume.Training, config: Config, paths: ProjectPaths, console: Console) -> None:
    """Mark runs of dead processes as FAILED and sync event logs that were not delivered.

    With `resume=false`, interrupted runs of this training are marked as FAILED as well.
    """
    abandoned = []
    if not config.resume:
        abandoned = recovery.close_all(paths.store, training.run_ids)
        training.forget()
    resumable = set(training.run_ids)
    for name in [*abandoned, *recovery.close_stale_runs(paths.store, config.tracking, resumable)]:
        console.print(f"train  {name}: its process died; marked as FAILED", highlight=False, soft_wrap=True)
    for name in recovery.sync_waiting_runs(paths.store, config.tracking)[0]:
        console.print(f"sync  {name}: delivered", highlight=False, soft_wrap=True)
