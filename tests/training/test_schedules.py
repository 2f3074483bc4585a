"""Learning rates against points worked out by hand, and against torch."""

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
    """The learning rate of each of `steps` steps, and the one after them."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = make(optimizer, total_steps=steps, **arguments)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_constant_stays() -> None:
    assert rates(schedules.constant, 5) == [2.0] * 6


def test_linear_falls_in_even_steps_to_its_end() -> None:
    assert rates(schedules.linear, 4) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])
    assert rates(schedules.linear, 4, final=0.5) == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])


def test_cosine_passes_the_middle_half_way() -> None:
    found = rates(schedules.cosine, 4)
    assert found == pytest.approx([2.0, 1 + math.cos(math.pi / 4), 1.0, 1 - math.cos(math.pi / 4), 0.0])
    assert rates(schedules.cosine, 4, final=0.1)[-1] == pytest.approx(0.2)


def test_cosine_is_that_of_torch() -> None:
    assert rates(schedules.cosine, 17, final=0.25) == pytest.approx(
        rates(lambda optimizer, total_steps: CosineAnnealingLR(optimizer, total_steps, eta_min=0.5), 17)
    )


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])
def test_a_warm_up_rises_evenly_and_the_first_step_is_not_lost(schedule: Callable[..., LRScheduler]) -> None:
    found = rates(schedule, 10, warmup=0.4)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[4:] == pytest.approx(rates(schedule, 6))


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_of_hardly_a_step_has_a_rate(schedule: Callable[..., LRScheduler], steps: int) -> None:
    found = rates(schedule, steps, warmup=0.9)
    assert all(0 < rate <= 2 for rate in found[:-1])


@pytest.mark.parametrize("schedule", [schedules.linear, schedules.cosine])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"warmup": 1.0}, "warmup=1.0: must be at least 0 and below 1"), ({"final": -0.5}, "final=-0.5: must be between 0 and 1")],
)
def test_a_share_out_of_range_is_named(schedule: Callable[..., LRScheduler], arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        rates(schedule, 4, **arguments)


def test_one_cycle_of_torch_is_built_as_ours_are() -> None:
    node = Target.model_validate({"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 2.0, "pct_start": 0.3})
    found = rates(lambda optimizer, total_steps: build(node, "scheduler", [], optimizer, total_steps=total_steps), 10)
    assert found[:-1] == rates(lambda optimizer, total_steps: OneCycleLR(optimizer, 2.0, total_steps), 10)[:-1]
    assert max(found) == pytest.approx(2.0)
