"""Reversible instance normalization.

Shapes: `B` batch, `Y` channels, `T` time steps.
"""

import torch
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to the variance, as in batch norm."""


class RevIN(nn.Module):
    """Normalize each channel of a window by its own mean and standard deviation, and undo that on the forecast.

    Source: Kim et al. 2022, section 3.

    Args:
        channels: number of channels.
        affine: whether a learned scale and shift of each channel follow the normalization.

    """

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1)) if affine else None
        self.shift = nn.Parameter(torch.zeros(channels, 1)) if affine else None

    def normalize(self, series: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalized series `[B, Y, T]`, and mean and standard deviation `[B, Y, 1]`, which are not differentiated."""
        mean = series.mean(-1, keepdim=True).detach()
        std = (series.var(-1, keepdim=True, correction=0) + EPSILON).sqrt().detach()
        normalized = (series - mean) / std
        if self.scale is not None and self.shift is not None:
            normalized = normalized * self.scale + self.shift
        return normalized, mean, std

    def denormalize(self, forecast: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return the forecast `[B, Y, S]` in the units of the series that gave `mean` and `std`."""
        if self.scale is not None and self.shift is not None:
            forecast = (forecast - self.shift) / (self.scale + EPSILON**2)
        return forecast * std + mean
