"""draw: make the figures and tables of evaluated runs from published weights and kept predictions. Computes no metrics."""

import contextlib
import importlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from reprise.config import Config
from reprise.data import store
from reprise.data.windows import Windows, open_windows
from reprise.figures import training
from reprise.figures.drawing import drawing
from reprise.figures.style import save
from reprise.inference import explanation
from reprise.inference.interpretability import is_image
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import windows_as_trained
from reprise.project_paths import ProjectPaths
from reprise.reports.evaluated import Evaluated
from reprise.stages.published import read_as_trained
from reprise.tasks.kept_predictions import Classified
from reprise.tracking import event_log
from reprise.tracking import run as tracking
from reprise.tracking.published_weights import calibration_file, history_file, read_published, weights_file
from reprise.tracking.trained import Trained


def pipeline(config: Config, paths: ProjectPaths, console: Console) -> Path:
    """Write data/results/<experiment>/figures/ for the first seed, and log the figures of every seed in its run."""
    config, models = read_as_trained(paths, config), paths.models(config.name)
    folder_of_predictions = paths.predictions(config.name)
    remake = f"run `dvc repro evaluate@{config.name}`"
    folder = paths.figures(config.name)
    with store.publish(folder) as draft:
        trained = read_published(paths, config.name)
        for one in trained:
            windows = open_windows(windows_as_trained(config, one, paths).folder, paths.processed(config.data.name))
            predictor = Predictor.from_weights(config, windows.meta, weights_file(models, one.seed), one.name)
            kept = _opened(folder_of_predictions, f"seed{one.seed}.npy", remake)
            if (name := calibration_file(one.seed)) in store.manifest(folder_of_predictions, remake):
                calibration = _opened(folder_of_predictions, name, remake)
                predictor.task = predictor.task.calibrated(calibration, len(windows.val()))
            metrics = store.read_json(folder_of_predictions / f"seed{one.seed}.json")
            shown = evaluated(config, one, history_file(models, one.seed), predictor, windows, metrics, kept)
            run = tracking.reopen(config.tracking, paths.store, one.run_id) if one.run_id else None
            write(predictor, shown, run, draft if one is trained[0] else None)
            if run:
                run.flush()
    console.print(f"draw  {config.name}: {sum(1 for _ in folder.iterdir()) - 1} figures and tables", highlight=False)
    return folder


def _opened(folder: Path, name: str, remake: str) -> Tensor:
    """Return a copy of an array that `evaluate` wrote."""
    return torch.from_numpy(np.array(store.open_array(store.check(folder, name, remake))))


def evaluated(
    config: Config,
    trained: Trained,
    history: Path,
    predictor: Predictor,
    windows: Windows,
    metrics: dict[str, float],
    kept: Tensor,
) -> Evaluated:
    """Return the data that the figures of a run are drawn from. `metrics` and `kept` are those of the test split."""
    return Evaluated(
        name=f"{config.name} seed {trained.seed}",
        best_epoch=trained.best_epoch,
        history=event_log.read_history(history),
        windows=windows,
        metrics=metrics,
        predictions=predictor.task.kept(kept, len(windows.test())),
    )


def write(predictor: Predictor, run: Evaluated, logged_in: tracking.Run | None, keep: Path | None) -> None:
    """Draw the figures, into `keep` if given, and log them in the run. A failing figure is reported as a warning."""
    predictor.cpu()
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with drawing("curves.png"):
            task = predictor.task
            figure = training.curves(run.history, task.monitor, run.best_epoch, run.name, task.units)
            save(figure, folder / "curves.png")
        with drawing("layers.txt"):
            inputs = predictor.transform(*run.windows.test().raw(torch.zeros(1, dtype=torch.int64)))
            explanation.layer_table(folder, predictor.network, inputs)
        with drawing("figures of the test split"):
            importlib.import_module(predictor.task.report).write(folder, run, predictor.task)
        if isinstance(run.predictions, Classified) and is_image(run.windows.input_shape):
            with drawing("explanations"):
                explanation.evaluated(folder, predictor, run)
        if logged_in:
            logged_in.log_artifacts(folder, "figures")
