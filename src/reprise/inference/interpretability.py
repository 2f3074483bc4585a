"""Layer table, filters, feature maps and attributions of a network, as arrays. `reprise.figures.network` draws them.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels, `F` features. Arguments and results are channels last.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from reprise.errors import UserError
from reprise.inference.attribution import integrated_gradients, recurrent_gradients

Array = npt.NDArray[np.float32]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
SLIDING = (*CONVOLUTIONS, *POOLINGS)
ADAPTIVE = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
CHANNELS_FIRST = (
    *SLIDING,
    *ADAPTIVE,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.Upsample,
)
"""Layers whose input is `[B, C, …]`."""
GLOBAL_LAYERS = (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)
"""Layers whose output positions each depend on the whole input."""


@dataclass(frozen=True)
class Layer:
    """A row of the layer table. Lists have one entry per input axis: rows and columns, or time."""

    name: str
    kind: str
    output: list[int]
    """Shape of one sample's output, channels last."""
    parameters: int
    multiply_adds: int
    """Multiply-adds per sample of convolutions, linear and recurrent layers. Element-wise operations are not counted."""
    kernel: list[int] | None
    stride: list[int] | None
    padding: list[int] | None
    """Sum of both sides."""
    dilation: list[int] | None
    receptive_field: list[int] | Literal["unknown"] | None
    """Input positions, including padding, that one output position depends on. None: all of them.

    Unknown after layers that rearrange positions (upsampling, transposed convolution, uneven adaptive pooling).
    """


def layers(network: nn.Module, inputs: Tensor) -> list[Layer]:
    """Return the layers of a network in the order of execution, for one input `[1, …]` of any dtype.

    A sliding layer increases the receptive field by (kernel - 1) * dilation times the product of all strides before it. Source:
    Araujo, Norris and Sim 2019, Computing receptive fields of convolutional neural networks, eq. 2. If branches join (a
    residual sum, a concatenation), the result is the largest receptive field of the branches.
    """
    table: list[Layer] = []
    input_shape = list(inputs.shape[1:])
    ones = (1,) * (len(input_shape) - 1)
    tracker = _SignalTracker(inputs, _Signal(list(input_shape), channels_first=False, field=ones, jump=ones))

    def record(name: str, layer: nn.Module, layer_input: Tensor, layer_output: Tensor) -> None:
        signal = tracker.advance(layer, layer_input, layer_output)
        kernel, stride, padding, dilation = _sliding(layer, layer_output.dim() - 2) if isinstance(layer, SLIDING) else (None,) * 4
        table.append(
            Layer(
                name=name,
                kind=type(layer).__name__,
                output=[*signal.shape[1:], signal.shape[0]] if signal.channels_first else signal.shape,
                parameters=sum(weight.numel() for weight in layer.parameters()),
                multiply_adds=_multiply_adds(layer, layer_input, layer_output),
                kernel=kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                receptive_field=list(signal.field) if isinstance(signal.field, tuple) else signal.field,
            )
        )

    with _recording(network, record):
        network(inputs)
    return table


@dataclass(frozen=True)
class _Signal:
    """Shape, layout and receptive field of a tensor between layers, for one sample."""

    shape: list[int]
    channels_first: bool
    field: tuple[int, ...] | Literal["unknown"] | None
    """Receptive field along each input axis; None: the whole input."""
    jump: tuple[int, ...]
    """Distance of neighbouring positions, in input positions."""


class _SignalTracker:
    """Tracks the inputs and outputs of layers. A tensor is recognised by its memory, so views are recognised too."""

    def __init__(self, inputs: Tensor, start: _Signal) -> None:
        self.latest = start
        self.tensors = [(inputs, start)]
        self.open: list[_Signal] = []
        """Layer outputs that no layer has used: branches that a computation outside of layers may join."""

    def advance(self, layer: nn.Module, layer_input: Tensor, layer_output: Tensor) -> _Signal:
        before = self._input_signal(layer_input)
        after = _signal_after(layer, before, layer_input, layer_output)
        self.tensors += [(layer_input, before), (layer_output, after)]
        self.open.append(after)
        self.latest = after
        return after

    def _input_signal(self, layer_input: Tensor) -> _Signal:
        shape = list(layer_input.shape[1:])
        for tensor, signal in reversed(self.tensors):
            if tensor.untyped_storage().data_ptr() == layer_input.untyped_storage().data_ptr():
                self.open = [other for other in self.open if other is not signal]
                moved = _channels_moved(signal.shape, shape) and (
                    layer_input.stride() != tensor.stride() or shape != signal.shape
                )
                return replace(signal, shape=shape, channels_first=signal.channels_first != moved)
        joined = self.open or [self.latest]
        moved = shape != self.latest.shape and _channels_moved(self.latest.shape, shape)
        self.open = []
        return _Signal(shape, self.latest.channels_first != moved, _largest_field(joined), self.latest.jump)


def _channels_moved(before: list[int], after: list[int]) -> bool:
    """Return whether the channels were moved from one end of the shape to the other."""
    return len(before) > 1 and after in ([*before[1:], before[0]], [before[-1], *before[:-1]])


def _largest_field(signals: Sequence[_Signal]) -> tuple[int, ...] | Literal["unknown"] | None:
    fields = [signal.field for signal in signals]
    if None in fields:
        return None
    known = [field for field in fields if isinstance(field, tuple)]
    return tuple(map(max, *known, known[0])) if len(known) == len(fields) else "unknown"


def _signal_after(layer: nn.Module, before: _Signal, layer_input: Tensor, layer_output: Tensor) -> _Signal:
    """Return the signal after a layer."""
    shape, axes = list(layer_output.shape[1:]), len(before.jump)
    if isinstance(layer, CHANNELS_FIRST):
        before = replace(before, channels_first=True)
    if isinstance(layer, GLOBAL_LAYERS) or layer_output.dim() != axes + 2:
        return replace(before, shape=shape, channels_first=False, field=None)
    if isinstance(layer, nn.Linear):
        return replace(before, shape=shape, channels_first=False)
    space_in, space_out = (
        [*tensor.shape[2:]] if before.channels_first else [*tensor.shape[1:-1]] for tensor in (layer_input, layer_output)
    )
    if not isinstance(layer, SLIDING):
        keeps = space_in == space_out or type(layer).__name__[:-2].endswith("Pad")  # ZeroPad2d and similar
        whole = isinstance(layer, ADAPTIVE) and set(space_out) == {1}
        return replace(before, shape=shape, field=None if whole else before.field if keeps or before.field is None else "unknown")
    if not isinstance(before.field, tuple):
        return replace(before, shape=shape)
    kernel, stride, _, dilation = _sliding(layer, axes)
    field = tuple(
        size + (width - 1) * spread * jump
        for size, width, spread, jump in zip(before.field, kernel, dilation, before.jump, strict=True)
    )
    return replace(
        before, shape=shape, field=field, jump=tuple(jump * step for jump, step in zip(before.jump, stride, strict=True))
    )


def _sliding(layer: Any, axes: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return kernel, stride, padding (sum of both sides) and dilation of a convolution or pooling, along each axis."""
    kernel, stride, dilation = (_each(size, axes) for size in (layer.kernel_size, layer.stride, getattr(layer, "dilation", 1)))
    if layer.padding == "same":
        return kernel, stride, [(width - 1) * spread for width, spread in zip(kernel, dilation, strict=True)], dilation
    padding = [0] * axes if layer.padding == "valid" else [2 * width for width in _each(layer.padding, axes)]
    return kernel, stride, padding, dilation


def _each(size: int | Sequence[int], axes: int) -> list[int]:
    return [size] * axes if isinstance(size, int) else list(size) * (axes if len(size) == 1 else 1)


def _multiply_adds(layer: nn.Module, layer_input: Tensor, layer_output: Tensor) -> int:
    if isinstance(layer, CONVOLUTIONS):
        return layer_output[0].numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    if isinstance(layer, nn.Linear):
        return layer_output[0].numel() * layer.in_features
    if isinstance(layer, nn.LSTM | nn.GRU):
        return layer_input.shape[1] * sum(
            weight.numel() for name, weight in layer.named_parameters() if name.startswith("weight")
        )
    return 0


@contextlib.contextmanager
def _recording(network: nn.Module, record: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Set the network to evaluation, and call `record(name, layer, input, output)` when a layer is first executed.

    The name is the last part of the layer's path if that is unique, else the whole path.
    """
    training = network.training
    network.eval()
    hooks, seen = [], set[str]()
    paths = {path: layer for path, layer in network.named_modules() if next(layer.children(), None) is None}
    counts = Counter(path.rpartition(".")[2] for path in paths)
    for path, layer in paths.items():
        last = path.rpartition(".")[2]
        unique = last if counts[last] == 1 else path

        def hook(layer: nn.Module, layer_input: Any, layer_output: Any, name: str = unique) -> None:
            if name not in seen:
                seen.add(name)
                record(name, layer, layer_input[0], layer_output[0] if isinstance(layer_output, tuple) else layer_output)

        hooks.append(layer.register_forward_hook(hook))
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in hooks:
            handle.remove()
        network.train(training)


def first_filters(network: nn.Module) -> Array | None:
    """Return the weights of the first 2-D convolution, `float32 [F, height, width, C]`, or None if there is none."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().permute(0, 2, 3, 1).cpu().float().numpy()
    return None


def feature_maps(network: nn.Module, inputs: Tensor) -> dict[str, Array]:
    """Return the output of every convolution after its activation, `float32 [B, …, F]`, by name of the convolution."""
    maps: dict[str, Array] = {}
    latest = ""

    def record(name: str, layer: nn.Module, layer_input: Tensor, layer_output: Tensor) -> None:
        nonlocal latest
        if isinstance(layer, CONVOLUTIONS):
            latest = name
        elif isinstance(layer, (*POOLINGS, nn.Linear)):
            latest = ""
        if latest:  # a later normalisation or activation of the block overwrites it
            maps[latest] = layer_output.movedim(1, -1).float().cpu().numpy()

    with _recording(network, record):
        network(inputs)
    return maps


def attribution(network: nn.Module, inputs: Tensor, classes: Tensor, black: Tensor) -> Array:
    """Return integrated gradients of the logits of `classes` `[B]`, `float32` in the shape of `inputs`.

    They sum to the logit of the image minus that of the baseline `black`, which has the shape of one input. Source:
    Sundararajan, Taly and Yan 2017.
    """
    network.eval()
    with recurrent_gradients(network):
        values = integrated_gradients(
            lambda batch, rows: network(batch).gather(1, classes[rows, None]), inputs, black.expand_as(inputs)
        )
    assert values is not None, "networks for images have gradients"
    return values[:, 0].astype(np.float32)


def is_image(input_shape: Sequence[int]) -> bool:
    """Return whether the shape of an input is that of an image, `[H, W, C]`."""
    return len(input_shape) == 3


def require_images(input_shape: Sequence[int], name: str) -> None:
    """Raise a UserError unless the inputs are images `[H, W, C]`."""
    if not is_image(input_shape):
        raise UserError(f"{name} reads sequences of shape {list(input_shape)}, not images", "name a run on images")
