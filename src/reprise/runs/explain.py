"""explain: what a trained network sees in a picture of one's own."""

from pathlib import Path

import torch
from rich.console import Console

from reprise.data import pictures
from reprise.data.examples import standardize
from reprise.errors import UserError
from reprise.figures import network
from reprise.figures.style import save
from reprise.insight import demand_images, first_filters
from reprise.runs.trained import TrainedRun, resize_of
from reprise.stages import report


def run(opened: TrainedRun, image: Path, out: Path, console: Console) -> None:
    """Filters, feature maps of every convolution, and attribution for the two likeliest classes, as figures in `out`."""
    name, shape = opened.trained.name, opened.windows.input_shape
    demand_images(shape, name)
    try:
        pixels = pictures.decode(image.read_bytes(), shape, resize_of(opened.config))
    except (OSError, ValueError) as error:
        raise UserError(f"{image}: {getattr(error, 'strerror', None) or error}") from None
    out.mkdir(parents=True, exist_ok=True)
    mean, std = (torch.tensor(opened.windows.meta["statistics"][key], dtype=torch.float32) for key in ("mean", "std"))
    raw = pixels[None]
    inputs = standardize(torch.from_numpy(raw), mean, std)
    with torch.inference_mode():
        predictions = opened.task.read(opened.network(inputs), inputs)
    if (weights := first_filters(opened.network)) is not None:
        save(network.filters(weights, f"{name}: filters of the first convolution"), out / "filters.png")
    report.draw_feature_maps(out, name, opened.network, raw, inputs, [image.stem])
    report.draw_attribution(out, name, opened.network, opened.windows, raw, predictions.clone(), [None])
    report.layer_table(out, opened.network, shape)
    [best] = opened.task.answer(predictions.double())
    chance, kind = best.max(-1)
    answer = opened.windows.meta["classes"][int(kind)]
    console.print(
        f"explain  {image.name}: {answer}, {100 * float(chance):.1f} %; figures in {out}", highlight=False, soft_wrap=True
    )
