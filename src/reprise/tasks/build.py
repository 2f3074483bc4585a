"""Build the parts of a model from a config: the task, the network, and the input transform."""

import torch
from torch import nn

from reprise.config import Config, build
from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import InputTransform
from reprise.data.modality import tensors_of
from reprise.errors import UserError
from reprise.models.channels import TargetChannels
from reprise.models.closed_form import is_closed_form
from reprise.models.recursive import Recursive
from reprise.tasks.task import Task

IMAGE_DIMENSIONS = 3
"""Length of the shape `[H, W, C]` of an image."""
QUANTILE_DIMENSIONS = 3
"""Length of the shape `[S, Y, Q]` of quantile forecasts."""


def build_task(config: Config, meta: WindowsMeta) -> Task:
    """Return the task for the data that windows.json describes."""
    task: Task = build(config.task, "task", config.plugins, meta=meta)
    return task


def build_network(config: Config, meta: WindowsMeta, task: Task) -> nn.Module:
    """Return the network, initialised from the seed.

    Its constructor gets `input_shape` and `outputs` and, if it has parameters of these names, `output_shape` (of one sample)
    and the `network_arguments` of windows.json.

    Raises:
        UserError: if the data have covariates that the network would not read.

    """
    torch.manual_seed(config.seed)
    offered = {"output_shape": list(task.output_shape), **meta.network_arguments()}
    given = {"input_shape": list(meta.input_shape), "outputs": task.outputs}
    network: nn.Module = build(config.model, "model", config.plugins, offered=offered, **given)
    if (covariates := meta.covariates()) and any(isinstance(part, TargetChannels) for part in network.modules()):
        raise UserError(
            f"model: {type(network).__name__} forecasts a target from its own past, and does not read {' and '.join(covariates)}",
            "choose model=lstm, gru, cnn1d or resnet1d, or leave them out",
        )
    _check_quantiles(config, network, task)
    _check_class_weights(config, network)
    if isinstance(network, Recursive) and getattr(task, "predict_delta", False):
        raise UserError("task.predict_delta=true: model=recursive reads its forecasts as values", "set task.predict_delta=false")
    if len(meta.input_shape) == IMAGE_DIMENSIONS:  # batches have four dimensions
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _check_quantiles(config: Config, network: nn.Module, task: Task) -> None:
    """Raise UserError if quantiles are asked of a network that has one output for each step and channel."""
    if len(task.output_shape) == QUANTILE_DIMENSIONS and any(
        isinstance(part, TargetChannels | Recursive) for part in network.modules()
    ):
        name = config.model.target.rpartition(".")[2]
        raise UserError(
            f"task.quantiles: {name} forecasts one value for each step and channel",
            "use model=lstm, gru, cnn1d or resnet1d, or leave task.quantiles out: `evaluate` calibrates intervals of any model",
        )


def _check_class_weights(config: Config, network: nn.Module) -> None:
    """Raise UserError if weights of classes are asked of a network, or a part of one, that is computed in closed form."""
    if config.task.class_weights and (parts := [part for part in network.modules() if is_closed_form(part)]):
        raise UserError(
            f"task.class_weights: {type(parts[-1]).__name__} is computed in closed form, without a loss that could be weighted",
            "choose a model that is trained by steps, or leave task.class_weights out",
        )


def build_transform(meta: WindowsMeta) -> InputTransform:
    """Return the transform from raw inputs to network inputs."""
    return tensors_of(meta.kind).input_transform(meta)
