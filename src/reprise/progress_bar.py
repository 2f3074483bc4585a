"""A progress bar, shown only on a terminal."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def watched(items: Iterable[Item], total: int, what: str, console: Console) -> Iterable[Item]:
    """Yield the items while showing progress."""
    return track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
