"""What a network is made of and what it sees: layer by layer, filters, feature maps, attribution. Arrays out, nothing drawn.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels, `F` features; channels are last in all that is given and returned.
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

Array = npt.NDArray[np.float32]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
SLIDING = (*CONVOLUTIONS, *POOLINGS)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
CHANNELS_FIRST = (
    *SLIDING,
    *ADAPTIVE,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.GroupNorm,
    nn.Upsample,
)
"""Layers that read `[B, C, …]`, whatever came before."""
WHOLE = (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention)
"""Layers of which each output position sees the whole input."""
STEPS = 64
"""Points on the way from black to the image at which integrated gradients are taken."""


@dataclass(frozen=True)
class Layer:
    """One line of the layer table. What has an extent along each axis of the input is a list: rows and columns, or time."""

    name: str
    kind: str
    output: list[int]
    """Shape of one sample's output, channels last."""
    parameters: int
    multiply_adds: int
    """Of one sample passing once; convolutions, linear and recurrent layers are counted, what is done to each number is not."""
    kernel: list[int] | None
    stride: list[int] | None
    padding: list[int] | None
    """In all, on both sides together."""
    dilation: list[int] | None
    receptive_field: list[int] | Literal["unknown"] | None
    """Input positions that one output position sees, those in the padding included; none: all of them.

    Unknown after layers that rearrange positions (upsampling, transposed convolution, uneven adaptive pooling).
    """


def layers(network: nn.Module, input_shape: Sequence[int]) -> list[Layer]:
    """Return the layers of a network in the order in which a sample passes them.

    The receptive field of a sliding layer grows by (kernel - 1) * dilation times the product of all strides before it. Source:
    Araujo, Norris and Sim 2019, Computing receptive fields of convolutional neural networks, eq. 2. Where branches meet (a
    residual sum, a concatenation), the largest of them counts.
    """
    table: list[Layer] = []
    ones = (1,) * (len(input_shape) - 1)
    inputs = torch.zeros(1, *input_shape)
    flow = _Flow(inputs, _Signal(list(input_shape), channels_first=False, field=ones, jump=ones))

    def note(name: str, layer: nn.Module, taken: Tensor, given: Tensor) -> None:
        signal = flow.through(layer, taken, given)
        kernel, stride, padding, dilation = _sliding(layer, given.dim() - 2) if isinstance(layer, SLIDING) else (None,) * 4
        table.append(
            Layer(
                name=name,
                kind=type(layer).__name__,
                output=[*signal.shape[1:], signal.shape[0]] if signal.channels_first else signal.shape,
                parameters=sum(weight.numel() for weight in layer.parameters()),
                multiply_adds=_multiply_adds(layer, taken, given),
                kernel=kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                receptive_field=list(signal.field) if isinstance(signal.field, tuple) else signal.field,
            )
        )

    with _watched(network, note):
        network(inputs)
    return table


@dataclass(frozen=True)
class _Signal:
    """What is known of one sample's tensor on its way: shape, layout, and the inputs that one of its positions sees."""

    shape: list[int]
    channels_first: bool
    field: tuple[int, ...] | Literal["unknown"] | None
    """Along each axis of the input; None: all of it."""
    jump: tuple[int, ...]
    """Input positions between neighbours."""


class _Flow:
    """The tensors that layers give and take, recognised again by identity or by shared memory (a view)."""

    def __init__(self, inputs: Tensor, start: _Signal) -> None:
        self.latest = start
        self.known = [(inputs, start)]
        self.open: list[_Signal] = []
        """Given by a layer, taken by none so far: the branches that a computation outside of layers joins."""

    def through(self, layer: nn.Module, taken: Tensor, given: Tensor) -> _Signal:
        before = self._arriving(taken)
        after = _passed(layer, before, taken, given)
        self.known += [(taken, before), (given, after)]
        self.open.append(after)
        self.latest = after
        return after

    def _arriving(self, taken: Tensor) -> _Signal:
        shape = list(taken.shape[1:])
        for tensor, signal in reversed(self.known):
            if tensor.untyped_storage().data_ptr() == taken.untyped_storage().data_ptr():
                self.open = [other for other in self.open if other is not signal]
                turned = _is_turned(signal.shape, shape) and (taken.stride() != tensor.stride() or shape != signal.shape)
                return replace(signal, shape=shape, channels_first=signal.channels_first != turned)
        joined = self.open or [self.latest]
        turned = shape != self.latest.shape and _is_turned(self.latest.shape, shape)
        self.open = []
        return _Signal(shape, self.latest.channels_first != turned, _widest(joined), self.latest.jump)


def _is_turned(before: list[int], after: list[int]) -> bool:
    """Whether channels were moved from one end to the other."""
    return len(before) > 1 and after in ([*before[1:], before[0]], [before[-1], *before[:-1]])


def _widest(signals: Sequence[_Signal]) -> tuple[int, ...] | Literal["unknown"] | None:
    fields = [signal.field for signal in signals]
    if None in fields:
        return None
    known = [field for field in fields if isinstance(field, tuple)]
    return tuple(map(max, *known, known[0])) if len(known) == len(fields) else "unknown"


def _passed(layer: nn.Module, before: _Signal, taken: Tensor, given: Tensor) -> _Signal:
    """What a layer makes of the tensor it takes."""
    shape, axes = list(given.shape[1:]), len(before.jump)
    if isinstance(layer, CHANNELS_FIRST):
        before = replace(before, channels_first=True)
    if isinstance(layer, WHOLE) or given.dim() != axes + 2:
        return replace(before, shape=shape, channels_first=False, field=None)
    if isinstance(layer, nn.Linear):
        return replace(before, shape=shape, channels_first=False)
    space, wider = ([*one.shape[2:]] if before.channels_first else [*one.shape[1:-1]] for one in (taken, given))
    if not isinstance(layer, SLIDING):
        keeps = space == wider or type(layer).__name__[:-2].endswith("Pad")  # ZeroPad2d and its kind
        whole = isinstance(layer, ADAPTIVE) and set(wider) == {1}
        return replace(before, shape=shape, field=None if whole else before.field if keeps or before.field is None else "unknown")
    if not isinstance(before.field, tuple):
        return replace(before, shape=shape)
    kernel, stride, _, dilation = _sliding(layer, axes)
    field = tuple(
        seen + (width - 1) * spread * jump
        for seen, width, spread, jump in zip(before.field, kernel, dilation, before.jump, strict=True)
    )
    return replace(
        before, shape=shape, field=field, jump=tuple(jump * step for jump, step in zip(before.jump, stride, strict=True))
    )


def _sliding(layer: Any, axes: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, stride, padding (both sides together) and dilation of a convolution or pooling, along each axis."""
    kernel, stride, dilation = (_each(size, axes) for size in (layer.kernel_size, layer.stride, getattr(layer, "dilation", 1)))
    if layer.padding == "same":
        return kernel, stride, [(width - 1) * spread for width, spread in zip(kernel, dilation, strict=True)], dilation
    padding = [0] * axes if layer.padding == "valid" else [2 * width for width in _each(layer.padding, axes)]
    return kernel, stride, padding, dilation


def _each(size: int | Sequence[int], axes: int) -> list[int]:
    return [size] * axes if isinstance(size, int) else list(size) * (axes if len(size) == 1 else 1)


def _multiply_adds(layer: nn.Module, taken: Tensor, given: Tensor) -> int:
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return given[0].numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    if isinstance(layer, nn.Linear):
        return given[0].numel() * layer.in_features
    if isinstance(layer, nn.LSTM | nn.GRU):
        return taken.shape[1] * sum(weight.numel() for name, weight in layer.named_parameters() if name.startswith("weight"))
    return 0


@contextlib.contextmanager
def _watched(network: nn.Module, note: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """In evaluation, and `note` is told of each layer when it is first passed: its name, itself, what it takes, what it gives.

    The name is the last part of its path where no other layer is called so, else the whole path.
    """
    training = network.training
    network.eval()
    hooks, passed = [], set[str]()
    paths = {path: layer for path, layer in network.named_modules() if next(layer.children(), None) is None}
    called = Counter(path.rpartition(".")[2] for path in paths)
    for path, layer in paths.items():
        last = path.rpartition(".")[2]
        unique = last if called[last] == 1 else path

        def hook(layer: nn.Module, taken: Any, given: Any, name: str = unique) -> None:
            if name not in passed:
                passed.add(name)
                note(name, layer, taken[0], given[0] if isinstance(given, tuple) else given)

        hooks.append(layer.register_forward_hook(hook))
    try:
        with torch.no_grad():
            yield
    finally:
        for one in hooks:
            one.remove()
        network.train(training)


def first_filters(network: nn.Module) -> Array | None:
    """The weights of the first convolution over images, `float32 [F, height, width, C]`; none: there is no such layer."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.weight.detach().permute(0, 2, 3, 1).cpu().float().numpy()
    return None


def feature_maps(network: nn.Module, inputs: Tensor) -> dict[str, Array]:
    """What every convolution gives after its activation, `float32 [B, …, F]` by the convolution's name."""
    maps: dict[str, Array] = {}
    latest = ""

    def note(name: str, layer: nn.Module, taken: Tensor, given: Tensor) -> None:
        nonlocal latest
        if isinstance(layer, CONVOLUTIONS):
            latest = name
        elif isinstance(layer, (*POOLINGS, nn.Linear)):
            latest = ""
        if latest:  # a later layer of the block, its normalisation or activation, takes the place
            maps[latest] = given.movedim(1, -1).float().cpu().numpy()

    with _watched(network, note):
        network(inputs)
    return maps


def attribution(network: nn.Module, inputs: Tensor, classes: Tensor, black: Tensor) -> Array:
    """How much each input speaks for the class asked about `[B]`: integrated gradients of its logit, `float32` like `inputs`.

    They sum up to the logit of the image less that of `black` (like one input). Source: Sundararajan, Taly and Yan 2017.
    """
    from captum.attr import IntegratedGradients  # late: seconds, and only pictures need it

    network.eval()
    found: Tensor = IntegratedGradients(network).attribute(
        inputs, black.expand_as(inputs), target=classes, n_steps=STEPS, internal_batch_size=256
    )
    return found.detach().float().cpu().numpy()


def demand_images(input_shape: Sequence[int], name: str) -> None:
    """Pictures of what a network sees are made for images."""
    if len(input_shape) != 3:
        raise UserError(f"{name} reads sequences of shape {list(input_shape)}, not images", "name a run on images")
