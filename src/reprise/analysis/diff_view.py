"""Show the difference of two runs as tables or as plain values."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from reprise.analysis.diff import Difference, Group
from reprise.analysis.working_copy import visible

MAX_ROWS = 12
"""Rows of a group that are shown; `--json` has all."""


def described(difference: Difference) -> dict[str, Any]:
    """Return the difference as plain values."""
    return {
        "equal": difference.is_equal,
        "runs": [{"id": run.id, "name": run.name, "status": run.status} for run in (difference.first, difference.second)],
        "weights": difference.weights,
        "groups": {group.name: [asdict(change) for change in group.changes] for group in difference.groups},
        "patch": difference.patch.decode("utf-8", "replace"),
        "not_compared": difference.notes,
    }


def show(difference: Difference, console: Console) -> None:
    """Print what differs, a table per group, or that the runs are equal."""
    first, second = difference.first, difference.second
    for note in difference.notes:
        console.print(f"diff  not compared: {note}", highlight=False, soft_wrap=True)
    if difference.is_equal:
        parts = "weights, metrics, config, code, data, packages and machine"
        console.print(f"diff  {first.name} and {second.name} are equal: {parts}", highlight=False, soft_wrap=True)
    else:
        names = ", ".join(group.name for group in difference.groups) or "nothing that was recorded"
        console.print(f"diff  weights: {difference.weights}; differing: {names}", highlight=False, soft_wrap=True)
        for change in next((group.changes[:1] for group in difference.groups if group.name == "metrics"), []):
            result = f"{change.name} {_shown(change.first)} → {_shown(change.second)}"
            console.print(f"diff  {result}", highlight=False, soft_wrap=True)
    for group in difference.groups:
        console.print(_table(group, [first.name, second.name]))
        if len(group.changes) > MAX_ROWS:
            console.print(f"… and {len(group.changes) - MAX_ROWS} more; --json prints all", highlight=False)


def show_patch(difference: Difference, console: Console) -> None:
    """Print the difference of the code as a patch. Control characters are escaped."""
    text = visible(difference.patch.decode("utf-8", "replace"))
    console.print(text, highlight=False, markup=False, soft_wrap=True, end="")


def _table(group: Group, names: Sequence[str]) -> Table:
    table = Table(Column(Text(group.name, "bold"), overflow="fold"), box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for change in group.changes[:MAX_ROWS]:
        style = "" if change.is_decisive else "dim"
        table.add_row(*map(Text, (change.name, _shown(change.first), _shown(change.second))), style=style)
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
