"""What logging costs: its share of the epochs of the smallest shipped network, whose epochs are the shortest.

    python benchmarks/logging_cost.py [--epochs 200] [--rounds 5]

Counted are the seconds that the training thread spends in saying its metrics, and the processor time of the thread that brings
them to MLflow, against the seconds of the training. Beside it, the whole training with and without logging, in turn; machines
are noisy, so of that read the median.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from reprise import config as configs
from reprise.config import Config
from reprise.data.datasets import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages import train
from reprise.tracking import resume
from reprise.tracking.mlflow_sync import MlflowSync
from reprise.tracking.run import Run

QUIET = Console(quiet=True)
TAGS = {"origin": "benchmark", "mlflow.source.name": "python benchmarks/logging_cost.py"}
spent = {"saying": 0.0, "delivering": 0.0}


def counted(method: Callable[..., Any], what: str, thread: str, clock: Callable[[], float]) -> Callable[..., Any]:
    """A method whose time in a thread is added up: what is delivered after the last epoch delays none."""

    def timed(*arguments: Any) -> Any:
        began = clock()
        try:
            return method(*arguments)
        finally:
            spent[what] += (threading.current_thread().name == thread) * (clock() - began)

    return timed


def fit(config: Config, windows: Windows, paths: ProjectPaths) -> float:
    """Seconds of a training with its run."""
    with resume.hold(paths.store, "benchmark", 0) as training:
        training.forget()
        return train.train_one(config, windows, paths, QUIET, TAGS, training).train_seconds


def fit_silently(config: Config, windows: Windows, paths: ProjectPaths) -> float:
    """The same, saying nothing."""
    log, Run.log = Run.log, lambda *_: None  # type: ignore[assignment]
    try:
        return fit(config, windows, paths)
    finally:
        Run.log = log  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    root = configs.project_root()
    Run.log = counted(Run.log, "saying", "MainThread", time.perf_counter)  # type: ignore[method-assign]
    MlflowSync.now = counted(MlflowSync.now, "delivering", "delivery", time.thread_time)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        paths = ProjectPaths(Path(scratch))  # the project's config and data, a tracking store of its own
        for name in ("conf", "data"):
            (paths.root / name).symlink_to(root / name)
        shortest = [f"trainer.max_epochs={options.epochs}", "trainer.patience=null", "tracking.log_model=false"]
        config = configs.compose(root, ["experiment=temperature_cnn1d", *shortest])
        windows = train.prepare(config, paths, QUIET)
        fit(config, windows, paths)
        ratios, shares = [], []
        for _ in range(options.rounds):
            spent.update(saying=0.0, delivering=0.0)
            logged = fit(config, windows, paths)
            shares.append(sum(spent.values()) / logged)
            said = ", ".join(f"{what} {seconds:.3f} s" for what, seconds in spent.items())
            silent = fit_silently(config, windows, paths)
            ratios.append(logged / silent)
            print(f"{options.epochs} epochs: with logging {logged:.2f} s ({said}), without {silent:.2f} s", flush=True)
    print(f"logging's share of an epoch: {100 * statistics.median(shares):.2f} % (largest {100 * max(shares):.2f} %)")
    print(f"with / without: {statistics.median(ratios):.3f}  (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
