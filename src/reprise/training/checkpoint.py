"""Weights (safetensors) and checkpoints on disk: written atomically, plain containers and tensors only, never unpickled."""

import hashlib
import io
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytorch_lightning as pl
import safetensors.torch
import torch
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, distributed

from reprise.config import CheckpointConfig
from reprise.data import store
from reprise.errors import Stopped, UserError, warn
from reprise.training.learner import Learner
from reprise.training.memory import clock

WEIGHTS = "best.safetensors"
"""The weights of the best epoch, in a run directory."""
KEPT = 2
"""Checkpoints: should the newest be damaged, there is the one before."""
SHARE = 0.02
"""Of a training's time, what checkpoints at the ends of epochs may take: after short epochs some are left out."""
AGREE_EVERY, AGREE_SECONDS = 16, 1.0
"""Most steps, and seconds, between two questions to the other ranks, whether to write a checkpoint or to stop."""
BEST = ".best"
"""Suffix of the best weights as they were when a checkpoint was written: a link beside it, of its name."""


def save_weights(file: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors by name as safetensors, atomically, with their sha256 beside them. Equal tensors give equal bytes.

    Each tensor is copied: safetensors refuses tensors that share memory, as tied weights do.
    """
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    _write(file, safetensors.torch.save(copies))


def load_weights(file: Path) -> dict[str, Tensor]:
    """Read what `save_weights` wrote.

    Raises:
        UserError: when the file is missing, is not what was written, or holds anything but tensors by name.

    """
    content = _read(file, "weights", "train again")
    try:
        return safetensors.torch.load(content)
    except Exception:  # damaged files fail in many ways: SafetensorError, KeyError of an unknown dtype, RuntimeError of a shape
        raise UserError(f"{file} holds something else than weights, and was not run", "train again") from None


def _write(file: Path, content: bytes) -> None:
    store.write_atomically(file, content)
    store.write_atomically(file.with_suffix(".sha256"), f"{store.sha256(file)}  {file.name}\n".encode())


def _read(file: Path, kind: str, hint: str) -> bytes:
    """Return a file's bytes, checked against the sha256 beside it."""
    beside = file.with_suffix(".sha256")
    if not file.is_file() or not beside.is_file():
        raise UserError(f"no {kind} {file}", "train first")
    content = file.read_bytes()
    if beside.read_bytes().split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
        raise UserError(f"{file} is not what was written (sha256 differs)", hint)
    return content


def _read_checkpoint(file: Path, hint: str) -> dict[str, Any]:
    stream = io.BytesIO(_read(file, "checkpoint", hint))
    try:
        content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception:  # torch.load fails in many ways, and its message advises weights_only=False
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{file} holds something else than checkpoint, and was not run", hint)
    return content


class AtomicIO(CheckpointIO):
    """Checkpoints written as weights are. Lightning's own go through the temporary folder, where a kill truncates the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, then delete all but the newest two."""
        file = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        _write(file, buffer.getvalue())
        for old in _by_age(file.parent)[KEPT:]:
            self.remove_checkpoint(old)
        for draft in file.parent.glob(".*"):  # of a process that was killed
            draft.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint, never unpickling anything."""
        return _read_checkpoint(Path(path), "delete it")

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint, the hash and the best weights beside it."""
        for suffix in (".pt", ".sha256", BEST):
            Path(path).with_suffix(suffix).unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is sound. Newer ones are deleted: damaged ones (named), and what a kill left half done."""
    for file in _by_age(folder):
        half_done = not file.with_suffix(".sha256").is_file()
        try:
            _read_checkpoint(file, "the one before is taken")
        except UserError as error:
            if not half_done:
                warn(str(error))
            AtomicIO().remove_checkpoint(file)
        else:
            return file
    return None


def _by_age(folder: Path) -> list[Path]:
    """Checkpoints, the newest first: they are named by the steps done."""
    return sorted(folder.glob("[0-9]*.pt"), reverse=True)


class Checkpoints(pl.Callback):
    """Saves the whole state of a training into `folder`, at the ends of epochs and every so many steps or minutes.

    The best weights are part of that state. They lie in `best`, which the training goes on replacing after a checkpoint, so each
    checkpoint keeps a link to those of its time: a resumed training need not come to the same bits.
    """

    def __init__(self, folder: Path, wanted: CheckpointConfig, before: Callable[[], None], best: Path) -> None:
        self.folder = folder
        self.best = best
        self.wanted = wanted
        self.before = before
        """Called before each: what belongs to the run so far has to be on disk by then."""
        self.stop: Stopped | None = None
        self.earlier = 0.0
        """Seconds that processes which are no more have trained."""
        self.began = self.saved = time.perf_counter()
        self.cost = 0.0
        self.asked: tuple[int, float] | None = None
        """At which step and second the ranks last agreed."""
        self.ask_at = 0
        """The step after which they do so again."""

    @property
    def seconds(self) -> float:
        """Of training, over all processes that took part one after the other."""
        return self.earlier + time.perf_counter() - self.began

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The clock starts."""
        self.began = self.saved = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """A checkpoint if one is due, or asked for by a signal. After the last batch validation comes first."""
        if trainer.is_last_batch:
            return
        steps, minutes = self.wanted.steps, self.wanted.minutes
        due = steps is not None and trainer.global_step % steps == 0
        late = minutes is not None and time.perf_counter() - self.saved > 60 * minutes
        stopping = self.stop is not None
        if trainer.world_size > 1:  # clocks and signals differ, and all ranks take part in a checkpoint
            asked = trainer.global_step >= self.ask_at
            late, stopping = self._agree(trainer, late, stopping) if asked else (False, False)
        if due or late or stopping:
            self.save(trainer)
        if stopping:
            raise self.stop or Stopped(signal.SIGTERM)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A checkpoint, unless the last one was so short a time ago that they would cost more than their share."""
        wanted = time.perf_counter() - self.saved > self.cost / SHARE or self.wanted.steps is not None
        stopping = self.stop is not None
        if trainer.world_size > 1:
            wanted, stopping = self._agree(trainer, wanted, stopping)
        if wanted or stopping:
            self.save(trainer)
        if stopping:
            raise self.stop or Stopped(signal.SIGTERM)

    def _agree(self, trainer: pl.Trainer, *flags: bool) -> list[bool]:
        """Whether each flag is set on any rank. The slower the steps, the sooner the next question."""
        step, now = trainer.global_step, time.perf_counter()
        seconds = (now - self.asked[1]) / max(1, step - self.asked[0]) if self.asked else AGREE_SECONDS
        most = torch.tensor([*map(float, flags), seconds], dtype=torch.float32, device=trainer.strategy.root_device)
        distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        *answers, slowest = most.tolist()  # the same on all ranks, and so is the step of the next question
        self.asked = step, now
        self.ask_at = step + max(1, min(AGREE_EVERY, int(AGREE_SECONDS / max(slowest, 1e-6))))
        return [bool(answer) for answer in answers]

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint now; every rank takes part."""
        began = clock(trainer.strategy.root_device)
        self.before()
        trainer.save_checkpoint(self.folder / f"{trainer.global_step:010}.pt")
        self.saved = time.perf_counter()
        self.cost = self.saved - began

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """What Lightning leaves out: that training was to stop early, how long it took, and the best weights."""
        checkpoint["should_stop"] = trainer.should_stop
        checkpoint["seconds"] = self.seconds
        checkpoint["best_weights"] = self._keep_best(trainer.global_step) if trainer.is_global_zero else None

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        trainer.should_stop = checkpoint["should_stop"]
        self.earlier = checkpoint["seconds"]
        if trainer.is_global_zero and "best_weights" in checkpoint:
            self._restore_best(checkpoint["global_step"], checkpoint["best_weights"])

    def _keep_best(self, step: int) -> str | None:
        """Link the best weights beside the checkpoint of this step; their sha256, None where there are none yet."""
        if not self.best.is_file():
            return None
        _link(self.best, store.made(self.folder) / f"{step:010}{BEST}")
        return self.best.with_suffix(".sha256").read_text().split()[0]

    def _restore_best(self, step: int, sha256: str | None) -> None:
        """Bring back the best weights of a checkpoint, where the process that wrote it came to others afterwards.

        Raises:
            UserError: when they are damaged.

        """
        beside = self.best.with_suffix(".sha256")
        if sha256 is None:
            self.best.unlink(missing_ok=True)
            beside.unlink(missing_ok=True)
        elif not self.best.is_file() or store.sha256(self.best) != sha256:
            kept = self.folder / f"{step:010}{BEST}"
            if not kept.is_file() or store.sha256(kept) != sha256:
                raise UserError(f"{kept}: the best weights of this checkpoint are missing or damaged", "begin anew: resume=false")
            _link(kept, self.best)
            store.write_atomically(beside, f"{sha256}  {self.best.name}\n".encode())

    @contextmanager
    def deferring_signals(self) -> Iterator[None]:
        """Within the block, SIGTERM and Ctrl-C wait for the end of a step and a checkpoint; a second one does not."""

        def take(signum: int, _: FrameType | None) -> None:
            if self.stop is not None:
                raise self.stop
            self.stop = Stopped(signum)
            signal.setitimer(signal.ITIMER_REAL, self.wanted.grace)

        def give_up(signum: int, _: FrameType | None) -> NoReturn:
            raise self.stop or Stopped(signum)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, take) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, give_up)
        try:
            yield
            if self.stop is not None:
                raise self.stop
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, atomically; a copy on file systems without links."""
    draft = target.with_name(f".{target.name}")
    draft.unlink(missing_ok=True)
    try:
        os.link(source, draft)
    except OSError:
        shutil.copyfile(source, draft)
    draft.replace(target)


class BestWeights(pl.Callback):
    """Keeps the network's weights of the best epoch by a validation metric, in `file`.

    Of epochs that are equal by the metric, the one of the smaller validation loss is kept; of those, the later one.
    """

    def __init__(self, file: Path, monitor: str, mode: str) -> None:
        self.file = file
        self.monitor = f"val/{monitor}"
        self.sign = 1 if mode == "max" else -1
        self.best = (-math.inf, -math.inf)
        """The metric and the loss of the best epoch, each with the sign by which more is better."""
        self.epoch = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights, unless those of an earlier epoch are better."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        assert isinstance(pl_module, Learner)
        row = pl_module.row  # Lightning's own `callback_metrics` are rounded to float32
        found = self.sign * row[self.monitor], -row["val/loss"]
        if not math.isfinite(found[0]) or found < self.best:
            return
        self.best, self.epoch = found, trainer.current_epoch + 1
        state = trainer.strategy.lightning_module_state_dict()  # every rank: sharded weights are gathered here
        if trainer.is_global_zero:
            network = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
            save_weights(self.file, network)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": list(self.best), "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        metric, loss = state_dict["best"]
        self.best, self.epoch = (metric, loss), state_dict["epoch"]
