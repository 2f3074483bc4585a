"""Training on a GPU: the host never waits for it within an epoch."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from tests.training.conftest import Trained

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class ForbidWaiting(pl.Callback):
    """Makes an operation that waits for the GPU an error, from the first step of an epoch to its last."""

    def on_train_batch_start(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            torch.cuda.set_sync_debug_mode("default")

    def on_exception(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_no_step_waits_for_the_gpu(learn: Callable[..., Trained], precision: str) -> None:
    trained = learn(accelerator="gpu", precision=precision, callbacks=[ForbidWaiting()])
    assert len(trained.rows) == 2
    assert all(weight.is_cuda for weight in trained.weights[-1].values())
