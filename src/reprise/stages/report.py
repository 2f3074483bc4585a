"""What `evaluate` leaves for people to look at: figures and tables of one run. Shapes as in learning/tasks.py."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from reprise.data import store
from reprise.data.examples import Examples, Images, Windows
from reprise.figures import classification, forecasting, training
from reprise.figures.style import save
from reprise.figures.text import literal
from reprise.learning.tasks import CALIBRATION_BINS, Task
from reprise.stages import explanation

SHOWN = 24
"""Pictures in a grid, and rows of feature maps."""


@dataclass(frozen=True)
class Evaluated:
    """A run after its evaluation: what its pictures are drawn from."""

    name: str
    best_epoch: int
    history: training.Points
    network: nn.Module
    task: Task
    windows: Windows
    predictions: Tensor
    """Of the test split."""
    targets: Tensor
    baselines: Mapping[str, Tensor]
    """Naive forecasts of the test split."""


def write(folder: Path, run: Evaluated) -> None:
    """All figures and tables of a run."""
    save(training.curves(run.history, run.task.monitor, run.best_epoch, run.name), folder / "curves.png")
    explanation.layer_table(folder, run.network, run.windows.input_shape)
    if isinstance(test := run.windows.test(), Images):
        probabilities = run.task.answer(run.predictions.double())
        _classes(folder, run, test, probabilities.numpy())
        _explained(folder, run, test, probabilities)
    else:
        _forecasts(folder, run)


def _classes(folder: Path, run: Evaluated, test: Images, probabilities: npt.NDArray[np.float64]) -> None:
    """Samples, predictions, worst mistakes, confusion matrix, report and reliability."""
    names, labels = run.windows.meta["classes"], run.targets.numpy()
    taken, confidence = probabilities.argmax(-1), probabilities.max(-1)
    right, every = taken == labels, f"{len(labels):,} test images"
    train, _ = run.windows.learning()
    shown = _spread_out(len(train))
    of_them = train.gather(shown).targets.numpy()
    save(classification.samples(_raw(train, shown), of_them, names, f"{run.name}: training images"), folder / "samples.png")

    def predictions(rows: Tensor, title: str, file: str) -> None:
        images = _raw(test, rows)
        save(classification.predictions(images, labels[rows], probabilities[rows], names, f"{run.name}: {title}"), folder / file)

    shown = _spread_out(len(test))
    predictions(shown, f"{len(shown)} of {every}", "predictions.png")
    wrong = np.flatnonzero(~right)
    surest = torch.from_numpy(wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN])
    if len(surest):
        predictions(surest, f"the surest of {len(wrong):,} mistakes in {every}", "worst_mistakes.png")
    counts = confusion(torch.from_numpy(taken), run.targets, len(names))
    save(classification.confusion_matrix(counts, names, f"{run.name}: {every}"), folder / "confusion_matrix.png")
    ece = run.task.metrics(run.predictions, run.targets)["ece"]
    save(classification.reliability(confidence, right, CALIBRATION_BINS, ece, run.name), folder / "reliability.png")
    _report(folder, run.name, labels, taken, names)


def _report(folder: Path, name: str, labels: Any, taken: Any, names: list[str]) -> None:
    """Precision, recall, F1 and support of every class: text, JSON and figure."""
    from sklearn.metrics import classification_report  # late: a second, and only classification needs it

    asked = {"labels": range(len(names)), "target_names": names, "zero_division": 0.0}
    (folder / "classification_report.txt").write_text(classification_report(labels, taken, digits=4, **asked), "utf-8")
    found = classification_report(labels, taken, output_dict=True, **asked)
    store.write_json(folder / "classification_report.json", found)
    f1, recall, precision = ([found[one][score] for one in names] for score in ("f1-score", "recall", "precision"))
    save(classification.scores(f1, recall, precision, names, f"{name}: each class"), folder / "classes.png")


def _explained(folder: Path, run: Evaluated, test: Images, probabilities: Tensor) -> None:
    """Filters, feature maps of one test image a class, attribution of a right and of a wrong answer."""
    names, targets = run.windows.meta["classes"], run.targets
    explanation.filters(folder, run.name, run.network)
    firsts = torch.tensor([int((targets == kind).nonzero()[0]) for kind in sorted(set(targets.tolist()))[:SHOWN]])
    titles = [names[kind] for kind in targets[firsts]]
    explanation.feature_maps(folder, run.name, run.network, run.windows, _raw(test, firsts), titles)
    right = probabilities.argmax(-1) == targets
    asked = torch.tensor([int(rows[0]) for rows in (right.nonzero(), (~right).nonzero()) if len(rows)])
    truth = targets[asked].tolist()
    explanation.attribution(folder, run.name, run.network, run.windows, _raw(test, asked), probabilities[asked], truth)


def _forecasts(folder: Path, run: Evaluated) -> None:
    """For each target channel: forecasts and truth, residuals, and the error at each step of the horizon."""
    meta = run.windows.meta
    truth, predicted = (run.task.answer(values.double()).numpy() for values in (run.targets, run.predictions))
    naive = {name.replace("_", " "): run.task.answer(values).numpy() for name, values in run.baselines.items()}
    first = run.windows.chosen("test") + meta["lookback"]
    time = run.windows.time().view("datetime64[ns]")[first[:, None] + np.arange(meta["horizon"])]
    for number, (channel, unit) in enumerate(zip(meta["targets"], meta["units"], strict=True)):
        suffix = f"_{file_part(channel)}" if len(meta["targets"]) > 1 else ""
        title = f"{run.name}: {literal(channel)}"
        one = (time, truth[..., number], predicted[..., number])
        figure = forecasting.forecast(*one, naive["repeat last"][..., number], channel, unit, title)
        save(figure, folder / f"forecast{suffix}.png")
        save(forecasting.residuals(*one, unit, title), folder / f"residuals{suffix}.png")
        errors = {
            kind: np.abs(values[..., number] - truth[..., number]).mean(axis=0)
            for kind, values in {"forecast": predicted, **naive}.items()
        }
        figure = forecasting.error_by_step(errors, unit, f"{title}\n{forecasting.number_of(len(truth))}")
        save(figure, folder / f"error_by_step{suffix}.png")


def file_part(channel: str) -> str:
    """A channel's name as a part of a file name: letters and digits, and a hash where that is not the whole name."""
    plain = re.sub(r"[^\w.-]+", "_", channel)[:60]
    return plain if plain == channel else f"{plain}_{hashlib.sha256(channel.encode('utf-8', 'replace')).hexdigest()[:6]}"


def confusion(predicted: Tensor, true: Tensor, classes: int) -> npt.NDArray[np.int64]:
    """Counts `int64 [true, predicted]`."""
    return torch.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes).numpy()


def _spread_out(count: int) -> Tensor:
    """Rows from all over a split of `count`, the same every time."""
    return torch.linspace(0, count - 1, min(SHOWN, count)).round().long()


def _raw(split: Examples, rows: Tensor) -> npt.NDArray[np.uint8]:
    return split.raw(rows).cpu().numpy()
