"""The tables of results: read from data/results/, printed or written as Markdown. Numbers are never typed by hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from reprise.analysis import results_page
from reprise.analysis.result import TITLES, Result, figure
from reprise.config import Pipeline, compose, pipeline
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages.summary import Summary
from reprise.tasks.metric_names import ACCURACY
from reprise.tracking.published_weights import known_runs

Content = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The results of every experiment, in the order of conf/pipeline.yaml."""

    pipeline: Pipeline
    results: list[Result]

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
        results = []
        for name in listed + sorted(present - set(listed)):
            summary = Summary.read(folder / name / "metrics.json", f"run `dvc repro evaluate@{name}`")
            runs = known_runs(paths, name, summary.weights.values())
            results.append(Result(name, summary, _config(paths, name), runs, name in config.long))
        return cls(config, results)

    @property
    def by_experiment(self) -> dict[str, Summary]:
        """Return the content of every metrics.json."""
        return {result.name: result.summary for result in self.results}

    def show(self, console: Console) -> None:
        """Print the main results as a table that fits 80 columns."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
        for title in ("experiment", "", "compare", "val", "test", "parameters", "time"):
            table.add_column(title, no_wrap=True, justify="left" if title in {"experiment", ""} else "right")
        for result in self.results:
            metric, summary = result.metric, result.summary
            naive = summary.baselines.get("repeat_last", {}).get(metric)
            compare, val = (figure(value, metric) for value in (result.published.get("value", naive), summary.val[metric]))
            size = f"{summary.parameters:,}"
            cells = compare, val, result.cell("test", metric), size, result.seconds
            table.add_row(result.name, TITLES[metric][:3], *cells)
        console.print(table)
        seeds = sorted({len(content.seeds) for content in self.by_experiment.values()})
        console.print(f"Means over {' or '.join(map(str, seeds))} seeds, test ± standard deviation; the epoch was chosen on val.")
        console.print("Compare: the published number, or the naive forecast's.")

    def write(self, page: Path) -> None:
        """Write the page as Markdown, and the ablation figure to its folder if all ablation rows are present."""
        page.parent.mkdir(parents=True, exist_ok=True)
        shown = [result for result in self.results if result.name not in list(self.pipeline.ablation)[1:]]
        tables = (results_page.classification, results_page.forecasts, results_page.horizons)
        parts = [results_page.PREFACE, *(table(shown, self.results) for table in tables)]
        if self.pipeline.ablation.keys() <= self.by_experiment.keys():
            parts.append(self._ablation(page.parent / "ablation.png"))
        page.write_text("\n".join(filter(None, [*parts, results_page.weights(self.results)])), "utf-8")

    def _ablation(self, file: Path) -> str:
        """Return the ablation table: each improvement alone and all together, compared with the first row. Draw it to `file`."""
        from reprise.figures import comparison  # late: matplotlib takes a second to import, and only this needs it
        from reprise.figures.style import save

        by_name = {result.name: result for result in self.results}
        results = [by_name[name] for name in self.pipeline.ablation]
        means, spreads = (
            [getattr(one.summary, key)[ACCURACY] or 0.0 for one in results] for key in ("test", "test_std")
        )  # the standard deviation of one seed is null
        labels, seeds = list(self.pipeline.ablation.values()), len(results[0].summary.seeds)
        save(comparison.ablation(labels, means, spreads, f"test {ACCURACY}", seeds), file)
        rows = [
            (
                f"{label} (`{one.name}`)",
                one.cell("test", ACCURACY),
                f"{100 * (mean - means[0]):+.2f}",
                f"{one.summary.parameters:,}",
                f"{one.summary.epochs:.0f}",
            )
            for label, one, mean in zip(labels, results, means, strict=True)
        ]
        table = results_page.markdown(("what changed", f"test {ACCURACY}", "points", "parameters", "epochs"), rows)
        figures = f"![Test accuracy of each improvement, with its spread over seeds]({file.name})\n"
        return f"## The five improvements, each alone and all together\n\n{table}\n{figures}"


def _config(paths: ProjectPaths, name: str) -> Content:
    """Return the resolved config of an experiment: as `compose` wrote it, or composed now; empty if there is none."""
    if (file := paths.config(name)).is_file():
        content: Content = yaml.safe_load(file.read_text("utf-8"))
        return content
    try:
        return compose(paths.root, [f"experiment={name}"]).model_dump(by_alias=True)
    except UserError:  # an experiment of an earlier version
        return {}
