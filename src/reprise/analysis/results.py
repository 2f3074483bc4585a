"""The tables of results: read from data/results/, printed or written as Markdown. Numbers are never typed by hand."""

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
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages.published import known_runs
from reprise.stages.summary import Summary
from reprise.tasks import metric_names
from reprise.tasks.metric_names import ACCURACY
from reprise.tracking.trained import Trained

METRIC_TITLES = {name: name for name in metric_names.MAIN} | {metric_names.MAE: "MAE", metric_names.MAE_SCALED: "MAE (scaled)"}
"""Main metrics and their printed names; a row shows the first metric that it has."""
COLUMNS = ("experiment", "data", "metric", "published", "test", "val", "parameters", "seeds", "epochs")
PREFACE = """\
# Results

Made by `reprise results --write docs/results.md` from `data/results/`; not typed.

Mean ± standard deviation over seeds. The epoch was chosen on val; test was evaluated once, by `evaluate`. Most sources of the
published numbers validated on the test set and trained on all other images, which is not done here: our rows set some of the
training images aside for val. The published networks (`mnist_cnn…`, `fashion_mnist_cnn`) keep the published network,
optimizer and batch size, and follow a cosine schedule; the source of each published number is below the table. Rows marked †
take long: `dvc repro --all-pipelines` makes them; rows from before weights were published by hash are in
[results-long.md](results-long.md). The same kind of processor gives the same weights: their sha256 are listed at the end.
"""
Content = dict[str, Any]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """The metrics.json of every experiment, in the order of conf/pipeline.yaml, and the published number for it."""

    pipeline: Pipeline
    by_experiment: dict[str, Summary]
    published: dict[str, Content]
    runs: dict[str, list[Trained]]
    """The runs of this project that trained each experiment; none in a fresh clone."""

    @classmethod
    def read(cls, paths: ProjectPaths) -> "Results":
        """Read all of data/results/.

        Raises:
            UserError: when it has no results.

        """
        config = pipeline(paths.root)
        folder = paths.results("")
        present = {file.parent.name for file in folder.glob("*/metrics.json")}
        if not present:
            raise UserError(f"no results in {folder}", "run `dvc repro` first")
        listed = [name for name in (*config.experiments, *config.long) if name in present]
        names = listed + sorted(present - set(listed))
        configs = {name: yaml.safe_load(paths.config(name).read_text("utf-8")) for name in names if paths.config(name).is_file()}
        published = {name: content["published"] for name, content in configs.items() if content.get("published")}
        metrics = {name: Summary.read(folder / name / "metrics.json", f"run `dvc repro evaluate@{name}`") for name in names}
        runs = {name: known_runs(paths, name, content.weights.values()) for name, content in metrics.items()}
        return cls(config, metrics, published, runs)

    def show(self, console: Console) -> None:
        """Print the main results as a table that fits 80 columns."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
        for title in ("experiment", "", "compare", "val", "test", "parameters", "time"):
            table.add_column(title, no_wrap=True, justify="left" if title in {"experiment", ""} else "right")
        for name, content in self.by_experiment.items():
            metric = _headline(content)
            naive = content.baselines.get("repeat_last", {}).get(metric)
            reference = self.published[name]["value"] if name in self.published else naive
            compare, val = (_figure(value, metric) for value in (reference, content.val[metric]))
            size, time = f"{content.parameters:,}", _time(self.runs[name])
            table.add_row(name, METRIC_TITLES[metric][:3], compare, val, _spread(content, "test", metric), size, time)
        console.print(table)
        seeds = sorted({len(content.seeds) for content in self.by_experiment.values()})
        console.print(f"Means over {' or '.join(map(str, seeds))} seeds, test ± standard deviation; the epoch was chosen on val.")
        console.print("Compare: the published number, or the naive forecast's.")

    def write(self, page: Path) -> None:
        """Write the page as Markdown, and the ablation figure to its folder if all ablation rows are present."""
        page.parent.mkdir(parents=True, exist_ok=True)
        parts = [PREFACE, self._everything(), self._forecasts()]
        if self.pipeline.ablation.keys() <= self.by_experiment.keys():
            parts.append(self._ablation(page.parent / "ablation.png"))
        page.write_text("\n".join(filter(None, [*parts, self._weights()])), "utf-8")

    def _everything(self) -> str:
        """Return the main table: a row per experiment, except for those that only the ablation uses."""
        rows = [self._row(name) for name in self.by_experiment if name not in list(self.pipeline.ablation)[1:]]
        notes = [f"- `{name}`: {one['value']} was published {one['note']}.\n" for name, one in self.published.items()]
        return _markdown(COLUMNS, rows) + "\n" + "".join(notes)

    def _row(self, name: str) -> Row:
        content = self.by_experiment[name]
        metric = _headline(content)
        return (
            f"{name}{' †' if name in self.pipeline.long else ''}",
            content.data,
            METRIC_TITLES[metric],
            str(self.published[name]["value"]) if name in self.published else "–",
            _spread(content, "test", metric),
            _spread(content, "val", metric),
            f"{content.parameters:,}",
            str(len(content.seeds)),
            f"{content.epochs:.0f}",
        )

    def _forecasts(self) -> str:
        """Return the table of errors per target, in units and as MASE, and of the naive forecasts of the same windows."""
        rows: list[Row] = []
        undefined: list[str] = []
        for name, content in self.by_experiment.items():
            mae = metric_names.MAE
            targets = [metric.removeprefix(mae) for metric in content.test if metric == mae or metric.startswith(f"{mae}/")]
            for target in targets if content.baselines else []:
                naive = [content.baselines.get(one, {}).get(f"{mae}{target}") for one in ("repeat_last", "seasonal_naive")]
                ours = [_spread(content, "test", f"{metric}{target}") for metric in metric_names.FORECAST_COLUMNS]
                unit = content.units.get(f"{mae}{target}", "").replace("|", "\\|")
                rows.append((f"{name}{target.replace('/', ': ')}", unit, *ours, *(_figure(value, mae) for value in naive)))
            undefined += [f"- `{name}`: {metric} is undefined: {why}.\n" for metric, why in content.undefined.items()]
        titles = ("experiment", "unit", "MAE", "RMSE", "MASE", "MAE of repeat-last", "MAE of seasonal-naive")
        notes = "\n" + "".join(undefined) if undefined else ""
        return f"## Forecasts against naive forecasts (test)\n\n{_markdown(titles, rows)}{notes}" if rows else ""

    def _weights(self) -> str:
        """Return the table of the sha256 of every published weights file, and the kind of processor that trained it."""
        rows: list[Row] = [
            (name, seed, sha256, content.machine)
            for name, content in self.by_experiment.items()
            for seed, sha256 in content.weights.items()
        ]
        table = _markdown(("experiment", "seed", "sha256 of the weights", "trained on"), rows)
        return f"## Weights\n\n`data/models/<experiment>/<seed>.safetensors`, as `dvc repro` writes them.\n\n{table}"

    def _ablation(self, file: Path) -> str:
        """Return the ablation table: each improvement alone and all together, compared with the first row. Draw it to `file`."""
        from reprise.figures import comparison  # late: matplotlib takes a second to import, and only this needs it
        from reprise.figures.style import save

        results = [self.by_experiment[name] for name in self.pipeline.ablation]
        means, spreads = (
            [getattr(one, key)[ACCURACY] or 0.0 for one in results] for key in ("test", "test_std")
        )  # the standard deviation of one seed is null
        labels, seeds = list(self.pipeline.ablation.values()), len(results[0].seeds)
        save(comparison.ablation(labels, means, spreads, f"test {ACCURACY}", seeds), file)
        rows = [
            (
                f"{label} (`{name}`)",
                _spread(one, "test", ACCURACY),
                f"{100 * (mean - means[0]):+.2f}",
                f"{one.parameters:,}",
                f"{one.epochs:.0f}",
            )
            for (name, label), one, mean in zip(self.pipeline.ablation.items(), results, means, strict=True)
        ]
        table = _markdown(("what changed", f"test {ACCURACY}", "points", "parameters", "epochs"), rows)
        figure = f"![Test accuracy of each improvement, with its spread over seeds]({file.name})\n"
        return f"## The five improvements, each alone and all together\n\n{table}\n{figure}"


def _markdown(titles: Row, rows: Sequence[Row]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _time(runs: Sequence[Trained]) -> str:
    return f"{statistics.fmean(run.train_seconds for run in runs):.0f} s" if runs else "–"


def _spread(content: Summary, split: str, metric: str) -> str:
    text, spread = (_figure(getattr(content, part).get(metric), metric) for part in (split, f"{split}_std"))
    return f"{text} ± {spread}" if len(content.seeds) > 1 and text != "–" else text


def _figure(value: float | None, metric: str) -> str:
    return "–" if value is None else f"{value:.{metric_names.digits(metric)}f}"


def _headline(content: Summary) -> str:
    return next(metric for metric in METRIC_TITLES if metric in content.test)
