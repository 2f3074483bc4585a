"""train: one run per seed; keeps the weights of the best epoch on val. Never opens the test split."""

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock
from rich.console import Console

from reprise import parent_watchdog
from reprise.config import Config, build
from reprise.data import store
from reprise.data.augment import Augment
from reprise.data.datasets import Windows, lock_test_split, open_windows
from reprise.data.loader import EvalLoader, TrainLoader, move_to_device
from reprise.distributed import is_first, launched
from reprise.errors import Pruned
from reprise.project_paths import ProjectPaths
from reprise.stages import freshness, window
from reprise.stages.trained import (
    FINGERPRINTS,
    TRAINING,
    Trained,
    describe,
    fingerprints_file,
    history_file,
    record_runs,
    this_machine,
    weights_file,
)
from reprise.tracking import certificates, dvc_files, event_log, groups, lineage, recovery, resume
from reprise.tracking import run as tracking
from reprise.tracking.address import address
from reprise.training.checkpoint import WEIGHTS, BestWeights, Checkpoints, load_weights, newest_checkpoint, save_weights
from reprise.training.fingerprint import FIRST_STEPS, Fingerprint, Fingerprints
from reprise.training.learner import SPEED, Learner, MetricCallback
from reprise.training.memory import peak_bytes, reset_peak
from reprise.training.predictor import Predictor, description
from reprise.training.progress import EpochProgress
from reprise.training.tasks import Task, facts
from reprise.training.trainer import leave_process_group, make_trainer, relaunch, threads

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints in a run directory."""
NONDETERMINISTIC = "nondeterministic"
"""Tag: the operations of a training that have no deterministic implementation."""
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
) -> list[Trained]:
    """Train every seed and return the outcome of each.

    With `publish` (the pipeline), write weights, training.json and history to data/models/<experiment>/; otherwise do not touch
    the outputs of the pipeline. `command` is shown on the dashboard as the way to repeat the run; `also` are further tags.
    `watch` receives the metrics of each epoch and may stop the training by raising `Pruned`. A run on several devices of this
    machine starts its own processes.
    """
    address(config.tracking, paths.store)  # reject a malformed address before anything is fetched or computed
    with FileLock(store.made(paths.store) / "prepare.lock"):  # ranks or trials on one machine prepare the data once
        remake = watch is None and not publish  # a sweep keeps the data it started with; DVC has checked the pipeline's
        windows = prepare(config, paths, console, remake, in_pipeline=publish)
    lock_test_split()
    _preflight(config, windows)
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
        training = None
        if is_first():
            key, patience = scope(config, windows, publish), PIPELINE_PATIENCE if publish else PATIENCE
            training = stack.enter_context(resume.hold(paths.store, key, patience))
            _recover_stale_runs(training, config, paths, console)
        try:
            trained = _train_seeds(config, windows, paths, console, tags, training, watch)
        except Pruned:
            if training:
                _forget(training, paths)
            raise
        if training:
            if publish:
                _publish(config, trained, paths)
            _forget(training, paths)
    leave_process_group()
    return trained


def _train_seeds(
    config: Config,
    windows: Windows,
    paths: ProjectPaths,
    console: Console,
    tags: dict[str, Any],
    training: resume.Training | None,
    watch: MetricCallback | None,
) -> list[Trained]:
    """Train one run per seed. Several runs get a parent run, which logs their mean."""
    with contextlib.ExitStack() as stack:
        if training and len(config.every_seed) > 1:
            tags = stack.enter_context(groups.of_seeds(config, paths.store, training, tags))
        return [
            train_one(config.model_copy(update={"seed": seed, "seeds": 1}), windows, paths, console, tags, training, watch)
            for seed in config.every_seed
        ]


def _forget(training: resume.Training, paths: ProjectPaths) -> None:
    """Delete the resume state of a training and its checkpoints."""
    run_dirs = [paths.run_dir(entry["run_id"]) for entry in training.runs.values() if "run_id" in entry]
    training.forget()
    for run_dir in run_dirs:
        shutil.rmtree(run_dir / CHECKPOINTS, ignore_errors=True)


def scope(config: Config, windows: Windows, *also: Any) -> str:
    """Return a hash of everything that decides the bits of the weights. Together with `publish` it is the key of a training."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = [lineage.processor(), gpu, threads(config.trainer), lineage.versions()]
    inputs = [store.digest(windows.arrays), store.digest(windows.folder)]
    return resume.key_of(tracking.recorded(config), inputs, lineage.learning_code(tuple(config.plugins)), machine, *also)


def first_steps(config: Config, windows: Windows, steps: int, streamed: bool) -> list[Fingerprint]:
    """Train the first steps and return the fingerprint of the weights after each. Writes no files."""
    network, task = build_parts(config, windows)
    fingerprints = Fingerprints(steps, stop=True)
    changes = {"preload_to_device": not streamed, "patience": None}
    trainer = make_trainer(config.trainer.model_copy(update=changes), task, [fingerprints])
    changed = config.model_copy(update={"trainer": config.trainer.model_copy(update=changes)})
    trainer.fit(_learner(config, network, task, _discard_metrics), *_loaders(changed, windows, trainer))
    return fingerprints.taken


def _recover_stale_runs(training: resume.Training, config: Config, paths: ProjectPaths, console: Console) -> None:
    """Mark runs of dead processes as FAILED and sync event logs that were not delivered.

    With `resume=false`, interrupted runs of this training are marked as FAILED as well.
    """
    abandoned = []
    if not config.resume:
        abandoned = recovery.close_all(paths.store, [entry["run_id"] for entry in training.runs.values() if "run_id" in entry])
        training.forget()
    resumable = {entry["run_id"] for entry in training.runs.values() if "run_id" in entry}
    for name in [*abandoned, *recovery.close_stale_runs(paths.store, config.tracking, resumable)]:
        console.print(f"train  {name}: its process had died; closed as FAILED", highlight=False, soft_wrap=True)
    for name in recovery.sync_waiting_runs(paths.store, config.tracking)[0]:
        console.print(f"sync  {name}: delivered", highlight=False, soft_wrap=True)


def prepare(config: Config, paths: ProjectPaths, console: Console, remake: bool = True, in_pipeline: bool = False) -> Windows:
    """Return the windows for this config: those of the pipeline if they match, otherwise windows computed for it.

    Missing data is fetched. With `remake`, arrays whose sources changed are recomputed; otherwise they raise an error. With
    `in_pipeline`, DVC has just made or checked the windows of the pipeline.
    """
    arrays = freshness.arrays(config.data, paths, console, remake)
    folder = paths.windows(config.name) if in_pipeline else window.folder_for(config, paths)
    if not window.are_for(folder, config, arrays):
        window.run(config, paths, console, folder)
    return open_windows(folder, arrays)


def build_parts(config: Config, windows: Windows) -> tuple[torch.nn.Module, Task]:
    """Return the network, initialised from the seed, and the task."""
    task: Task = build(config.task, "task", config.plugins, meta=windows.meta)
    torch.manual_seed(config.seed)
    network: torch.nn.Module = build(config.model, "model", config.plugins, input_shape=windows.input_shape, outputs=task.outputs)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, task


def _preflight(config: Config, windows: Windows) -> None:
    """Build network, task, optimizer and scheduler once, so that config errors appear before a run is opened."""
    network, task = build_parts(config, windows)
    learner = _learner(config, network, task, _discard_metrics)
    learner.make_scheduler(learner.make_optimizer(network.parameters()), 100)


def train_one(
    config: Config,
    windows: Windows,
    paths: ProjectPaths,
    console: Console,
    tags: dict[str, Any],
    training: resume.Training | None,
    watch: MetricCallback | None = None,
) -> Trained:
    """Train one seed in one MLflow run; resume from the newest checkpoint if `training` was interrupted before.

    The run directory then holds best.safetensors, events.jsonl, config.json, run.json and trained.json. `training` is None on
    every rank but the first.
    """
    network, task = build_parts(config, windows)
    trainer = make_trainer(config.trainer, task)
    loaders = _loaders(config, windows, trainer)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(_open_run(config, windows, paths, trainer, tags, training)) if training else None
        run_dir = paths.run_dir(trainer.strategy.broadcast(run.id if run else ""))
        best = BestWeights(run_dir / WEIGHTS, task.monitor, task.mode)
        saver = Checkpoints(run_dir / CHECKPOINTS, config.checkpoint, run.event_log.sync if run else _no_op, best.file)
        fingerprints = Fingerprints(FIRST_STEPS, stop=False)
        trainer.callbacks += [best, saver, *([fingerprints] if trainer.world_size == 1 else [])]  # type: ignore[attr-defined]
        if config.trainer.progress and run:
            trainer.callbacks.append(EpochProgress(console, f"{config.name} seed {config.seed}", task.monitor))  # type: ignore[attr-defined]
        checkpoint = trainer.strategy.broadcast(newest_checkpoint(saver.folder) if run else None)
        if run and checkpoint:
            console.print(f"train  {run.name}: goes on after step {int(checkpoint.stem):,}", highlight=False, soft_wrap=True)
        learner = _learner(config, network, task, _both(run.log, watch or _discard_metrics) if run else _discard_metrics)
        reset_peak(trainer.strategy.root_device)
        parent_watchdog.allow(config.checkpoint.patience)
        with saver.deferring_signals():
            trainer.fit(learner, *loaders, ckpt_path=checkpoint, weights_only=True)
        trained = Trained(
            run_id=run_dir.name,
            name=run.name if run else "",
            seed=config.seed,
            best_epoch=best.epoch,
            epochs=trainer.current_epoch,
            parameters=sum(weight.numel() for weight in network.parameters()),
            train_seconds=round(saver.seconds, 3),
            windows=str(windows.folder.relative_to(paths.root)),
            splits=windows.digest,
        )
        if run:
            run.tag({"peak_memory": peak_bytes(trainer.strategy.root_device)})  # before the model export, which uses more
            store.write_json(run.run_dir / FINGERPRINTS, fingerprints.taken)
            if trainer.nondeterministic:
                run.tag({NONDETERMINISTIC: ", ".join(sorted(trainer.nondeterministic))})
            _finalize_run(run, trained, config, windows, task)
            summary = f"best epoch {trained.best_epoch} of {trained.epochs}, {trained.train_seconds:.1f} s"
            console.print(f"train  {trained.name}: {summary}", highlight=False, soft_wrap=True)
        return trained


def _loaders(config: Config, windows: Windows, trainer: pl.Trainer) -> tuple[TrainLoader, EvalLoader]:
    device, rank = trainer.strategy.root_device, (trainer.global_rank, trainer.world_size)
    train, val = (move_to_device(split, device, config.trainer.preload_to_device) for split in windows.learning())
    augment = None if config.augment.does_nothing else Augment(config.augment, config.seed)
    return (
        TrainLoader(train, config.trainer.batch_size, config.seed, device, *rank, augment),
        EvalLoader(val, config.trainer.eval_batch_size, device, *rank),
    )


def _open_run(
    config: Config,
    windows: Windows,
    paths: ProjectPaths,
    trainer: pl.Trainer,
    tags: dict[str, Any],
    training: resume.Training,
) -> contextlib.AbstractContextManager[tracking.Run]:
    device = trainer.strategy.root_device
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "devices": trainer.world_size,
        "threads": threads(config.trainer),
        "precision": trainer.precision,
        "deterministic": config.trainer.deterministic,
        "sha256.splits": windows.digest,
        "sha256.val": windows.samples("val"),
        "sha256.test": windows.samples("test"),
    }
    if device.type == "cuda":
        facts["tf32"] = torch.backends.cudnn.allow_tf32
    inputs = {"processed": windows.arrays, "windows": windows.folder}
    tags = tags | certificates.tags(paths.store, scope(config, windows))
    return tracking.started(config, paths.store, training, tags | facts, inputs, paths.root)


def _learner(config: Config, network: torch.nn.Module, task: Task, record: MetricCallback) -> Learner:
    def optimizer(weights: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return build(config.optimizer, "optimizer", config.plugins, weights)  # type: ignore[no-any-return]

    def scheduler(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        return build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=steps)  # type: ignore[no-any-return]

    return Learner(network, task, optimizer, scheduler, config.seed, record)


def _finalize_run(run: tracking.Run, trained: Trained, config: Config, windows: Windows, task: Task) -> None:
    """Log the outcome of a training and, with `tracking.log_model`, the predictor; write trained.json."""
    weights = load_weights(run.run_dir / WEIGHTS)
    outcome = {key: getattr(trained, key) for key in ("best_epoch", "parameters", "train_seconds")}
    run.tag({**outcome, "sha256.weights": store.sha256(run.run_dir / WEIGHTS)})
    run.keep(WEIGHTS)
    tracking.log_results(run, config, facts(task))
    if config.tracking.log_model:
        network: torch.nn.Module = build(
            config.model, "model", config.plugins, input_shape=windows.input_shape, outputs=task.outputs
        )
        network.load_state_dict(weights)
        predictor = Predictor(network, task, windows.meta["statistics"], windows.dtype)
        val = windows.val()
        example = val.raw(torch.arange(2) % len(val))  # two samples, also of a split of one
        with torch.inference_mode():
            prediction = predictor(example)
        run.model(predictor, example.numpy(), prediction.numpy(), description(windows.meta))
    store.write_atomically(run.run_dir / "trained.json", json.dumps(asdict(trained), indent=2).encode())


def _publish(config: Config, trained: list[Trained], paths: ProjectPaths) -> None:
    """Write data/models/<experiment>/: only files that any training of this config on this kind of machine reproduces exactly."""
    with store.publish(paths.models(config.name)) as draft:
        entries, machine = [], this_machine(config.trainer)
        for one in trained:
            run_dir = paths.run_dir(one.run_id)
            weights = weights_file(draft, one.seed)
            save_weights(weights, load_weights(run_dir / WEIGHTS))
            history_file(draft, one.seed).write_text(_repeatable(run_dir / event_log.FILE))
            entries.append(describe(one, weights, machine))
            shutil.copy(run_dir / FINGERPRINTS, fingerprints_file(draft, one.seed))
        store.write_json(draft / "config.json", tracking.recorded(config))
        store.write_json(draft / TRAINING, entries)
    record_runs(paths, config.name, trained)


def _repeatable(file: Path) -> str:
    """Return the training and validation metrics of an event log as JSON lines, without durations, which differ between runs."""
    points = [
        {"key": key, "value": value, "step": step}
        for key, history in event_log.read_history(file).items()
        if key not in SPEED and key.startswith(("train/", "val/"))
        for step, value in history
    ]
    return "".join(json.dumps(point) + "\n" for point in points)


def _both(first: MetricCallback, second: MetricCallback) -> MetricCallback:
    def record(metrics: dict[str, float], step: int) -> None:
        first(metrics, step)
        second(metrics, step)

    return record


def _no_op() -> None:
    """Stand in for the sync of the event log on ranks other than the first."""


def _discard_metrics(metrics: dict[str, float], step: int) -> None:
    """Stand in for the logger on ranks other than the first."""
