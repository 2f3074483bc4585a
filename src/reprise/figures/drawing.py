"""Isolate figures from each other: a failing one must not lose the others, nor the metrics."""

import contextlib
from collections.abc import Iterator

from matplotlib import pyplot as plt

from reprise.errors import warn


@contextlib.contextmanager
def drawing(file: str) -> Iterator[None]:
    """Turn exceptions in the block into a warning, so that a failing figure does not lose the metrics."""
    try:
        yield
    except Exception as error:
        warn(f"{file} could not be made: {type(error).__name__}: {error}")
        plt.close("all")
