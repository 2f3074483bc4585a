"""The table of results: read from data/results/, shown on the console or written as Markdown. Never typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from reprise.data import store
from reprise.errors import UserError

HEADLINE = {"accuracy": "accuracy", "mae": "MAE"}
"""The metric a row is judged by, and its name in print; a row shows the first that it has."""
COLUMNS = (
    "experiment",
    "data",
    "metric",
    "val",
    "test",
    "baselines (test)",
    "MASE",
    "parameters",
    "seeds",
    "training",
    "runs",
)


@dataclass(frozen=True)
class Results:
    """Every experiment's metrics.json."""

    by_experiment: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """All of data/results/."""
        files = sorted(folder.glob("*/metrics.json"))
        if not files:
            raise UserError(f"no results in {folder}", "run `dvc repro` first")
        return cls({file.parent.name: store.read_json(file) for file in files})

    def rows(self) -> list[tuple[str, ...]]:
        """One row an experiment, as text, in the order of `COLUMNS`."""
        return [_row(name, found) for name, found in self.by_experiment.items()]

    def show(self, console: Console) -> None:
        """Print what matters most as a table that fits 80 columns."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
        for title in ("experiment", "metric", "val", "test", "naive", "parameters", "time"):
            table.add_column(title, no_wrap=True, justify="left" if title in {"experiment", "metric"} else "right")
        for name, found in self.by_experiment.items():
            metric = _headline(found)
            val, naive = f"{found['val'][metric]:.{_digits(metric)}f}", found["baselines"].get("repeat_last", {}).get(metric)
            shown = f"{naive:.{_digits(metric)}f}" if naive is not None else "–"
            size, seconds = f"{found['parameters']:,}", f"{found['train_seconds']:.0f} s"
            table.add_row(name, HEADLINE[metric], val, _spread(found, "test", metric), shown, size, seconds)
        console.print(table)
        seeds = sorted({len(found["seeds"]) for found in self.by_experiment.values()})
        console.print(f"Means over {' or '.join(map(str, seeds))} seeds, test ± standard deviation; the epoch was chosen on val.")

    def markdown(self) -> str:
        """The page docs/results.md."""
        lines = [
            "# Results",
            "",
            "Made by `reprise results --write docs/results.md` from `data/results/`; not typed.",
            "",
        ]
        lines += [
            "Mean ± standard deviation over seeds. The epoch was chosen on val; test was opened once, by `evaluate`.",
            "",
        ]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows()]
        return "\n".join(lines) + "\n"


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    metric = _headline(found)
    baselines = ", ".join(f"{title.replace('_', ' ')} {metrics[metric]:.3f}" for title, metrics in found["baselines"].items())
    return (
        name,
        found["data"],
        HEADLINE[metric],
        _spread(found, "val", metric),
        _spread(found, "test", metric),
        baselines or "–",
        _spread(found, "test", "mase") if "mase" in found["test"] else "–",
        f"{found['parameters']:,}",
        str(len(found["seeds"])),
        f"{found['train_seconds']:.0f} s, {found['epochs']:.0f} epochs",
        " ".join(run_id[:8] for run_id in found["run_ids"]),
    )


def _spread(found: dict[str, Any], split: str, metric: str) -> str:
    digits = _digits(metric)
    text = f"{found[split][metric]:.{digits}f}"
    return f"{text} ± {found[f'{split}_std'][metric]:.{digits}f}" if len(found["seeds"]) > 1 else text


def _headline(found: dict[str, Any]) -> str:
    return next(metric for metric in HEADLINE if metric in found["test"])


def _digits(metric: str) -> int:
    return 4 if metric == "accuracy" else 3
