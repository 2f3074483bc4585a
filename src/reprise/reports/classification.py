"""Figures and tables of an evaluated classification. Shapes: `N` samples, `K` classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data import store
from reprise.figures import classification
from reprise.figures.drawing import drawing
from reprise.figures.style import save
from reprise.reports import class_scores
from reprise.reports.evaluated import Evaluated
from reprise.tasks.build import IMAGE_DIMENSIONS
from reprise.tasks.classification import Classification
from reprise.tasks.classification_metrics import CALIBRATION_BINS
from reprise.tasks.kept_predictions import Classified
from reprise.tasks.metric_names import ECE
from reprise.tasks.task import Task

SHOWN = 24
"""The number of samples in a grid."""
MOST_CLASSES = 1000
"""The largest number of classes for which the confusion matrix is drawn; it has a cell per pair."""


def write(folder: Path, run: Evaluated, task: Task) -> None:
    """Draw samples, predictions, worst mistakes, confusion matrix and reliability; write the classification report."""
    assert isinstance(task, Classification)
    names, classified = task.classes, run.predictions
    assert isinstance(classified, Classified)
    test = run.windows.test()
    are_images = len(run.windows.input_shape) == IMAGE_DIMENSIONS
    kind = "images" if are_images else "sequences"
    channels = getattr(run.windows.meta, "channels", ())
    all_samples = f"{len(classified.target):,} test {kind}"

    def predictions(rows: Tensor, title: str, file: str) -> None:
        with drawing(file):
            chosen = rows.numpy()  # indexing an array with a tensor of one row would give a scalar
            labels, shown = classified.target[chosen], classified.probabilities(chosen, len(names))
            heading = f"{run.name}: {title}"
            figure = classification.predictions(drawable(test.raw(rows)), labels, shown, names, heading, channels)
            save(figure, folder / file)

    with drawing("samples.png"):
        train, _ = run.windows.learning()
        rows = _spread_out(len(train))
        if not are_images:
            rows = _of_each_class(train.gather(torch.arange(len(train))).targets.numpy())
        labels = train.gather(rows).targets.numpy()
        title = f"{run.name}: training {kind}"
        save(classification.samples(drawable(train.raw(rows)), labels, names, title, channels), folder / "samples.png")
    rows = _spread_out(len(test)) if are_images else _of_each_class(classified.target)
    order = "" if are_images or len(rows) == len(test) else ", the first of each class"
    predictions(rows, f"{len(rows)} of {all_samples}{order}", "predictions.png")
    wrong = np.flatnonzero(~classified.right)
    surest = torch.from_numpy(wrong[np.argsort(-classified.confidence[wrong], kind="stable")][:SHOWN])
    if len(surest):
        predictions(surest, f"the surest of {len(wrong):,} mistakes in {all_samples}", "worst_mistakes.png")
    if len(names) <= MOST_CLASSES:
        with drawing("confusion_matrix.png"):
            counts = classified.confusion(len(names))
            save(classification.confusion_matrix(counts, names, f"{run.name}: {all_samples}"), folder / "confusion_matrix.png")
    with drawing("reliability.png"):
        sure, ece = classified.confidence, run.metrics[ECE]
        save(classification.reliability(sure, classified.right, CALIBRATION_BINS, ece, run.name), folder / "reliability.png")
    scores = class_scores.Scores.of(classified.target, classified.predicted, len(names))
    (folder / "classification_report.txt").write_text(scores.as_text(names), "utf-8")
    store.write_json(folder / "classification_report.json", scores.described(names))
    with drawing("classes.png"):
        f1, recall, precision = (one.tolist() for one in (scores.f1, scores.recall, scores.precision))
        save(classification.scores(f1, recall, precision, names, f"{run.name}: each class"), folder / "classes.png")


def drawable(raw: Sequence[Tensor]) -> classification.Samples:
    """Return raw inputs as they are drawn: images `[N, H, W, C]`, or a list of sequences `[T, C]` without their padding."""
    first = raw[0].numpy()
    if first.ndim == IMAGE_DIMENSIONS + 1:
        return first
    sequences = first.reshape(len(first), first.shape[1], -1)
    lengths = raw[1].tolist() if len(raw) > 1 else [sequences.shape[1]] * len(sequences)
    return [sequence[:length] for sequence, length in zip(sequences, lengths, strict=True)]


def _of_each_class(labels: npt.NDArray[np.int64]) -> Tensor:
    """Return row indices of the first samples of each class `[SHOWN]`, as many of each as possible, sorted by class."""
    order = np.argsort(labels, kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    number = np.concatenate([np.arange(count) for count in counts])  # of a sample within its class
    chosen = np.sort(np.argsort(number, kind="stable")[:SHOWN])
    return torch.from_numpy(order[chosen])


def _spread_out(count: int) -> Tensor:
    """Return evenly spaced row indices of a split of `count` samples."""
    return torch.linspace(0, count - 1, min(SHOWN, count)).round().long()
