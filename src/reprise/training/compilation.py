"""Compilation of the network (`trainer.compile`).

Source: Ansel et al. 2024, PyTorch 2: Faster machine learning through dynamic Python bytecode transformation and graph
compilation.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from reprise.errors import UserError

BACKEND = "inductor"
"""The compiler: it writes C++ for a CPU, and Triton for a GPU."""
COMPILER = ("torch._dynamo", "torch._inductor")
"""Packages whose errors are those of the compiler."""


def compile_network(network: nn.Module) -> None:
    """Compile the network in place: it stays the same module, so its weights keep their names, and saved ones fit either way.

    The first steps of each batch size take seconds to compile.
    """
    network.compile(backend=BACKEND)


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Report that a network cannot be compiled.

    Raises:
        UserError: with the first line of the compiler's reason.

    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(COMPILER):
            raise
        reasons = [line for line in str(error).splitlines() if line.strip() and not line.startswith("backend=")]
        reason = reasons[0].strip() if reasons else type(error).__name__
        raise UserError(
            f"trainer.compile=true: {reason}", "install a C++ compiler if there is none, or set trainer.compile=false"
        ) from error
