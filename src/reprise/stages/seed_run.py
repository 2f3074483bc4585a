"""The training of one seed in one MLflow run: open the run, train, log the outcome."""

import contextlib
import re
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reprise import parent_watchdog
from reprise.config import Config
from reprise.data import store
from reprise.data.modality import tensors_of
from reprise.data.windows import Windows
from reprise.inference import intervals, logged
from reprise.inference.predictor import Predictor
from reprise.project_paths import ProjectPaths
from reprise.stages import initial_weights, verdict
from reprise.stages.published import FINGERPRINTS
from reprise.stages.run_key import run_key
from reprise.tasks.task import Task
from reprise.tracking import certificates, resume
from reprise.tracking import run as tracking
from reprise.tracking.trained import INTERVALS, OUTCOME, Trained
from reprise.training.checkpoint import newest_checkpoint
from reprise.training.fit import CHECKPOINTS, Fitted, Training
from reprise.training.initial import InitialWeights
from reprise.training.learner import MetricCallback, Row

NONDETERMINISTIC = "nondeterministic"
"""Tag: the operations of a training that have no deterministic implementation."""


def train_seed(
    config: Config,
    windows: Windows,
    initial: InitialWeights | None,
    paths: ProjectPaths,
    console: Console,
    tags: dict[str, Any],
    state: resume.Training | None,
    watch: MetricCallback | None = None,
) -> Trained:
    """Train one seed in one MLflow run; resume from the newest checkpoint if `state` was interrupted before.

    The run directory then holds best.safetensors, events.jsonl, config.json, run.json, trained.json and, of a forecast,
    intervals.json. `state` is None on every rank but the first.
    """
    training = Training(config, windows, initial)
    tags = tags | initial_weights.tags(initial)
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(open_run(config, windows, paths, tags | training.facts, state)) if state else None
        run_dir = paths.run_dir(training.broadcast(run.id if run else ""))
        checkpoint = training.broadcast(newest_checkpoint(run_dir / CHECKPOINTS) if run else None)
        if run and checkpoint:
            console.print(f"train  {run.name}: resumes after step {int(checkpoint.stem):,}", highlight=False, soft_wrap=True)
        if run and initial and not checkpoint:
            initial_weights.record(initial, run)
        parent_watchdog.allow(config.checkpoint.patience)
        fitted = training.fit(
            run_dir,
            checkpoint,
            record=_record_in(run, watch) if run else None,
            before_checkpoint=run.event_log.fsync if run else None,
            progress=console if run and config.trainer.progress else None,
        )
        trained = outcome_of(fitted, config, windows, run_dir, run.name if run else "", paths)
        if run:
            comparison = finalize_run(run, trained, fitted, config, windows, training.task)
            summary = f"best epoch {trained.best_epoch} of {trained.epochs}, {trained.train_seconds:.1f} s"
            for line in (summary, *comparison):
                console.print(f"train  {trained.name}: {line}", highlight=False, markup=False, soft_wrap=True)
        return trained


def _record_in(run: tracking.Run, watch: MetricCallback | None) -> MetricCallback:
    def record(metrics: Row, step: int) -> None:
        run.log(metrics, step)
        if watch:
            watch(metrics, step)

    return record


def open_run(
    config: Config,
    windows: Windows,
    paths: ProjectPaths,
    tags: dict[str, Any],
    state: resume.Training,
) -> contextlib.AbstractContextManager[tracking.Run]:
    """Open the run of a training: see `tracking.open_training_run`."""
    facts = {
        "sha256.splits": windows.digest,
        "sha256.val": windows.samples("val"),
        "sha256.test": windows.samples("test"),
        **certificates.tags(paths.store, run_key(config, windows)),
    }
    inputs = {"processed": windows.arrays, "windows": windows.folder}
    return tracking.open_training_run(config, paths.store, state, tags | facts, inputs, paths.root)


def outcome_of(fitted: Fitted, config: Config, windows: Windows, run_dir: Path, name: str, paths: ProjectPaths) -> Trained:
    """Return the outcome of a training."""
    return Trained(
        run_id=run_dir.name,
        name=name,
        seed=config.seed,
        best_epoch=fitted.best_epoch,
        epochs=fitted.epochs,
        parameters=fitted.parameters,
        train_seconds=round(fitted.seconds, 3),
        windows=str(windows.folder.relative_to(paths.root)),
        splits=windows.digest,
    )


def finalize_run(run: tracking.Run, trained: Trained, fitted: Fitted, config: Config, windows: Windows, task: Task) -> list[str]:
    """Log the outcome of a training and, with `tracking.log_model`, the predictor; write intervals.json and trained.json.

    Return the comparison of a forecast with the baselines on val.
    """
    outcome = {key: getattr(trained, key) for key in ("best_epoch", "parameters", "train_seconds")}
    run.tag({**outcome, "sha256.weights": store.sha256(fitted.weights), "peak_memory": fitted.peak_memory})
    if fitted.chosen:
        run.tag({f"chosen.{tag_name(name)}": value for name, value in fitted.chosen.items()})
    if fitted.nondeterministic:
        run.tag({NONDETERMINISTIC: ", ".join(fitted.nondeterministic)})
    store.write_json(run.run_dir / FINGERPRINTS, fitted.fingerprints)
    run.log_artifact(fitted.weights.name)
    tracking.log_results(run, config, task.facts())
    predictor = Predictor.from_weights(config, windows.meta, fitted.weights, trained.name)
    if calibrated := intervals.calibrate(predictor, windows, config.trainer.eval_batch_size):
        intervals.write(calibrated, run.run_dir / INTERVALS)
    if config.tracking.log_model:
        _log_model(run, predictor, windows, config, calibrated)
    comparison = verdict.on_val(predictor, windows, config.trainer.eval_batch_size)
    store.write_atomically(run.run_dir / OUTCOME, trained.model_dump_json(indent=2).encode())
    return comparison


def tag_name(text: str) -> str:
    """Return a text without the characters that MLflow refuses in the name of a tag."""
    return re.sub(r"[^A-Za-z0-9_. :/-]", "", text)


def _log_model(
    run: tracking.Run, predictor: Predictor, windows: Windows, config: Config, calibrated: intervals.Intervals | None
) -> None:
    """Log the predictor with two samples of val, or twice the same of a split of one."""
    val = windows.val()
    example = val.raw(torch.arange(2) % len(val))
    with torch.inference_mode():
        prediction = predictor(*example)
    named = {name: part.numpy() for name, part in zip(predictor.transform.raw_inputs, example, strict=True)}
    described = tensors_of(windows.meta.kind).describe_inputs(windows.meta)
    reading = logged.reading_of(config, windows.meta, calibrated)
    run.log_model(predictor, named, prediction.numpy(), described, reading, logged.bounds_of(predictor))
