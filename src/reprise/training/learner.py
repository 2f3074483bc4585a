"""The one LightningModule: it serves every model and every task."""

import io
import math
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, Protocol, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from reprise.data.datasets import Batch
from reprise.errors import UserError
from reprise.training import randomness
from reprise.training.memory import clock
from reprise.training.metrics import Metrics
from reprise.training.sharding import FullySharded
from reprise.training.tasks import Task

Row = dict[str, float]
SPEED = ("train/seconds", "train/samples_per_second")
"""The metrics that are others when a run is run again."""
Keep = Callable[[Tensor, Tensor, int], Tensor]
"""Predictions and targets of a batch, and the number of the batch in the split, to what is kept of them `[rows, …]`."""


class MetricCallback(Protocol):
    """Takes the metrics of an epoch, `train/…` and `val/…`, and the number of epochs done."""

    def __call__(self, metrics: Row, step: int) -> None:
        """Take them."""
        ...


@final
class Learner(pl.LightningModule):
    """A network, a task, and how it is optimised.

    A step hands its predictions to the task's running metrics, which add them up once many have come together and are computed
    when the epoch is over. (Per-step `self.log` costs more than a small network.)

    Args:
        network: inputs to outputs.
        task: decodes outputs, and gives loss and metrics.
        optimizer: makes the optimizer of parameters.
        scheduler: makes the schedule of an optimizer and a number of steps.
        seed: of order, augmentation and dropout.
        record: takes the metrics of each epoch.
        keep: what is kept of the predictions of a validation outside of training; by default nothing.

    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        seed: int,
        record: MetricCallback,
        keep: Keep | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.seed = seed
        self.record = record
        self.keep = keep
        self.running: Metrics = task.new_metrics()
        """Of this rank's samples: of the training epoch, then of its validation."""
        self.row: Row = {}
        self.validated: Row = {}
        """Metrics of the last split validated outside of training."""
        self.kept: list[Tensor] = []
        """What `keep` kept of each batch; when the validation is over, of all ranks in the order of the split, in one tensor."""
        self.began = 0.0
        self.resumed: dict[str, Any] | None = None
        """What this rank had when the checkpoint was written from which the training goes on."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes the hook it is in some forty times a step; a module's own way to set that costs 100 µs a step."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def fitting(self) -> bool:
        """Whether validation is part of training."""
        return self.trainer.state.fn == TrainerFn.FITTING

    def configure_model(self) -> None:
        """Split the network over the ranks, where the strategy does."""
        if isinstance(self.trainer.strategy, FullySharded):
            self.trainer.strategy.shard(self.network)

    def configure_optimizers(self) -> Any:
        """One optimizer, one schedule stepped with it."""
        optimizer = self.make_optimizer(self.network.parameters())
        scheduler = self.make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the whole gradient.

        Lightning's own refuses fused optimizers in mixed precision: those unscale by themselves, which only fp16 needs (the
        config refuses that pair).
        """
        if gradient_clip_val is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The loader's batches are where they should be."""
        return batch

    def on_train_epoch_start(self) -> None:
        """Dropout is a function of (seed, epoch, rank), whatever ran before."""
        randomness.seed(((self.seed * 1_000_003 + self.current_epoch) * 10_007 + self.global_rank) % 2**63)
        self.began = clock(self.device)
        self.running = self.task.new_metrics(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What every rank has of the epoch so far: batches it was given, running metrics, generators, seconds."""
        own = {
            "loader": self.trainer.train_dataloader.state_dict(),  # type: ignore[union-attr]
            "metrics": self.running.state_dict(),
            "generators": randomness.state(self.device),
            "seconds": clock(self.device) - self.began,
        }
        checkpoint["ranks"] = all_gather_object(own, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Kept until the training goes on.

        Raises:
            UserError: when the checkpoint is that of a version that kept predictions, or of other metrics.

        """
        self.resumed = checkpoint["ranks"][self.global_rank]
        try:
            self.task.new_metrics().load_state_dict(self.resumed["metrics"])
        except (KeyError, ValueError):
            raise UserError("the checkpoint holds no running metrics of this task", "start anew with resume=false") from None

    def on_train_start(self) -> None:
        """Go on in the midst of an epoch as if nothing had been; at the start of one, this is all set anew."""
        if self.resumed is not None:
            # Lightning loads the loader's state before it has the state: it counts the steps first.
            self.trainer.train_dataloader.load_state_dict(self.resumed["loader"])  # type: ignore[union-attr]
            self.running = self.task.new_metrics(self.device)
            self.running.load_state_dict(self.resumed["metrics"])
            self.began = clock(self.device) - self.resumed["seconds"]
            randomness.restore(self.resumed["generators"], self.device)
            self.resumed = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch; see `Batch.loss_weight`."""
        predictions = self.task.decode(self.network(batch.inputs), batch.inputs)
        loss = self.task.loss(predictions, batch.targets)
        self.running.update(predictions.detach(), batch.targets)
        return loss * batch.loss_weight if batch.loss_weight != 1.0 else loss

    def on_validation_epoch_start(self) -> None:
        """Compute the metrics of training: they cover the same epoch."""
        self.row, self.kept = {}, []
        if self.fitting:
            seconds = clock(self.device) - self.began
            metrics = self._merged()
            self.row = _named("train", metrics.compute())
            self.row |= dict(zip(SPEED, (seconds, int(metrics.count) / seconds), strict=True))
            self.row["train/lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.running = self.task.new_metrics(self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the metrics; nothing is averaged by batch. A batch without share counts no sample."""
        predictions = self.task.decode(self.network(batch.inputs), batch.inputs)
        counted = len(predictions) if batch.loss_weight else 0
        predictions, targets = predictions[:counted], batch.targets[:counted]
        self.running.update(predictions, targets)
        if self.keep and not self.fitting:
            # Batches are dealt to ranks in turn.
            self.kept.append(self.keep(predictions, targets, batch_idx * self.trainer.world_size + self.global_rank))

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole split, the same on every rank."""
        metrics = self._merged().compute()
        self.running = self.task.new_metrics(self.device)
        if not self.fitting:
            self.validated = metrics
            if self.kept:
                self.kept = [_gather(self.kept, self.device) if self.trainer.world_size > 1 else torch.cat(self.kept)]
            return
        self.row |= _named("val", metrics)
        self.log_dict(self.row)
        if not math.isfinite(self.row["train/loss"] + self.row["val/loss"]):
            worst = "train/loss" if not math.isfinite(self.row["train/loss"]) else "val/loss"
            raise UserError(
                f"training diverged: {worst} is {self.row[worst]} after epoch {self.current_epoch + 1}",
                "try a smaller optimizer.lr, or trainer.gradient_clip=1",
            )
        if self.trainer.is_global_zero:
            self.record(self.row, self.current_epoch + 1)

    def _merged(self) -> Metrics:
        """The running metrics of all ranks together."""
        if self.trainer.world_size > 1:
            self.running.merge(lambda own: reduce(torch.add, _all_gather(own)))
        return self.running


def all_gather_object(own: dict[str, Any], learner: pl.LightningModule) -> list[dict[str, Any]]:
    """Plain containers of every rank, by rank; they travel as bytes and are not unpickled."""
    if learner.trainer.world_size == 1:
        return [own]
    buffer = io.BytesIO()
    torch.save(own, buffer)
    written = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).to(learner.device)
    lengths = [int(length) for length in _all_gather(torch.tensor([len(written)], device=learner.device))]
    everyones = _all_gather(_padded(written, max(lengths)))
    streams = [io.BytesIO(all_[:length].cpu().numpy().tobytes()) for all_, length in zip(everyones, lengths, strict=True)]
    return [torch.load(stream, weights_only=True) for stream in streams]


def _gather(batches: list[Tensor], device: torch.device) -> Tensor:
    """Batches of every rank, of any sizes, in the order `EvalLoader` dealt them: the first of each rank, then the second."""
    [counts] = torch.stack(_all_gather(torch.tensor([len(batches)], device=device))).T.tolist()
    sizes = torch.tensor([len(batch) for batch in batches], device=device)
    all_sizes = [row.tolist() for row in _all_gather(_padded(sizes, max(counts)))]
    rows = max(map(sum, all_sizes))
    all_rows = _all_gather(_padded(torch.cat(batches), rows))
    parts = [torch.split(own, [*sizes, rows - sum(sizes)]) for own, sizes in zip(all_rows, all_sizes, strict=True)]
    return torch.cat([parts[rank][turn] for turn in range(max(counts)) for rank, dealt in enumerate(counts) if turn < dealt])


def _all_gather(tensor: Tensor) -> list[Tensor]:
    """The same-shaped tensor of every rank."""
    everyones = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyones, tensor)
    return everyones


def _padded(tensor: Tensor, length: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])


def _named(split: str, metrics: dict[str, float]) -> Row:
    return {f"{split}/{name}": value for name, value in metrics.items()}
