"""Layers for a stack: with the parameters of those of PyTorch that `torch.vmap` cannot compute, or computes slowly.

Shapes: `B` batch, `T` time steps, `C` channels, `F` hidden features.
"""

from typing import cast, final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""Names of the parameters of a recurrent layer, before its number."""


def stackable(module: nn.Module) -> nn.Module:
    """Return the module with such layers replaced, in place. Parameters and their names stay.

    Raises:
        ValueError: if a layer has no replacement.

    """
    if type(module) in (nn.LSTM, nn.GRU):
        return UnrolledLayers(cast("nn.LSTM | nn.GRU", module))
    if type(module) is nn.Linear:
        return FlatLinear(module)
    for name, child in module.named_children():
        setattr(module, name, stackable(child))
    return module


@final
class FlatLinear(nn.Module):
    """A linear layer that makes its input two-dimensional: else `vmap` copies the weights for each row of a batch."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `[…, outputs]`."""
        rows = F.linear(inputs.reshape(-1, inputs.shape[-1]), self.weight, self.bias)
        return torch.unflatten(rows, 0, inputs.shape[:-1])


@final
class UnrolledLayers(nn.Module):
    """LSTM or GRU layers as matrix products, step by step: `vmap` has no rule for PyTorch's.

    Only the states of the last layer are returned; what PyTorch returns besides is None.
    """

    bidirectional = False

    def __init__(self, layers: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        if layers.bidirectional or not layers.batch_first or not layers.bias or layers.proj_size:
            kind = type(layers).__name__
            raise ValueError(f"{kind}: only layers of one direction, with batch_first and biases, are replaced")
        self.is_lstm = isinstance(layers, nn.LSTM)
        self.layers, self.hidden_size, self.dropout = layers.num_layers, layers.hidden_size, layers.dropout
        for name, parameter in layers.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        """Return the hidden states `[B, T, F]` of sequences `[B, T, C]`."""
        layer = self._lstm if self.is_lstm else self._gru
        states = inputs
        for number in range(self.layers):
            if number and self.dropout:
                states = F.dropout(states, self.dropout, self.training)
            states = layer(states, *(getattr(self, f"{name}_l{number}") for name in WEIGHTS))
        return states, None

    def _lstm(self, inputs: Tensor, weight_in: Tensor, weight: Tensor, bias_in: Tensor, bias: Tensor) -> Tensor:
        """Return the hidden states of one layer (the equations of `torch.nn.LSTM`)."""
        hidden = cell = inputs.new_zeros(len(inputs), self.hidden_size)
        states = []
        for given in _over_time(inputs, weight_in, bias_in + bias):
            enter, forget, new, leave = (given + hidden @ weight.T).chunk(4, -1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = leave.sigmoid() * cell.tanh()
            states.append(hidden)
        return torch.stack(states, 1)

    def _gru(self, inputs: Tensor, weight_in: Tensor, weight: Tensor, bias_in: Tensor, bias: Tensor) -> Tensor:
        """Return the hidden states of one layer (the equations of `torch.nn.GRU`)."""
        hidden = inputs.new_zeros(len(inputs), self.hidden_size)
        states = []
        for given in _over_time(inputs, weight_in, bias_in):
            reset_in, update_in, new_in = given.chunk(3, -1)
            reset, update, new = (hidden @ weight.T + bias).chunk(3, -1)
            kept = (update_in + update).sigmoid()
            candidate = (new_in + (reset_in + reset).sigmoid() * new).tanh()
            hidden = (1 - kept) * candidate + kept * hidden
            states.append(hidden)
        return torch.stack(states, 1)


def _over_time(inputs: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Return the products of the inputs `[B, T, C]` and the weights, `[B, outputs]` for each step."""
    return torch.unflatten(F.linear(inputs.flatten(0, 1), weight, bias), 0, inputs.shape[:2]).unbind(1)
