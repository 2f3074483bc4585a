"""Training on a GPU: the host never waits for it within an epoch."""

from collections.abc import Callable

import pytest
import torch

from tests.training.conftest import Trained
from tests.training.waiting import ForbidWaiting

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_no_step_waits_for_the_gpu(learn: Callable[..., Trained], precision: str) -> None:
    forbidden = ForbidWaiting()
    trained = learn(accelerator="gpu", precision=precision, callbacks=[forbidden])
    assert forbidden.steps == 10
    assert all(weight.is_cuda for weight in trained.weights[-1].values())
