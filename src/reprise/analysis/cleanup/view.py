"""Show what a project takes, and what `reprise gc` deletes, as tables or as plain values."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from reprise.analysis.cleanup import Outcome
from reprise.analysis.cleanup.usage import Usage

MAX_ROWS = 20
"""Rows that are shown; `--json` has all."""


def described_usage(parts: Sequence[Usage]) -> list[dict[str, Any]]:
    """Return the parts as plain values."""
    return [{"name": part.name, "count": part.count, "bytes": part.bytes} for part in parts]


def show_usage(parts: Sequence[Usage], console: Console) -> None:
    """Print a row per part, and the command that deletes from it."""
    table = Table("", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ("entries", "size"):
        table.add_column(title, justify="right")
    table.add_column("delete with")
    for part in parts:
        table.add_row(part.name, f"{part.count:,}", format_bytes(part.bytes), part.command)
    console.print(table, highlight=False)


def described(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as plain values."""
    return {
        "what": outcome.what,
        "dry_run": outcome.dry,
        "bytes": outcome.bytes,
        "deleted": [{"id": key, "name": name, "bytes": size} for key, name, size in outcome.deleted],
        "kept": [{"id": one.run.id, "name": one.run.info.name, "reason": one.reason} for one in outcome.kept],
        "unfinished": outcome.unfinished,
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print what is deleted, and which named runs are kept for what reason."""
    verb = "would delete" if outcome.dry else "deleted"
    for _, name, size in outcome.deleted[:MAX_ROWS]:
        console.print(f"gc  {verb} {name}  {format_bytes(size)}", highlight=False, soft_wrap=True)
    for one in outcome.kept[:MAX_ROWS]:
        console.print(f"gc  keeps {one.run.info.name}: {one.reason}", highlight=False, soft_wrap=True)
    hidden = max(0, len(outcome.deleted) - MAX_ROWS) + max(0, len(outcome.kept) - MAX_ROWS)
    if hidden:
        console.print(f"gc  … and {hidden} more; --json prints all", highlight=False)
    if outcome.unfinished:
        console.print(f"gc  {verb} the rest of {outcome.unfinished} entries of an interrupted gc", highlight=False)
    what = "files of the DVC cache" if outcome.what == "cache" else outcome.what
    total = f"{what} {'to delete' if outcome.dry else 'deleted'}: {len(outcome.deleted)} ({format_bytes(outcome.bytes)})"
    console.print(f"gc  {total}; named but kept: {len(outcome.kept)}", highlight=False)


def format_bytes(count: int) -> str:
    """Return a number of bytes in B, kB, MB or GB."""
    if count < 1000:
        return f"{count} B"
    exponent = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1000**exponent:.1f} {('', 'kB', 'MB', 'GB')[exponent]}"
