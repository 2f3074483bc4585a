"""Learning-rate schedules: functions of the optimizer and the total number of steps. They are stepped after every step."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Return a constant learning rate."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """Return a linear warm-up over the fraction `warmup` of all steps, then half a cosine down to `final` times the rate.

    Source: Loshchilov and Hutter 2017, eq. 5, without restarts.
    """
    return _warmup_then(optimizer, total_steps, warmup, final, lambda progress: (1 + math.cos(math.pi * progress)) / 2)


def linear(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """Return a linear warm-up over the fraction `warmup` of all steps, then a linear decay to `final` times the rate."""
    return _warmup_then(optimizer, total_steps, warmup, final, lambda progress: 1 - progress)


def _warmup_then(
    optimizer: Optimizer, total_steps: int, warmup: float, final: float, decay: Callable[[float], float]
) -> LambdaLR:
    """Return a warm-up to factor 1, then a decay to `final`. `decay` maps progress from 0 to 1 to values from 1 to 0."""
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}: must be at least 0 and below 1")
    if not 0 <= final <= 1:
        raise ValueError(f"final={final}: must be between 0 and 1")
    warmup_steps = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final + (1 - final) * decay(progress)

    return LambdaLR(optimizer, factor)
