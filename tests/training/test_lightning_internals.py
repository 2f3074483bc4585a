"""The private parts of Lightning that are used exist and mean what `lightning_internals` expects of them."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
from pytorch_lightning.loops.optimization.automatic import _AutomaticOptimization
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.strategies import ModelParallelStrategy

from reprise.training.lightning_internals import (
    HOOK_NAME,
    STEP_HOOKS,
    VALIDATION_HOOKS,
    DirectEpochLoop,
    DirectValidationLoop,
    FastHookName,
)
from tests.training.conftest import classify

VERSION = f"Lightning {pl.__version__} changed it: adapt training/lightning_internals.py"


class Watch(pl.Callback):
    """Records what a training shows to callbacks after each step and at its end."""

    def __init__(self) -> None:
        self.direct: list[bool] = []
        self.direct_validation: list[bool] = []
        self.hooks: list[Any] = []
        self.steps: list[tuple[int, int, bool, float]] = []
        self.loops: list[dict[str, Any]] = []
        self.optimizer: dict[str, Any] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, number: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        assert isinstance(loop, DirectEpochLoop)
        self.direct.append(loop.is_direct)
        self.steps.append((number, trainer.global_step, trainer.is_last_batch, trainer.optimizers[0].param_groups[0]["lr"]))
        self.loops.append(trainer.fit_loop.state_dict())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(trainer.fit_loop.epoch_loop.val_loop, DirectValidationLoop)
        self.direct_validation.append(trainer.fit_loop.epoch_loop.val_loop.is_direct)
        self.loops.append(trainer.fit_loop.state_dict())
        self.optimizer = trainer.optimizers[0].state_dict()["state"]


def test_lightning_sets_the_name_of_the_running_hook() -> None:
    class Named(Watch):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            assert isinstance(pl_module, FastHookName)
            self.hooks.append(getattr(pl_module, HOOK_NAME, None))

    named = Named()
    classify(max_epochs=1, callbacks=[named])
    assert set(named.hooks) == {"on_train_batch_start"}, VERSION
    assert not any(named.direct)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"gradient_clip": 0.01},
        {"patience": 1, "lr": 1e-30, "max_epochs": 5},
        {"accumulate": 3, "gradient_clip": 0.01},
    ],
)
def test_a_direct_step_does_what_a_step_of_lightning_does(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights, metrics, optimizer state, and counters, which are part of every checkpoint."""
    direct, lightning = Watch(), Watch()
    one = classify(callbacks=[direct], **settings)
    monkeypatch.setattr(DirectEpochLoop, "_can_be_direct", lambda _: False)
    monkeypatch.setattr(DirectValidationLoop, "_evaluation_step", _EvaluationLoop._evaluation_step)
    other = classify(callbacks=[lightning], **settings)
    assert all(direct.direct + direct.direct_validation)
    assert not any(lightning.direct)
    assert one.epochs == other.epochs
    assert direct.steps == lightning.steps, VERSION
    assert direct.loops == lightning.loops, VERSION
    for mine, its in zip(one.weights, other.weights, strict=True):
        assert all(torch.equal(mine[name], its[name]) for name in its)
    for parameter, state in lightning.optimizer.items():
        assert all(torch.equal(direct.optimizer[parameter][name], tensor) for name, tensor in state.items())
    clean = [
        [{name: value for name, value in row.items() if "second" not in name} for row in rows] for rows in (one.rows, other.rows)
    ]
    assert clean[0] == clean[1]


@pytest.mark.parametrize("hook", STEP_HOOKS)
def test_a_callback_with_a_hook_within_the_step_is_called(hook: str) -> None:
    watch, calls = Watch(), []
    setattr(watch, hook, lambda *_: calls.append(hook))
    classify(max_epochs=1, callbacks=[watch])
    assert len(calls) == len(watch.steps) == 5, VERSION
    assert not any(watch.direct)


@pytest.mark.parametrize("hook", VALIDATION_HOOKS)
def test_a_callback_with_a_hook_of_validation_batches_is_called(hook: str) -> None:
    watch, calls = Watch(), []
    setattr(watch, hook, lambda *_: calls.append(hook))
    classify(max_epochs=1, callbacks=[watch])
    assert len(calls) == 7, VERSION
    assert not any(watch.direct_validation)


def test_the_loops_that_are_extended_have_the_methods_that_are_replaced() -> None:
    for loop, methods in (
        (_TrainingEpochLoop, ("on_run_start", "advance", "on_advance_end")),
        (_EvaluationLoop, ("reset", "_evaluation_step")),
        (_AutomaticOptimization, ("run", "_make_closure", "_make_step_fn", "_make_backward_fn", "_make_zero_grad_fn")),
    ):
        assert all(callable(getattr(loop, method, None)) for method in methods), VERSION


def test_the_strategy_can_join_the_process_group_without_a_module() -> None:
    assert callable(getattr(ModelParallelStrategy, "_setup_distributed", None)), VERSION
