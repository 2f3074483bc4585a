"""The weighted mean of several networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.models.closed_form import Batches, ClosedForm


class Ensemble(nn.Module):
    """Weighted mean of the outputs of its members, which are trained together.

    The mean is taken of network outputs: logits, or standardised values. Source: Bates and Granger 1969, The combination of
    forecasts.

    Args:
        input_shape: shape of one sample.
        outputs: number of outputs per sample.
        members: networks, each with its `_target_` and its arguments, as under `model`.
        weights: weight of each member, divided by their sum; by default equal.
        output_shape: shape of the outputs of one sample, for members that have such a parameter.
        target_positions: positions of the target channels among the inputs, likewise.
        season: length of the season in time steps, likewise.
        masked: whether the last input channel is a mask, likewise.

    Raises:
        ValueError: if there is no member, or not one positive weight for each.

    """

    shares: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        members: list[dict[str, Any]],
        weights: list[float] | None = None,
        output_shape: Sequence[int] | None = None,
        target_positions: Sequence[int] | None = None,
        season: int | None = None,
        masked: bool | None = None,
    ) -> None:
        super().__init__()
        weights = weights or [1.0] * len(members)
        if not members:
            raise ValueError("members: name at least one network")
        if len(weights) != len(members) or min(weights) <= 0:
            raise ValueError(f"weights={weights}: one positive number for each of the {len(members)} members")
        offered = {"output_shape": output_shape, "target_positions": target_positions, "season": season, "masked": masked}
        given = {name: value for name, value in offered.items() if value is not None}
        self.members = nn.ModuleList(
            build(
                Target.model_validate(one), f"model.members.{number}", [], offered=given, input_shape=input_shape, outputs=outputs
            )
            for number, one in enumerate(members)
        )
        self.register_buffer("shares", torch.tensor(weights) / sum(weights))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, *input_shape]` to `[B, outputs]`."""
        outputs = torch.stack([member(inputs) for member in self.members], dim=-1)
        return outputs @ self.shares.to(outputs.dtype)


class ClosedFormEnsemble(Ensemble):
    """Weighted mean of members in closed form, each computed as if it were alone.

    Raises:
        ValueError: if a member is not in closed form.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        members: list[dict[str, Any]],
        weights: list[float] | None = None,
        output_shape: Sequence[int] | None = None,
        target_positions: Sequence[int] | None = None,
        season: int | None = None,
        masked: bool | None = None,
    ) -> None:
        super().__init__(input_shape, outputs, members, weights, output_shape, target_positions, season, masked)
        for number, member in enumerate(self.members):
            if not isinstance(member, ClosedForm):
                raise ValueError(
                    f"members.{number}: {type(member).__name__} is not in closed form; use reprise.models.ensemble.Ensemble"
                )
        self.chosen: Mapping[str, float | str] = {}

    def fit(self, train: Batches, val: Batches) -> None:
        """Compute each member."""
        chosen: dict[str, float | str] = {}
        for number, member in enumerate(self.members):
            assert isinstance(member, ClosedForm)
            member.fit(train, val)
            chosen |= {f"{number}.{name}": value for name, value in member.chosen.items()}
        self.chosen = chosen
