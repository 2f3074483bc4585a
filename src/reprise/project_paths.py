"""The folders and files of a project."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProjectPaths:
    """The folders and files of a project, below its root."""

    root: Path

    def config(self, experiment: str) -> Path:
        """Return the resolved config that `compose` writes."""
        return self.root / "data" / "config" / f"{experiment}.yaml"

    def plugin(self, name: str) -> Path:
        """Return the file with the source hashes of a plugin of the pipeline."""
        return self.root / "data" / "plugins" / f"{name}.json"

    @property
    def code(self) -> Path:
        """The file with the hashes of the code of each stage, in projects outside of a clone."""
        return self.root / "data" / "code.json"

    def raw(self, dataset: str) -> Path:
        """Return the folder of the raw files of a data set."""
        return self.root / "data" / "raw" / dataset

    def processed(self, dataset: str) -> Path:
        """Return the folder of arrays and meta.json."""
        return self.root / "data" / "processed" / dataset

    def windows(self, experiment: str) -> Path:
        """Return the folder of split and window indices, statistics and audit."""
        return self.root / "data" / "windows" / experiment

    def models(self, experiment: str) -> Path:
        """Return the folder of weights, training.json and history that the pipeline writes."""
        return self.root / "data" / "models" / experiment

    def pipeline_runs(self, experiment: str) -> Path:
        """Return the file with the runs that trained the weights in `models`: ids, names and durations."""
        return self.store / "pipeline" / f"{experiment}.json"

    def windows_code(self, experiment: str) -> Path:
        """Return the file with the hash of the code that made the windows of the pipeline."""
        return self.store / "pipeline" / f"{experiment}.windows.json"

    def results(self, experiment: str) -> Path:
        """Return the folder of metrics.json, curves.csv, predictions and figures."""
        return self.root / "data" / "results" / experiment

    def predictions(self, experiment: str) -> Path:
        """Return the folder of the test predictions that figures are drawn from."""
        return self.results(experiment) / "predictions"

    def figures(self, experiment: str) -> Path:
        """Return the folder of figures and tables of the first seed."""
        return self.results(experiment) / "figures"

    @property
    def store(self) -> Path:
        """The folder of the tracking store and the run directories."""
        return self.root / "mlruns"

    def run_dir(self, run_id: str) -> Path:
        """Return the folder of config, event log, weights and figures of a run. It does not need a tracking server."""
        return self.store / "runs" / run_id
