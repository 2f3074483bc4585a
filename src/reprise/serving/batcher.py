"""Compute the answers of calls that wait at the same time in one batch.

A thread takes all calls that wait, and runs the model once on their samples. Nothing waits for a batch to fill, so a single call
takes no longer than without the thread. While the model computes, the next calls gather.
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from reprise.inference.compute import Answer, Compute


@dataclass(frozen=True)
class _Call:
    raw: Sequence[Tensor]
    answer: Future[Answer] = field(default_factory=Future)

    def __len__(self) -> int:
        return len(self.raw[0])


class Batcher:
    """A `Compute` for many threads. Each call gets the answers of its own samples.

    Args:
        compute: the model. Only one thread calls it.
        largest: samples in a batch. Larger calls are computed in parts.

    """

    def __init__(self, compute: Compute, largest: int) -> None:
        self._compute, self._largest = compute, largest
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self.batches = self.samples = 0
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __call__(self, raw: Sequence[Tensor]) -> Answer:
        """Return the answers for raw inputs `[B, …]`. Raise what the model raises."""
        call = _Call(raw)
        self._queue.put(call)
        return call.answer.result()

    def close(self) -> None:
        """Answer all calls that wait, and end the thread. Call nothing afterwards."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        waiting: _Call | None = None
        while first := waiting or self._queue.get():
            calls, waiting, is_last = self._gather(first)
            self._answer(calls)
            if is_last:
                return

    def _gather(self, first: _Call) -> tuple[list[_Call], _Call | None, bool]:
        """Return the calls of the next batch, a call that did not fit, and whether the queue was closed."""
        calls, size = [first], len(first)
        while size < self._largest:
            try:
                call = self._queue.get_nowait()
            except queue.Empty:
                break
            if call is None:
                return calls, None, True
            if size + len(call) > self._largest:
                return calls, call, False
            calls.append(call)
            size += len(call)
        return calls, None, False

    def _answer(self, calls: list[_Call]) -> None:
        try:
            joined = [torch.cat(parts) for parts in zip(*(call.raw for call in calls), strict=True)]
            answers = self._in_parts(joined)
        except Exception as error:  # whatever the model raises belongs to the call, and must not end the thread
            if len(calls) == 1:
                calls[0].answer.set_exception(error)
                return
            for call in calls:  # one by one: a call that fails must not fail the others
                self._answer([call])
            return
        begin = 0
        for call in calls:
            part = slice(begin, begin := begin + len(call))
            call.answer.set_result(tuple(None if one is None else one[part] for one in answers))

    def _in_parts(self, raw: Sequence[Tensor]) -> Answer:
        parts = [self._compute(part) for part in zip(*(torch.split(one, self._largest) for one in raw), strict=True)]
        self.batches += len(parts)
        self.samples += len(raw[0])
        return tuple(None if columns[0] is None else np.concatenate(columns) for columns in zip(*parts, strict=True))
