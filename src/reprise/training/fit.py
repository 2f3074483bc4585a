"""One training: config, data and seed in, weights and history out. It knows nothing of runs, MLflow and the pipeline."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn

from reprise.config import Config, TrainerConfig
from reprise.data.augment import Augment
from reprise.data.loader import EvalLoader, TrainLoader, move_to_device
from reprise.data.windows import Windows
from reprise.errors import UserError
from reprise.models.closed_form import is_closed_form
from reprise.tasks.build import build_network, build_task
from reprise.tasks.task import Task
from reprise.tracking.run_info import WEIGHTS
from reprise.tracking.weights import load_weights, save_weights
from reprise.training.averaging import BATCH_NORMS, AveragedWeights
from reprise.training.best_weights import BestWeights
from reprise.training.checkpoint import Checkpoints
from reprise.training.closed_form import choices_of, compute, solve, stored_numbers
from reprise.training.compilation import compile_network, compiler_errors
from reprise.training.devices import threads
from reprise.training.fingerprint import FIRST_STEPS, Fingerprint, Fingerprints
from reprise.training.initial import InitialWeights, freeze, start_from
from reprise.training.learner import Learner, MetricCallback, Row
from reprise.training.memory import peak_bytes, reset_peak
from reprise.training.optimizers import make_optimizer, make_scheduler
from reprise.training.progress import EpochProgress
from reprise.training.synchronized import synchronize
from reprise.training.trainer import make_trainer

CHECKPOINTS = "checkpoints"
"""Subfolder of the checkpoints."""


@dataclass(frozen=True)
class Fitted:
    """The outcome of a training."""

    weights: Path
    """The file with the weights of the best epoch."""
    history: list[Row]
    """The metrics of each epoch that this process trained."""
    best_epoch: int
    epochs: int
    parameters: int
    seconds: float
    """Seconds of training, summed over all processes that took part one after another."""
    fingerprints: list[Fingerprint]
    """Those of the first steps; empty with several ranks."""
    nondeterministic: list[str]
    """Operations without a deterministic implementation that have run."""
    peak_memory: int
    chosen: Mapping[str, float | str] = field(default_factory=dict)
    """What a model in closed form chose on val."""


class Training:
    """A training that is ready to start: network, task, data and trainer are built.

    Raises:
        UserError: if the config names what cannot be built.

    """

    def __init__(self, config: Config, windows: Windows, initial: InitialWeights | None = None) -> None:
        self.config = config
        self.task = build_task(config, windows.meta)
        self.network = make_network(config, windows, self.task, initial)
        self.trainer = make_trainer(config.trainer, self.task)
        self.loaders = make_loaders(config, windows, self.trainer)
        self.task.fit_to_train(self.loaders[0].dataset)
        self.history: list[Row] = []

    @property
    def facts(self) -> dict[str, Any]:
        """Device, number of devices and threads, and precision."""
        return machine_facts(self.config, self.trainer)

    def broadcast(self, value: Any) -> Any:
        """Return the value of the first rank, on every rank."""
        return self.trainer.strategy.broadcast(value)

    def fit(
        self,
        folder: Path,
        checkpoint: Path | None = None,
        record: MetricCallback | None = None,
        before_checkpoint: Callable[[], None] | None = None,
        progress: Console | None = None,
    ) -> Fitted:
        """Train, and keep the weights of the best epoch and the checkpoints in `folder`.

        Args:
            folder: where weights and checkpoints are written.
            checkpoint: the checkpoint to resume from.
            record: receives the metrics of each epoch, on the first rank. It may raise `Pruned` to stop.
            before_checkpoint: called before each checkpoint.
            progress: where a progress bar is shown.

        """
        if is_closed_form(self.network):
            return self._solve(folder, record)
        best = BestWeights(folder / WEIGHTS, self.task.monitor, self.task.mode)
        saver = Checkpoints(folder / CHECKPOINTS, self.config.checkpoint, before_checkpoint or _no_op, best.file)
        fingerprints = Fingerprints(FIRST_STEPS, stop=False)
        # Fingerprints before the saver, so that a checkpoint holds the fingerprint of its own step.
        average = [AveragedWeights(self.config.trainer)] if self.config.trainer.average else []
        callbacks: list[pl.Callback] = [best, *average, *([fingerprints] if self.trainer.world_size == 1 else []), saver]
        if progress:
            callbacks.append(EpochProgress(progress, f"{self.config.name} seed {self.config.seed}", self.task.monitor))
        self.trainer.callbacks += callbacks  # type: ignore[attr-defined]
        learner = self._learner(record)
        device = self.trainer.strategy.root_device
        reset_peak(device)
        computing = self._compute()
        with saver.deferring_signals(), compiler_errors():
            self.trainer.fit(learner, *self.loaders, ckpt_path=checkpoint, weights_only=True)
        return Fitted(
            weights=best.file,
            history=self.history,
            best_epoch=best.epoch,
            epochs=self.trainer.current_epoch,
            parameters=sum(weight.numel() for weight in self.network.parameters()),
            seconds=saver.seconds + computing,
            fingerprints=fingerprints.taken,
            nondeterministic=sorted(self.trainer.nondeterministic),
            peak_memory=peak_bytes(device),
            chosen=choices_of(self.network),
        )

    def first_steps(self, steps: int) -> list[Fingerprint]:
        """Train the first steps and return the fingerprint of the weights after each. Write no files."""
        if is_closed_form(self.network):
            return solve(self.network, self.task, self.trainer, self._train_in_order(), self.loaders[1])[1]
        self._compute()
        fingerprints = Fingerprints(steps, stop=True)
        self.trainer.callbacks.append(fingerprints)  # type: ignore[attr-defined]
        with compiler_errors():
            self.trainer.fit(self._learner(None), *self.loaders)
        return fingerprints.taken

    def _solve(self, folder: Path, record: MetricCallback | None) -> Fitted:
        """Compute a model in closed form."""
        started = time.perf_counter()
        row, fingerprints = solve(self.network, self.task, self.trainer, self._train_in_order(), self.loaders[1])
        save_weights(folder / WEIGHTS, self.network.state_dict())
        self.history.append(row)
        if record:
            record(row, 1)
        return Fitted(
            weights=folder / WEIGHTS,
            history=self.history,
            best_epoch=1,
            epochs=1,
            parameters=stored_numbers(self.network),
            seconds=time.perf_counter() - started,
            fingerprints=fingerprints,
            nondeterministic=sorted(self.trainer.nondeterministic),
            peak_memory=peak_bytes(self.trainer.strategy.root_device),
            chosen=choices_of(self.network),
        )

    def _compute(self) -> float:
        """Compute the parts of the network that have a closed-form solution. Return the seconds it took.

        A resumed training computes them again, for the record of what they chose; the checkpoint replaces their weights.
        """
        started = time.perf_counter()
        compute(self.network, self.trainer, self._train_in_order(), self.loaders[1])
        return time.perf_counter() - started

    def _train_in_order(self) -> EvalLoader:
        return EvalLoader(self.loaders[0].dataset, self.config.trainer.eval_batch_size, self.trainer.strategy.root_device)

    def _learner(self, record: MetricCallback | None) -> Learner:
        def record_epoch(metrics: Row, step: int) -> None:
            self.history.append(metrics)
            if record:
                record(metrics, step)

        if self.config.trainer.compile:
            compile_network(self.network)
        return Learner(
            self.network,
            self.task,
            partial(make_optimizer, self.config),
            partial(make_scheduler, self.config),
            self.config.seed,
            record_epoch,
        )


def fit(config: Config, windows: Windows, initial: InitialWeights | None = None) -> tuple[dict[str, Tensor], list[Row]]:
    """Return the weights of the best epoch and the metrics of each epoch.

    They are a function of config (with its seed), data and initial weights alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        fitted = Training(config, windows, initial).fit(Path(folder))
        return load_weights(fitted.weights), fitted.history


def first_steps(
    config: Config, windows: Windows, steps: int, streamed: bool, initial: InitialWeights | None = None
) -> list[Fingerprint]:
    """Train the first steps and return the fingerprint of the weights after each. Write no files."""
    trainer = config.trainer.model_copy(update={"preload_to_device": not streamed, "patience": None, "progress": False})
    return Training(config.model_copy(update={"trainer": trainer}), windows, initial).first_steps(steps)


def preflight(config: Config, windows: Windows, initial: InitialWeights | None = None) -> None:
    """Build network, task, optimizer and schedule once. Raise UserError for what cannot be built."""
    network = make_network(config, windows, build_task(config, windows.meta), initial)
    if is_closed_form(network):
        average, parts = config.trainer.average, config.trainer.accumulate
        settings = {f"average={average}": average, f"accumulate={parts}": parts > 1, "compile=true": config.trainer.compile}
        if setting := next((name for name, is_set in settings.items() if is_set), None):
            message = f"trainer.{setting}: {type(network).__name__} is computed in closed form, without steps"
            raise UserError(message, "omit it")
    else:
        _check_parts(config.trainer, network)
        make_scheduler(config, make_optimizer(config, network), 100)


def _check_parts(config: TrainerConfig, network: nn.Module) -> None:
    """Raise UserError if batch norm would have to compute its statistics from parts of one sample."""
    samples = config.batch_size // config.world_size
    alone = config.accumulate > 1 and samples // config.accumulate == 1
    if alone and any(isinstance(module, BATCH_NORMS) for module in network.modules()):
        what = f"trainer.accumulate={config.accumulate}: batch norm cannot compute its statistics from parts of one sample"
        raise UserError(what, f"use at most {samples // 2}")


def make_network(config: Config, windows: Windows, task: Task, initial: InitialWeights | None) -> nn.Module:
    """Return the network with its initial weights, random or those of another run, and with frozen layers."""
    network = build_network(config, windows.meta, task)
    if initial:
        freeze(network, config.freeze, new=start_from(network, initial, windows.meta.labels()))
    return synchronize(network, config.trainer) if config.trainer.sync_batch_norm else network


def machine_facts(config: Config, trainer: pl.Trainer) -> dict[str, Any]:
    """Return device, number of devices and threads, and precision of a training."""
    device = trainer.strategy.root_device
    facts = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "devices": trainer.world_size,
        "threads": threads(config.trainer),
        "precision": trainer.precision,
        "deterministic": config.trainer.deterministic,
    }
    return facts | ({"tf32": torch.backends.cudnn.allow_tf32} if device.type == "cuda" else {})


def make_loaders(config: Config, windows: Windows, trainer: pl.Trainer) -> tuple[TrainLoader, EvalLoader]:
    """Return the loaders of train and val for this rank."""
    device, rank = trainer.strategy.root_device, (trainer.global_rank, trainer.world_size)
    train, val = (move_to_device(split, device, config.trainer.preload_to_device) for split in windows.learning())
    augment = None if config.augment.is_identity else Augment(config.augment, config.seed)
    return (
        TrainLoader(train, config.trainer.batch_size, config.seed, device, *rank, augment),
        EvalLoader(val, config.trainer.eval_batch_size, device, *rank),
    )


def _no_op() -> None:
    """Do nothing before a checkpoint."""
