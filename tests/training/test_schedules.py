"""Learning rates against values computed by hand and against torch."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from reprise.config import build
from reprise.config.sections import Target
from reprise.training import schedules


def rates(make: Callable[..., LRScheduler], steps: int, **arguments: Any) -> list[float]:
    """Return the learning rate of each of `steps` steps, and the one after them."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = make(optimizer, total_steps=steps, **arguments)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*result, optimizer.param_groups[0]["lr"]]


def test_constant_does_not_change() -> None:
    assert rates(schedules.constant, 5) == [2.0] * 6


def test_linear_decreases_evenly_to_its_final_value() -> None:
    assert rates(schedules.linear, 4) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])
    assert rates(schedules.linear, 4, final=0.5) == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])


def test_cosine_is_half_way_after_half_of_the_steps() -> None:
    result = rates(schedules.cosine, 4)
    assert result == pytest.approx([2.0, 1 + math.cos(math.pi / 4), 1.0, 1 - math.cos(math.pi / 4), 0.0])
    assert rates(schedules.cosine, 4, final=0.1)[-1] == pytest.approx(0.2)


def test_cosine_equals_torchs() -> None:
    assert rates(schedules.cosine, 17, final=0.25) == pytest.approx(
        rates(lambda optimizer, total_steps: CosineAnnealingLR(optimizer, total_steps, eta_min=0.5), 17)
    )


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])
def test_a_warm_up_rises_evenly_and_starts_above_zero(schedule: Callable[..., LRScheduler]) -> None:
    result = rates(schedule, 10, warmup=0.4)
    assert result[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert result[4:] == pytest.approx(rates(schedule, 6))


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_very_short_training_has_valid_learning_rates(schedule: Callable[..., LRScheduler], steps: int) -> None:
    result = rates(schedule, steps, warmup=0.9)
    assert all(0 < rate <= 2 for rate in result[:-1])


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"warmup": 1.0}, "warmup=1.0: must be at least 0 and below 1"), ({"final": -0.5}, "final=-0.5: must be between 0 and 1")],
)
def test_a_fraction_out_of_range_is_named(
    schedule: Callable[..., LRScheduler], arguments: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        rates(schedule, 4, **arguments)


def test_torchs_one_cycle_can_be_built_from_a_config() -> None:
    node = Target.model_validate({"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 2.0, "pct_start": 0.3})
    result = rates(lambda optimizer, total_steps: build(node, "scheduler", [], optimizer, total_steps=total_steps), 10)
    assert result[:-1] == rates(lambda optimizer, total_steps: OneCycleLR(optimizer, 2.0, total_steps), 10)[:-1]
    assert max(result) == pytest.approx(2.0)
