"""Recurrent networks: the output is computed from the hidden state after the last input step.

Shapes: `B` batch, `T` time steps, `C` channels, `F` hidden features.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

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
        self.layers = CELLS[cell](input_shape[-1], hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, outputs]`."""
        states, _ = self.layers(inputs)  # [B, T, F]
        forecast: Tensor = self.head(self.dropout(states[:, -1]))
        return forecast
