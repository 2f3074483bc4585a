"""The table of results: read from data/results/, shown on the console or written as Markdown. Never typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        """Print as a table."""
        table = Table(*COLUMNS[:-1], title="Results: mean ± standard deviation over seeds", title_justify="left")
        for row in self.rows():
            table.add_row(*row[:-1])
        console.print(table)

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
    metric = next(metric for metric in HEADLINE if metric in found["test"])
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
    digits = 4 if metric == "accuracy" else 3
    text = f"{found[split][metric]:.{digits}f}"
    return f"{text} ± {found[f'{split}_std'][metric]:.{digits}f}" if len(found["seeds"]) > 1 else text
