"""TimeBase: forecasts from a few basis components of the past periods.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon), `R` basis
components.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprise.models.channels import Segments, TargetChannels, flatten_forecast


class TimeBase(nn.Module):
    """Past periods are reduced to basis components, and future periods are made of these, by two linear maps.

    Maps `float32 [B, T, C]` to `[B, S * Y]`. Source: Huang et al. 2025, section 3. Both maps are shared by all phases of the
    period and all channels. The mean of each phase (or of the whole lookback) is subtracted and added back.

    After a forward pass in training, `penalty()` is the orthogonality loss of its basis components, to be added to the loss.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all.
        season: steps of a period.
        basis: number of basis components `R`.
        phase_mean: whether the mean of each phase of the period is subtracted instead of the mean of the lookback.
        orthogonality: weight of the orthogonality loss.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        season: int = 24,
        basis: int = 6,
        phase_mean: bool = True,
        orthogonality: float = 0.0,
    ) -> None:
        super().__init__()
        if basis < 1:
            raise ValueError(f"basis={basis}: must be at least 1")
        if orthogonality < 0:
            raise ValueError(f"orthogonality={orthogonality}: must be at least 0")
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.segments = Segments(self.targets.lookback, self.targets.horizon, season)
        self.phase_mean, self.orthogonality = phase_mean, orthogonality
        self.extract = nn.Linear(self.segments.inputs, basis)
        self.compose = nn.Linear(basis, self.segments.outputs)
        self._components: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        segments = self.segments.split(self.targets(inputs))  # [B, Y, period, past periods]
        mean = segments.mean(-1 if self.phase_mean else (-2, -1), keepdim=True)
        components = self.extract(segments - mean)  # [B, Y, period, R]
        self._components = components if self.training and self.orthogonality else None
        return flatten_forecast(self.segments.join(self.compose(components) + mean))

    def penalty(self) -> Tensor:
        """Return the weighted orthogonality loss of the last forward pass in training, a scalar; 0 before or without a weight.

        The loss is the Frobenius norm of the off-diagonal part of the Gram matrix of the components (over the phases of the
        period), mean over batch and channels: the orthogonality restriction of the paper as its repository computes it.
        """
        if self._components is None:
            return self.extract.weight.new_zeros(())
        gram = self._components.transpose(-1, -2) @ self._components  # [B, Y, R, R]
        off_diagonal = gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1))
        loss: Tensor = torch.linalg.matrix_norm(off_diagonal).mean()
        return self.orthogonality * loss
