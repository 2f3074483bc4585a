"""Attribution of scores to the inputs of a network: integrated gradients or, where these do not add up, occlusion.

Shapes: `N` samples, `T` time steps, `C` channels, `K` scores.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Values = npt.NDArray[np.float64]
Score = Callable[[Tensor, Tensor], Tensor]
"""Maps inputs `[B, T, C]`, and the sample `int64 [B]` that each belongs to, to scores `[B, K]`."""
STEPS = 64
"""Number of interpolation points of integrated gradients between baseline and input."""
TOLERANCE = 0.1
"""The largest remainder of integrated gradients: above it, occlusion is used instead."""
SEGMENTS = 24
"""The most segments into which occlusion divides the time steps."""
Method = Literal["integrated gradients", "occlusion"]


@dataclass(frozen=True)
class Attribution:
    """What each input adds to the scores, compared with a baseline."""

    values: Values
    """`float64 [N, K, T, C]`."""
    method: Method


def attribute(score: Score, inputs: Tensor, baselines: Tensor, method: Method | None = None) -> Attribution:
    """Return attributions by a method. By default integrated gradients or, if they do not add up, occlusion.

    Networks with steps in them, such as counts of features, have no gradients, or gradients that do not add up to the change of
    the scores.
    """
    if method != "occlusion":
        values = integrated_gradients(score, inputs, baselines)
        if values is not None and (method or _remainder(values, score, inputs, baselines) <= TOLERANCE):
            return Attribution(values, "integrated gradients")
    return Attribution(occlusion(score, inputs, baselines), "occlusion")


def integrated_gradients(score: Score, inputs: Tensor, baselines: Tensor) -> Values | None:
    """Return integrated gradients `[N, K, …]` of inputs `[N, …]`; None if the scores have no gradient.

    They sum to the score of the input minus that of its baseline. Source: Sundararajan, Taly and Yan 2017, eq. 3.
    """
    from captum.attr import IntegratedGradients  # late, because it takes seconds

    samples = torch.arange(len(inputs), device=inputs.device)
    probe = score(inputs.clone().requires_grad_(), samples)
    if not probe.requires_grad:
        return None
    method = IntegratedGradients(score)
    parts = [
        method.attribute(
            inputs, baselines, target=number, additional_forward_args=samples, n_steps=STEPS, internal_batch_size=256
        ).detach()
        for number in range(probe.shape[1])
    ]
    return torch.stack(parts, dim=1).double().cpu().numpy()


def recurrent_gradients(network: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which recurrent layers have gradients in evaluation mode. Those of cuDNN have them in training only."""
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    return torch.backends.cudnn.flags(enabled=False) if is_recurrent else nullcontext()


def _remainder(values: Values, score: Score, inputs: Tensor, baselines: Tensor) -> float:
    """Return the part of the change of the scores that attributions `[N, K, T, C]` do not add up to, as a share.

    The share is of the sum of absolute attributions or of absolute changes, whichever is larger.
    """
    samples = torch.arange(len(inputs), device=inputs.device)
    with torch.no_grad():
        change = (score(inputs, samples) - score(baselines, samples)).double().cpu().numpy()  # [N, K]
    size = max(float(np.abs(values).sum()), float(np.abs(change).sum()))
    return float(np.abs(values.sum(axis=(2, 3)) - change).sum()) / size if size else 0.0


@torch.no_grad()
def occlusion(score: Score, inputs: Tensor, baselines: Tensor, segments: int = SEGMENTS) -> Values:
    """Return how much each score falls if a segment of a channel is replaced by its baseline, `[N, K, T, C]`.

    The fall is divided evenly over the steps of the segment. Source: Zeiler and Fergus 2014, section 4.2, along time.
    """
    samples = torch.arange(len(inputs), device=inputs.device)
    whole = score(inputs, samples)
    result = torch.zeros(*whole.shape, *inputs.shape[1:], dtype=torch.float64)
    for steps in torch.arange(inputs.shape[1]).tensor_split(min(segments, inputs.shape[1])):
        for channel in range(inputs.shape[2]):
            occluded = inputs.clone()
            occluded[:, steps, channel] = baselines[:, steps, channel]
            if not torch.equal(occluded, inputs):
                fall = (whole - score(occluded, samples)).double().cpu() / len(steps)
                result[:, :, steps, channel] = fall.unsqueeze(-1)
    return result.numpy()


def shortest_span(strength: Values, share: float = 0.5) -> tuple[int, int]:
    """Return first and last index of the shortest span with this share of the sum of strengths `[T]`; of several, the first.

    Strengths are 0 or more. If all are 0, the span is the whole.
    """
    total = np.concatenate([[0.0], np.cumsum(strength)])
    needed = share * total[-1] * (1 - 1e-9)  # a sum in another order may be smaller by rounding
    if needed <= 0:
        return 0, len(strength) - 1
    ends = np.searchsorted(total, total[:-1] + needed)  # the span from `start` ends before `ends[start]`
    lengths = np.where(ends <= len(strength), ends - np.arange(len(strength)), len(strength) + 1)
    start = int(lengths.argmin())
    return start, int(ends[start]) - 1
