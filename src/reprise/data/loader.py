"""Batches on the device: order, shards over ranks, and prefetching if the arrays do not fit on the device or into memory."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from reprise import memory
from reprise.data.augment import Augment
from reprise.data.datasets import Batch, Dataset, largest_row, sample_nbytes

MEMORY_SHARE = 0.5
"""Largest share of a GPU's free memory for the arrays; larger arrays stay on the host."""
AHEAD = 2
"""Batches prefetched if the arrays stay on the host."""
READERS = 8
"""Threads, and batches prefetched, if the arrays are read from disk again in each epoch: most of the time, they wait."""
GATHERED_BYTES, ALIGNED_ROWS = 2**20, 16
"""Bytes gathered together if batches are small: less than the L2 cache of a core. Batches of a multiple of 16 rows of float32 all
start at a multiple of 64 bytes, as tensors of their own do: from another start, kernels may compute other last bits."""
Gather = Callable[[Tensor], Batch]


@dataclass
class TrainLoader:
    """Yields every sample once per epoch, in an order that depends only on `(seed, epoch)`.

    `batch_size` is that of the whole step: each of `world` ranks takes its contiguous part of every batch. A last batch with
    fewer samples than ranks is dropped. `augment` depends only on (seed, epoch, row).
    """

    dataset: Dataset
    batch_size: int
    seed: int
    device: torch.device
    rank: int = 0
    world: int = 1
    augment: Augment | None = None
    epoch: int = 0
    given: int = 0
    """Batches of this epoch yielded so far."""
    start: int = 0
    """Batches of the next iteration to skip, because they were yielded before the checkpoint."""

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest >= self.world)

    @property
    def sampler(self) -> "TrainLoader":
        """Return self: before each epoch, Lightning calls `set_epoch` only on the sampler of a loader."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch from the next iteration on."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Return the state for a checkpoint within an epoch."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next iteration continue after the batches already yielded."""
        self.start = state["given"] % len(self)

    def __iter__(self) -> Iterator[Batch]:
        start, self.start = self.start, 0
        order = _copied(epoch_order(len(self.dataset), self.seed, self.epoch), self.dataset.device)
        if (together := self.batches_together) > 1:
            batches = self._divided(order, start, together)
        else:
            batches = _batches(self.dataset, self._gather, self._parts(order, start), self.device)
        for given, batch in enumerate(batches, start + 1):
            self.given = given
            yield batch

    @property
    def batches_together(self) -> int:
        """The number of batches to gather at once: several if they are small, for a call takes longer than its copies."""
        size = sample_nbytes(self.dataset)
        if size is None or self.augment or self.world > 1 or self.batch_size % ALIGNED_ROWS:
            return 1
        if self.dataset.device != self.device or _is_read_from_disk(self.dataset):
            return 1
        return max(1, GATHERED_BYTES // (self.batch_size * size))

    def _divided(self, order: Tensor, start: int, together: int) -> Iterator[Batch]:
        """Gather `together` batches at once, and yield each as a view."""
        for rows in torch.split(order[start * self.batch_size :], together * self.batch_size):
            inputs, targets, *_ = self.dataset.gather(rows)
            yield from map(Batch, torch.split(inputs, self.batch_size), torch.split(targets, self.batch_size))

    def _parts(self, order: Tensor, start: int) -> Iterator[tuple[Tensor, float]]:
        """Yield this rank's rows of each batch from `start` on, with their loss weight. A list would outgrow a long series."""
        for number in range(start, len(self)):
            batch_rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            part = batch_rows.tensor_split(self.world)[self.rank] if self.world > 1 else batch_rows
            yield part, len(part) * self.world / len(batch_rows)

    def _gather(self, rows: Tensor) -> Batch:
        augment = partial(self.augment, rows=rows, epoch=self.epoch) if self.augment else None
        return self.dataset.gather(rows, augment)


@dataclass
class EvalLoader:
    """Yields every sample exactly once, in order; rank r takes the batches r, r + world, and so on.

    Each batch has the same samples for any number of ranks, so results are bit-identical. All ranks yield equally many batches:
    a rank with one fewer yields the first batch with `loss_weight` 0. Lightning skips ranks without batches, but a sharded
    network (FSDP) must compute on all ranks or none. Of a split whose rows have several network inputs (tiles), a batch has fewer
    rows, so that no batch has more than `batch_size` inputs unless one row has.
    """

    dataset: Dataset
    batch_size: int
    device: torch.device
    rank: int = 0
    world: int = 1
    parts: list[tuple[Tensor, float]] = field(init=False)

    def __post_init__(self) -> None:
        rows = max(1, self.batch_size // largest_row(self.dataset))
        batches = torch.split(torch.arange(len(self.dataset), device=self.dataset.device), rows)
        per_rank = math.ceil(len(batches) / self.world)
        own = [(rows, 1.0) for rows in batches[self.rank :: self.world]]
        self.parts = own + [(batches[0], 0.0)] * (per_rank - len(own))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        yield from _batches(self.dataset, self.dataset.gather, self.parts, self.device)


def epoch_order(length: int, seed: int, epoch: int) -> Tensor:
    """Return a permutation of `range(length)` that depends only on `(seed, epoch)`. It is drawn on the CPU for all devices."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=generator)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device, without waiting for a GPU."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def move_to_device(dataset: Dataset, device: torch.device, preload_to_device: bool | str) -> Dataset:
    """Return the split on the device if requested or, for `auto`, if it fits; otherwise unchanged, for streaming."""
    if preload_to_device == "auto":
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        preload_to_device = free is None or dataset.nbytes < MEMORY_SHARE * free
    return dataset.to(device) if preload_to_device else dataset


def _batches(dataset: Dataset, gather: Gather, parts: Iterable[tuple[Tensor, float]], device: torch.device) -> Iterator[Batch]:
    if _is_read_from_disk(dataset):
        yield from _streamed(gather, parts, device, READERS, READERS)
    elif dataset.device != device:
        yield from _streamed(gather, parts, device)
    else:
        for rows, loss_weight in parts:
            yield gather(rows)._replace(loss_weight=loss_weight)


def _is_read_from_disk(dataset: Dataset) -> bool:
    """Return whether the arrays are too large to stay in memory, so that each epoch reads them from disk."""
    return dataset.device.type == "cpu" and not memory.holds(dataset.nbytes)


def _streamed(
    gather: Gather, parts: Iterable[tuple[Tensor, float]], device: torch.device, threads: int = 1, ahead: int = AHEAD
) -> Iterator[Batch]:
    """Gather on the host in threads, some batches in advance. Copy them from pinned memory while the network computes."""

    def pinned(rows: Tensor, loss_weight: float) -> Batch:
        inputs, targets, _, tiles = gather(rows)
        if device.type == "cuda":
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        return Batch(inputs, targets, loss_weight, tiles)

    def gathered() -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        for part in parts:
            waiting.append(pool.submit(pinned, *part))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        yield from _copied_ahead(gathered(), device) if device.type == "cuda" else gathered()


def _copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a GPU. Each is copied on a stream of its own while the network computes the batch before it.

    The allocator knows only the stream of the copies, and gives the memory of a freed batch to a later copy. Each copy therefore
    waits for the work that was queued before it, which includes all uses of freed batches. `Tensor.record_stream` would do, but
    makes the use of memory depend on timing, as its documentation warns.
    """
    stream = _copy_stream(device)
    copied: deque[tuple[Batch, torch.cuda.Event]] = deque()

    def oldest() -> Batch:
        batch, arrived = copied.popleft()
        torch.cuda.current_stream(device).wait_event(arrived)
        return batch

    for inputs, targets, loss_weight, tiles in batches:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            batch = Batch(inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True), loss_weight, tiles)
        copied.append((batch, stream.record_event()))
        if len(copied) > 1:
            yield oldest()
    while copied:
        yield oldest()


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of the copies to a GPU. The allocator keeps freed memory for each stream, so there is one for all."""
    return torch.cuda.Stream(device)
