"""Operations that have no deterministic implementation: refused in one line, or recorded (`trainer.deterministic=warn`)."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from reprise.errors import UserError, warn

_MESSAGE = r"(.+?) does not have a deterministic implementation"
"""How PyTorch names the operation, in its error and in its warning (`at::Context::alertNotDeterministic`)."""


@contextmanager
def watched(operations: set[str]) -> Iterator[None]:
    """Add to `operations` those without deterministic implementation that run in this block, and warn of each once.

    Raises:
        UserError: naming the operation, where only deterministic ones are allowed.

    """
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, *place: object, **more: object) -> None:
            if found := re.match(_MESSAGE, str(message)):
                if found[1] not in operations:
                    operations.add(found[1])
                    warn(f"{found[1]} has no deterministic implementation here; two trainings may differ in their bits")
            else:
                show(message, *place, **more)  # type: ignore[arg-type]

        warnings.showwarning = note
        warnings.filterwarnings("always", message=_MESSAGE)
        try:
            yield
        except RuntimeError as error:
            if found := re.match(_MESSAGE, str(error)):
                raise UserError(
                    f"trainer.deterministic=true: {found[1]} has no deterministic implementation here",
                    "use another operation, or set trainer.deterministic=warn; bits may then differ from run to run",
                ) from error
            raise
