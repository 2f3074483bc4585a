"""The page on performance, from the files that the benchmarks write (`benchmarks/report.py`)."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
INTRODUCTION = """# Performance

Ratios that were measured side by side: all variants of a row in turn, in one run on one machine. The median over rounds is given
with the smallest and the largest ratio. *Whole process* is from the command to its end, with the start of Python and all imports;
*training only* is without. *Bit-reproducible* states whether the numerator comes out the same to the bit in another run.
"""


def page() -> str:
    """Return the page as Markdown: a section for each benchmark that was run."""
    return "\n".join(
        [INTRODUCTION, *(_section(file.stem, json.loads(file.read_text())) for file in sorted(RESULTS.glob("*.json")))]
    )


def _section(name: str, result: dict[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name.removeprefix('version.')} {value}" for name, value in machine.items() if "." in name)
    lines = [
        f"## {name.replace('_', ' ').capitalize()}",
        "",
        f"`{result['command']}`, {result['date']}, {machine['processor']}, {machine['cpus']} CPUs; {versions}.",
        "",
        "| | median | range | rounds | measured | bit-reproducible | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["ratios"]:
        reproducible = {True: "yes", False: "no", None: ""}[row["reproducible"]]
        numbers = f"{row['median']:.3g} | {row['min']:.3g} to {row['max']:.3g} | {len(row['rounds'])}"
        lines.append(f"| {row['what']} | {numbers} | {row['clock']} | {reproducible} | {row['goal']} |")
    facts = {row["what"]: _facts(row["facts"]) for row in result["ratios"] if row["facts"]}
    if len(set(facts.values())) == 1:
        notes = [f"All rows: {next(iter(facts.values()))}."]
    else:
        notes = [f"- {what}: {text}." for what, text in facts.items()]
    return "\n".join([*lines, "", *notes, ""])


def _facts(facts: dict[str, Any]) -> str:
    return "; ".join(f"{name} {_value(value)}" for name, value in facts.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
