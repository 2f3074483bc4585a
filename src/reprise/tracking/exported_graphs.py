"""Graphs of torch.export, traced once for all networks of the same structure.

Tracing takes a second or two, as long as the training of a small network. The seeds of an experiment differ only in their
weights, so they can share the graph of the first. A graph holds everything else that the network computes with as constants.
Therefore it is reused only if all other attributes of the networks are equal, and if it computes the same bits for the example.
"""

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

MOST_PARAMETERS = 2**24
"""Graphs of larger networks are not kept: a graph holds a copy of the weights."""
_kept: dict[str, tuple[ExportedProgram, list[object]]] = {}
"""The last graph by the hash of its network, with the objects that the hash identifies by their addresses."""


def export(network: nn.Module, example: Sequence[Tensor], dynamic_shapes: Any) -> ExportedProgram:
    """Return `torch.export.export(network, example, dynamic_shapes)`. The result is valid until the next call."""
    weights = network.state_dict(keep_vars=True)
    hashed = _Hash(weights.values())
    hashed.add([repr(dynamic_shapes), list(example), network])
    key = hashed.digest.hexdigest()
    if key in _kept and _with_weights(_kept[key][0], weights, network, example):
        return _kept[key][0]
    _kept.clear()
    own = _copied(network, weights)  # the weights of a kept graph are overwritten
    program = torch.export.export(network if own is None else own, tuple(example), dynamic_shapes=dynamic_shapes)
    if own is not None:
        _kept[key] = program, hashed.identified
    return program


def _copied(network: nn.Module, weights: dict[str, Any]) -> nn.Module | None:
    """Return a copy of a network, or None if it is large or cannot be copied."""
    if sum(weight.numel() for weight in weights.values() if isinstance(weight, Tensor)) > MOST_PARAMETERS:
        return None
    try:
        return copy.deepcopy(network)
    except Exception:  # each class raises its own
        return None


def _with_weights(program: ExportedProgram, weights: dict[str, Any], network: nn.Module, example: Sequence[Tensor]) -> bool:
    """Put weights into a graph. Return whether it computes what the network does."""
    if not program.state_dict.keys() <= weights.keys():
        return False
    with torch.no_grad():
        for name, weight in program.state_dict.items():
            weight.copy_(weights[name])
        return torch.equal(program.module()(*example), network(*example))


class _Hash:
    """A hash of Python objects, tensors and modules, without the values of some tensors: the weights.

    Functions, classes and objects that cannot be pickled are equal only to themselves.
    """

    def __init__(self, weights: Iterable[object]) -> None:
        self.weights = {id(weight) for weight in weights}
        self.digest = hashlib.sha256()
        self.seen: dict[int, tuple[int, object]] = {}
        """Number of each object by id. The object is kept as well, because the id of a deleted one can be used again."""
        self.identified: list[object] = []
        """Objects of which only the id was added."""

    def add(self, value: Any) -> None:
        if value is None or isinstance(value, str | bytes | int | float | complex | torch.dtype | torch.device):
            self._write(type(value).__name__, repr(value))
        elif isinstance(value, type | FunctionType | BuiltinFunctionType):
            self._add_id(value)
        elif id(value) in self.seen:
            self._write("again", self.seen[id(value)][0])
        else:
            self.seen[id(value)] = len(self.seen), value
            self._add_id(type(value))
            self._add_parts(value)

    def _add_parts(self, value: Any) -> None:
        match value:
            case Tensor():
                self._write(value.dtype, tuple(value.shape), value.device, value.requires_grad)
                if id(value) not in self.weights:
                    self.digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            case np.ndarray() if value.dtype != object:
                self._write(value.dtype, value.shape)
                self.digest.update(value.tobytes())
            case dict():
                self._add_all([part for pair in value.items() for part in pair])
            case list() | tuple():
                self._add_all(value)
            case _:
                self._add_pickled(value)

    def _add_pickled(self, value: object) -> None:
        """Add the parts from which pickle makes an object again: constructor, arguments, state, items and pairs."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception:  # each class raises its own
            self._add_id(value)
            return
        self._add_all([list(part) if isinstance(part, Iterator) else part for part in parts])

    def _add_id(self, value: object) -> None:
        self.identified.append(value)
        self._write("id", id(value))

    def _add_all(self, values: Sequence[Any]) -> None:
        self._write(len(values))
        for one in values:
            self.add(one)

    def _write(self, *values: object) -> None:
        self.digest.update(repr([str(value) for value in values]).encode())
