"""The weighted mean of several models."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.models.closed_form import Batches, ClosedForm


class Ensemble(nn.Module):
    """Weighted mean of the outputs of its members, each fitted as if it were alone.

    Members in closed form are computed first (`fit`). The others are trained together, by the same steps, but each on its own
    loss. The mean is taken of network outputs: logits, or standardised values. Source: Bates and Granger 1969, The combination of
    forecasts.

    Args:
        input_shape: shape of one sample.
        outputs: number of outputs per sample.
        members: models, each with its `_target_` and its arguments, as under `model`.
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
        self.chosen: Mapping[str, float | str] = {}
        self._in_training: list[Tensor] = []
        self.register_buffer("shares", torch.tensor(weights) / sum(weights))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, *input_shape]` to `[B, outputs]`."""
        outputs = [member(inputs) for member in self.members]
        self._in_training = [output for output in outputs if output.requires_grad] if self.training else []
        return torch.stack(outputs, dim=-1) @ self.shares.to(outputs[0].dtype)

    def member_outputs(self) -> list[Tensor]:
        """Return the outputs `[B, outputs]` of the members trained by steps, of the last forward pass in training."""
        return self._in_training

    def fit(self, train: Batches, val: Batches) -> None:
        """Compute the members in closed form."""
        chosen: dict[str, float | str] = {}
        for number, member in enumerate(self.members):
            if isinstance(member, ClosedForm):
                member.fit(train, val)
                chosen |= {f"{number}.{name}": value for name, value in member.chosen.items()}
        self.chosen = chosen
