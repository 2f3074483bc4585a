"""A bar on a terminal, for what takes a while; nothing elsewhere."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def watched(items: Iterable[Item], total: int, what: str, console: Console) -> Iterable[Item]:
    """The items as they come, each of them seen on the bar."""
    return track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
