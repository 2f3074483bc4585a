"""Padded sequences: a mask of the valid steps, and the mean over them.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

import torch
from torch import Tensor


def valid_steps(inputs: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Return which steps of `[B, C, T]` precede the padding, `bool [B, 1, T]`; None if no lengths are given."""
    if lengths is None:
        return None
    steps = torch.arange(inputs.shape[-1], device=inputs.device)
    return (steps < lengths.to(inputs.device)[:, None]).unsqueeze(1)


def clear_padding(features: Tensor, mask: Tensor | None, value: float = 0.0) -> Tensor:
    """Return `[B, C, T]` with `value` at the padded steps."""
    return features if mask is None else features.masked_fill(~mask, value)


def mean_over_time(features: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of `[B, C, T]` over the valid steps, `[B, C]` (global average pooling, Lin et al. 2013)."""
    if mask is None:
        return features.mean(-1)
    return (features * mask).sum(-1) / mask.sum(-1)
