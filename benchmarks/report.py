"""The result of a benchmark: ratios measured side by side in one run, as a table and as JSON in `benchmarks/results/`.

`docs/generate/performance.py` makes the page on performance from these files.
"""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from reprise.tracking import lineage

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ratio:
    """A ratio, measured once in each round."""

    what: str
    """What is divided by what."""
    rounds: Sequence[float]
    clock: Literal["training only", "whole process", "peak memory", "throughput"]
    """What is measured: with "training only", neither the start of a process nor imports."""
    reproducible: bool | None = None
    """Whether the numerator comes out the same to the bit in another run; None if nothing is trained."""
    goal: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further figures, such as the metric that was reached."""

    def described(self) -> dict[str, Any]:
        rounds = [round(value, 4) for value in self.rounds]
        return {**asdict(self), "rounds": rounds, "median": statistics.median(rounds), "min": min(rounds), "max": max(rounds)}


def report(name: str, ratios: Sequence[Ratio], command: str) -> None:
    """Print the ratios and write them to `benchmarks/results/NAME.json`, with the machine, the versions and the command."""
    described = [ratio.described() for ratio in ratios]
    table = Table("ratio", "median", "min", "max", "rounds", "clock", "goal")
    for row in described:
        values = (f"{row[key]:.3g}" for key in ("median", "min", "max"))
        table.add_row(row["what"], *values, str(len(row["rounds"])), row["clock"], row["goal"])
    Console().print(table)
    machine = {"processor": lineage.processor(), "cpus": len(os.sched_getaffinity(0)), **lineage.versions()}
    content = {"command": command, "date": datetime.now(UTC).date().isoformat(), "machine": machine, "ratios": described}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
