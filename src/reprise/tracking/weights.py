"""Weights as safetensors: written atomically with their sha256, never unpickled."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from reprise.data import store
from reprise.errors import UserError


def save_weights(file: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors by name as safetensors, atomically, and their sha256 to a file next to it. Equal tensors give equal bytes.

    Tensors are copied, because safetensors rejects tensors that share memory (tied weights).
    """
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    write_hashed(file, safetensors.torch.save(copies))


def load_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors that `save_weights` wrote, by name.

    Raises:
        UserError: if the file is missing, its sha256 differs, or it is not a valid safetensors file.

    """
    content = read_hashed(file, "weights", "train again")
    try:
        return safetensors.torch.load(content)
    except Exception:  # damaged files fail in many ways: SafetensorError, KeyError of an unknown dtype, RuntimeError of a shape
        raise UserError(f"{file} contains something other than weights, and was not loaded", "train again") from None


def load_into(network: nn.Module, weights: Path, name: str) -> None:
    """Load the weights of a run into the network that its config builds.

    Raises:
        UserError: when they do not fit, because the code of the network has changed since the run.

    """
    try:
        network.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise UserError(
            f"the weights of {name} do not fit the network that its config builds now: {lines[min(1, len(lines) - 1)]}",
            "restore the code it was trained with, plugins included",
        ) from None


def write_hashed(file: Path, content: bytes) -> None:
    """Write a file atomically, and its sha256 to a file next to it."""
    store.write_atomically(file, content)
    store.write_atomically(file.with_suffix(".sha256"), f"{store.sha256(file)}  {file.name}\n".encode())


def read_hashed(file: Path, kind: str, hint: str) -> bytes:
    """Return the bytes of a file after checking them against its `.sha256` file."""
    beside = file.with_suffix(".sha256")
    if not file.is_file() or not beside.is_file():
        raise UserError(f"no {kind} {file}", "train first")
    content = file.read_bytes()
    if beside.read_bytes().split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
        raise UserError(f"{file} is not what was written (sha256 differs)", hint)
    return content
