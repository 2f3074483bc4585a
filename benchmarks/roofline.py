"""What a training step takes at least on a device: its arithmetic at the rate of a matrix product, its bytes at that of a copy.

Source: Williams, Waterman and Patterson 2009, Roofline.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

FORMATS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
COUNTED = 4
"""Samples of the batch whose operations are counted."""
OPTIMIZER_NUMBERS = 10
"""Numbers that a step moves for each weight: the weight (twice) and its gradient (twice) in forward and backward pass, and weight
and two moments, each read and written, in Adam."""


@dataclass(frozen=True)
class Work:
    """The work of a training step: per sample, and for the weights."""

    flops: float
    """Floating-point operations of a sample, forward and backward, of matrix products and convolutions."""
    numbers: float
    """Numbers of a sample that are at least moved: the output of each layer, written once and read once."""
    weights: int

    def least_seconds(self, batch: int, rate: float, bandwidth: float, width: int) -> float:
        """Return the least seconds of a step: `rate` in operations, `bandwidth` in bytes a second, `width` in bytes a number."""
        moved = 4 * OPTIMIZER_NUMBERS * self.weights + width * self.numbers * batch
        return max(self.flops * batch / rate, moved / bandwidth)


def work(network: nn.Module, inputs: Tensor) -> Work:
    """Return the work of a step of a network, counted on the CPU for the first inputs `[B, …]`.

    Recurrent layers run as matrix products there, which are counted; as one operation they are not.
    """
    network, inputs = copy.deepcopy(network).cpu().train(), inputs[:COUNTED].cpu().float()
    outputs: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: outputs.append(_numel(output)))
        for module in network.modules()
        if next(module.children(), None) is None
    ]
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        network(inputs).sum().backward()
    for hook in hooks:
        hook.remove()
    weights = sum(weight.numel() for weight in network.parameters())
    return Work(counter.get_total_flops() / len(inputs), 2 * sum(outputs) / len(inputs), weights)


def _numel(output: Any) -> int:
    first = output[0] if isinstance(output, tuple) else output  # a recurrent layer also returns its state
    return int(first.numel())


def matrix_rate(device: torch.device, number_format: str, size: int) -> float:
    """Return the operations a second of a square matrix product."""
    torch.backends.cuda.matmul.allow_tf32 = number_format == "tf32"
    one, other = (torch.randn(size, size, device=device).to(FORMATS[number_format]) for _ in range(2))
    seconds = seconds_of(lambda: one @ other, device)
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * size**3 / seconds


def copy_bandwidth(device: torch.device, megabytes: int) -> float:
    """Return the bytes a second, read and written, of a copy in the memory of the device."""
    source = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device)


def seconds_of(compute: Callable[[], object], device: torch.device, least: float = 0.5) -> float:
    """Return the median seconds of a call, of five groups of calls that together take at least `least` seconds."""
    for _ in range(3):
        compute()
    once = _timed(compute, 1, device)
    calls = max(1, int(least / 5 / max(once, 1e-7)))
    return sorted(_timed(compute, calls, device) for _ in range(5))[2]


def _timed(compute: Callable[[], object], calls: int, device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        compute()
    synchronize(device)
    return (time.perf_counter() - started) / calls


def synchronize(device: torch.device) -> None:
    """Wait until the device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
