"""draw: make the figures and tables of evaluated runs from published weights and kept predictions. Computes no metrics."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from reprise.config import Config
from reprise.data import store
from reprise.data.datasets import Windows, open_windows
from reprise.project_paths import ProjectPaths
from reprise.stages import report
from reprise.stages.kept_predictions import Classified, Forecasts, NaiveForecasts, forecasts_to_keep
from reprise.stages.train import build_parts
from reprise.stages.trained import Trained, history_file, load_trained, read_as_trained, read_published, weights_file, windows_of
from reprise.tracking import event_log
from reprise.tracking import run as tracking
from reprise.training.tasks import Task


def pipeline(config: Config, paths: ProjectPaths, console: Console) -> Path:
    """Write data/results/<experiment>/figures/ for the first seed, and log the figures of every seed in its run."""
    config, models = read_as_trained(paths, config), paths.models(config.name)
    predictions = paths.predictions(config.name)
    hint = f"run `dvc repro evaluate@{config.name}`"
    folder = paths.figures(config.name)
    with store.publish(folder) as draft:
        trained = read_published(paths, config.name)
        for one in trained:
            windows = open_windows(windows_of(config, one, paths).folder, paths.processed(config.data.name))
            network, task = build_parts(config, windows)
            load_trained(network, weights_file(models, one.seed), one.name)
            kept = torch.from_numpy(np.array(store.open_array(store.check(predictions, f"seed{one.seed}.npy", hint))))
            metrics = store.read_json(predictions / f"seed{one.seed}.json")
            shown = evaluated(config, one, history_file(models, one.seed), network, task, windows, metrics, kept)
            run = tracking.reopen(config.tracking, paths.store, one.run_id) if one.run_id else None
            write(shown, run, draft if one is trained[0] else None)
            if run:
                run.flush()
    console.print(f"draw  {config.name}: {sum(1 for _ in folder.iterdir()) - 1} figures and tables", highlight=False)
    return folder


def evaluated(
    config: Config,
    trained: Trained,
    history: Path,
    network: nn.Module,
    task: Task,
    windows: Windows,
    metrics: dict[str, float],
    kept: Tensor,
) -> report.Evaluated:
    """Return the data that the figures of a run are drawn from. `metrics` and `kept` are those of the test split."""
    naive = NaiveForecasts(windows) if windows.meta["kind"] == "series" else None
    rows, _ = forecasts_to_keep(len(windows.test()), task.outputs, config.trainer.eval_batch_size)
    return report.Evaluated(
        name=f"{config.name} seed {trained.seed}",
        best_epoch=trained.best_epoch,
        history=event_log.read_history(history),
        network=network.cpu(),
        task=task,
        windows=windows,
        metrics=metrics,
        predictions=Forecasts.of(kept, rows) if naive else Classified.of(kept),
        baselines={name: naive.of(name, rows) for name in naive.names} if naive else {},
    )


def write(shown: report.Evaluated, run: tracking.Run | None, keep: Path | None) -> None:
    """Draw the figures, into `keep` if given, and log them in the run."""
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        report.write(folder, shown)
        if run:
            run.artifacts(folder, "figures")
