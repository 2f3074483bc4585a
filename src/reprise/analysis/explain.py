"""explain: draw filters, feature maps and attributions of a trained network for a picture file."""

from pathlib import Path

import torch
from rich.console import Console

from reprise.analysis.trained import TrainedRun
from reprise.data import pictures
from reprise.errors import UserError
from reprise.interpretability import require_images
from reprise.stages import explanation
from reprise.training.predictor import Predictor


def run(opened: TrainedRun, image: Path, out: Path, console: Console) -> None:
    """Write filters, feature maps of every convolution, and attributions of the two most likely classes as figures to `out`.

    Raises:
        UserError: when the file is not a picture, or the network of the run does not take images.

    """
    name, model, windows = opened.trained.name, opened.network, opened.windows
    require_images(windows.input_shape, name)
    try:
        raw = pictures.decode(image.read_bytes(), opened.decoding).pixels[None]
    except (OSError, ValueError) as error:
        raise UserError(f"{image}: {getattr(error, 'strerror', None) or error}") from None
    with torch.no_grad():
        probabilities = Predictor(model, opened.task, windows.meta["statistics"])(torch.from_numpy(raw)).double()
    out.mkdir(parents=True, exist_ok=True)
    explanation.layer_table(out, model, windows.input_shape)
    explanation.filters(out, name, model)
    explanation.feature_maps(out, name, model, windows, raw, [image.stem])
    explanation.attribution(out, name, model, windows, raw, probabilities, [None])
    probability, label = probabilities[0].max(-1)
    message = f"predicted {windows.meta['classes'][int(label)]}, {100 * float(probability):.1f} %; figures in {out}"
    console.print(f"explain  {image.name}: {message}", highlight=False, soft_wrap=True)
