"""A stack: networks of one config and several seeds as one network, with their data, loss and metrics.

Each parameter and buffer of a stack holds those of its members along a new first dimension; `torch.vmap` computes all members at
once. Everywhere else, members are the second dimension: a batch of a stack is a batch of samples, each with one input for each
member. So a stack is trained by `Learner` as any network. Sources: documentation of `torch.func`, "Model ensembling"; Wang et
al. 2021, Horizontally fused training array (HFTA).

Shapes: `B` batch, `K` members.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.func import functional_call

from reprise.data.datasets import Batch, Dataset
from reprise.data.loader import EvalLoader, TrainLoader
from reprise.tasks.metric_names import SPEED
from reprise.tasks.metrics import Metrics
from reprise.tasks.task import Task
from reprise.tracking.weights import load_weights, save_weights
from reprise.training.best_weights import BestEpoch
from reprise.training.learner import Row
from reprise.training.stack_layers import stackable

T = TypeVar("T")
SHARED = (*SPEED, "train/lr")
"""Metrics of the whole stack."""


@final
class Stack(nn.Module):
    """Networks with the same layers as one network: `[B, K, …]` to `[B, K, outputs]`.

    Args:
        members: the networks, which stay as they are.

    Raises:
        ValueError: if a layer cannot be stacked.

    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.size = len(members)
        self.parameters_alone = sum(parameter.numel() for parameter in members[0].parameters())
        """The number of parameters of one member."""
        tensors, saved = [_tensors(member) for member in members], members[0].state_dict()
        member = copy.deepcopy(members[0])
        stacked: dict[int, nn.Parameter] = {}  # by the id of the parameter that is replaced: tied ones stay tied
        shared = []
        for path, module in member.named_modules():
            for key, parameter in [*module.named_parameters(recurse=False)]:
                own = [every[_join(path, key)].detach() for every in tensors]
                whole = nn.Parameter(torch.stack(own), parameter.requires_grad)
                setattr(module, key, stacked.setdefault(id(parameter), whole))
            for key, _ in [*module.named_buffers(recurse=False)]:
                name = _join(path, key)
                own = [every[name] for every in tensors]
                if name not in saved and all(torch.equal(own[0], one) for one in own[1:]):
                    shared.append(name)
                else:
                    setattr(module, key, torch.stack(own))
        self.member = stackable(member)
        """The first network with the tensors of all."""
        self.shared = frozenset(shared)
        """The names of the buffers that are the same in all members, and not part of the weights: they are not stacked."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, K, …]` to `[B, K, outputs]`."""
        weights: dict[str, Tensor] = dict(self.member.named_parameters())
        weights |= {name: buffer for name, buffer in self.member.named_buffers() if name not in self.shared}

        def one(weights: dict[str, Tensor], inputs: Tensor) -> Any:
            return functional_call(self.member, weights, (inputs,))

        outputs: Tensor = torch.vmap(one, in_dims=(0, 1), out_dims=1, randomness="different")(weights, inputs)
        return outputs

    def states(self) -> list[dict[str, Tensor]]:
        """Return the state dict of each member, with the names and shapes of a network alone."""
        state = self.member.state_dict()
        return [{name: tensor[member] for name, tensor in state.items()} for member in range(self.size)]


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers, tied ones under each of their names."""
    return dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


@final
class StackedTask(nn.Module):
    """A task for the members of a stack. Predictions are `[B, K, …]`, the loss is the sum of those of the members."""

    def __init__(self, task: Task, size: int) -> None:
        super().__init__()
        self.task, self.size = task, size

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs `[B, K, outputs]` as predictions."""
        predictions: Tensor = torch.vmap(self.task.decode, in_dims=1, out_dims=1)(outputs, inputs)
        return predictions

    def combine(self, predictions: Tensor, tiles: Tensor) -> Tensor:
        """Return the predictions of samples from those of their tiles."""
        return torch.stack([self.task.combine(one, tiles) for one in predictions.unbind(1)], 1)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over members of their mean losses, so that each has the gradient of its own."""
        losses: Tensor = torch.vmap(self.task.loss, in_dims=1)(predictions, targets)
        return losses.sum()

    def new_metrics(self, device: torch.device | str = "cpu") -> "StackedMetrics":
        """Return empty metrics of one split for each member."""
        return StackedMetrics([self.task.new_metrics(device) for _ in range(self.size)])


@final
class StackedMetrics(Metrics):
    """The metrics of each member under `<member>/<name>`, and their mean over members under `<name>`."""

    def __init__(self, members: Sequence[Metrics]) -> None:
        super().__init__(members[0].device)
        self.members = members

    @property
    def state(self) -> dict[str, Tensor]:
        """The states of all members."""
        return super().state | of_all([member.state for member in self.members])

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        for member, own, true in zip(self.members, predictions.unbind(1), targets.unbind(1), strict=True):
            member._add_in_chunks(own, true)

    def _compute(self, count: int) -> dict[str, float]:
        rows = [member.compute() for member in self.members]
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0] if all(name in row for row in rows)}
        return means | of_all(rows)


def of_all(members: Sequence[Mapping[str, T]]) -> dict[str, T]:
    """Return what the members have by name as one mapping by `<member>/<name>`."""
    return {f"{number}/{name}": value for number, own in enumerate(members) for name, value in own.items()}


def of_member(member: int, named: Mapping[str, T]) -> dict[str, T]:
    """Return what a member has by name: the inverse of `of_all`."""
    start = f"{member}/"
    return {name.removeprefix(start): value for name, value in named.items() if name.startswith(start)}


def for_all(tensor: Tensor, size: int) -> Tensor:
    """Return `[B, …]` for each of `size` members, `[B, K, …]`, without copying it."""
    return tensor.unsqueeze(1).expand(-1, size, *tensor.shape[1:])


def row_of(member: int, row: Row) -> Row:
    """Return the metrics of a member from those of the stack. Seconds, samples a second and learning rate are those of all."""
    own: Row = {}
    for split in ("train", "val"):
        named = {name.removeprefix(f"{split}/"): value for name, value in row.items() if name.startswith(f"{split}/")}
        own |= {f"{split}/{name}": value for name, value in of_member(member, named).items()}
    return own | {name: row[name] for name in SHARED if name in row}


@dataclass
class StackedLoader:
    """Yields the batches of the members' loaders, each with its own order and augmentation, stacked: `[B, K, …]`."""

    members: Sequence[TrainLoader]

    @property
    def dataset(self) -> Dataset:
        """The training split."""
        return self.members[0].dataset

    @property
    def sampler(self) -> "StackedLoader":
        """Return self: before each epoch, Lightning calls `set_epoch` only on the sampler of a loader."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Use the orders of this epoch from the next iteration on."""
        for member in self.members:
            member.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Return the state for a checkpoint within an epoch: members yield equally many batches."""
        return self.members[0].state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next iteration continue after the batches already yielded."""
        for member in self.members:
            member.load_state_dict(state)

    def __len__(self) -> int:
        return len(self.members[0])

    def __iter__(self) -> Iterator[Batch]:
        for batches in zip(*self.members, strict=True):
            inputs, targets, *_ = zip(*batches, strict=True)
            # each member's part is contiguous
            yield Batch(torch.stack(inputs).transpose(0, 1), torch.stack(targets).transpose(0, 1))


@dataclass
class SharedLoader:
    """Yields the batches of a loader for all members: `[B, K, …]`, without copying them."""

    loader: EvalLoader
    size: int

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield batch._replace(inputs=for_all(batch.inputs, self.size), targets=for_all(batch.targets, self.size))


@final
class BestWeightsOfEach(pl.Callback):
    """Writes the weights of the best epoch of each member to one file, whose tensors are named `<member>/<name>`.

    One file, so that a checkpoint keeps it as it keeps the best weights of one network.
    """

    def __init__(self, file: Path, monitor: str, mode: str, size: int) -> None:
        self.file = file
        self.each = [BestEpoch(monitor, mode) for _ in range(size)]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Replace the weights of the members for which this epoch is the best so far."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        has_file, epoch = any(best.epoch for best in self.each), trainer.current_epoch + 1
        better = [number for number, best in enumerate(self.each) if best.update(row_of(number, pl_module.row), epoch)]
        if better:
            new = of_all([state if number in better else {} for number, state in enumerate(pl_module.network.states())])
            save_weights(self.file, (load_weights(self.file) if has_file else {}) | new)

    def weights_of(self, member: int) -> dict[str, Tensor]:
        """Return the best weights of a member."""
        return of_member(member, load_weights(self.file))

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and epoch of each member."""
        return {"each": [best.state_dict() for best in self.each]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best scores and epochs."""
        for best, state in zip(self.each, state_dict["each"], strict=True):
            best.load_state_dict(state)
