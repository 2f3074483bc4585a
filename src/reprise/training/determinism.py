"""Operations without a deterministic implementation: a one-line error, or recorded (`trainer.deterministic=warn`)."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from reprise.errors import UserError, warn

_MESSAGE = r"(.+?) does not have a deterministic implementation"
"""Start of PyTorch's error and warning, with the operation (`at::Context::alertNotDeterministic`)."""


def configure(setting: bool | Literal["warn"]) -> None:
    """Set what PyTorch does at an operation without a deterministic implementation: raise, warn, or (`False`) compute it."""
    torch.set_deterministic_debug_mode("warn" if setting == "warn" else "error" if setting else "default")
    # Deterministic operations do not need it, and it fills every new tensor an extra time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if setting:
        torch.backends.cudnn.benchmark = False
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS documentation, results reproducibility


@contextmanager
def record_nondeterministic(operations: set[str]) -> Iterator[None]:
    """Add to `operations` each operation without a deterministic implementation that runs in the block, and warn once for each.

    Raises:
        UserError: naming the operation, if only deterministic ones are allowed.

    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(message: Warning | str, *location: object, **options: object) -> None:
            if match := re.match(_MESSAGE, str(message)):
                if match[1] not in operations:
                    operations.add(match[1])
                    warn(f"{match[1]} has no deterministic implementation here; two trainings may differ in their bits")
            else:
                show(message, *location, **options)  # type: ignore[arg-type]

        warnings.showwarning = record
        warnings.filterwarnings("always", message=_MESSAGE)
        try:
            yield
        except RuntimeError as error:
            if match := re.match(_MESSAGE, str(error)):
                raise UserError(
                    f"trainer.deterministic=true: {match[1]} has no deterministic implementation here",
                    "use another operation, or set trainer.deterministic=warn; bits may then differ from run to run",
                ) from error
            raise
