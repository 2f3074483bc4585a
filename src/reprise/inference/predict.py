"""predict: classify pictures with a trained network and, if the true classes are known, compare with them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from reprise.data.modalities.images import picture_files, pictures
from reprise.data.modalities.images.decoding import Decoding
from reprise.data.modalities.images.folder import decoding_of
from reprise.data.modalities.images.picture_files import Listed
from reprise.data.modalities.images.pictures import Picture
from reprise.errors import UserError
from reprise.figures import classification
from reprise.figures.style import save
from reprise.figures.tiles import HeatMap, heat_maps
from reprise.inference import known_pictures, tiles
from reprise.inference.answers import FIGURE, HEAT_FIGURE, SHOWN, TABLE, Answers
from reprise.inference.compute import Compute, classifier, probabilities
from reprise.inference.explain import classes_of
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.progress_bar import watched

HEATED = 8
"""Pictures in the figure of heat maps."""


def run(run: TrainedRun, path: Path, out: Path, console: Console) -> Answers:
    """Predict the class of a picture, or of all pictures in a folder or CSV table; write predictions.csv and .png to `out`.

    Of pictures that are cut into tiles, also tiles.png: where the predicted class comes from.

    Raises:
        UserError: when no picture can be read. Otherwise unreadable pictures are reported and left out.

    """
    predictor = Predictor.from_run(run)
    classes = classes_of(predictor, run)
    listed = _listed(path, out, classes, console)
    decoding, size = decoding_of(run.config.data, run.windows.input_shape), run.config.trainer.eval_batch_size
    read, of_tiles = [], []
    for one in watched(pictures.read_all(listed, decoding), len(listed), "reading", console):
        if one.problem:
            _report(console, f"left out: {one.listed.name}: {one.problem}")
        if one.decoded and one.decoded.tiles:  # answered at once: the tiles of all pictures would fill the memory
            of_tiles.append(tiles.answer(predictor, one.decoded.tiles, size).mean)
            read.append(replace(one, decoded=replace(one.decoded, tiles=None)))
        else:
            read.append(one)
    readable = [one for one in read if not one.problem]
    if not readable:
        raise UserError(f"{path}: no picture that can be read: {read[0].listed.name}: {read[0].problem}")
    answered = np.stack(of_tiles) if of_tiles else _probabilities(classifier(predictor), readable, size, console)
    files, truth = [str(one.listed.file) for one in readable], [one.listed.label for one in readable]
    answers = Answers(classes, files, truth, answered, _splits(run, readable, console))
    answers.write_table(out)
    _draw(answers, readable, run.trained.name, out)
    if of_tiles:
        _draw_heat(predictor, answers, readable, decoding, size, run.trained.name, out)
    return answers


def _listed(path: Path, out: Path, classes: Sequence[str], console: Console) -> list[Listed]:
    """Return the pictures with their classes, as far as known. Report other files in the folder."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file() and path.suffix.lower() == ".csv":
        table = picture_files.listing(path).pictures
        return [replace(one, name=str(one.file)) for one in table]
    files, left_out = picture_files.pictures_in(path)
    own_files = {(out / name).resolve() for name in (TABLE, FIGURE, HEAT_FIGURE)}  # of an earlier call, if `out` is in it
    by_reason: dict[str, list[picture_files.LeftOut]] = {}
    for one in left_out:
        if (path / one.name).resolve() not in own_files:
            by_reason.setdefault(one.why, []).append(one)
    for why, ones in sorted(by_reason.items()):
        some = ", ".join(one.name for one in ones[:5]) + (", …" if len(ones) > 5 else "")
        _report(console, f"left out, {why} ({sum(one.files for one in ones):,}): {some}")
    files = [file for file in files if file.resolve() not in own_files]
    if not files:
        raise UserError(f"{path}: no picture in it")
    return [Listed(file, str(file), _class_of(file, path, classes)) for file in files]


def _class_of(file: Path, path: Path, classes: Sequence[str]) -> str:
    """Return the name of the nearest parent folder, up to `path` itself, that is named like a class; "" if none is."""
    top = path.absolute() if path.is_dir() else path.absolute().parent
    for folder in file.absolute().parents:
        for name in (folder.name, folder.resolve().name):
            if name in classes:
                return name
        if folder == top:
            break
    return ""


def _splits(run: TrainedRun, read: Sequence[Picture], console: Console) -> list[str]:
    try:
        return known_pictures.splits_of(run.windows, read)
    except UserError as error:
        _report(console, f"cannot tell which of these pictures the run was trained on: {error}")
        return [""] * len(read)


def _report(console: Console, text: str) -> None:
    console.print(f"predict  {text}", highlight=False, markup=False, soft_wrap=True)


def _probabilities(compute: Compute, read: Sequence[Picture], size: int, console: Console) -> npt.NDArray[np.float64]:
    """Return the probability of each class, `float64 [N, K]`, computed as in `evaluate`."""
    batches = [read[begin : begin + size] for begin in range(0, len(read), size)]
    return np.concatenate(
        [
            probabilities(compute, [torch.from_numpy(pictures.stacked(batch))])
            for batch in watched(batches, len(batches), "answering", console)
        ]
    )


def _draw(answers: Answers, pictured: Sequence[Picture], name: str, out: Path) -> None:
    order = answers.by_interest()[:SHOWN]
    read = [pictured[row] for row in order]
    title = f"{name}: {len(order)} of {len(pictured):,} pictures" if len(pictured) > SHOWN else name
    figure = classification.file_predictions(
        pictures.stacked(read),
        answers.probabilities[order],
        answers.classes,
        [one.listed.file.name for one in read],
        title,
        [one.listed.label for one in read],
    )
    save(figure, out / FIGURE)


def _draw_heat(
    predictor: Predictor, answers: Answers, read: Sequence[Picture], decoding: Decoding, size: int, name: str, out: Path
) -> None:
    """Draw the probability of the predicted class over the first pictures, which are read again."""
    order = answers.by_interest()[:HEATED]
    drawn = []
    for one in pictures.read_all([read[row].listed for row in order], decoding):
        if one.decoded and one.decoded.tiles:
            answered = tiles.answer(predictor, one.decoded.tiles, size)
            label = int(answered.mean.argmax())
            title = f"{one.listed.file.name}\n{answers.classes[label]}, {100 * answered.mean[label]:.1f} %"
            drawn.append(HeatMap(one.decoded.tiles.picture(), answered.heat(label), title))
    if drawn:
        save(heat_maps(drawn, f"{name}: probability of the predicted class, of the tiles at each pixel"), out / HEAT_FIGURE)
