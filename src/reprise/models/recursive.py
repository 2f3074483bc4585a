"""Forecasts of many steps by a network of few, applied repeatedly."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.models.closed_form import Batches, ClosedForm
from reprise.models.penalized import SeparateLosses


class Recursive(nn.Module):
    """The recursive strategy: the forecasts of a network are the newest steps of its next input, until the horizon is reached.

    Maps `float32 [B, T, C]` to `[B, S * Y]`, `S` steps of `Y = C` channels, in `ceil(S / steps)` passes. A network with
    parameters is trained through all passes, on the loss of the horizon; a closed form is computed on the first `steps` steps.
    Source: Ben Taieb et al. 2012, A review and comparison of strategies for multi-step ahead time series forecasting, section 2,
    the recursive strategy; there with one step in a pass.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        network: the network, with its `_target_` and its arguments, as under `model`.
        steps: steps that the network forecasts in one pass.
        target_positions: positions of the target channels among the inputs; by default all.
        season: length of the season in time steps, for networks that have such a parameter.

    Raises:
        ValueError: if an input channel is not a target, for its future is not forecast; if `steps` is not from 1 to the horizon;
            if the network is an ensemble, whose members would not be trained each on its own loss.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        network: dict[str, Any],
        steps: int = 1,
        target_positions: Sequence[int] | None = None,
        season: int | None = None,
    ) -> None:
        super().__init__()
        channels = int(input_shape[-1])
        positions = list(range(channels)) if target_positions is None else list(target_positions)
        if positions != list(range(channels)):
            raise ValueError(f"the inputs are {channels} channels, and {len(positions)} are forecast: they must be the same")
        if outputs % channels or not 1 <= steps <= outputs // channels:
            raise ValueError(f"steps={steps}: must be from 1 to the horizon of {outputs // channels} steps")
        self.channels, self.steps, self.passes = channels, steps, -(-outputs // (steps * channels))
        self.outputs = outputs
        offered = {"output_shape": [steps, channels], "target_positions": positions}
        self.network: nn.Module = build(
            Target.model_validate(network),
            "model.network",
            [],
            offered=offered if season is None else {**offered, "season": season},
            input_shape=input_shape,
            outputs=steps * channels,
        )
        if isinstance(self.network, SeparateLosses):
            raise ValueError("network: is an ensemble; make an ensemble of recursive members instead")
        self.chosen: Mapping[str, float | str] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        lookback, parts = inputs, []
        for _ in range(self.passes):
            part = self.network(lookback).unflatten(1, (self.steps, self.channels))
            parts.append(part)
            lookback = torch.cat([lookback[:, self.steps :], part], dim=1)[:, -inputs.shape[1] :]
        return torch.cat(parts, dim=1).flatten(1)[:, : self.outputs]

    def fit(self, train: Batches, val: Batches) -> None:
        """Compute a network in closed form on the first `steps` steps of the targets."""
        if isinstance(self.network, ClosedForm):
            self.network.fit(_FirstSteps(train, self.steps), _FirstSteps(val, self.steps))
            self.chosen = self.network.chosen


class _FirstSteps:
    """Batches with the first steps of their targets, `[B, steps, Y]`."""

    def __init__(self, batches: Batches, steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return ((batch[0], batch[1][:, : self.steps], *batch[2:]) for batch in self.batches)
