"""The output of `reprise predict`: predictions with mistakes first, a row per class, and the accuracy of each split."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reprise.inference.answers import FIGURE, NEW, SHOWN, TABLE, Answers

CLASSES_SHOWN = 30
SPLITS = {
    "train": "train (the run was trained on them)",
    "val": "val (the run's best epoch was chosen by them)",
    "test": "test",
    NEW: "new to the run",
    "": "unknown split",
}


def show(answers: Answers, out: Path, console: Console) -> None:
    """Print the predictions of most interest, the classes, the accuracy of each split, and the paths of the outputs."""
    console.print(_predictions(answers))
    if len(answers.names) > SHOWN:
        order = "mistakes first, then the least sure" if answers.known().any() else "the least sure"
        _print(console, f"{SHOWN} of {len(answers.names):,} {answers.samples}: {order}.")
    if answers.known().any():
        unseen = _not_trained_on(answers)
        console.print(_classes(answers, unseen))
        if not unseen.all():
            _print(console, f"The classes of the {int(unseen.sum()):,} {answers.samples} that the run was not trained on.")
    for line in _accuracies(answers):
        _print(console, line)
    _print(console, f"Written: {out / TABLE} and {FIGURE} beside it.")


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _not_trained_on(answers: Answers) -> npt.NDArray[np.bool_]:
    """Return which samples the run was not trained on; all samples if no sample of a known class is left otherwise."""
    unseen = np.array([split != "train" for split in answers.splits], bool)
    return unseen if (unseen & answers.known()).any() else np.ones(len(unseen), bool)


def _predictions(answers: Answers) -> Table:
    table = Table(answers.column, "true", "class", "confidence", "second", "", "split", box=None, pad_edge=False)
    rows = answers.rows()
    for number in answers.by_interest()[:SHOWN]:
        row = rows[number]
        first, second = (f"{100 * row[key]:.1f} %" for key in ("confidence", "second_confidence"))
        cells = [row[answers.column], row["true"] or "", row["class"], first, row["second"], second, row["split"] or ""]
        table.add_row(*map(escape, cells), style=None if row["true"] in {None, row["class"]} else "red")
    return table


def _classes(answers: Answers, chosen: npt.NDArray[np.bool_]) -> Table:
    """Return a table with a row per class: samples, correct predictions, and the class it is most often mistaken for."""
    table = Table("class", answers.samples, "right", "", "most often mistaken for", box=None, pad_edge=False)
    truth, predicted = np.array(answers.truth), np.array(answers.predicted)
    rows = []
    for name in answers.classes:
        members = (truth == name) & chosen
        others = predicted[members & (predicted != name)]
        names, counts = np.unique(others, return_counts=True)
        mistaken = f"{names[counts.argmax()]} ({counts.max():,})" if len(others) else ""
        rows.append((int(members.sum()), int(members.sum()) - len(others), name, mistaken))
    if len(rows) > CLASSES_SHOWN:
        rows = sorted(rows, key=lambda row: row[1] / max(row[0], 1))[:CLASSES_SHOWN]
    for number, right, name, mistaken in rows:
        share = f"{100 * right / number:.1f} %" if number else ""
        table.add_row(escape(name), f"{number:,}", f"{right:,}", share, escape(mistaken))
    return table


def _accuracies(answers: Answers) -> list[str]:
    """Return a line per split with its accuracy. Accuracy on training samples does not carry over to others."""
    known, right = answers.known(), answers.right()
    lines = []
    for split, description in SPLITS.items():
        members = np.array([one == split for one in answers.splits], bool)
        if not members.any():
            continue
        judged = members & known
        scored = f"{100 * right[judged].mean():.2f} % of {int(judged.sum()):,} right" if judged.any() else "no true class known"
        warning = f", which is no estimate for new {answers.samples}" if split == "train" and judged.any() else ""
        lines.append(f"{description}: {int(members.sum()):,} of {len(members):,} {answers.samples}; {scored}{warning}")
    unknown = sum(bool(one) for one in answers.truth) - int(known.sum())
    if unknown:
        lines.append(f"{unknown:,} {answers.samples} are labelled with classes that the run does not have.")
    return lines
