"""Predicted classes of samples and, where they are known, the true ones."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SHOWN = 24
"""The number of rows printed, and of samples in the figure."""
TABLE, FIGURE, HEAT_FIGURE = "predictions.csv", "predictions.png", "tiles.png"
NEW = "new"
"""The split of a sample that is in none of the run's splits."""


@dataclass(frozen=True)
class Answers:
    """The predictions for samples, with probabilities `float64 [N, K]`."""

    classes: list[str]
    names: list[str]
    """The file of each picture, or the number of each sequence in its file."""
    truth: list[str]
    """The true class of each sample; "" if unknown."""
    probabilities: npt.NDArray[np.float64]
    splits: list[str]
    """The split of the run that each sample is in: train, val, test or new; "" if unknown."""
    samples: str = "pictures"
    """What the samples are called."""
    column: str = "file"
    """What their names are called in tables."""

    @property
    def predicted(self) -> list[str]:
        """The most likely class of each sample."""
        return [self.classes[best] for best in self.probabilities.argmax(1)]

    def right(self) -> npt.NDArray[np.bool_]:
        """Return whether each sample is predicted correctly; False if its class is unknown."""
        return np.array([true == predicted for true, predicted in zip(self.truth, self.predicted, strict=True)], bool)

    def known(self) -> npt.NDArray[np.bool_]:
        """Return whether the true class of each sample is known and is a class of the run."""
        return np.array([true in set(self.classes) for true in self.truth], bool)

    def by_interest(self) -> list[int]:
        """Return the rows sorted: mistakes first, by descending confidence; then the others, by ascending confidence."""
        wrong, sure = self.known() & ~self.right(), self.probabilities.max(1)
        return [int(row) for row in np.lexsort((np.where(wrong, -sure, sure), ~wrong))]

    def rows(self) -> list[dict[str, Any]]:
        """Return, per sample: name, true class, the two most likely classes with probabilities, split, and all probabilities."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        return [
            {
                self.column: name,
                "true": true or None,
                "class": self.classes[first],
                "confidence": float(row[first]),
                "second": self.classes[second],
                "second_confidence": float(row[second]),
                "split": split or None,
                "probabilities": dict(zip(self.classes, row.tolist(), strict=True)),
            }
            for name, true, row, split, (first, second) in zip(
                self.names, self.truth, self.probabilities, self.splits, order[:, :2].tolist(), strict=True
            )
        ]

    def write_table(self, folder: Path) -> None:
        """Write a CSV table with a row per sample to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
            fixed = [self.column, "true", "class", "confidence", "second", "second_confidence", "split"]
            writer = csv.writer(stream)
            writer.writerow(fixed + [f"p_{kind}" for kind in self.classes])
            for row in self.rows():
                writer.writerow([row[key] for key in fixed] + list(row["probabilities"].values()))
