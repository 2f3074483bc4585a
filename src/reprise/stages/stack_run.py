"""The training of a stack: several seeds as one program, each in its own MLflow run."""

import contextlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from reprise import parent_watchdog
from reprise.config import Config
from reprise.data.windows import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages import initial_weights
from reprise.stages.seed_run import finalize_run, open_run, outcome_of
from reprise.tracking import resume
from reprise.tracking.trained import Trained
from reprise.training.checkpoint import newest_checkpoint
from reprise.training.fit import CHECKPOINTS
from reprise.training.initial import InitialWeights
from reprise.training.stacked_fit import StackedTraining


def train_stack(
    configs: Sequence[Config],
    windows: Windows,
    initial: InitialWeights | None,
    paths: ProjectPaths,
    console: Console,
    tags: dict[str, Any],
    state: resume.Training,
) -> list[Trained]:
    """Train the seeds of these configs together; resume from the newest checkpoint if `state` was interrupted before.

    Each run directory then holds the same files as that of a seed trained alone (`train_seed`). The one of the first seed holds
    the checkpoints of all, until the end of the command.
    """
    training = StackedTraining(configs, windows, initial)
    tags = tags | initial_weights.tags(initial) | training.facts | {"stack": [config.seed for config in configs]}
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(open_run(config, windows, paths, tags, state)) for config in configs]
        checkpoint = newest_checkpoint(runs[0].run_dir / CHECKPOINTS)
        names = ", ".join(run.name for run in runs)
        if checkpoint:
            console.print(f"train  {names}: resumes after step {int(checkpoint.stem):,}", highlight=False, soft_wrap=True)
        elif initial:
            for run in runs:
                initial_weights.record(initial, run)
        parent_watchdog.allow(configs[0].checkpoint.patience)

        def fsync() -> None:
            for run in runs:
                run.event_log.fsync()

        every = training.fit(
            [run.run_dir for run in runs],
            checkpoint,
            [run.log for run in runs],
            fsync,
            console if configs[0].trainer.progress else None,
        )
        trained = []
        for run, config, fitted in zip(runs, configs, every, strict=True):
            one = outcome_of(fitted, config, windows, run.run_dir, run.name, paths)
            comparison = finalize_run(run, one, fitted, config, windows, training.task)
            seeds = f" for {len(runs)} seeds" if len(runs) > 1 else ""
            summary = f"best epoch {one.best_epoch} of {one.epochs}, {one.train_seconds:.1f} s{seeds}"
            for line in (summary, *comparison):
                console.print(f"train  {one.name}: {line}", highlight=False, markup=False, soft_wrap=True)
            trained.append(one)
        return trained
