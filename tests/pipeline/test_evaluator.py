"""`evaluate` on one device, without Lightning, computes what Lightning's validation does."""

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from reprise.config import Config
from reprise.stages.evaluator import OneDevice, make_evaluator
from reprise.stages.evaluator_on_ranks import Ranks
from tests.training.conftest import classify, forecast, trainer_config


def config(**changes: Any) -> Config:
    """Return the part of a config that evaluators read."""
    return cast(Config, SimpleNamespace(trainer=trainer_config(**changes), seed=0))


def keep(predictions: Tensor, targets: Tensor, batch: int) -> Tensor:
    return torch.cat(
        [predictions.flatten(1), targets.flatten().view(len(predictions), -1), torch.full((len(targets), 1), batch)], 1
    )


@pytest.mark.parametrize("train", [classify, forecast])
def test_one_device_computes_the_same_bits_as_lightning(train: Any) -> None:
    trained = train(max_epochs=1)
    evaluators = OneDevice(config()), Ranks(config(), trained.task)
    own, lightning = (one.evaluate(trained.network.train(), trained.task, trained.val, keep) for one in evaluators)
    assert own[0] == lightning[0]
    torch.testing.assert_close(own[1], lightning[1], rtol=0, atol=0)


def test_one_device_makes_the_settings_of_a_deterministic_trainer() -> None:
    task = classify(max_epochs=1).task
    before = torch.get_deterministic_debug_mode()
    try:
        for value, mode in ((True, 2), ("warn", 1), (False, 0)):
            assert isinstance(make_evaluator(config(deterministic=value), task), OneDevice)
            assert torch.get_deterministic_debug_mode() == mode
    finally:
        torch.set_deterministic_debug_mode(before)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
