"""The weighted mean of several models."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.errors import UserError
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
        weights: weight of each member, divided by their sum; by default equal. `fitted`: those with the smallest squared error on
            val, shrunk towards equal ones (`shrunk_weights`), for forecasts whose members are all in closed form.
        shrinkage: strength with which fitted weights are shrunk.
        output_shape: shape of the outputs of one sample, for members that have such a parameter.
        target_positions: positions of the target channels among the inputs, likewise.
        season: length of the season in time steps, likewise.
        masked: whether the last input channel is a mask, likewise.

    Raises:
        ValueError: if there is no member, or not one positive weight for each; if weights are to be fitted although a member is
            trained by steps.

    """

    shares: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        members: list[dict[str, Any]],
        weights: list[float] | Literal["fitted"] | None = None,
        shrinkage: float = 0.3,
        output_shape: Sequence[int] | None = None,
        target_positions: Sequence[int] | None = None,
        season: int | None = None,
        masked: bool | None = None,
    ) -> None:
        super().__init__()
        self.fitted, self.shrinkage = weights == "fitted", shrinkage
        weights = [1.0] * len(members) if isinstance(weights, str) or not weights else weights
        if not members:
            raise ValueError("members: name at least one network")
        if shrinkage <= 0:
            raise ValueError(f"shrinkage={shrinkage}: must be above 0")
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
        if self.fitted and any(True for _ in self.parameters()):
            raise ValueError("weights=fitted: needs members that are all in closed form")
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
        """Compute the members in closed form, and fitted weights.

        Raises:
            UserError: if weights are to be fitted, and the targets are classes.

        """
        chosen: dict[str, float | str] = {}
        for number, member in enumerate(self.members):
            if isinstance(member, ClosedForm):
                member.fit(train, val)
                chosen |= {f"{number}.{name}": value for name, value in member.chosen.items()}
        if self.fitted:
            self.shares.copy_(shrunk_weights(self._errors(val), self.shrinkage))
            chosen["weights"] = ", ".join(f"{share:.3f}" for share in self.shares.tolist())
        self.chosen = chosen

    def _errors(self, batches: Batches) -> Tensor:
        """Return the sums of products of the errors of each two members, `[members, members]`, without missing targets."""
        total = torch.zeros(len(self.members), len(self.members), dtype=torch.float64)
        for batch in batches:
            if not batch[1].is_floating_point():
                raise UserError("model.weights=fitted: for forecasts only", "use equal weights, model.weights=null")
            targets = batch[1].flatten(1)
            errors = torch.stack([(member(batch[0]) - targets).nan_to_num(0.0).flatten() for member in self.members])
            total += (errors.double() @ errors.double().T).cpu()
        return total


def shrunk_weights(errors: Tensor, shrinkage: float) -> Tensor:
    """Return the weights `w` of the members, not negative and with sum 1, that minimise a penalised squared error of their mean.

    With `E`, the products of errors `[members, members]`, that is `w @ E @ w + shrinkage * mean(diag(E)) * |w - 1 / members|^2`
    (Diebold and Pauly 1990, shrinkage of combination weights towards equality).
    """
    count = len(errors)
    penalty = shrinkage * errors.diagonal().mean().clamp(min=torch.finfo(errors.dtype).tiny)
    matrix = errors + penalty * torch.eye(count, dtype=errors.dtype)
    weights, used = torch.zeros_like(errors[0]), list(range(count))
    while True:  # a member with a negative weight is left out, the most negative first
        ones = torch.ones(len(used), dtype=errors.dtype)
        solved = torch.linalg.solve(matrix[used][:, used], torch.stack([ones, ones * penalty / count], dim=1))
        own = solved[:, 1] + (1 - solved[:, 1].sum()) / solved[:, 0].sum() * solved[:, 0]
        if own.min() >= 0:
            weights[used] = own
            return weights
        used.pop(int(own.argmin()))
