"""Operations without a deterministic implementation: a one-line error, or recorded (`trainer.deterministic=warn`)."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from reprise.errors import UserError, warn

_MESSAGE = r"(.+?) does not have a deterministic implementation"
"""Start of PyTorch's error and warning, with the operation (`at::Context::alertNotDeterministic`)."""


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
