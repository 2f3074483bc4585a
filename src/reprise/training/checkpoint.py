"""Checkpoints: written atomically, plain containers and tensors only, never unpickled."""

import io
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO
from torch import distributed

from reprise.config import CheckpointConfig
from reprise.data import store
from reprise.errors import Stopped, UserError, warn
from reprise.tracking.weights import read_hashed, write_hashed
from reprise.training.memory import clock

MAX_CHECKPOINTS = 2
"""Number of checkpoints on disk. If the newest is damaged, training resumes from the one before."""
MAX_TIME_SHARE = 0.02
"""Share of the training time that checkpoints at epoch ends may take. After short epochs some are skipped."""
MAX_AGREEMENT_STEPS, MAX_AGREEMENT_SECONDS = 16, 1.0
"""Maximum number of steps, and seconds, between two all-reduces of the flags "write a checkpoint" and "stop"."""
BEST_SUFFIX = ".best"
"""Suffix of the hard link to the best weights at the time of a checkpoint. Its stem is that of the checkpoint."""


def _read_checkpoint(file: Path, hint: str) -> dict[str, Any]:
    stream = io.BytesIO(read_hashed(file, "checkpoint", hint))
    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception:  # torch.load fails in many ways, and its message advises weights_only=False
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{file} contains something other than a checkpoint, and was not loaded", hint)
    return content


class AtomicIO(CheckpointIO):
    """Writes checkpoints atomically. Lightning's default copies from a temporary folder: a kill can truncate the old file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, then delete all but the newest `MAX_CHECKPOINTS`."""
        file = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_hashed(file, buffer.getvalue())
        for old in _by_age(file.parent)[MAX_CHECKPOINTS:]:
            self.remove_checkpoint(old)
        for draft in file.parent.glob(".*"):  # a killed process did not remove its own
            draft.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Return the checkpoint, loaded with `weights_only=True` whatever is requested."""
        return _read_checkpoint(Path(path), "delete it")

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint with its hash and its link to the best weights."""
        for suffix in (".pt", ".sha256", BEST_SUFFIX):
            Path(path).with_suffix(suffix).unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest valid checkpoint. Delete newer ones: damaged ones with a warning, incomplete ones silently."""
    for file in _by_age(folder):
        incomplete = not file.with_suffix(".sha256").is_file()
        try:
            _read_checkpoint(file, "the previous one is used")
        except UserError as error:
            if not incomplete:
                warn(str(error))
            AtomicIO().remove_checkpoint(file)
        else:
            return file
    return None


def _by_age(folder: Path) -> list[Path]:
    """Return the checkpoints, newest first. File names are the zero-padded global step."""
    return sorted(folder.glob("[0-9]*.pt"), reverse=True)


class Checkpoints(pl.Callback):
    """Saves the full training state to `folder` at epoch ends and every `steps` steps or `minutes` minutes.

    The state includes the best weights. Training may overwrite the file `best` after a checkpoint, and a resumed training may
    compute other bits, so each checkpoint keeps a hard link to the best weights at its time.
    """

    def __init__(self, folder: Path, config: CheckpointConfig, before: Callable[[], None], best: Path) -> None:
        self.folder = folder
        self.best = best
        self.config = config
        self.before = before
        """Called before each checkpoint, to write the event log to disk first."""
        self.stop: Stopped | None = None
        self.earlier_seconds = 0.0
        """Seconds of training in earlier processes of this run."""
        self.started = self.saved = time.perf_counter()
        self.cost = 0.0
        self.last_agreement: tuple[int, float] | None = None
        """Step and time of the last all-reduce of the flags."""
        self.next_agreement = 0
        """Step from which the next all-reduce is due."""

    @property
    def seconds(self) -> float:
        """Seconds of training, summed over all processes of this run."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = self.saved = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save a checkpoint if one is due or a signal arrived. After the last batch, leave it to `on_train_epoch_end`."""
        if trainer.is_last_batch:
            return
        steps, minutes = self.config.steps, self.config.minutes
        due = steps is not None and trainer.global_step % steps == 0
        late = minutes is not None and time.perf_counter() - self.saved > 60 * minutes
        stopping = self.stop is not None
        if trainer.world_size > 1:  # clocks and signals differ between ranks, but saving is a collective operation
            reduce_now = trainer.global_step >= self.next_agreement
            late, stopping = self._any_rank(trainer, late, stopping) if reduce_now else (False, False)
        if due or late or stopping:
            self.save(trainer)
        if stopping:
            raise self.stop or Stopped(signal.SIGTERM)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save a checkpoint, unless checkpoints would then take more than `MAX_TIME_SHARE` of the training time."""
        due = time.perf_counter() - self.saved > self.cost / MAX_TIME_SHARE or self.config.steps is not None
        stopping = self.stop is not None
        if trainer.world_size > 1:
            due, stopping = self._any_rank(trainer, due, stopping)
        if due or stopping:
            self.save(trainer)
        if stopping:
            raise self.stop or Stopped(signal.SIGTERM)

    def _any_rank(self, trainer: pl.Trainer, *flags: bool) -> list[bool]:
        """Return for each flag whether any rank has set it. The slower the steps, the fewer until the next all-reduce."""
        step, now = trainer.global_step, time.perf_counter()
        previous = self.last_agreement
        seconds = (now - previous[1]) / max(1, step - previous[0]) if previous else MAX_AGREEMENT_SECONDS
        maxima = torch.tensor([*map(float, flags), seconds], dtype=torch.float32, device=trainer.strategy.root_device)
        distributed.all_reduce(maxima, op=distributed.ReduceOp.MAX)
        *reduced, slowest = maxima.tolist()  # equal on all ranks, so they all compute the same next step
        self.last_agreement = step, now
        self.next_agreement = step + max(1, min(MAX_AGREEMENT_STEPS, int(MAX_AGREEMENT_SECONDS / max(slowest, 1e-6))))
        return [bool(flag) for flag in reduced]

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint now. Must be called on every rank."""
        started = clock(trainer.strategy.root_device)
        self.before()
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:010}.pt")
        self.saved = time.perf_counter()
        self.cost = self.saved - started

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not save: `should_stop`, the seconds of training, and the sha256 of the best weights."""
        checkpoint["should_stop"] = trainer.should_stop
        checkpoint["seconds"] = self.seconds
        checkpoint["best_weights"] = self._keep_best(trainer.global_step) if trainer.is_global_zero else None

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore `should_stop`, the seconds of training and the best weights."""
        trainer.should_stop = checkpoint["should_stop"]
        self.earlier_seconds = checkpoint["seconds"]
        if trainer.is_global_zero and "best_weights" in checkpoint:
            self._restore_best(checkpoint["global_step"], checkpoint["best_weights"])

    def _keep_best(self, step: int) -> str | None:
        """Link the best weights next to the checkpoint of this step. Return their sha256, or None if there are none yet."""
        if not self.best.is_file():
            return None
        _link(self.best, store.made(self.folder) / f"{step:010}{BEST_SUFFIX}")
        return store.sha256(self.best)  # a kill may have left no hash file, or an old one

    def _restore_best(self, step: int, sha256: str | None) -> None:
        """Restore the best weights of a checkpoint if they were replaced after it was written.

        Raises:
            UserError: if they are missing or damaged.

        """
        beside = self.best.with_suffix(".sha256")
        if sha256 is None:
            self.best.unlink(missing_ok=True)
            beside.unlink(missing_ok=True)
        elif not self.best.is_file() or store.sha256(self.best) != sha256:
            kept = self.folder / f"{step:010}{BEST_SUFFIX}"
            if not kept.is_file() or store.sha256(kept) != sha256:
                raise UserError(
                    f"{kept}: the best weights of this checkpoint are missing or damaged", "start a new run with resume=false"
                )
            _link(kept, self.best)
        if sha256 is not None:  # also where the weights are right: a kill may have come before their hash was written
            store.write_atomically(beside, f"{sha256}  {self.best.name}\n".encode())

    @contextmanager
    def deferring_signals(self) -> Iterator[None]:
        """Defer SIGTERM and SIGINT until the step ends and a checkpoint is saved.

        A second signal, or a step that takes more than `grace` seconds, stops the training at once.
        """

        def defer(signum: int, _: FrameType | None) -> None:
            if self.stop is not None:
                raise self.stop
            self.stop = Stopped(signum)
            signal.setitimer(signal.ITIMER_REAL, self.config.grace)

        def stop_now(signum: int, _: FrameType | None) -> NoReturn:
            raise self.stop or Stopped(signum)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, defer) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, stop_now)
        try:
            yield
            if self.stop is not None:
                raise self.stop
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)


def _link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, atomically; a copy on file systems without hard links."""
    draft = target.with_name(f".{target.name}")
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
    draft.replace(target)
