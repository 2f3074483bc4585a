"""Recurrent networks: the output is computed from the hidden state after the last input step.

Shapes: `B` batch, `T` time steps, `C` channels, `F` hidden features.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from reprise.models.padding import channels_of, split_mask

CELLS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) layers, then a linear output.

    Maps `float32 [B, T, C]` to `[B, outputs]`.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample.
        cell: lstm or gru.
        hidden: number of features of the hidden state.
        layers: number of stacked layers, with dropout between them and before the output.
        dropout: dropout probability.
        bidirectional: whether a second network in each layer reads the sequence from its end (Schuster and Paliwal 1997). The
            output is then computed from the final hidden states of both directions, `2 * hidden` features.
        masked: whether the last input channel is the mask of the valid steps, as for sequences of unequal length.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        masked: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        if cell not in CELLS:
            raise ValueError(f"cell={cell}: there are {', '.join(CELLS)}")
        for name, size in (("hidden", hidden), ("layers", layers)):
            if size < 1:
                raise ValueError(f"{name}={size}: must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be at least 0 and below 1")
        self.masked, channels = masked, channels_of(input_shape, masked)
        between = dropout if layers > 1 else 0.0
        self.layers = CELLS[cell](channels, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden if bidirectional else hidden, outputs)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map `[B, T, C]` to `[B, outputs]`. `lengths` `int64 [B]`: steps of each sequence before its padding; by default all."""
        outputs: Tensor = self.head(self.dropout(self._last_state(*split_mask(inputs, lengths, self.masked))))
        return outputs

    def _last_state(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last layer's hidden state `[B, F]` after the last step; of both directions if bidirectional."""
        if not self.layers.bidirectional:
            states, _ = self.layers(inputs)  # [B, T, F]
            last: Tensor = states[:, -1] if lengths is None else _at(states, lengths - 1)
            return last
        if lengths is not None and torch.compiler.is_exporting():  # packed sequences have no graph
            return self._without_packing(inputs, lengths)
        sequences = inputs if lengths is None else pack_padded_sequence(inputs, lengths.cpu(), True, enforce_sorted=False)
        _, state = self.layers(sequences)
        final = state[0] if isinstance(state, tuple) else state  # [layers * directions, B, F]
        return torch.cat([*final[-2:]], dim=-1)

    def _without_packing(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the final states of both directions `[B, 2 * F]`; the second one reads each sequence from its last step."""
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        last = lengths[:, None] - 1
        backwards = torch.where(steps > last, steps, last - steps)  # [B, T]
        features = inputs
        for forwards, reverse in zip(self.layers.all_weights[::2], self.layers.all_weights[1::2], strict=True):
            one, other = self._direction(features, forwards), self._direction(_reorder(features, backwards), reverse)
            final = torch.cat([_at(one, lengths - 1), _at(other, lengths - 1)], dim=-1)
            features = torch.cat([one, _reorder(other, backwards)], dim=-1)
        return final

    def _direction(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return the states `[B, T, F]` of one direction of one layer."""
        start, own = inputs.new_zeros(1, inputs.shape[0], self.layers.hidden_size), list(weights)
        if isinstance(self.layers, nn.LSTM):
            return torch.lstm(inputs, (start, start), own, True, 1, 0.0, False, False, True)[0]
        return torch.gru(inputs, start, own, True, 1, 0.0, False, False, True)[0]


def _at(states: Tensor, step: Tensor) -> Tensor:
    """Return one step of each sequence `[B, T, F]`."""
    return states.gather(1, step[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)


def _reorder(states: Tensor, steps: Tensor) -> Tensor:
    """Return the steps `[B, T]` of each sequence `[B, T, F]`."""
    return states.gather(1, steps.unsqueeze(-1).expand_as(states))
