"""Figures and tables of an evaluated run. Shapes as in training/tasks.py."""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from reprise.data import store
from reprise.data.datasets import Dataset, Images, Windows
from reprise.errors import warn
from reprise.figures import classification, forecasting, training
from reprise.figures.style import save
from reprise.figures.text import literal
from reprise.stages import class_scores, explanation
from reprise.stages.kept_predictions import Classified, Forecasts
from reprise.training.metrics import CALIBRATION_BINS
from reprise.training.tasks import Task

SHOWN = 24
"""The number of pictures in a grid, and of rows of feature maps."""
MOST_CLASSES = 1000
"""The largest number of classes for which the confusion matrix is drawn; it has a cell per pair."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluated run: everything its figures are drawn from."""

    name: str
    best_epoch: int
    history: training.Points
    network: nn.Module
    task: Task
    windows: Windows
    metrics: Mapping[str, float]
    """Metrics of the test split."""
    predictions: Classified | Forecasts
    """The kept predictions of the test split."""
    baselines: Mapping[str, Tensor]
    """Naive forecasts of the kept windows."""


def write(folder: Path, run: Evaluated) -> None:
    """Write all figures and tables of a run. A failing one is reported as a warning."""
    with _drawing("curves.png"):
        save(training.curves(run.history, run.task.monitor, run.best_epoch, run.name), folder / "curves.png")
    with _drawing("layers.txt"):
        explanation.layer_table(folder, run.network, run.windows.input_shape)
    with _drawing("figures of the test split"):
        if isinstance(test := run.windows.test(), Images):
            _classes(folder, run, test)
            _explained(folder, run, test)
        else:
            _forecasts(folder, run)


@contextlib.contextmanager
def _drawing(file: str) -> Iterator[None]:
    """Turn exceptions in the block into a warning, so that a failing figure does not lose the metrics."""
    try:
        yield
    except Exception as error:
        warn(f"{file} could not be made: {type(error).__name__}: {error}")
        plt.close("all")


def _classes(folder: Path, run: Evaluated, test: Images) -> None:
    """Draw samples, predictions, worst mistakes, confusion matrix and reliability; write the classification report."""
    names, classified = run.windows.meta["classes"], run.predictions
    assert isinstance(classified, Classified)
    all_images = f"{len(classified.target):,} test images"

    def predictions(rows: Tensor, title: str, file: str) -> None:
        with _drawing(file):
            chosen = rows.numpy()  # indexing an array with a tensor of one row would give a scalar
            images, labels, shown = _raw(test, rows), classified.target[chosen], classified.probabilities(chosen, len(names))
            save(classification.predictions(images, labels, shown, names, f"{run.name}: {title}"), folder / file)

    with _drawing("samples.png"):
        train, _ = run.windows.learning()
        rows = _spread_out(len(train))
        labels = train.gather(rows).targets.numpy()
        save(classification.samples(_raw(train, rows), labels, names, f"{run.name}: training images"), folder / "samples.png")
    rows = _spread_out(len(test))
    predictions(rows, f"{len(rows)} of {all_images}", "predictions.png")
    wrong = np.flatnonzero(~classified.right)
    surest = torch.from_numpy(wrong[np.argsort(-classified.confidence[wrong], kind="stable")][:SHOWN])
    if len(surest):
        predictions(surest, f"the surest of {len(wrong):,} mistakes in {all_images}", "worst_mistakes.png")
    if len(names) <= MOST_CLASSES:
        with _drawing("confusion_matrix.png"):
            counts = classified.confusion(len(names))
            save(classification.confusion_matrix(counts, names, f"{run.name}: {all_images}"), folder / "confusion_matrix.png")
    with _drawing("reliability.png"):
        sure, ece = classified.confidence, run.metrics["ece"]
        save(classification.reliability(sure, classified.right, CALIBRATION_BINS, ece, run.name), folder / "reliability.png")
    scores = class_scores.Scores.of(classified.target, classified.predicted, len(names))
    (folder / "classification_report.txt").write_text(scores.as_text(names), "utf-8")
    store.write_json(folder / "classification_report.json", scores.described(names))
    with _drawing("classes.png"):
        f1, recall, precision = (one.tolist() for one in (scores.f1, scores.recall, scores.precision))
        save(classification.scores(f1, recall, precision, names, f"{run.name}: each class"), folder / "classes.png")


def _explained(folder: Path, run: Evaluated, test: Images) -> None:
    """Draw filters, feature maps of one test image per class, and attributions of a correct and a wrong prediction."""
    names, classified = run.windows.meta["classes"], run.predictions
    assert isinstance(classified, Classified)
    with _drawing("filters.png"):
        explanation.filters(folder, run.name, run.network)
    with _drawing("feature_maps"):
        kinds, firsts = np.unique(classified.target, return_index=True)
        titles = [names[kind] for kind in kinds[:SHOWN]]
        images = _raw(test, torch.from_numpy(firsts[:SHOWN]))
        explanation.feature_maps(folder, run.name, run.network, run.windows, images, titles)
    with _drawing("attribution.png"):
        candidates = np.flatnonzero(classified.right), np.flatnonzero(~classified.right)
        rows = np.array([indices[0] for indices in candidates if len(indices)])
        probabilities = torch.from_numpy(classified.probabilities(rows, len(names)))
        images, truth = _raw(test, torch.from_numpy(rows)), classified.target[rows].tolist()
        explanation.attribution(folder, run.name, run.network, run.windows, images, probabilities, truth)


def _forecasts(folder: Path, run: Evaluated) -> None:
    """Draw, per target channel, forecasts with the truth, residuals, and the error at each step of the horizon."""
    meta, kept = run.windows.meta, run.predictions
    assert isinstance(kept, Forecasts)
    truth, predicted = (run.task.postprocess(values.double()).numpy() for values in (kept.targets, kept.predictions))
    naive = {name.replace("_", " "): run.task.postprocess(values).numpy() for name, values in run.baselines.items()}
    first_steps = run.windows.chosen("test") + meta["lookback"]
    time = run.windows.time().view("datetime64[ns]")[first_steps[kept.rows.numpy()][:, None] + np.arange(meta["horizon"])]
    count = forecasting.window_count(len(truth)) + (f" of {len(first_steps):,}" if len(truth) < len(first_steps) else "")
    for number, (channel, unit) in enumerate(zip(meta["targets"], meta["units"], strict=True)):
        suffix = f"_{file_part(channel)}" if len(meta["targets"]) > 1 else ""
        title = f"{run.name}: {literal(channel)}"
        series = (time, truth[..., number], predicted[..., number])
        with _drawing(f"forecast{suffix}.png"):
            figure = forecasting.forecast(*series, naive["repeat last"][..., number], channel, unit, title)
            save(figure, folder / f"forecast{suffix}.png")
        with _drawing(f"residuals{suffix}.png"):
            save(forecasting.residuals(*series, unit, title), folder / f"residuals{suffix}.png")
        errors = {
            kind: np.abs(values[..., number] - truth[..., number]).mean(axis=0)
            for kind, values in {"forecast": predicted, **naive}.items()
        }
        with _drawing(f"error_by_step{suffix}.png"):
            figure = forecasting.error_by_step(errors, unit, f"{title}\n{count}")
            save(figure, folder / f"error_by_step{suffix}.png")


def file_part(channel: str) -> str:
    """Return the name of a channel for use in a file name: special characters replaced, and a hash added if it changed."""
    plain = re.sub(r"[^\w.-]+", "_", channel)[:60]
    return plain if plain == channel else f"{plain}_{hashlib.sha256(channel.encode('utf-8', 'replace')).hexdigest()[:6]}"


def _spread_out(count: int) -> Tensor:
    """Return evenly spaced row indices of a split of `count` samples."""
    return torch.linspace(0, count - 1, min(SHOWN, count)).round().long()


def _raw(split: Dataset, rows: Tensor) -> npt.NDArray[np.uint8]:
    return split.raw(rows).cpu().numpy()
