"""Layer table, filters, feature maps and attributions of a network, for test images or a picture file of the user."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from reprise.data import store
from reprise.data.datasets import largest_row
from reprise.figures import network
from reprise.figures.drawing import drawing
from reprise.figures.style import GREEN, ORANGE, save
from reprise.figures.text import labels
from reprise.inference import interpretability
from reprise.inference.predictor import Predictor
from reprise.reports.evaluated import Evaluated
from reprise.tasks.classification import Classification

Pixels = npt.NDArray[np.uint8]


SHOWN = 24
"""The number of rows of feature maps."""


def layer_table(folder: Path, model: nn.Module, inputs: Tensor) -> None:
    """Write the table of layers for one network input `[1, …]` as layers.txt and layers.json."""
    rows = interpretability.layers(model, inputs)
    input_shape = list(inputs.shape[1:])
    table = Table("layer", "kind", box=None, pad_edge=False, header_style="")
    for title in ("output", "parameters", "multiply-adds", "kernel", "stride", "padding", "dilation", "receptive field"):
        table.add_column(title, justify="right")
    for row in rows:
        sliding = [_extent(size) for size in (row.kernel, row.stride, row.padding, row.dilation)]
        size, work = (f"{number:,}" if number else "–" for number in (row.parameters, row.multiply_adds))
        table.add_row(row.name, row.kind, _extent(row.output), size, work, *sliding, _extent(row.receptive_field, "all"))
    total = {name: sum(getattr(row, name) for row in rows) for name in ("parameters", "multiply_adds")}
    table.add_row("total", "", "", *(f"{number:,}" for number in total.values()))
    content = {"input": input_shape, "layers": [dataclasses.asdict(row) for row in rows], "total": total}
    store.write_json(folder / "layers.json", content)
    head = f"input {_extent(input_shape)}; padding on both sides together"
    (folder / "layers.txt").write_text(f"{head}\n\n{_as_text(table)}", "utf-8")


def filters(folder: Path, name: str, model: nn.Module) -> None:
    """Draw the filters of the first convolution, if there is one."""
    if (weights := interpretability.first_filters(model)) is not None:
        save(network.filters(weights, f"{name}: filters of the first convolution"), folder / "filters.png")


def feature_maps(folder: Path, name: str, predictor: Predictor, images: Pixels, titles: Sequence[str]) -> None:
    """Draw the feature maps of images `[B, H, W, C]`: one figure per convolution, one row per image."""
    inputs = predictor.transform(*predictor.move([torch.from_numpy(images)]))
    for layer, maps in interpretability.feature_maps(predictor.network, inputs).items():
        title = f"{name}: {layer}, its {min(network.MAX_MAPS, maps.shape[-1])} most active of {maps.shape[-1]} features"
        save(network.feature_maps(images, titles, maps, title), folder / f"feature_maps_{layer}.png")


def attribution(
    folder: Path,
    name: str,
    predictor: Predictor,
    images: Pixels,
    probabilities: Tensor,
    truth: Sequence[int | None],
) -> None:
    """Draw attributions for the predicted and for the true class.

    If the prediction is correct, or the true class is unknown, the second most likely class takes the place of the true one.
    """
    assert isinstance(predictor.task, Classification)
    names = labels(predictor.task.classes, network.NAME_COLUMNS)
    [raw] = predictor.move([torch.from_numpy(images)])
    inputs, black = predictor.transform(raw), predictor.transform(torch.zeros_like(raw[:1]))[0]
    firsts, seconds = probabilities.topk(2).indices.T.tolist()
    others = [second if true in {None, first} else true for true, first, second in zip(truth, firsts, seconds, strict=True)]
    parts: list[list[tuple[str, npt.NDArray[np.float32]]]] = [[] for _ in truth]
    for classes in (firsts, others):
        attributions = interpretability.attribution(predictor.network, inputs, torch.tensor(classes, device=inputs.device), black)
        for row, (kind, part) in enumerate(zip(classes, attributions, strict=True)):
            parts[row].append((f"{names[kind]}\nprobability {100 * probabilities[row, kind]:.1f} %", part))
    headings = [_heading(names, true, first) for true, first in zip(truth, firsts, strict=True)]
    colours = ["black" if true is None else GREEN if true == first else ORANGE for true, first in zip(truth, firsts, strict=True)]
    title = f"{name}: what speaks for a class (integrated gradients)"
    save(network.attribution(images, headings, colours, parts, title), folder / "attribution.png")


def evaluated(folder: Path, predictor: Predictor, run: Evaluated) -> None:
    """Draw filters, feature maps of one test image per class, and attributions of a correct and a wrong prediction.

    Of pictures that are cut into tiles, only the filters: the network does not read a picture as a whole.
    """
    assert isinstance(predictor.task, Classification)
    names, classified, test = predictor.task.classes, run.predictions, run.windows.test()
    with drawing("filters.png"):
        filters(folder, run.name, predictor.network)
    if largest_row(test) > 1:
        return
    with drawing("feature_maps"):
        kinds, firsts = np.unique(classified.target, return_index=True)
        titles = [names[kind] for kind in kinds[:SHOWN]]
        images = test.raw(torch.from_numpy(firsts[:SHOWN]))[0].numpy()
        feature_maps(folder, run.name, predictor, images, titles)
    with drawing("attribution.png"):
        candidates = np.flatnonzero(classified.right), np.flatnonzero(~classified.right)
        rows = np.array([indices[0] for indices in candidates if len(indices)])
        probabilities = torch.from_numpy(classified.probabilities(rows, len(names)))
        images, truth = test.raw(torch.from_numpy(rows))[0].numpy(), classified.target[rows].tolist()
        attribution(folder, run.name, predictor, images, probabilities, truth)


def _heading(names: Sequence[str], true: int | None, predicted: int) -> str:
    """Return the heading of an image: its predicted class and, if known, its true class."""
    if true is None:
        return f"predicted:\n{names[predicted]}"
    return f"✓ {names[predicted]}" if true == predicted else f"✗ {names[predicted]}\nis {names[true]}"


def _as_text(table: Table) -> str:
    console = Console(width=200, color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _extent(sizes: Sequence[int] | str | None, none: str = "–") -> str:
    if isinstance(sizes, str):
        return sizes
    return " × ".join(map(str, sizes)) if sizes is not None else none
