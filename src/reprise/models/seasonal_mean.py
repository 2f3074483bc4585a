"""The mean by phase of the season, a forecast without weights.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reprise.models.channels import TargetChannels, flatten_forecast, steps_of_lookbacks
from reprise.models.closed_form import Batches


class SeasonalMean(nn.Module):
    """Mean of all values of the lookback at the same phase of the season; with several lookbacks, the mean of their forecasts.

    Maps `float32 [B, T, C]` to `[B, S * Y]`. With hourly data and a season of 24, it is the mean by hour of the day.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all.
        season: steps of a season.
        lookbacks: steps before the forecast that are averaged, from a season to `T`; numbers with a decimal point are fractions
            of `T`, at least a season. By default `T`.

    Raises:
        ValueError: if an argument is invalid.

    """

    means: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        season: int = 24,
        lookbacks: Sequence[int | float] = (1.0,),
    ) -> None:
        super().__init__()
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.chosen: Mapping[str, float | str] = {}
        steps = steps_of_lookbacks(lookbacks, self.targets.lookback, season)
        past, phases = torch.arange(-self.targets.lookback, 0), torch.arange(min(season, self.targets.horizon))
        same = (phases[:, None] - past) % season == 0  # [phase, T]
        means = torch.zeros(same.shape)
        for count in steps:
            inside = same & (past >= -count)
            means += inside / inside.sum(1, keepdim=True)
        self.register_buffer("means", means / len(steps), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        phases = self.targets(inputs) @ self.means.T  # [B, Y, phase]
        repeats = -(-self.targets.horizon // phases.shape[-1])
        return flatten_forecast(phases.repeat(1, 1, repeats)[..., : self.targets.horizon])

    def fit(self, train: Batches, val: Batches) -> None:
        """Do nothing: there are no weights."""
