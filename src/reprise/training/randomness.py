"""The random generators of a process: PyTorch's, CUDA's, Python's, NumPy's."""

import random
from typing import Any

import numpy as np
import torch


def seed(value: int) -> None:
    """Seed all generators."""
    torch.manual_seed(value)  # CUDA's too
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 -- a plugin may use the global generator


def state(device: torch.device) -> dict[str, Any]:
    """Return the state of all generators as plain containers and tensors."""
    version, words, normal = random.getstate()
    _, keys, position, has_normal, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, list(words), normal],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_normal), float(cached)],
    }


def restore(saved: dict[str, Any], device: torch.device) -> None:
    """Restore what `state` returned."""
    torch.set_rng_state(saved["torch"])
    if saved["device"] is not None:
        torch.cuda.set_rng_state(saved["device"], device)
    version, words, normal = saved["python"]
    random.setstate((version, tuple(words), normal))
    keys, position, has_normal, cached = saved["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_normal, cached))  # noqa: NPY002
