"""The Python interface: train, look at and compare runs from a program or notebook.

```
import reprise

run = reprise.train("digits_cnn", "optimizer.lr=0.003")
run.metrics["val/accuracy"]
run.history.plot(y="val/loss")
run.evaluate()["test/accuracy"]
```

The commands of `reprise` do the same work on the same runs: a run trained here is found by `reprise runs`, and the other way
round. The project is that of the working directory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console

from reprise import config as configs
from reprise import notebook
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import record
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import BEST

if TYPE_CHECKING:  # PyTorch takes two seconds to import
    from reprise.inference.predictor import Predictor
    from reprise.inference.trained_run import TrainedRun

__all__ = ["Run", "compare", "run", "runs", "train", "train_seeds"]


class Run:
    """A finished training.

    Attributes:
        id: its id, the same as in MLflow.
        name: its name.

    """

    def __init__(self, paths: ProjectPaths, name: str) -> None:
        self._paths = paths
        self.id = tracking.find(paths.store, name)
        self.name = self._record.name

    def __repr__(self) -> str:
        shown = {key: value for key, value in self.metrics.items() if key.startswith("test/")} or self.metrics
        return f"<Run {self.name}: {', '.join(f'{key} {value:.4g}' for key, value in list(shown.items())[:4])}>"

    @property
    def _record(self) -> record.RunRecord:
        return record.from_run_dir(self._paths.run_dir(self.id))

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config."""
        return self._record.config

    @property
    def tags(self) -> dict[str, str]:
        """What the run recorded about itself: commit, machine, versions, hashes of its inputs."""
        return dict(self._record.tags)

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of val at the best epoch, such as `val/accuracy`, and, after `evaluate`, of test."""
        last = {key: points[-1][1] for key, points in self._record.metrics.items() if points}
        best = {key.removeprefix(BEST): value for key, value in last.items() if key.startswith(BEST)}
        return best | {key: value for key, value in last.items() if key.startswith("test/")}

    @property
    def history(self) -> pd.DataFrame:
        """The metrics of each epoch: a row per epoch, a column per metric."""
        columns = {
            key: pd.Series(dict(points), dtype=float)
            for key, points in self._record.metrics.items()
            if key.startswith(("train/", "val/")) and points
        }
        return pd.DataFrame(columns).rename_axis("epoch")

    @property
    def figures(self) -> dict[str, Path]:
        """The figures of `evaluate` by name, such as `confusion_matrix`."""
        return {file.stem: file for file in sorted((self._paths.run_dir(self.id) / "figures").glob("*.png"))}

    def evaluate(self) -> dict[str, float]:
        """Evaluate on the test split, draw the figures, and return the metrics of test.

        It runs in a process of its own: a process that has trained cannot read the test split.

        Raises:
            UserError: with the message of `reprise evaluate`, if it fails.

        """
        command = [sys.executable, "-P", "-m", "reprise", "evaluate", self.id]
        done = subprocess.run(command, cwd=self._paths.root, env=os.environ.copy(), capture_output=True, text=True)
        if done.returncode:
            message = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(message.removeprefix("reprise: "))
        return {key: value for key, value in self.metrics.items() if key.startswith("test/")}

    def predict(
        self, data: "Path | str | npt.NDArray[Any] | Sequence[npt.NDArray[Any]]", device: str = "cpu"
    ) -> "pd.DataFrame | npt.NDArray[Any]":
        """Return answers for files, or for raw inputs as the model takes them.

        Args:
            data: a path as `reprise predict` takes it; or an array of raw inputs `[B, …]`, several in a list: images `uint8
                [B, H, W, C]`; values `[B, T, C]` in their units and time stamps `int64 [B, T]`.
            device: where the network computes: `cpu`, `gpu`, or `auto`, a GPU if there is one.

        Returns:
            For a path a table with a row per sample or forecast step, else probabilities `[B, K]` or forecasts `[B, S, Y]`.

        Raises:
            UserError: if there is no GPU and `device="gpu"`, or files cannot be read.

        """
        from reprise.inference.device import on_device

        opened = on_device(self._opened, device)
        if isinstance(data, str | Path):
            return _predict_files(opened, Path(data).expanduser())
        import torch

        from reprise.inference.predictor import Predictor

        arrays = [data] if isinstance(data, np.ndarray) else list(data)
        model = self.model if opened.device == "cpu" else Predictor.from_run(opened)
        raw = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        with torch.inference_mode():
            return np.asarray(model(*model.move(raw)).cpu().numpy())

    @cached_property
    def _opened(self) -> "TrainedRun":
        from reprise.inference.trained_run import open_run

        return open_run(self._paths, self.id)

    @cached_property
    def model(self) -> "Predictor":
        """The model with its pre- and post-processing, an `nn.Module` in evaluation mode; `model.network` is the bare network."""
        from reprise.inference.predictor import Predictor

        return Predictor.from_run(self._opened)


def _predict_files(opened: "TrainedRun", path: Path) -> pd.DataFrame:
    from reprise.inference.by_kind import predict_on

    predict, _ = predict_on(opened.config.data.kind)
    folder = opened.output_folder / "predictions" / path.resolve().stem
    return pd.json_normalize(predict(opened, path, folder, Console(quiet=True)).rows())


def train(experiment: str, *overrides: str) -> Run:
    """Train an experiment with one seed, or resume its unfinished training, and return the run.

    Args:
        experiment: a file of conf/experiment/.
        overrides: keys and groups as on the command line: `"optimizer.lr=0.003"`, `"model=gru"`.

    Raises:
        UserError: for a wrong key, value or file; the message says what to do.

    """
    runs = train_seeds(experiment, *overrides)
    if len(runs) > 1:
        raise UserError(f"{len(runs)} seeds were trained", "call `train_seeds`, which returns all of them")
    return runs[0]


def train_seeds(experiment: str, *overrides: str) -> list[Run]:
    """Train every seed of an experiment (`"seeds=5"`), and return the runs."""
    from reprise.config.plugins import make_importable
    from reprise.stages import train as stage
    from reprise.tracking import lineage

    paths = _project()
    make_importable(paths.root)
    words = [f"experiment={experiment}", *overrides]
    config = configs.compose(paths.root, words)
    lineage.record_code(paths.root, config.plugins)
    arguments = ", ".join(json.dumps(word) for word in [experiment, *overrides] if not word.startswith("tracking"))
    trained = stage.run(config, paths, notebook.console(), f"reprise.train({arguments})")
    return [Run(paths, one.run_id) for one in trained]


def run(name: str) -> Run:
    """Return the run with a name, or whose id starts with it; `last` is the newest, `last~1` the one before it."""
    return Run(_project(), name)


def runs() -> pd.DataFrame:
    """Return all runs of the tracking store, newest first: id, name, status, and a column per metric and tag."""
    paths = _project()
    listed = record.list_runs(paths.store, configs.tracking_config(paths.root))
    rows = [{"id": one.id, "name": one.name, "status": one.status, **one.metrics, **_prefixed(one.tags)} for one in listed]
    return pd.DataFrame(rows, columns=None if rows else ["id", "name", "status"])


def _prefixed(tags: Any) -> dict[str, str]:
    return {f"tags.{key}": value for key, value in tags.items() if not key.startswith("mlflow.")}


def compare(*experiments: str, metric: str | None = None, by: Sequence[str] = ()) -> pd.DataFrame:
    """Rank settings over their runs, as `reprise compare` does.

    Args:
        experiments: names of experiments; none: all.
        metric: such as `test/mae`; by default the metric that chooses the epoch, on val.
        by: config keys or sections to group by; by default all.

    Returns:
        A row per group of runs that differ only in the seed, best first: data, metric, label (the settings that differ), mean,
        std, low and high (95 % interval), seeds, and verdict (against the next group, with Holm's correction).

    """
    from reprise.analysis import compare as comparison
    from reprise.analysis import compare_view

    found = comparison.compare(_project(), comparison.ComparisonQuery(experiments, None, tuple(by), metric))
    rows = [_row(table, group) for table in compare_view.described(found)["tables"] for group in table["groups"]]
    return pd.DataFrame(rows, columns=COMPARED)


COMPARED = ["data", "metric", "name", "label", "mean", "std", "low", "high", "seeds", "verdict"]


def _row(table: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    low, high = group["interval"] or (None, None)
    kept = {key: group[key] for key in ("name", "label", "mean", "std", "seeds")}
    return {"data": table["data"], "metric": table["metric"], **kept, "low": low, "high": high, "verdict": group["words"]}


def _project() -> ProjectPaths:
    return ProjectPaths(configs.project_root())
