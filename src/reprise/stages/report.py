"""What `evaluate` leaves for people to look at: figures and tables of one run. Shapes as in learning/tasks.py."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from reprise import insight
from reprise.data import store
from reprise.data.examples import Examples, Images, Windows, standardize
from reprise.figures import classification, forecasting, network, training
from reprise.figures.style import GREEN, ORANGE, save
from reprise.learning.tasks import CALIBRATION_BINS, Task

SHOWN = 24
"""Pictures in a grid."""


def write(
    folder: Path,
    name: str,
    model: nn.Module,
    task: Task,
    windows: Windows,
    history: training.Points,
    best_epoch: int,
    predictions: Tensor,
    targets: Tensor,
    baselines: dict[str, Tensor],
) -> None:
    """All figures and tables of a run called `name`, from the predictions of its test split."""
    save(training.curves(history, task.monitor, best_epoch, name), folder / "curves.png")
    layer_table(folder, model, windows.input_shape)
    if isinstance(test := windows.test(), Images):
        of_classes(folder, name, task, windows, test, predictions, targets)
        what_it_sees(folder, name, model, windows, test, predictions, targets)
    else:
        of_forecasts(folder, name, task, windows, predictions, targets, baselines)


def layer_table(folder: Path, model: nn.Module, input_shape: Sequence[int]) -> None:
    """layers.txt to read and layers.json to compute with."""
    rows = insight.layers(model, input_shape)
    table = Table("layer", "kind", box=None, pad_edge=False, header_style="")
    for title in ("output", "parameters", "multiply-adds", "kernel", "stride", "padding", "receptive field"):
        table.add_column(title, justify="right")
    for row in rows:
        sliding = [_extent(row.kernel), _extent(row.stride), _extent(row.padding)]
        size, work = (f"{number:,}" if number else "–" for number in (row.parameters, row.multiply_adds))
        table.add_row(row.name, row.kind, _extent(row.output), size, work, *sliding, _extent(row.receptive_field, "all"))
    total = {name: sum(getattr(row, name) for row in rows) for name in ("parameters", "multiply_adds")}
    table.add_row("total", "", "", *(f"{number:,}" for number in total.values()))
    shape = _extent(list(input_shape))
    (folder / "layers.txt").write_text(f"input {shape}; padding on both sides together\n\n{as_text(table)}", "utf-8")
    store.write_json(
        folder / "layers.json", {"input": list(input_shape), "layers": [dataclasses.asdict(row) for row in rows], "total": total}
    )


def of_classes(folder: Path, name: str, task: Task, windows: Windows, test: Images, predictions: Tensor, targets: Tensor) -> None:
    """Samples, predictions, worst mistakes, confusion matrix, report and reliability."""
    names, count = windows.meta["classes"], len(targets)
    probabilities = task.answer(predictions.double()).numpy()
    labels, taken = targets.numpy(), probabilities.argmax(-1)
    confidence, right = probabilities.max(-1), taken == labels
    train, _ = windows.learning()
    shown = _spread_out(len(train))
    figure = classification.samples(_raw(train, shown), train.gather(shown).targets.numpy(), names, f"{name}: training images")
    save(figure, folder / "samples.png")
    shown = _spread_out(count)
    figure = classification.predictions(
        _raw(test, shown), labels[shown], probabilities[shown], names, f"{name}: {SHOWN} of {count:,} test images"
    )
    save(figure, folder / "predictions.png")
    wrong = np.flatnonzero(~right)
    if len(worst := wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]):
        title = f"{name}: the surest of {len(wrong):,} mistakes in {count:,} test images"
        images = _raw(test, torch.from_numpy(worst))
        figure = classification.predictions(images, labels[worst], probabilities[worst], names, title)
        save(figure, folder / "worst_mistakes.png")
    counts = confusion(torch.from_numpy(taken), targets, len(names))
    save(classification.confusion_matrix(counts, names, f"{name}: {count:,} test images"), folder / "confusion_matrix.png")
    ece = task.metrics(predictions, targets)["ece"]
    save(classification.reliability(confidence, right, CALIBRATION_BINS, ece, name), folder / "reliability.png")
    _report(folder, name, labels, taken, names)


def _report(folder: Path, name: str, labels: Any, taken: Any, names: list[str]) -> None:
    """Precision, recall, F1 and support of every class: text, JSON and figure."""
    from sklearn.metrics import classification_report  # late: a second, and only classification needs it

    asked = {"labels": range(len(names)), "target_names": names, "zero_division": 0.0}
    (folder / "classification_report.txt").write_text(classification_report(labels, taken, digits=4, **asked), "utf-8")
    found = classification_report(labels, taken, output_dict=True, **asked)
    store.write_json(folder / "classification_report.json", found)
    f1, recall, precision = ([found[one][score] for one in names] for score in ("f1-score", "recall", "precision"))
    save(classification.scores(f1, recall, precision, names, f"{name}: each class"), folder / "classes.png")


def what_it_sees(
    folder: Path, name: str, model: nn.Module, windows: Windows, test: Images, predictions: Tensor, targets: Tensor
) -> None:
    """Filters, feature maps for one test image a class, and attribution for one right and one wrong prediction."""
    names = windows.meta["classes"]
    if (weights := insight.first_filters(model)) is not None:
        save(network.filters(weights, f"{name}: filters of the first convolution"), folder / "filters.png")
    firsts = torch.tensor([int((targets == kind).nonzero()[0]) for kind in range(len(names)) if (targets == kind).any()])
    draw_feature_maps(folder, name, model, _raw(test, firsts), test.gather(firsts).inputs, [names[k] for k in targets[firsts]])
    right = predictions.argmax(-1) == targets
    asked = [rows[0] for rows in (right.nonzero()[:, 0], (~right).nonzero()[:, 0]) if len(rows)]
    rows = torch.stack(asked)
    draw_attribution(folder, name, model, windows, _raw(test, rows), predictions[rows], targets[rows].tolist())


def draw_feature_maps(
    folder: Path, name: str, model: nn.Module, images: npt.NDArray[np.uint8], inputs: Tensor, titles: Sequence[str]
) -> None:
    """One figure a convolution, one row a picture."""
    for layer, maps in insight.feature_maps(model, inputs).items():
        title = f"{name}: {layer}, its {min(network.SHOWN, maps.shape[-1])} most active of {maps.shape[-1]} features"
        save(network.feature_maps(images, titles, maps, title), folder / f"feature_maps_{layer}.png")


def draw_attribution(
    folder: Path,
    name: str,
    model: nn.Module,
    windows: Windows,
    images: npt.NDArray[np.uint8],
    predictions: Tensor,
    truth: Sequence[int | None],
) -> None:
    """What speaks for the class predicted, and for the true one (where that is the same, or not known: the runner-up)."""
    names = windows.meta["classes"]
    mean, std = (torch.tensor(windows.meta["statistics"][key], dtype=torch.float32) for key in ("mean", "std"))
    raw = torch.from_numpy(images)
    inputs, black = standardize(raw, mean, std), standardize(torch.zeros_like(raw[0]), mean, std)
    probabilities = predictions.double().softmax(-1)
    best = probabilities.topk(2).indices  # [B, 2]
    firsts, seconds = best.T.tolist()
    others = [second if true in {None, first} else true for true, first, second in zip(truth, firsts, seconds, strict=True)]
    parts: list[dict[str, npt.NDArray[np.float32]]] = [{} for _ in truth]
    for classes in (firsts, others):
        found = insight.attribution(model, inputs, torch.tensor(classes), black)
        for row, (kind, part) in enumerate(zip(classes, found, strict=True)):
            parts[row][f"{names[kind]}, {100 * probabilities[row, kind]:.1f} %"] = part
    headings = [_heading(names, true, first) for true, first in zip(truth, firsts, strict=True)]
    colours = ["black" if true is None else GREEN if true == first else ORANGE for true, first in zip(truth, firsts, strict=True)]
    title = f"{name}: what speaks for a class (integrated gradients)"
    save(network.attribution(images, headings, colours, parts, title), folder / "attribution.png")


def _heading(names: Sequence[str], true: int | None, taken: int) -> str:
    if true is None:
        return names[taken]
    return f"✓ {names[taken]}" if true == taken else f"✗ {names[taken]}\nis {names[true]}"


def of_forecasts(
    folder: Path,
    name: str,
    task: Task,
    windows: Windows,
    predictions: Tensor,
    targets: Tensor,
    baselines: dict[str, Tensor],
) -> None:
    """For each target channel: forecast and truth one step ahead, residuals; and the error at each step of the horizon."""
    truth, predicted = (task.answer(values.double()).numpy() for values in (targets, predictions))
    naive = {baseline.replace("_", " "): task.answer(values).numpy() for baseline, values in baselines.items()}
    time = windows.time()[windows.chosen("test") + windows.meta["lookback"]]
    channels = list(zip(windows.meta["targets"], windows.meta["units"], strict=True))
    for number, (channel, unit) in enumerate(channels):
        suffix = f"_{channel}" if len(channels) > 1 else ""
        one = (time, truth[:, 0, number], predicted[:, 0, number])
        title = f"{name}: {channel}, one step ahead"
        figure = forecasting.forecast(*one, naive["repeat last"][:, 0, number], unit, title)
        save(figure, folder / f"forecast{suffix}.png")
        save(forecasting.residuals(*one, unit, title), folder / f"residuals{suffix}.png")
        errors = {
            kind: np.abs(values[..., number] - truth[..., number]).mean(axis=0)
            for kind, values in {"forecast": predicted, **naive}.items()
        }
        figure = forecasting.error_by_step(errors, unit, f"{name}: {channel}, {len(truth):,} test windows")
        save(figure, folder / f"error_by_step{suffix}.png")


def confusion(predicted: Tensor, true: Tensor, classes: int) -> npt.NDArray[np.int64]:
    """Counts `int64 [true, predicted]`."""
    return torch.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes).numpy()


def as_text(table: Table) -> str:
    """A table as plain text."""
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _spread_out(count: int) -> Tensor:
    """Rows from all over a split of `count`, the same every time."""
    return torch.linspace(0, count - 1, min(SHOWN, count)).round().long()


def _raw(split: Examples, rows: Tensor) -> npt.NDArray[np.uint8]:
    return split.raw(rows).cpu().numpy()


def _extent(sizes: Sequence[int] | None, none: str = "–") -> str:
    return " × ".join(map(str, sizes)) if sizes is not None else none
