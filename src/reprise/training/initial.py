"""Start a training from the weights of another: load them, give the network a new head, freeze layers."""

import fnmatch
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from reprise.data.contracts import Contract
from reprise.errors import UserError
from reprise.models import efficientnet
from reprise.models.closed_form import is_closed_form

SHOWN = 4
"""Maximum number of layers that an error names."""


class Source(Contract):
    """Where initial weights come from, as a run records it."""

    name: str
    """The name of their run, of their experiment in the pipeline, or of the published network."""
    sha256: str
    """The hash of the file."""
    labels: list[str]
    """The classes or target channels of the outputs, in order; empty for a published network."""
    run_id: str = ""
    """The run that trained them; "" for a published network, and for weights of the pipeline whose run is not in this project."""
    is_published: bool = False
    """Whether the file is that of a published network (PyTorch), not of a run (safetensors)."""
    val_overlap: int = 0
    """The number of samples or rows of val that they were trained on."""


@dataclass(frozen=True)
class InitialWeights:
    """The weights that a training starts from."""

    source: Source
    file: Path


def start_from(network: nn.Module, initial: InitialWeights, labels: Sequence[str]) -> list[str]:
    """Load weights into a network. Return the names of the parameters of its new head.

    The output layer keeps its own initialisation if its labels or their order differ from those of the weights, or its shape
    does. All other layers must fit.

    Raises:
        UserError: if layers differ, with their names; if the network is computed in closed form.

    """
    if is_closed_form(network):
        raise UserError(
            f"init_from={initial.source.name}: {type(network).__name__} is computed in closed form, not trained from weights"
        )
    weights, own = _read(initial), network.state_dict()
    head = [name for name in own if name.rpartition(".")[0] == output_layer(network)]
    is_new = list(labels) != list(initial.source.labels) or any(_shape(weights, name) != _shape(own, name) for name in head)
    differing = [
        name for name in {**own, **weights} if not (is_new and name in head) and _shape(own, name) != _shape(weights, name)
    ]
    if differing:
        more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        layers = ", ".join(f"{name} ({_shape(weights, name)} there, {_shape(own, name)} here)" for name in differing[:SHOWN])
        raise UserError(
            f"init_from={initial.source.name}: its layers are others: {layers}{more}", "use its model section, or omit init_from"
        )
    network.load_state_dict({name: own[name] if is_new and name in head else tensor for name, tensor in weights.items()})
    return head if is_new else []


def output_layer(network: nn.Module) -> str:
    """Return the name of the last layer with parameters, which computes the outputs."""
    names: list[str] = [name for name, module in network.named_modules() if list(module.parameters(recurse=False))]
    return names[-1]


def freeze(network: nn.Module, patterns: Sequence[str], new: Sequence[str]) -> None:
    """Exclude parameters from training. Of normalisation layers with frozen parameters, `Learner` also keeps the statistics.

    Args:
        network: the network.
        patterns: of parameter names, with `*` and `?`: `blocks.0.*`.
        new: the names of the parameters of a new head, which must be trained.

    Raises:
        UserError: if a pattern matches no parameter, or one of a new head, or if nothing is left to train.

    """
    parameters = dict(network.named_parameters())
    for pattern in patterns:
        matched = [name for name in parameters if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            layers = dict.fromkeys(".".join(name.split(".")[:2]) for name in parameters)
            raise UserError(f"freeze={pattern}: matches no parameter", f"there are {', '.join(f'{one}.*' for one in layers)}")
        if head := next((name for name in matched if name in new), None):
            raise UserError(f"freeze={pattern}: matches {head}, which is new and has to be trained", "name other layers")
        for name in matched:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError("freeze: no parameter is left to train")


def _read(initial: InitialWeights) -> Mapping[str, Tensor]:
    content = initial.file.read_bytes()
    if hashlib.sha256(content).hexdigest() != initial.source.sha256:
        raise UserError(f"{initial.file} is not what init_from={initial.source.name} names (sha256 differs)")
    if not initial.source.is_published:
        return safetensors.torch.load(content)
    published: Mapping[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return efficientnet.from_published(published)


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    """Return the shape of a tensor, as text; "absent" if there is none."""
    if name not in tensors:
        return "absent"
    return " x ".join(map(str, tensors[name].shape)) or "a number"
