"""Learning-rate schedules: called with the optimizer and the number of steps in all, stepped after every step."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """A linear warm-up over the share `warmup` of all steps, then half a cosine down to the share `final` of the rate.

    Source: Loshchilov and Hutter 2017, eq. 5, without restarts.
    """
    return _warm(optimizer, total_steps, warmup, final, lambda progress: (1 + math.cos(math.pi * progress)) / 2)


def linear(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """A linear warm-up over the share `warmup` of all steps, then a straight line down to the share `final` of the rate."""
    return _warm(optimizer, total_steps, warmup, final, lambda progress: 1 - progress)


def _warm(optimizer: Optimizer, total_steps: int, warmup: float, final: float, fall: Callable[[float], float]) -> LambdaLR:
    """Up to 1, then down to `final` along `fall`, which goes from 1 to 0 while progress goes from 0 to 1."""
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup}: must be at least 0 and below 1")
    if not 0 <= final <= 1:
        raise ValueError(f"final={final}: must be between 0 and 1")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = min(1.0, (step - rising) / max(1, total_steps - rising))
        return final + (1 - final) * fall(progress)

    return LambdaLR(optimizer, factor)
