"""The command `reprise train`: by hand, from DVC, or to reproduce a run. With `--evaluate`, it also evaluates trained runs."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reprise import config as configs
from reprise import cpus, distributed, parent_watchdog
from reprise.cli import jobs
from reprise.cli.common import composed, console, heavy_imports, overrides_argument, pipeline_option, project, suggest
from reprise.cli.jobs import DASHBOARD, without_address
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths

if TYPE_CHECKING:
    from reprise.stages.train_and_evaluate import Then
    from reprise.tracking.trained import Trained


@click.command()
@pipeline_option
@click.option("--recorded", type=click.Path(exists=True, dir_okay=False, path_type=Path), hidden=True)
@click.option("--reproduces", hidden=True)
@click.option("--multirun", "-m", is_flag=True, help="Train every combination of a=1,2, range(…) and choice(…) in sequence.")
@click.option("--evaluate", "and_evaluate", is_flag=True, help="Then evaluate each trained run on the test split.")
@overrides_argument
def train(
    pipeline: str | None,
    recorded: Path | None,
    reproduces: str | None,
    multirun: bool,
    and_evaluate: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train an experiment: one MLflow run per seed. Keep the epoch with the best validation metric.

    \b
    reprise train experiment=digits_cnn                                   seconds, no network needed
    reprise train experiment=fashion_mnist_cnn optimizer.lr=0.003         any key can be set
    reprise train experiment=fashion_mnist_cnn trainer.max_epochs=1 data.limit=2000      a quick test
    reprise train experiment=temperature_lstm seed=7 seeds=3              seeds 7, 8 and 9 (or seeds=[7,9]), one run each
    reprise train experiment=digits_cnn model=cnn optimizer=sgd scheduler=one_cycle      whole groups
    reprise train experiment=digits_cnn trainer=ddp_cpu trainer.devices=2                two processes
    reprise train --multirun experiment=digits_cnn optimizer.lr=0.001,0.003              several jobs in sequence
    reprise train --evaluate experiment=digits_cnn                        train, then evaluate on the test split

    \b
    Often set:  trainer.max_epochs, trainer.batch_size, trainer.precision (auto, float32, bf16, fp16),
                trainer.patience (early stopping), trainer.gradient_clip, optimizer.lr, scheduler=cosine, seed
    Devices:    trainer=auto|cpu|gpu|ddp|ddp_cpu|fsdp|fsdp_cpu, trainer.devices, trainer.num_nodes

    Missing data is downloaded. The run directory is mlruns/runs/<run id>/. Several seeds, and the folds of window.folds=5, have a
    parent run with their mean and standard deviation; jobs of a --multirun have a parent run with the best of them.

    With --evaluate, a second process then evaluates the runs: a process that trains cannot read the test split. If the command is
    killed, even during the evaluation, run it again: it resumes the same runs from their last checkpoints.
    """
    if reproduces:
        parent_watchdog.end_with_parent()
    paths = project()
    if multirun:
        _refuse_evaluate(and_evaluate, "the jobs of --multirun are compared on val")
        jobs.multirun(paths, overrides)
        return
    config = configs.load_recorded(recorded, paths.root) if recorded else composed(paths, pipeline, overrides)
    folds = getattr(config.window, "folds", None)
    if folds and getattr(config.window, "fold", None) is None and not pipeline and not recorded:
        _refuse_evaluate(and_evaluate, f"window.folds={folds} is {folds} trainings")
        jobs.folds(paths, overrides, folds)
        return
    if and_evaluate:
        _refuse_evaluate(pipeline is not None or recorded is not None, "it is for trainings by hand")
        _train_and_evaluate(config, paths, overrides)
        return
    with heavy_imports():
        from reprise.stages import train
        from reprise.tracking import lineage

    lineage.record_code(paths.root, config.plugins)
    _explain_threads(config)
    command = f"dvc repro train@{pipeline}" if pipeline else f"reprise train {without_address(overrides)}"
    if reproduces:
        command = f"reprise reproduce {reproduces}"
    tags = {"reproduces": reproduces} if reproduces else {}
    trained = train.run(config, paths, console, command, publish=pipeline is not None, also=tags)
    if not reproduces:
        names = [one.name for one in trained]
        _suggest_after_training(config, names, (f"reprise evaluate {names[0]}", "measures it on the test split"))


def _refuse_evaluate(refused: bool, reason: str) -> None:
    if refused:
        raise UserError(f"--evaluate: {reason}", "run `reprise train` without it, then `reprise evaluate RUN`")


def _train_and_evaluate(config: configs.Config, paths: ProjectPaths, overrides: Sequence[str]) -> None:
    """Train, and evaluate the runs in another process, which is forked before the training."""
    _refuse_evaluate(config.trainer.world_size > 1 or distributed.launched(), "it takes a training on one device")
    _refuse_evaluate(sys.platform != "linux", "it needs Linux, as it forks a process")
    with heavy_imports():
        from reprise.stages import evaluate, train, train_and_evaluate  # noqa: F401 -- `evaluate` is used in the forked process
        from reprise.tracking import backend, lineage

        backend.import_store(config.tracking, paths.store)

    def train_runs(then: "Then") -> "list[Trained]":
        lineage.record_code(paths.root, config.plugins)
        _explain_threads(config)
        return train.run(config, paths, console, f"reprise train --evaluate {without_address(overrides)}", then=then)

    trained = train_and_evaluate.run(train_runs, lambda run_ids: jobs.evaluate_runs(paths, run_ids, config.tracking))
    if trained:
        _suggest_after_training(config, [one.name for one in trained])


def _explain_threads(config: configs.Config) -> None:
    """Say why a training uses fewer threads than the machine has CPUs: the weights depend on their number."""
    if config.trainer.threads is None and distributed.is_rank_zero() and (limit := cpus.limit()):
        count = cpus.per_process(config.trainer.devices)
        allowed = f"{limit} allows {cpus.available()} of {os.cpu_count()} CPUs"
        console.print(
            f"train  threads: {count}; {allowed}; the last bits of the weights depend on it", highlight=False, soft_wrap=True
        )


def _suggest_after_training(config: configs.Config, names: Sequence[str], *first: tuple[str, str]) -> None:
    steps = list(first)
    if config.data.kind == "images":
        steps.append((f"reprise predict {names[0]} PICTURES", "classifies a picture or a folder of them"))
    if config.data.kind == "series":
        steps.append((f"reprise predict {names[0]} FILE", "forecasts the steps after the last row of a file"))
    if config.data.kind == "sequences":
        steps.append((f"reprise predict {names[0]} FILE", "classifies the sequences of a .ts or CSV file"))
    if len(names) > 1:
        steps.append((f"reprise compare {config.name}", "mean and spread over seeds, beside other settings"))
    suggest(*steps, DASHBOARD)
