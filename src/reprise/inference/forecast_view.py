"""The output of `reprise predict` on a series: a table of the forecast, and the paths of the outputs."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reprise.inference.answers import FIGURE, TABLE
from reprise.inference.compute import COVERAGE
from reprise.inference.forecast import Forecasts

SHOWN = 60
"""The most rows printed; predictions.csv has all."""


def show(forecasts: Forecasts, out: Path, console: Console) -> None:
    """Print the forecast of every step with its interval, and the paths of the outputs."""
    rows = forecasts.rows()
    several = "series" in rows[0]
    interval = ("from", "to") if forecasts.has_intervals else ()
    table = Table(*(["series"] if several else []), "channel", "time", "forecast", *interval, "unit", box=None, pad_edge=False)
    for row in rows[:SHOWN]:
        numbers = [f"{row[key]:.5g}" for key in ("forecast", *(("lower", "upper") if interval else ()))]
        time = row["time"].replace("T", " ").removesuffix(" 00:00:00")
        cells = [*([row["series"]] if several else []), row["channel"], time, *numbers, row["unit"]]
        table.add_row(*map(escape, cells))
    console.print(table)
    if len(rows) > SHOWN:
        _print(console, f"The first {SHOWN} of {len(rows):,} rows.")
    if interval:
        _print(console, f"from, to: {100 * COVERAGE:g} % interval, calibrated on val.")
    _print(console, f"Written: {out / TABLE} and {FIGURE} beside it.")


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
