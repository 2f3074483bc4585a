"""Where everything lies, from the project's root."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProjectPaths:
    """The folders of a project."""

    root: Path

    def config(self, experiment: str) -> Path:
        """The resolved config that `compose` wrote for the pipeline."""
        return self.root / "data" / "config" / f"{experiment}.yaml"

    def plugin(self, name: str) -> Path:
        """The hashes of the source files of a plugin of the pipeline."""
        return self.root / "data" / "plugins" / f"{name}.json"

    def raw(self, dataset: str) -> Path:
        """Bytes as published."""
        return self.root / "data" / "raw" / dataset

    def processed(self, dataset: str) -> Path:
        """Arrays and meta.json."""
        return self.root / "data" / "processed" / dataset

    def windows(self, experiment: str) -> Path:
        """Split and window indices, statistics, audit."""
        return self.root / "data" / "windows" / experiment

    def models(self, experiment: str) -> Path:
        """Weights, training.json and history of what the pipeline trained."""
        return self.root / "data" / "models" / experiment

    def pipeline_runs(self, experiment: str) -> Path:
        """Which runs trained what lies in `models`: ids, names and durations."""
        return self.store / "pipeline" / f"{experiment}.json"

    def results(self, experiment: str) -> Path:
        """metrics.json, curves.csv, predictions and figures."""
        return self.root / "data" / "results" / experiment

    def predictions(self, experiment: str) -> Path:
        """What is kept of the predictions of the test split, to draw figures from."""
        return self.results(experiment) / "predictions"

    def figures(self, experiment: str) -> Path:
        """Figures and tables of the first seed."""
        return self.results(experiment) / "figures"

    @property
    def store(self) -> Path:
        """The tracking store and the run directories."""
        return self.root / "mlruns"

    def run_dir(self, run_id: str) -> Path:
        """Where a run keeps its config, metrics, weights and figures, whether or not a tracking server is alive."""
        return self.store / "runs" / run_id
