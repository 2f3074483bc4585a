"""The output of `reprise explain` on a sequence or a series: the most important channels and time steps."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reprise.inference.explained import FIGURE, TABLE, ChannelPart, Explained

SHOWN = 12
"""The most channels printed; attribution.csv has all."""


def show(result: Explained, out: Path, console: Console) -> None:
    """Print the share of each channel and the steps with half of it: of the sample, and over many samples."""
    _print(console, f"explain  {result.sample}; {result.score}")
    table = Table("channel", box=None, pad_edge=False)
    for title in ("share", "half of it at", f"share, {result.samples} {result.noun}", "half of it at"):
        table.add_column(title, justify="right" if title.startswith("share") else "left")
    overall = {part.number: part for part in result.mean_parts()}
    parts = result.parts()
    for part in parts[:SHOWN]:
        both = (part, overall[part.number])
        cells = [cell for one in both for cell in (f"{100 * one.share:.1f} %", span(one, result.steps, result.step))]
        table.add_row(escape(result.channels[part.number]), *cells)
    console.print(table)
    if len(parts) > SHOWN:
        _print(console, f"The {SHOWN} most important of {len(parts):,} channels.")
    segments = [
        f"{result.channels[one.number]} {span(one, result.steps, result.step)} ({100 * one.share:.1f} %)"
        for one in result.segments()
    ]
    if segments:
        _print(console, f"Largest segments: {', '.join(segments)}.")
    _print(console, f"Share: part of a channel in all absolute attributions. Method: {result.method}.")
    _print(console, f"Written: {out / TABLE}, and {FIGURE} and others beside it.")


def span(part: ChannelPart, steps: Sequence[int], noun: str) -> str:
    """Return the steps or lags of a span as text."""
    if not part.share:
        return ""
    first, last = steps[part.first], steps[part.last]
    return f"{noun} {first}" if first == last else f"{noun}s {first} to {last}"


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
