"""Precision, recall and F1 per class, and their averages, as text and as JSON.

Classes and averages have separate keys, so a class may be named `accuracy` or `macro avg`.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
SCORES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Scores:
    """Scores `float64 [K]`. Recall of a class without samples and precision of a class never predicted are NaN."""

    precision: Values
    recall: Values
    f1: Values
    support: Counts
    """The number of samples of each class."""
    accuracy: float

    @classmethod
    def of(cls, target: Counts, predicted: Counts, classes: int) -> Self:
        """Return the scores of true and predicted classes `int64 [N]`."""
        correct = np.bincount(target[target == predicted], minlength=classes)
        predictions, support = np.bincount(predicted, minlength=classes), np.bincount(target, minlength=classes)
        scores = (_ratio(correct, predictions), _ratio(correct, support), _ratio(2 * correct, predictions + support))
        return cls(*scores, support, float(correct.sum() / len(target)))

    @property
    def averages(self) -> dict[str, dict[str, float]]:
        """The mean of each score over the classes where it is defined: unweighted (macro), and weighted by support."""
        macro = {name: float(np.nanmean(getattr(self, name))) for name in SCORES}
        weighted = {name: _weighted(getattr(self, name), self.support) for name in SCORES}
        return {"macro": macro, "weighted": weighted}

    def described(self, names: Sequence[str]) -> dict[str, Any]:
        """Return accuracy, averages and the list of classes as JSON data. An undefined score is None."""
        columns = {name: list(map(_or_none, getattr(self, name).tolist())) for name in SCORES}
        classes = [
            {"name": name, **{score: columns[score][number] for score in SCORES}, "support": int(self.support[number])}
            for number, name in enumerate(names)
        ]
        averages = {kind: {score: _or_none(value) for score, value in one.items()} for kind, one in self.averages.items()}
        return {"accuracy": self.accuracy, "averages": averages, "samples": int(self.support.sum()), "classes": classes}

    def as_text(self, names: Sequence[str]) -> str:
        """Return a table with a line per class, then accuracy and averages."""
        head = ("class", *SCORES, "support")
        lines = [
            (_printable(name), *(_cell(getattr(self, score)[number]) for score in SCORES), f"{self.support[number]:,}")
            for number, name in enumerate(names)
        ]
        total = f"{self.support.sum():,}"
        averages = [(f"average, {kind}", *(_cell(one[score]) for score in SCORES), total) for kind, one in self.averages.items()]
        accuracy = ("accuracy", "", "", _cell(self.accuracy), total)
        width = max(_width(row[0]) for row in [head, accuracy, *lines, *averages])
        groups = ["\n".join(_line(row, width) for row in rows) for rows in ([head], lines, [accuracy, *averages])]
        defined = np.isfinite([self.precision, self.recall, self.f1]).all()
        return "\n\n".join(groups if defined else [*groups, UNDEFINED]) + "\n"


UNDEFINED = "–: undefined, for no sample is of the class, or none was taken for it; averages are over the other classes."


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _line(row: tuple[str, ...], width: int) -> str:
    return (" " * (width - _width(row[0])) + row[0] + "".join(f"{cell:>11}" for cell in row[1:])).rstrip()


def _printable(name: str) -> str:
    """Return the name of a class with every unprintable character replaced by a space."""
    return "".join(letter if letter.isprintable() else " " for letter in name)


def _width(text: str) -> int:
    """Return the number of terminal columns of a text: wide letters take two, combining marks none."""
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _ratio(part: Counts, whole: Counts) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _weighted(values: Values, weights: Counts) -> float:
    """Return the weighted mean of the defined values; a class without samples has no weight."""
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")
