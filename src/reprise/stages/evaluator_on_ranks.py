"""Evaluation of a split on several devices by Lightning: each rank computes its batches."""

from typing import Any, final

import torch
from torch import Tensor, nn

from reprise.config import Config
from reprise.data.datasets import Dataset
from reprise.data.loader import EvalLoader, move_to_device
from reprise.tasks.task import Keep, Task
from reprise.training.learner import Learner
from reprise.training.trainer import make_trainer


@final
class Ranks:
    """See `reprise.stages.evaluator.Evaluator`. Metrics and predictions are equal on every rank."""

    def __init__(self, config: Config, task: Task) -> None:
        self.config = config
        self.trainer = make_trainer(config.trainer.model_copy(update={"precision": "float32"}), task)
        self.is_global_zero = self.trainer.is_global_zero

    def evaluate(self, network: nn.Module, task: Task, split: Dataset, keep: Keep | None) -> tuple[dict[str, float], Tensor]:
        """See `Evaluator`."""
        trainer, settings = self.trainer, self.config.trainer
        device = trainer.strategy.root_device
        learner = Learner(network, task, _forbidden, _forbidden, self.config.seed, _forbidden, keep)
        dataset = move_to_device(split, device, settings.preload_to_device)
        loader = EvalLoader(dataset, settings.eval_batch_size, device, trainer.global_rank, trainer.world_size)
        trainer.validate(learner, loader, verbose=False)
        return learner.validated, learner.kept[0] if learner.kept else torch.empty(0)


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("evaluation has no optimizer, scheduler or metric callback")
