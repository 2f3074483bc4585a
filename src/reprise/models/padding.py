"""Padded sequences: the mask of their valid steps, the mean over these, and what to put in place of the others.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Fill = Literal["zero", "repeat", "stretch"]


def valid_steps(inputs: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Return which steps of `[B, C, T]` precede the padding, `bool [B, 1, T]`; None if no lengths are given."""
    if lengths is None:
        return None
    steps = torch.arange(inputs.shape[-1], device=inputs.device)
    return (steps < lengths.to(inputs.device)[:, None]).unsqueeze(1)


def channels_of(input_shape: Sequence[int], masked: bool) -> int:
    """Return the number of channels of `[T, C]`, without the mask."""
    if masked and input_shape[-1] < 2:
        raise ValueError(f"masked=true: inputs of shape {list(input_shape)} have no channel beside the mask")
    return input_shape[-1] - masked


def split_mask(inputs: Tensor, lengths: Tensor | None, masked: bool) -> tuple[Tensor, Tensor | None]:
    """Return sequences without their mask `[B, T, C]`, and their lengths `int64 [B]`.

    If `masked`, the last channel of the inputs is 1 at the steps of a sequence and 0 at its padding. Otherwise the arguments are
    returned unchanged.
    """
    if not masked:
        return inputs, lengths
    return inputs[..., :-1], (inputs[..., -1] > 0.5).sum(1)


def clear_padding(features: Tensor, mask: Tensor | None, value: float = 0.0) -> Tensor:
    """Return `[B, C, T]` with `value` at the padded steps."""
    return features if mask is None else features.masked_fill(~mask, value)


def mean_over_time(features: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of `[B, C, T]` over the valid steps, `[B, C]` (global average pooling, Lin et al. 2013)."""
    if mask is None:
        return features.mean(-1)
    return (features * mask).sum(-1) / mask.sum(-1)


def fill_padding(inputs: Tensor, lengths: Tensor | None, fill: Fill) -> Tensor:
    """Return sequences `[B, T, C]` whose steps from `lengths` on are replaced.

    `zero`: by 0, the mean of standardised values. `repeat`: by the last valid step. `stretch`: the valid steps are stretched to
    all `T` by linear interpolation.
    """
    if lengths is None:
        return inputs
    steps = torch.arange(inputs.shape[1], device=inputs.device)
    last = lengths.to(inputs.device)[:, None] - 1  # [B, 1]
    if fill == "zero":
        return inputs.masked_fill((steps > last).unsqueeze(-1), 0)
    if fill == "repeat":
        return _steps(inputs, torch.minimum(steps, last))
    position = steps / max(inputs.shape[1] - 1, 1) * last
    below = position.floor().long()
    left, right = _steps(inputs, below), _steps(inputs, torch.minimum(below + 1, last))
    return torch.lerp(left, right, (position - below).unsqueeze(-1))


def _steps(inputs: Tensor, index: Tensor) -> Tensor:
    """Return the steps `[B, T]` of each sequence `[B, T, C]`."""
    return inputs.gather(1, index.unsqueeze(-1).expand_as(inputs))
