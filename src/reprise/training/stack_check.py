"""Compare the first steps of a stack with those of its networks alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from reprise.data.datasets import Batch
from reprise.tasks.task import Task
from reprise.training.stack import Stack, StackedTask, for_all

STEPS = 2
"""Steps that are compared: the second one has the state of the optimizer, and biases that are no longer 0."""
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Largest relative difference, by the precision of the networks."""
STEP_TOLERANCE = 1e-5
"""Largest relative difference of the weights after a step from equal gradients."""
ROUNDING = 1_000
"""Multiple of the machine epsilon up to which values are equal to 0."""
DROPOUTS = (
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout),
    torch.feature_dropout,
)
"""Functions whose result is their input here."""
RANDOM = (torch.rand, torch.rand_like, torch.randn, torch.randn_like, torch.bernoulli)
"""Functions whose result is 0.5 here."""


@final
class WithoutRandomness(TorchFunctionMode):
    """Dropout returns its input, and other random numbers are 0.5: a stack does not draw the numbers of a network alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of PyTorch."""
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        result = func(*args, **(kwargs or {}))
        return torch.full_like(result, 0.5) if func in RANDOM else result


def difference(
    members: Sequence[nn.Module],
    task: Task,
    batch: Batch,
    optimizer_alone: Callable[[nn.Module], Optimizer],
    optimizer_of_stack: Callable[[Stack], Optimizer],
    dtype: torch.dtype,
) -> str | None:
    """Train networks for some steps on a batch, in a stack and alone, and return the first difference; None if there is none.

    Raises:
        Exception: whatever a network or `torch.vmap` raises.

    """
    for module in (module for member in members for module in member.to(dtype).modules()):
        if isinstance(getattr(module, "dropout", None), float):
            vars(module)["dropout"] = 0.0  # that of recurrent layers and of attention, inside of functions of PyTorch
    inputs, targets = (tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in (batch.inputs, batch.targets))
    stack, stacked_task = Stack(members), StackedTask(task, len(members))
    optimizers = [optimizer_alone(member.train()) for member in members]
    stacked_inputs, stacked_targets, optimizer = (
        for_all(inputs, stack.size),
        for_all(targets, stack.size),
        optimizer_of_stack(stack),
    )
    stack.train()
    for _ in range(STEPS):
        with WithoutRandomness():
            outputs = _step(stack, stacked_task, stacked_inputs, stacked_targets)
            alone = [_step(member, task, inputs, targets) for member in members]
        if other := _other(stack, members, outputs, torch.stack(alone, 1), TOLERANCES[dtype]):
            return other
        _copy_gradients(stack, members)
        for one in (optimizer, *optimizers):
            one.step()
            one.zero_grad()
        for own, expected in zip(_of_each(stack, _parameters(stack.member)), map(_parameters, members), strict=True):
            if name := _first(own, expected, STEP_TOLERANCE):
                return f"weights after a step ({name})"
    stack.eval()
    with torch.no_grad():
        alone = [member.eval()(inputs) for member in members]
        return None if _equal(stack(stacked_inputs), torch.stack(alone, 1), TOLERANCES[dtype]) else "outputs"


def _step(network: nn.Module, task: Task | StackedTask, inputs: Tensor, targets: Tensor) -> Tensor:
    """Add the gradient of a batch, and return the outputs."""
    outputs: Tensor = network(inputs)
    task.loss(task.decode(outputs, inputs), targets).backward()
    return outputs.detach()


def _other(stack: Stack, members: Sequence[nn.Module], outputs: Tensor, alone: Tensor, tolerance: float) -> str | None:
    """Return what differs after a forward and a backward pass in training."""
    if not _equal(outputs, alone, tolerance):
        return "outputs in training"
    gradients = _of_each(stack, _gradients(stack.member))
    for own, expected in zip(gradients, map(_gradients, members), strict=True):
        scale = max((float(one.abs().max()) for one in expected.values() if one.numel()), default=0.0)
        if name := _first(own, expected, tolerance, scale):
            return f"gradients ({name})"
    for own, expected in zip(_of_each(stack, _buffers(stack.member)), map(_buffers, members), strict=True):
        if name := _first(own, expected, tolerance):
            return f"buffers ({name})"
    return None


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def _gradients(network: nn.Module) -> dict[str, Tensor]:
    """Return the gradient of each parameter, 0 if it has none."""
    return {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in network.named_parameters()}


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_buffers())


def _of_each(stack: Stack, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the tensors of each member."""
    return [
        {name: tensor if name in stack.shared else tensor[member] for name, tensor in tensors.items()}
        for member in range(stack.size)
    ]


def _copy_gradients(stack: Stack, members: Sequence[nn.Module]) -> None:
    """Give networks the gradients of their stack: some optimizers divide a gradient by its size, which would enlarge rounding."""
    for own, member in zip(_of_each(stack, _gradients(stack.member)), members, strict=True):
        for name, parameter in member.named_parameters():
            if parameter.grad is not None:
                parameter.grad.copy_(own[name])


def _first(own: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float, scale: float | None = None) -> str | None:
    """Return the name of the first tensor that differs."""
    names = [*own, *(name for name in expected if name not in own)]
    return next(
        (
            name
            for name in names
            if name not in own or name not in expected or not _equal(own[name], expected[name], tolerance, scale)
        ),
        None,
    )


def _equal(one: Tensor, other: Tensor, tolerance: float, scale: float | None = None) -> bool:
    """Return whether tensors differ by at most the tolerance, relative to `scale`, by default the largest value."""
    if one.shape != other.shape or not one.is_floating_point() or not one.numel():
        return torch.equal(one, other)
    size = float(other.abs().max()) if scale is None else scale
    least = ROUNDING * torch.finfo(one.dtype).eps
    return torch.allclose(one, other, rtol=tolerance, atol=max(tolerance * size, least), equal_nan=True)
