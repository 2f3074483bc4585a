"""What `reprise predict` prints: mistakes first, a row per class, and accuracy apart for pictures the run was trained on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reprise.analysis.known_pictures import NEW
from reprise.analysis.predict import FIGURE, SHOWN, TABLE, Answers

CLASSES_SHOWN = 30
SPLITS = {
    "train": "train (the run was trained on them)",
    "val": "val (the run's best epoch was chosen by them)",
    "test": "test",
    NEW: "new to the run",
    "": "unknown split",
}


def show(answers: Answers, out: Path, console: Console) -> None:
    """Print the most telling predictions, the classes, the accuracy of each split, and where everything is."""
    console.print(_predictions(answers))
    if len(answers.read) > SHOWN:
        order = "mistakes first, then the least sure" if answers.known().any() else "the least sure"
        _say(console, f"{SHOWN} of {len(answers.read):,} pictures: {order}.")
    if answers.known().any():
        honest = _not_trained_on(answers)
        console.print(_classes(answers, honest))
        if not honest.all():
            _say(console, f"The classes of the {int(honest.sum()):,} pictures that the run was not trained on.")
    for line in _accuracies(answers):
        _say(console, line)
    _say(console, f"Written: {out / TABLE} and {FIGURE} beside it.")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _not_trained_on(answers: Answers) -> npt.NDArray[np.bool_]:
    """Which pictures the run has not been trained on; all, where it was trained on every one."""
    honest = np.array([split != "train" for split in answers.splits], bool)
    return honest if (honest & answers.known()).any() else np.ones(len(honest), bool)


def _predictions(answers: Answers) -> Table:
    table = Table("file", "true", "class", "confidence", "second", "", "split", box=None, pad_edge=False)
    rows = answers.rows()
    for number in answers.by_interest()[:SHOWN]:
        row = rows[number]
        sure, less = (f"{100 * row[key]:.1f} %" for key in ("confidence", "second_confidence"))
        words = [row["file"], row["true"] or "", row["class"], sure, row["second"], less, row["split"] or ""]
        table.add_row(*map(escape, words), style=None if row["true"] in {None, row["class"]} else "red")
    return table


def _classes(answers: Answers, chosen: npt.NDArray[np.bool_]) -> Table:
    """A row per class: its pictures, how many are right, and the class they are most often taken for otherwise."""
    table = Table("class", "pictures", "right", "", "most often mistaken for", box=None, pad_edge=False)
    truth, predicted = np.array(answers.truth), np.array(answers.predicted)
    found = []
    for name in answers.classes:
        ours = (truth == name) & chosen
        others = predicted[ours & (predicted != name)]
        names, counts = np.unique(others, return_counts=True)
        mistaken = f"{names[counts.argmax()]} ({counts.max():,})" if len(others) else ""
        found.append((int(ours.sum()), int(ours.sum()) - len(others), name, mistaken))
    if len(found) > CLASSES_SHOWN:
        found = sorted(found, key=lambda row: row[1] / max(row[0], 1))[:CLASSES_SHOWN]
    for number, right, name, mistaken in found:
        share = f"{100 * right / number:.1f} %" if number else ""
        table.add_row(escape(name), f"{number:,}", f"{right:,}", share, escape(mistaken))
    return table


def _accuracies(answers: Answers) -> list[str]:
    """The accuracy of each split, as pictures that a network was trained on tell nothing of others."""
    known, right = answers.known(), answers.right()
    lines = []
    for split, whose in SPLITS.items():
        ours = np.array([one == split for one in answers.splits], bool)
        if not ours.any():
            continue
        judged = ours & known
        scored = f"{100 * right[judged].mean():.2f} % of {int(judged.sum()):,} right" if judged.any() else "no true class known"
        warning = ", which says nothing about new pictures" if split == "train" and judged.any() else ""
        lines.append(f"{whose}: {int(ours.sum()):,} of {len(ours):,} pictures; {scored}{warning}")
    strange = sum(bool(one) for one in answers.truth) - int(known.sum())
    if strange:
        lines.append(f"{strange:,} pictures are labelled with classes that the run does not have.")
    return lines
