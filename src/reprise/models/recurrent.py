"""Recurrent networks: the output is computed from the hidden state after the last input step.

Shapes: `B` batch, `T` time steps, `C` channels, `F` hidden features.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

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
        between = dropout if layers > 1 else 0.0
        self.layers = CELLS[cell](input_shape[-1], hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden if bidirectional else hidden, outputs)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map `[B, T, C]` to `[B, outputs]`. `lengths` `int64 [B]`: steps of each sequence before its padding; by default all."""
        outputs: Tensor = self.head(self.dropout(self._last_state(inputs, lengths)))
        return outputs

    def _last_state(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last layer's hidden state `[B, F]` after the last step; of both directions if bidirectional."""
        if lengths is None and not self.layers.bidirectional:
            states, _ = self.layers(inputs)  # [B, T, F]
            last: Tensor = states[:, -1]
            return last
        sequences = inputs if lengths is None else pack_padded_sequence(inputs, lengths.cpu(), True, enforce_sorted=False)
        _, state = self.layers(sequences)
        final = state[0] if isinstance(state, tuple) else state  # [layers * directions, B, F]
        return torch.cat([*final[-2:]], dim=-1) if self.layers.bidirectional else final[-1]
