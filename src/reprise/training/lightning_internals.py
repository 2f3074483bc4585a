"""What is used of Lightning beyond its public interface. tests/training/test_lightning_internals.py checks it."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult, _AutomaticOptimization
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.strategies import ModelParallelStrategy, ParallelStrategy, SingleDeviceStrategy
from pytorch_lightning.trainer.states import RunningStage, TrainerFn
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer

HOOK_NAME = "_current_fx_name"
"""The attribute of a LightningModule that holds the name of the running hook."""
STEP_HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step"),
)
"""Hooks within a step, of callbacks and of the module."""
TRANSFER_HOOKS = ("on_before_batch_transfer", "on_after_batch_transfer")
MODULE_HOOKS = (*TRANSFER_HOOKS, "on_train_batch_end", "backward", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step")
"""Further hooks of a step, of the module only."""
VALIDATION_HOOKS = ("on_validation_batch_start", "on_validation_batch_end")
"""Hooks of a batch of validation, of callbacks and of the module."""


class FastHookName(pl.LightningModule):
    """A LightningModule that sets the name of the running hook directly.

    Lightning sets it about forty times a step, which takes 100 µs with `nn.Module.__setattr__`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        if name == HOOK_NAME:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class DirectValidationLoop(_EvaluationLoop):
    """Lightning's loop over the batches of a validation within a training, without calls of empty hooks for each batch."""

    def __init__(self, trainer: pl.Trainer) -> None:
        super().__init__(trainer, TrainerFn.FITTING, RunningStage.VALIDATING, verbose=False, inference_mode=False)
        self.is_direct = False
        """Whether the batches of this validation are computed directly."""

    def reset(self) -> None:
        """Prepare a validation."""
        super().reset()
        trainer, module = self.trainer, self.trainer.lightning_module
        self.is_direct = (
            type(trainer.strategy) is SingleDeviceStrategy
            and self.num_dataloaders == 1
            and not trainer.loggers
            and not any(is_overridden(hook, module) for hook in (*VALIDATION_HOOKS, *TRANSFER_HOOKS))
            and not any(is_overridden(hook, callback) for callback in trainer.callbacks for hook in VALIDATION_HOOKS)  # type: ignore[attr-defined]
        )

    def _evaluation_step(self, batch: Any, batch_idx: int, dataloader_idx: int, dataloader_iter: Any) -> None:
        """Compute one batch."""
        if not self.is_direct:
            super()._evaluation_step(batch, batch_idx, dataloader_idx, dataloader_iter)
            return
        self.batch_progress.increment_ready()
        self.batch_progress.increment_started()
        with self.trainer.precision_plugin.forward_context():
            self.trainer.lightning_module.validation_step(batch, batch_idx)
        self.batch_progress.increment_processed()
        self.batch_progress.increment_completed()
        self._has_run = True


class DirectEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the steps of an epoch; if no hook of a step does anything, steps are computed without them.

    Lightning calls some thirty hooks in a step, nearly all of them empty, and collects what they log. Of callbacks, a direct
    step calls only `on_train_batch_end`. All counters are set as Lightning sets them, so checkpoints and resume are the same. The
    first step after a resume, and what follows the last step of an epoch (validation), are Lightning's.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        super().__init__(trainer)
        self.val_loop = DirectValidationLoop(trainer)
        self.is_direct = False
        """Whether the steps of this epoch are computed directly."""
        self.batch_end_hooks: list[Callable[..., None]] = []
        """The hooks `on_train_batch_end` of the callbacks that have one."""

    @property
    def done(self) -> bool:
        """Whether the epoch is over."""
        if self.is_direct and not self.restarting and not self.trainer.should_stop:
            progress = self.batch_progress
            return progress.is_last_batch or progress.current.ready == self.trainer.num_training_batches
        return super().done

    def on_run_start(self, data_fetcher: Any) -> None:
        """Prepare an epoch."""
        super().on_run_start(data_fetcher)
        self.is_direct = self._can_be_direct()
        own = [callback for callback in self.trainer.callbacks if is_overridden("on_train_batch_end", callback)]
        self.batch_end_hooks = [callback.on_train_batch_end for callback in own]

    def _can_be_direct(self) -> bool:
        trainer, module = self.trainer, self.trainer.lightning_module
        schedules = trainer.lr_scheduler_configs
        return (
            type(trainer.strategy) is SingleDeviceStrategy
            and getattr(trainer.precision_plugin, "scaler", None) is None
            and trainer.accumulate_grad_batches == 1
            and trainer.val_check_batch == trainer.num_training_batches
            and self.max_steps == -1
            and not trainer.loggers
            and all((one.interval, one.frequency, one.reduce_on_plateau) == ("step", 1, False) for one in schedules)
            and not any(is_overridden(hook, module) for hook in (*STEP_HOOKS, *MODULE_HOOKS))
            and not any(is_overridden(hook, callback) for callback in trainer.callbacks for hook in STEP_HOOKS)
        )

    def advance(self, data_fetcher: Any) -> None:
        """Compute one step."""
        if self.restarting or not self.is_direct:
            super().advance(data_fetcher)
            return
        trainer, module, progress = self.trainer, self.trainer.lightning_module, self.batch_progress
        if self.val_loop.restarting:
            self.val_loop.restarting = False
        batch, *_ = next(data_fetcher)
        number = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        progress.increment_started()
        self._step(module, batch, number)
        progress.increment_processed()
        for schedule in trainer.lr_scheduler_configs:
            self.scheduler_progress.increment_ready()
            schedule.scheduler.step()
            self.scheduler_progress.increment_completed()
        for hook in self.batch_end_hooks:
            hook(trainer, module, None, batch, number)
        progress.increment_completed()

    def _step(self, module: pl.LightningModule, batch: Any, number: int) -> None:
        """Compute the gradient of a batch and take one step of the optimizer."""
        trainer, optimizer = self.trainer, self.trainer.optimizers[0]
        progress = self.automatic_optimization.optim_progress.optimizer

        def gradient() -> Tensor:
            with torch.enable_grad():
                with trainer.precision_plugin.forward_context():
                    loss: Any = module.training_step(batch, number)
                progress.zero_grad.increment_ready()
                progress.zero_grad.increment_started()
                optimizer.zero_grad()
                progress.zero_grad.increment_completed()
                loss.backward()
            if trainer.gradient_clip_val is not None:
                module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            detached: Tensor = loss.detach()
            return detached

        progress.step.increment_ready()
        optimizer.step(gradient)
        progress.step.increment_completed()

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Count the step. After the last one, and to stop early, leave the rest to Lightning."""
        if self.is_direct and not self.batch_progress.is_last_batch and not self.trainer.should_stop:
            self._batches_that_stepped += 1
        else:
            super().on_advance_end(data_fetcher)


class AccumulatedGradient(_AutomaticOptimization):
    """Lightning's step of the optimizer, with the gradient of the batch computed in the parts that `split` returns.

    Lightning itself accumulates over the batches of several steps, between which a checkpoint would have to hold the gradient.
    DDP reduces the gradient over the ranks in the last part only. FSDP reduces it in every part, because until then each rank
    would hold the gradient of the whole network.
    """

    def __init__(self, trainer: pl.Trainer, split: Callable[[Any], Sequence[Any]]) -> None:
        super().__init__(trainer)
        self.split = split

    def _make_closure(self, kwargs: OrderedDict[str, Any], optimizer: Optimizer, batch_idx: int) -> Closure:
        """Return the function that computes the gradient."""
        parts = [OrderedDict(kwargs, batch=part) for part in self.split(kwargs["batch"])]
        backward, zero_grad = self._make_backward_fn(optimizer), self._make_zero_grad_fn(batch_idx, optimizer)
        steps = [self._make_step_fn(part) for part in parts]
        closures = [Closure(step, backward, None if number else zero_grad) for number, step in enumerate(steps)]
        return Closure(partial(self._accumulate, closures))

    def _accumulate(self, closures: list[Closure]) -> ClosureResult:
        """Compute the parts. Return the loss of the whole batch, without a graph."""
        strategy, losses = self.trainer.strategy, list[Tensor]()
        for closure in closures:
            is_last = closure is closures[-1]
            with nullcontext() if is_last or not isinstance(strategy, ParallelStrategy) else strategy.block_backward_sync():
                loss = closure.closure().loss
            assert loss is not None
            losses.append(loss)
        return ClosureResult(torch.stack(losses).sum())


class AccumulatingEpochLoop(DirectEpochLoop):
    """The loop over the steps of an epoch, with the gradient of each step computed in parts."""

    def __init__(self, trainer: pl.Trainer, split: Callable[[Any], Sequence[Any]]) -> None:
        super().__init__(trainer)
        self.automatic_optimization = AccumulatedGradient(trainer, split)

    def _step(self, module: pl.LightningModule, batch: Any, number: int) -> None:
        """Compute the gradient of a batch and take one step of the optimizer."""
        self.automatic_optimization.run(self.trainer.optimizers[0], number, OrderedDict(batch=batch, batch_idx=number))


def join_process_group(strategy: ModelParallelStrategy) -> None:
    """Join the process group without a LightningModule, which `setup_environment` of the strategy needs."""
    strategy._setup_distributed()
