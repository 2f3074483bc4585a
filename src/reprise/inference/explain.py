"""explain: draw filters, feature maps and attributions of a trained network for a picture file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reprise.data.modalities.images.decoding import decode
from reprise.data.modalities.images.folder import decoding_of
from reprise.errors import UserError
from reprise.figures.style import save
from reprise.figures.tiles import heat_maps
from reprise.inference import explanation, tiles
from reprise.inference.answers import HEAT_FIGURE
from reprise.inference.interpretability import require_images
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.tasks.classification import Classification

HEATED = 3
"""The most classes whose heat is drawn."""


@dataclass(frozen=True)
class Pictured:
    """The predicted class of a picture."""

    file: str
    predicted: str
    probability: float

    def described(self) -> dict[str, Any]:
        """Return the prediction as JSON data."""
        return asdict(self)


def run(run: TrainedRun, image: Path, out: Path, console: Console, sample: str | None, target: str | None) -> Pictured:
    """Write filters, feature maps of every convolution, and attributions of the two most likely classes as figures to `out`.

    Of a picture that is cut into tiles, also tiles.png, the probabilities of the most likely classes over the picture; the other
    figures are then of the tile with the largest probability of the predicted class.

    Raises:
        UserError: when the file is not a picture, or the network of the run does not classify images.

    """
    if sample is not None or target is not None:
        raise UserError("--sample and --target are for sequences and series", "leave them out for a picture")
    name, predictor = run.trained.name, Predictor.from_run(run)
    classes = classes_of(predictor, run)
    try:
        decoded = decode(image.read_bytes(), decoding_of(run.config.data, run.windows.input_shape))
    except (OSError, ValueError) as error:
        raise UserError(f"{image}: {getattr(error, 'strerror', None) or error}") from None
    out.mkdir(parents=True, exist_ok=True)
    answered = decoded.tiles and tiles.answer(predictor, decoded.tiles, run.config.trainer.eval_batch_size)
    raw = answered.strongest(int(answered.mean.argmax())) if answered else decoded.pixels[None]
    if answered:
        heat = heat_maps(answered.heat_maps(classes, HEATED), f"{name}: {image.name}, probability of the tiles at each pixel")
        save(heat, out / HEAT_FIGURE)
    with torch.no_grad():
        inputs = predictor.transform(*predictor.move([torch.from_numpy(raw)]))
        probabilities = predictor.predict(inputs).double().cpu()
    explanation.layer_table(out, predictor.network, inputs)
    explanation.filters(out, name, predictor.network)
    explanation.feature_maps(out, name, predictor, raw, [image.stem])
    explanation.attribution(out, name, predictor, raw, probabilities, [None])
    probability, label = (torch.from_numpy(answered.mean) if answered else probabilities[0]).max(-1)
    return Pictured(image.name, classes[int(label)], float(probability))


def show(pictured: Pictured, out: Path, console: Console) -> None:
    """Print the predicted class and the path of the figures."""
    message = f"predicted {pictured.predicted}, {100 * pictured.probability:.1f} %; figures in {out}"
    console.print(f"explain  {pictured.file}: {message}", highlight=False, soft_wrap=True)


def classes_of(predictor: Predictor, run: TrainedRun) -> list[str]:
    """Return the classes of a run that classifies images. Raise UserError for any other run."""
    require_images(run.windows.input_shape, run.trained.name)
    if not isinstance(predictor.task, Classification):
        raise UserError(f"{run.trained.name} does not predict classes", "name a run with task=classification")
    return predictor.task.classes
