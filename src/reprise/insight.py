"""What a network is made of and what it sees: layer by layer, filters, feature maps, attribution. Arrays out, nothing drawn.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels, `F` features; channels are last in all that is given and returned.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from reprise.errors import UserError

Array = npt.NDArray[np.float32]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d)
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
    receptive_field: list[int] | None
    """Input positions that one output position sees, those in the padding included; none: all of them."""


def layers(network: nn.Module, input_shape: Sequence[int]) -> list[Layer]:
    """The layers of a network in the order in which a sample passes them.

    The receptive field of a sliding layer grows by (kernel - 1) times the product of all strides before it. Source: Araujo,
    Norris and Sim 2019, Computing receptive fields of convolutional neural networks, eq. 2.
    """
    table: list[Layer] = []
    field, jump = [1] * (len(input_shape) - 1), [1] * (len(input_shape) - 1)
    flattened = False

    def note(name: str, layer: nn.Module, taken: Tensor, given: Tensor) -> None:
        nonlocal flattened
        kernel = stride = padding = None
        if isinstance(layer, (*CONVOLUTIONS, *POOLINGS)):
            kernel, stride, padding = _sliding(layer, len(jump))
            for axis in range(len(jump)):
                field[axis] += (kernel[axis] - 1) * jump[axis]
                jump[axis] *= stride[axis]
        flattened = flattened or isinstance(layer, nn.Linear | nn.LSTM | nn.GRU)
        recurrent = isinstance(layer, nn.LSTM | nn.GRU)
        shape = list(given.shape[1:])
        table.append(
            Layer(
                name=name,
                kind=type(layer).__name__,
                output=shape if flattened or recurrent else [*shape[1:], shape[0]],
                parameters=sum(weight.numel() for weight in layer.parameters()),
                multiply_adds=_multiply_adds(layer, taken, given),
                kernel=kernel,
                stride=stride,
                padding=padding,
                receptive_field=None if flattened else list(field),
            )
        )

    with _watched(network, note):
        network(torch.zeros(1, *input_shape))
    return table


def _sliding(layer: Any, axes: int) -> tuple[list[int], list[int], list[int]]:
    """Kernel, stride and padding (both sides together) of a convolution or pooling, along each axis."""
    kernel, stride = (_each(size, axes) for size in (layer.kernel_size, layer.stride))
    if layer.padding == "same":
        return kernel, stride, [width - 1 for width in kernel]
    padding = [0] * axes if layer.padding == "valid" else [2 * width for width in _each(layer.padding, axes)]
    return kernel, stride, padding


def _each(size: int | Sequence[int], axes: int) -> list[int]:
    return [size] * axes if isinstance(size, int) else list(size)


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
