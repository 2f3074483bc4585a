"""PatchTST: a Transformer over patches of each channel.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon), `P` patches,
`F` features of a patch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprise.models.channels import TargetChannels, flatten_forecast
from reprise.models.revin import RevIN


class PatchTST(nn.Module):
    """Transformer encoder over overlapping patches, the same for every channel, and a linear map of all patches to the horizon.

    Maps `float32 [B, T, C]` to `[B, S * Y]`. Source: Nie et al. 2023, section 3.1; batch norm in the encoder.
    As in its repository, the last value is repeated `stride` times at the end, the attention scores of a layer are added to those
    of the next one, positions are learned, and each window is normalized by its own mean and standard deviation (`RevIN`).

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all.
        patch: steps of a patch.
        stride: steps from one patch to the next.
        features: features of a patch in the encoder `F`.
        layers: number of encoder layers.
        heads: number of attention heads of a layer.
        feed_forward: features of the hidden layer after the attention.
        dropout: dropout probability in the encoder.
        affine: whether `RevIN` has a learned scale and shift of each channel.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        patch: int = 16,
        stride: int = 8,
        features: int = 16,
        layers: int = 3,
        heads: int = 4,
        feed_forward: int = 128,
        dropout: float = 0.3,
        affine: bool = False,
    ) -> None:
        super().__init__()
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        sizes = {"stride": stride, "features": features, "layers": layers, "heads": heads, "feed_forward": feed_forward}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}={size}: must be at least 1")
        if not 1 <= patch <= self.targets.lookback:
            raise ValueError(f"patch={patch}: must be at least 1 and at most the lookback of {self.targets.lookback} steps")
        if features % heads:
            raise ValueError(f"heads={heads}: must divide features={features}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be at least 0 and below 1")
        self.patch, self.stride = patch, stride
        patches = (self.targets.lookback - patch) // stride + 2  # one more for the padding
        self.revin = RevIN(self.targets.channels, affine)
        self.pad = nn.ReplicationPad1d((0, stride))
        self.embed = nn.Linear(patch, features)
        self.positions = nn.Parameter(torch.empty(patches, features).uniform_(-0.02, 0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_EncoderLayer(features, heads, feed_forward, dropout) for _ in range(layers))
        self.head = nn.Linear(patches * features, self.targets.horizon)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        series, mean, std = self.revin.normalize(self.targets(inputs))  # [B, Y, T]
        patches = self.pad(series).unfold(-1, self.patch, self.stride)  # [B, Y, P, patch]
        hidden = self.dropout(self.embed(patches.flatten(0, 1)) + self.positions)  # [B * Y, P, F]
        scores: Tensor | None = None
        for layer in self.layers:
            hidden, scores = layer(hidden, scores)
        # Features first, then patches, as the repository flattens.
        forecast = self.head(hidden.transpose(1, 2).flatten(1)).unflatten(0, series.shape[:2])
        return flatten_forecast(self.revin.denormalize(forecast, mean, std))


class _EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a shortcut, dropout and batch norm."""

    def __init__(self, features: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))
        self.project = nn.Sequential(nn.Linear(features, features), nn.Dropout(dropout))
        self.feed_forward = nn.Sequential(
            nn.Linear(features, feed_forward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feed_forward, features)
        )
        self.after_attention, self.after_feed_forward = nn.BatchNorm1d(features), nn.BatchNorm1d(features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features `[B * Y, P, F]` and the attention scores, to which those of the layer before were added."""
        attended, scores = self._attend(hidden, scores)
        hidden = _batch_norm(self.after_attention, hidden + self.dropout(attended))
        return _batch_norm(self.after_feed_forward, hidden + self.dropout(self.feed_forward(hidden))), scores

    def _attend(self, hidden: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        query, key, value = (
            layer(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # [B * Y, heads, P, P]
        if before is not None:
            scores = scores + before
        return self.project((scores.softmax(-1) @ value).transpose(1, 2).flatten(2)), scores


def _batch_norm(norm: nn.Module, hidden: Tensor) -> Tensor:
    normalized: Tensor = norm(hidden.transpose(1, 2)).transpose(1, 2)
    return normalized
