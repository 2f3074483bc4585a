"""Batches on the device: order, shards over ranks, and prefetching where the arrays do not fit there."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from reprise.data.augment import Augment
from reprise.data.datasets import Batch, Dataset

MEMORY_SHARE = 0.5
"""Of a GPU's free memory, what the arrays may take; beyond it they stay on the host."""
AHEAD = 2
"""Batches gathered ahead of the network when the arrays stay on the host."""
Gather = Callable[[Tensor], Batch]


@dataclass
class TrainLoader:
    """Every sample once an epoch, in an order that is a function of `(seed, epoch)` alone.

    `batch_size` is that of the whole step: each of `world` ranks takes its contiguous part of every batch. A last batch with
    fewer samples than ranks is left out. `augment` alters images, each as (seed, epoch, row) says.
    """

    examples: Dataset
    batch_size: int
    seed: int
    device: torch.device
    rank: int = 0
    world: int = 1
    augment: Augment | None = None
    epoch: int = 0
    given: int = 0
    """Batches of this epoch that were handed out."""
    start: int = 0
    """Batches of the next iteration that were handed out before a checkpoint."""

    def __len__(self) -> int:
        full, rest = divmod(len(self.examples), self.batch_size)
        return full + (rest >= self.world)

    @property
    def sampler(self) -> "TrainLoader":
        """Itself: Lightning calls `set_epoch` of a loader's sampler before each epoch, and of nothing else."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """From the next iteration on, the order is that of this epoch."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint in the midst of an epoch."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration goes on after the batches that were handed out already."""
        self.start = state["given"] % len(self)

    def __iter__(self) -> Iterator[Batch]:
        start, self.start = self.start, 0
        order = epoch_order(len(self.examples), self.seed, self.epoch).to(self.examples.device)
        parts: list[tuple[Tensor, float]] = []
        for whole in torch.split(order, self.batch_size)[: len(self)]:
            part = whole.tensor_split(self.world)[self.rank]
            parts.append((part, len(part) * self.world / len(whole)))
        for given, batch in enumerate(_batches(self._gather, self.examples.device, parts[start:], self.device), start + 1):
            self.given = given
            yield batch

    def _gather(self, rows: Tensor) -> Batch:
        augment = partial(self.augment, rows=rows, epoch=self.epoch) if self.augment else None
        return self.examples.gather(rows, augment)


@dataclass
class EvalLoader:
    """Every sample exactly once, in order; of the batches, rank r takes r, r + world, and so on.

    So each batch holds the same samples whatever the number of ranks, and gives the same bits. All ranks get equally many: one
    for which none is left gets the first batch with a `share` of 0, which counts nothing. Lightning leaves out a rank without
    batches, and a sharded network (FSDP) computes on all ranks or on none.
    """

    examples: Dataset
    batch_size: int
    device: torch.device
    rank: int = 0
    world: int = 1
    parts: list[tuple[Tensor, float]] = field(init=False)

    def __post_init__(self) -> None:
        batches = torch.split(torch.arange(len(self.examples), device=self.examples.device), self.batch_size)
        turns = math.ceil(len(batches) / self.world)
        own = [(rows, 1.0) for rows in batches[self.rank :: self.world]]
        self.parts = own + [(batches[0], 0.0)] * (turns - len(own))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        yield from _batches(self.examples.gather, self.examples.device, self.parts, self.device)


def epoch_order(length: int, seed: int, epoch: int) -> Tensor:
    """Draw a permutation of `range(length)` that depends on `(seed, epoch)` alone, drawn on the CPU so that devices agree."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator)


def move_to_device(examples: Dataset, device: torch.device, preload_to_device: bool | str) -> Dataset:
    """The split on the device when it is wanted there or (`auto`) when it fits; else on the host, to be streamed."""
    if preload_to_device == "auto":
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        preload_to_device = free is None or examples.nbytes < MEMORY_SHARE * free
    return examples.to(device) if preload_to_device else examples


def _batches(gather: Gather, source: torch.device, parts: list[tuple[Tensor, float]], device: torch.device) -> Iterator[Batch]:
    if source == device:
        for rows, share in parts:
            yield gather(rows)._replace(loss_weight=share)
    else:
        yield from _streamed(gather, parts, device)


def _streamed(gather: Gather, parts: list[tuple[Tensor, float]], device: torch.device) -> Iterator[Batch]:
    """Gather on the host in a thread, `AHEAD` batches in front, and copy from pinned memory while the network works."""

    def pinned(rows: Tensor, share: float) -> Batch:
        inputs, targets, _ = gather(rows)
        if device.type == "cuda":
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        return Batch(inputs, targets, share)

    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        waiting: list[Future[Batch]] = []
        for number in range(len(parts) + AHEAD):
            if number < len(parts):
                waiting.append(pool.submit(pinned, *parts[number]))
            if number >= AHEAD:
                inputs, targets, share = waiting.pop(0).result()
                yield Batch(inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True), share)
