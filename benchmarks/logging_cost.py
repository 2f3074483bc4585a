"""The cost of logging: its share of an epoch of the smallest shipped network, whose epochs are the shortest.

    python benchmarks/logging_cost.py [--epochs 200] [--rounds 5]

The share is the time that the training thread spends in logging metrics, plus the processor time of the thread that sends them to
MLflow, divided by the time of the training. For comparison, whole trainings run with and without logging, in turn. Machines are
noisy: read the median.
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
from reprise.data.windows import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.stages.seed_run import train_seed
from reprise.tracking import resume
from reprise.tracking.mlflow_sync import MlflowSync
from reprise.tracking.run import Run

QUIET = Console(quiet=True)
TAGS = {"origin": "benchmark", "mlflow.source.name": "python benchmarks/logging_cost.py"}
spent = {"logging": 0.0, "sending": 0.0}


def timed_in_thread(method: Callable[..., Any], what: str, thread: str, clock: Callable[[], float]) -> Callable[..., Any]:
    """Wrap a method so that its time in one thread is added up. What another thread sends after the last epoch is not counted."""

    def timed(*arguments: Any) -> Any:
        began = clock()
        try:
            return method(*arguments)
        finally:
            spent[what] += (threading.current_thread().name == thread) * (clock() - began)

    return timed


def fit(config: Config, windows: Windows, paths: ProjectPaths) -> float:
    """Train with a run. Return the seconds."""
    with resume.lock_training(paths.store, "benchmark", 0) as training:
        training.forget()
        return train_seed(config, windows, None, paths, QUIET, TAGS, training).train_seconds


def fit_without_logging(config: Config, windows: Windows, paths: ProjectPaths) -> float:
    """Do the same without logging metrics."""
    log, Run.log = Run.log, lambda *_: None  # type: ignore[method-assign]
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
    Run.log = timed_in_thread(Run.log, "logging", "MainThread", time.perf_counter)  # type: ignore[method-assign]
    MlflowSync.now = timed_in_thread(MlflowSync.now, "sending", "delivery", time.thread_time)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as scratch:
        paths = ProjectPaths(Path(scratch))  # the project's config and data, a tracking store of its own
        for name in ("conf", "data"):
            (paths.root / name).symlink_to(root / name)
        shortest = [f"trainer.max_epochs={options.epochs}", "trainer.patience=null", "tracking.log_model=false"]
        config = configs.compose(root, ["experiment=temperature_cnn1d", *shortest])
        windows = prepare(config, paths, QUIET)
        fit(config, windows, paths)
        ratios, shares = [], []
        for _ in range(options.rounds):
            spent.update(logging=0.0, sending=0.0)
            logged = fit(config, windows, paths)
            shares.append(sum(spent.values()) / logged)
            parts = ", ".join(f"{what} {seconds:.3f} s" for what, seconds in spent.items())
            unlogged = fit_without_logging(config, windows, paths)
            ratios.append(logged / unlogged)
            print(f"{options.epochs} epochs: with logging {logged:.2f} s ({parts}), without {unlogged:.2f} s", flush=True)
    print(f"logging's share of an epoch: {100 * statistics.median(shares):.2f} % (largest {100 * max(shares):.2f} %)")
    print(f"with / without: {statistics.median(ratios):.3f}  (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
