"""reprise: an experiment-tracked training pipeline with exactly reproducible results."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprise.api import Run, compare, run, runs, train, train_seeds
    from reprise.errors import UserError

__all__ = ["Run", "UserError", "compare", "run", "runs", "train", "train_seeds"]

SPIN_COUNT = "1000"
"""Iterations of the waiting loop after which a GNU OpenMP thread sleeps (measured: docs/decisions/0015-threads.md).

By default, waiting threads spin for milliseconds and slow down other trainings on the same CPUs. Results do not depend on it.
libgomp reads the variable when it is loaded, so it is set here, before any module of this package imports torch.
"""
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is used: commands start without it."""
    if name not in __all__:
        raise AttributeError(f"module 'reprise' has no attribute {name!r}")
    from reprise import api, errors

    return getattr(errors if name == "UserError" else api, name)
