"""The tables of results: read from data/results/, shown on the console or written as Markdown. Never typed."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from reprise.config import Pipeline, pipeline
from reprise.data import store
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.stages.trained import Trained, known_runs

HEADLINE = {"accuracy": "accuracy", "mae": "MAE", "mae_scaled": "MAE (scaled)"}
"""The metric a row is judged by, and its name in print; a row shows the first that it has."""
COLUMNS = ("experiment", "data", "metric", "published", "test", "val", "parameters", "seeds", "epochs")
PREFACE = """\
# Results

Made by `reprise results --write docs/results.md` from `data/results/`; not typed.

Mean ± standard deviation over seeds. The epoch was chosen on val; test was opened once, by `evaluate`. Most sources of the
published numbers validated on the test set and trained on all other images, which is not done here: our rows set some of the
training images aside for val. Those of the lessons (`mnist_cnn…`, `fashion_mnist_cnn`) keep the published network, optimizer and
batch size, and follow a cosine schedule; how each number was published stands below the table. Rows marked † take long:
`dvc repro --all-pipelines` makes them. The same processor kind gives the same weights: their sha256 are listed at the end.
"""
Found = dict[str, Any]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """Every experiment's metrics.json, in the order of conf/pipeline.yaml, and the number published for it."""

    wanted: Pipeline
    by_experiment: dict[str, Found]
    published: dict[str, Found]
    runs: dict[str, list[Trained]]
    """Of each experiment, the runs of this project that trained it; none in a fresh clone."""

    @classmethod
    def read(cls, paths: ProjectPaths) -> "Results":
        """All of data/results/."""
        wanted = pipeline(paths.root)
        folder = paths.results("")
        there = {file.parent.name for file in folder.glob("*/metrics.json")}
        if not there:
            raise UserError(f"no results in {folder}", "run `dvc repro` first")
        listed = [name for name in (*wanted.experiments, *wanted.long) if name in there]
        names = listed + sorted(there - set(listed))
        configs = {name: yaml.safe_load(paths.config(name).read_text("utf-8")) for name in names if paths.config(name).is_file()}
        published = {name: config["published"] for name, config in configs.items() if config.get("published")}
        found = {name: store.read_json(folder / name / "metrics.json") for name in names}
        runs = {name: known_runs(paths, name, one["weights"].values()) for name, one in found.items()}
        return cls(wanted, found, published, runs)

    def show(self, console: Console) -> None:
        """Print what matters most as a table that fits 80 columns."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
        for title in ("experiment", "", "compare", "val", "test", "parameters", "time"):
            table.add_column(title, no_wrap=True, justify="left" if title in {"experiment", ""} else "right")
        for name, found in self.by_experiment.items():
            metric = _headline(found)
            naive = found["baselines"].get("repeat_last", {}).get(metric)
            other = self.published[name]["value"] if name in self.published else naive
            beside, val = (_figure(value, metric) for value in (other, found["val"][metric]))
            size, time = f"{found['parameters']:,}", _time(self.runs[name])
            table.add_row(name, HEADLINE[metric][:3], beside, val, _spread(found, "test", metric), size, time)
        console.print(table)
        seeds = sorted({len(found["seeds"]) for found in self.by_experiment.values()})
        console.print(f"Means over {' or '.join(map(str, seeds))} seeds, test ± standard deviation; the epoch was chosen on val.")
        console.print("Compare: the published number, or the naive forecast's.")

    def write(self, page: Path) -> None:
        """The page as Markdown, and beside it the figure of the ablation once all its rows are there."""
        page.parent.mkdir(parents=True, exist_ok=True)
        parts = [PREFACE, self._everything(), self._forecasts()]
        if self.wanted.ablation.keys() <= self.by_experiment.keys():
            parts.append(self._ablation(page.parent / "ablation.png"))
        page.write_text("\n".join(filter(None, [*parts, self._weights()])), "utf-8")

    def _everything(self) -> str:
        """One row an experiment; those of the ablation alone have a table of their own."""
        rows = [self._row(name) for name in self.by_experiment if name not in list(self.wanted.ablation)[1:]]
        notes = [f"- `{name}`: {told['value']} was published {told['note']}.\n" for name, told in self.published.items()]
        return _markdown(COLUMNS, rows) + "\n" + "".join(notes)

    def _row(self, name: str) -> Row:
        found = self.by_experiment[name]
        metric = _headline(found)
        return (
            f"{name}{' †' if name in self.wanted.long else ''}",
            found["data"],
            HEADLINE[metric],
            str(self.published[name]["value"]) if name in self.published else "–",
            _spread(found, "test", metric),
            _spread(found, "val", metric),
            f"{found['parameters']:,}",
            str(len(found["seeds"])),
            f"{found['epochs']:.0f}",
        )

    def _forecasts(self) -> str:
        """Errors in units and MASE of each target, and of the naive forecasts of the same windows."""
        rows: list[Row] = []
        undefined: list[str] = []
        for name, found in self.by_experiment.items():
            targets = [metric.removeprefix("mae") for metric in found["test"] if metric == "mae" or metric.startswith("mae/")]
            for target in targets if found["baselines"] else []:
                naive = [found["baselines"].get(one, {}).get(f"mae{target}") for one in ("repeat_last", "seasonal_naive")]
                ours = [_spread(found, "test", f"{metric}{target}") for metric in ("mae", "rmse", "mase")]
                unit = found.get("units", {}).get(f"mae{target}", "").replace("|", "\\|")
                rows.append((f"{name}{target.replace('/', ': ')}", unit, *ours, *(_figure(value, "mae") for value in naive)))
            undefined += [f"- `{name}`: {metric} is undefined: {why}.\n" for metric, why in found.get("undefined", {}).items()]
        titles = ("experiment", "unit", "MAE", "RMSE", "MASE", "MAE of repeat-last", "MAE of seasonal-naive")
        notes = "\n" + "".join(undefined) if undefined else ""
        return f"## Forecasts beside naive ones (test)\n\n{_markdown(titles, rows)}{notes}" if rows else ""

    def _weights(self) -> str:
        """The sha256 of every published weights file, and the kind of processor that trained it."""
        rows: list[Row] = [
            (name, seed, sha256, found["machine"])
            for name, found in self.by_experiment.items()
            for seed, sha256 in found["weights"].items()
        ]
        table = _markdown(("experiment", "seed", "sha256 of the weights", "trained on"), rows)
        return f"## Weights\n\n`data/models/<experiment>/<seed>.safetensors`, as `dvc repro` writes them.\n\n{table}"

    def _ablation(self, file: Path) -> str:
        """The improvements, each alone and all together, beside the first row; drawn in `file`."""
        from reprise.figures import comparison  # late: a second, and only this needs it
        from reprise.figures.style import save

        found = [self.by_experiment[name] for name in self.wanted.ablation]
        means, spreads = (
            [one[key]["accuracy"] or 0.0 for one in found] for key in ("test", "test_std")
        )  # of one seed: no spread
        labels, seeds = list(self.wanted.ablation.values()), len(found[0]["seeds"])
        save(comparison.ablation(labels, means, spreads, "test accuracy", seeds), file)
        rows = [
            (
                f"{label} (`{name}`)",
                _spread(one, "test", "accuracy"),
                f"{100 * (one['test']['accuracy'] - means[0]):+.2f}",
                f"{one['parameters']:,}",
                f"{one['epochs']:.0f}",
            )
            for (name, label), one in zip(self.wanted.ablation.items(), found, strict=True)
        ]
        table = _markdown(("what changed", "test accuracy", "points", "parameters", "epochs"), rows)
        figure = f"![Test accuracy of each improvement, with its spread over seeds]({file.name})\n"
        return f"## The five improvements, each alone and all together\n\n{table}\n{figure}"


def _markdown(titles: Row, rows: Sequence[Row]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _time(runs: Sequence[Trained]) -> str:
    return f"{statistics.fmean(run.train_seconds for run in runs):.0f} s" if runs else "–"


def _spread(found: Found, split: str, metric: str) -> str:
    text, spread = (_figure(found[part].get(metric), metric) for part in (split, f"{split}_std"))
    return f"{text} ± {spread}" if len(found["seeds"]) > 1 and text != "–" else text


def _figure(value: float | None, metric: str) -> str:
    return "–" if value is None else f"{value:.{4 if metric == 'accuracy' else 3}f}"


def _headline(found: Found) -> str:
    return next(metric for metric in HEADLINE if metric in found["test"])
