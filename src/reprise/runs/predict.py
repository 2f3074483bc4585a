"""predict: what a trained network takes pictures for, and how surely."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from reprise.data import picture_files, pictures
from reprise.data.picture_files import Listed
from reprise.data.pictures import Picture
from reprise.errors import UserError
from reprise.figures import classification
from reprise.figures.style import save
from reprise.insight import demand_images
from reprise.learning.predictor import Predictor
from reprise.runs.trained import TrainedRun
from reprise.stages.bar import watched

SHOWN = 24
"""Rows printed, and pictures in the figure."""
FIGURE = "predictions.png"


@dataclass(frozen=True)
class Answers:
    """What was said of each picture: probabilities `float64 [N, K]`."""

    classes: list[str]
    read: list[Picture]
    probabilities: npt.NDArray[np.float64]

    def rows(self) -> list[dict[str, Any]]:
        """File, class and confidence, and the runner-up."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return [
            {
                "file": str(one.listed.file),
                "class": self.classes[first],
                "confidence": float(row[first]),
                "second": self.classes[second],
                "second_confidence": float(row[second]),
            }
            for one, row, (first, second) in zip(self.read, self.probabilities, order[:, :2].tolist(), strict=True)
        ]

    def accuracy(self) -> float | None:
        """The share that was taken for what their folders are called; none: the folders are not called as classes."""
        folders = [one.listed.file.resolve().parent.name for one in self.read]
        if not set(folders) <= set(self.classes):
            return None
        true = np.array([self.classes.index(folder) for folder in folders])
        return float((self.probabilities.argmax(1) == true).mean())


def run(opened: TrainedRun, path: Path, out: Path, console: Console) -> Answers:
    """Answer for a picture, or for all pictures in a folder; predictions.csv and predictions.png go to `out`.

    Raises:
        UserError: when there is no picture that can be read; single ones are named and left out.

    """
    demand_images(opened.windows.input_shape, opened.trained.name)
    ours = (out / FIGURE).resolve()  # of the last time, when `out` lies in the folder
    found, _ = picture_files.pictures_in(path) if path.exists() else ([], [])
    files = [file for file in found if file.resolve() != ours]
    if not files:
        raise UserError(f"{path}: {'no picture in it' if path.exists() else 'no such file or folder'}")
    listed = [Listed(file, str(file), "") for file in files]
    reading = pictures.read_all(listed, opened.decoding)
    read = list(watched(reading, len(listed), "reading", console))
    for one in read:
        if one.problem:
            console.print(f"predict  left out: {one.listed.name}: {one.problem}", highlight=False, markup=False, soft_wrap=True)
    sound = [one for one in read if not one.problem]
    if not sound:
        raise UserError(f"{path}: no picture that can be read: {read[0].listed.name}: {read[0].problem}")
    answers = Answers(opened.windows.meta["classes"], sound, _answer(opened, sound, console))
    _write(answers, opened.trained.name, out)
    return answers


def _answer(opened: TrainedRun, read: Sequence[Picture], console: Console) -> npt.NDArray[np.float64]:
    """Probabilities of each class, `float64 [N, K]`, by the arithmetic of `evaluate`."""
    predictor = Predictor(opened.network, opened.task, opened.windows.meta["statistics"])
    size = opened.config.trainer.eval_batch_size
    batches = [read[begin : begin + size] for begin in range(0, len(read), size)]
    with torch.inference_mode():
        answers = [
            predictor(torch.from_numpy(pictures.stacked(batch))).double().numpy()
            for batch in watched(batches, len(batches), "answering", console)
        ]
    return np.concatenate(answers)


def _write(answers: Answers, name: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows = answers.rows()
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shown = answers.read[:SHOWN]
    files = [one.listed.file.name for one in shown]
    title = f"{name}: {len(shown)} of {len(rows):,} pictures" if len(rows) > SHOWN else name
    images, probabilities = pictures.stacked(shown), answers.probabilities[:SHOWN]
    save(classification.answers(images, probabilities, answers.classes, files, title), out / FIGURE)


def show(answers: Answers, out: Path, console: Console) -> None:
    """The first answers as a table, how many were right where that is known, and where the rest is."""
    table = Table("file", "class", "confidence", "second", "", box=None, pad_edge=False)
    rows = answers.rows()
    for row in rows[:SHOWN]:
        sure, less = (f"{100 * row[key]:.1f} %" for key in ("confidence", "second_confidence"))
        table.add_row(row["file"], row["class"], sure, row["second"], less)
    console.print(table)
    if (accuracy := answers.accuracy()) is not None:
        console.print(f"{100 * accuracy:.2f} % of {len(rows):,} were taken for what their folders are called.", highlight=False)
    console.print(f"Written: {out / 'predictions.csv'} and predictions.png beside it.", highlight=False, soft_wrap=True)
