"""The LightningModule that trains every model on every task."""

import io
import math
from collections.abc import Callable
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
from reprise.models.penalized import Penalized, SeparateLosses
from reprise.tasks import metric_names
from reprise.tasks.metrics import Metrics
from reprise.tasks.task import Keep
from reprise.training import randomness
from reprise.training.lightning_internals import FastHookName
from reprise.training.memory import clock
from reprise.training.optimizers import frozen_norms
from reprise.training.sharding import FullySharded

Row = dict[str, float]


class MetricCallback(Protocol):
    """Receives the metrics of an epoch (`train/…` and `val/…`) and the number of finished epochs."""

    def __call__(self, metrics: Row, step: int) -> None:
        """Record the metrics."""
        ...


class LearnedTask(Protocol):
    """What a `Learner` uses of a task, in the shapes of `Task`."""

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the network's outputs as predictions."""
        ...

    def combine(self, predictions: Tensor, tiles: Tensor) -> Tensor:
        """Return the predictions of samples from those of their tiles."""
        ...

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch."""
        ...

    def new_metrics(self, device: torch.device | str = "cpu") -> Metrics:
        """Return empty metrics of one split."""
        ...


@final
class Learner(FastHookName):
    """Trains a network on a task.

    Each step passes its predictions to the task's running metrics, which are computed at the end of the epoch. (`self.log` at
    every step costs more than a step of a small network.)

    Args:
        network: maps inputs to outputs.
        task: decodes outputs, and defines loss and metrics.
        optimizer: makes an optimizer of the network's parameters.
        scheduler: makes a schedule from an optimizer and the total number of steps.
        seed: seeds sample order, augmentation and dropout.
        record: receives the metrics of each epoch.
        keep: selects what to keep of the predictions in a validation outside of training; by default nothing.

    """

    def __init__(
        self,
        network: nn.Module,
        task: LearnedTask,
        optimizer: Callable[[nn.Module], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        seed: int,
        record: MetricCallback,
        keep: Keep | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.penalized = [module for module in network.modules() if isinstance(module, Penalized)]
        """The network or its parts that add a penalty to the loss."""
        self.separate_losses = [network] if isinstance(network, SeparateLosses) else []
        """The network if each of its members has a loss of its own. In a list: as an attribute it would be registered twice."""
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.seed = seed
        self.record = record
        self.keep = keep
        self.running: Metrics = task.new_metrics()
        """Metrics of this rank's samples: of the training epoch, then of its validation."""
        self.row: Row = {}
        self.validated: Row = {}
        """Metrics of the last split validated outside of training."""
        self.kept: list[Tensor] = []
        """Results of `keep` by batch. After validation: one tensor with those of all ranks, in the order of the split."""
        self.started = 0.0
        self.resumed: dict[str, Any] | None = None
        """State of this rank in the checkpoint to resume from."""

    @property
    def fitting(self) -> bool:
        """Whether validation is part of training."""
        return self.trainer.state.fn == TrainerFn.FITTING

    def configure_model(self) -> None:
        """Shard the network if the strategy is `FullySharded`."""
        if isinstance(self.trainer.strategy, FullySharded):
            self.trainer.strategy.shard(self.network)

    def configure_optimizers(self) -> Any:
        """Return one optimizer, and one schedule that is stepped after every optimizer step."""
        optimizer = self.make_optimizer(self.network)
        scheduler = self.make_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the whole gradient.

        Lightning's implementation rejects fused optimizers in mixed precision, because they unscale gradients themselves. Only
        fp16 needs that, and the config rejects fp16 with a fused optimizer.
        """
        if gradient_clip_val is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch as it is: the loader has moved it to the device."""
        return batch

    def on_train_epoch_start(self) -> None:
        """Seed the generators from (seed, epoch, rank), so that dropout does not depend on what ran before."""
        randomness.seed(((self.seed * 1_000_003 + self.current_epoch) * 10_007 + self.global_rank) % 2**63)
        self.started = clock(self.device)
        self.running = self.task.new_metrics(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of every rank within the epoch: loader position, running metrics, random generators, seconds."""
        own = {
            "loader": self.trainer.train_dataloader.state_dict(),  # type: ignore[union-attr]
            "metrics": self.running.state_dict(),
            "generators": randomness.state(self.device),
            "seconds": clock(self.device) - self.started,
        }
        checkpoint["ranks"] = all_gather_object(own, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep this rank's state for `on_train_start`.

        Raises:
            UserError: if the checkpoint has no running metrics (written by an old version), or those of another task.

        """
        self.resumed = checkpoint["ranks"][self.global_rank]
        try:
            self.task.new_metrics().load_state_dict(self.resumed["metrics"])
        except (KeyError, ValueError):
            raise UserError("the checkpoint holds no running metrics of this task", "start a new run with resume=false") from None

    def on_train_start(self) -> None:
        """Restore the state within the epoch. At the start of an epoch, `on_train_epoch_start` then resets it.

        Frozen normalisation layers keep their statistics: they are in evaluation mode.
        """
        for norm in frozen_norms(self.network):
            norm.eval()
        if self.resumed is not None:
            # Lightning loads the loader's state in `setup_data`, which `estimated_stepping_batches` calls before the restore.
            self.trainer.train_dataloader.load_state_dict(self.resumed["loader"])  # type: ignore[union-attr]
            self.running = self.task.new_metrics(self.device)
            self.running.load_state_dict(self.resumed["metrics"])
            self.started = clock(self.device) - self.resumed["seconds"]
            randomness.restore(self.resumed["generators"], self.device)
            self.resumed = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch with the penalties of the network, weighted by `Batch.loss_weight`."""
        predictions = self.task.decode(self.network(batch.inputs), batch.inputs)
        if self.separate_losses:
            members = [self.task.decode(outputs, batch.inputs) for outputs in self.separate_losses[0].member_outputs()]
            loss = torch.stack([self.task.loss(member, batch.targets) for member in members]).sum()
        else:
            loss = self.task.loss(predictions, batch.targets)
        for part in self.penalized:
            loss = loss + part.penalty()
        self.running.update(predictions.detach(), batch.targets)
        return loss * batch.loss_weight if batch.loss_weight != 1.0 else loss

    def on_validation_epoch_start(self) -> None:
        """Compute the training metrics of this epoch, and reset the running metrics."""
        self.row, self.kept = {}, []
        if self.fitting:
            seconds = clock(self.device) - self.started
            metrics = self._merge_ranks()
            self.row = _with_prefix("train", metrics.compute())
            self.row |= dict(zip(metric_names.SPEED, (seconds, int(metrics.count) / seconds), strict=True))
            self.row["train/lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.running = self.task.new_metrics(self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the running metrics. A batch with `loss_weight` 0 is padding and counts no samples."""
        predictions = self.task.decode(self.network(batch.inputs), batch.inputs)
        if batch.tiles is not None:
            predictions = self.task.combine(predictions, batch.tiles)
        counted = len(predictions) if batch.loss_weight else 0
        predictions, targets = predictions[:counted], batch.targets[:counted]
        self.running.update(predictions, targets)
        if self.keep and not self.fitting:
            # Batches are distributed round-robin.
            self.kept.append(self.keep(predictions, targets, batch_idx * self.trainer.world_size + self.global_rank))

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the whole split, equal on every rank. Record them if training."""
        metrics = self._merge_ranks().compute()
        self.running = self.task.new_metrics(self.device)
        if not self.fitting:
            self.validated = metrics
            if self.kept:
                self.kept = [_gather(self.kept, self.device) if self.trainer.world_size > 1 else torch.cat(self.kept)]
            return
        self.row |= _with_prefix("val", metrics)
        # EarlyStopping and the progress bar read the metrics here. `self.log_dict` would write them too, but takes 30 ms.
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self.row.items()})
        if not math.isfinite(self.row["train/loss"] + self.row["val/loss"]):
            diverged = "train/loss" if not math.isfinite(self.row["train/loss"]) else "val/loss"
            raise UserError(
                f"training diverged: {diverged} is {self.row[diverged]} after epoch {self.current_epoch + 1}",
                "try a smaller optimizer.lr, or trainer.gradient_clip=1",
            )
        if self.trainer.is_global_zero:
            self.record(self.row, self.current_epoch + 1)

    def _merge_ranks(self) -> Metrics:
        """Return the running metrics, merged over all ranks."""
        if self.trainer.world_size > 1:
            self.running.merge(lambda tensor: reduce(torch.add, _all_gather(tensor)))
        return self.running


def all_gather_object(own: dict[str, Any], learner: pl.LightningModule) -> list[dict[str, Any]]:
    """Return the plain containers of every rank, by rank. They are sent as bytes and loaded with `weights_only=True`."""
    if learner.trainer.world_size == 1:
        return [own]
    buffer = io.BytesIO()
    torch.save(own, buffer)
    encoded = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8).to(learner.device)
    lengths = [int(length) for length in _all_gather(torch.tensor([len(encoded)], device=learner.device))]
    gathered = _all_gather(_padded(encoded, max(lengths)))
    streams = [io.BytesIO(all_[:length].cpu().numpy().tobytes()) for all_, length in zip(gathered, lengths, strict=True)]
    return [torch.load(stream, weights_only=True) for stream in streams]


def _gather(batches: list[Tensor], device: torch.device) -> Tensor:
    """Return the batches of all ranks, of any sizes, in the round-robin order in which `EvalLoader` distributed them."""
    [counts] = torch.stack(_all_gather(torch.tensor([len(batches)], device=device))).T.tolist()
    sizes = torch.tensor([len(batch) for batch in batches], device=device)
    all_sizes = [row.tolist() for row in _all_gather(_padded(sizes, max(counts)))]
    rows = max(map(sum, all_sizes))
    all_rows = _all_gather(_padded(torch.cat(batches), rows))
    parts = [torch.split(own, [*sizes, rows - sum(sizes)]) for own, sizes in zip(all_rows, all_sizes, strict=True)]
    return torch.cat([parts[rank][turn] for turn in range(max(counts)) for rank, count in enumerate(counts) if turn < count])


def _all_gather(tensor: Tensor) -> list[Tensor]:
    """Return the tensors of every rank, which must have the same shape."""
    gathered = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, tensor)
    return gathered


def _padded(tensor: Tensor, length: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])


def _with_prefix(split: str, metrics: dict[str, float]) -> Row:
    return {f"{split}/{name}": value for name, value in metrics.items()}
