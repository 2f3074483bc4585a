"""Calls that wait together are computed together, and each gets its own answers."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.inference.compute import Answer
from reprise.serving.batcher import Batcher


class Doubling:
    """Doubles numbers and refuses negative ones. It waits for `may_go`, and keeps the sizes of batches."""

    def __init__(self) -> None:
        self.may_go, self.began, self.sizes = threading.Event(), threading.Event(), list[int]()

    def __call__(self, raw: Sequence[Tensor]) -> Answer:
        self.began.set()
        assert self.may_go.wait(30)
        (numbers,) = raw
        self.sizes.append(len(numbers))
        if (numbers < 0).any():
            raise ValueError("negative")
        return 2 * numbers.double().numpy(), None


def waiting(batcher: Batcher, model: Doubling, calls: list[Tensor], pool: ThreadPoolExecutor) -> list[Answer | Exception]:
    """Return the answers of calls that wait while the model computes another."""
    first = pool.submit(batcher, [torch.zeros(1)])
    assert model.began.wait(30)
    futures = []
    for size, call in enumerate(calls, 1):
        futures.append(pool.submit(batcher, [call]))
        while batcher._queue.qsize() < size:
            threading.Event().wait(0.001)
    model.may_go.set()
    first.result(30)
    return [future.exception(30) or future.result() for future in futures]  # type: ignore[misc]


def test_each_call_gets_the_answers_of_its_own_samples() -> None:
    model = Doubling()
    batcher = Batcher(model, 6)
    with ThreadPoolExecutor(8) as pool:
        calls = [torch.arange(size) + 10.0 * size for size in (1, 2, 3, 4, 9)]
        answers = waiting(batcher, model, calls, pool)
    for call, answer in zip(calls, answers, strict=True):
        assert isinstance(answer, tuple)
        np.testing.assert_array_equal(answer[0], 2 * call.numpy())  # type: ignore[arg-type]
        assert answer[1] is None
    assert model.sizes == [1, 6, 4, 6, 3]  # three calls fit into a batch; nine samples are two batches
    assert (batcher.batches, batcher.samples) == (5, 20)
    batcher.close()


def test_a_call_that_fails_does_not_fail_the_others() -> None:
    model = Doubling()
    batcher = Batcher(model, 8)
    with ThreadPoolExecutor(8) as pool:
        good, bad, last = waiting(batcher, model, [torch.ones(1), -torch.ones(1), torch.ones(2)], pool)
    assert isinstance(bad, ValueError)
    assert isinstance(good, tuple)
    assert isinstance(last, tuple)
    np.testing.assert_array_equal(last[0], [2, 2])  # type: ignore[arg-type]
    batcher.close()


def test_closing_answers_the_calls_that_wait() -> None:
    model = Doubling()
    batcher = Batcher(model, 8)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, [torch.ones(1)])
        assert model.began.wait(30)
        second = pool.submit(batcher, [torch.ones(2)])
        while not batcher._queue.qsize():
            threading.Event().wait(0.001)
        closing = pool.submit(batcher.close)
        model.may_go.set()
        closing.result(30)
        for future in (first, second):
            np.testing.assert_array_equal(future.result(30)[0], 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 8, 9, 17])
def test_a_large_call_is_computed_in_parts(size: int) -> None:
    model = Doubling()
    model.may_go.set()
    batcher = Batcher(model, 8)
    (doubled, _) = batcher([torch.arange(size)])
    np.testing.assert_array_equal(doubled, 2 * np.arange(size))  # type: ignore[arg-type]
    assert max(model.sizes) <= 8
    batcher.close()
