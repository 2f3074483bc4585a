"""Say and draw what the user's data holds."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from reprise.data import class_balance
from reprise.figures import classification, preview
from reprise.projects.own_data import OwnData

SHOWN = 24
"""Samples in the figure of labelled data."""


def figure(own: OwnData, name: str) -> Figure:
    """Draw samples with their classes, or the channels of a series."""
    arrays, meta = own.content.arrays, own.content.meta
    if own.kind.modality == "series":
        channels = meta["channels"]
        labelled = [f"{channel['name']}, {channel['unit']}" if channel["unit"] else channel["name"] for channel in channels]
        rows = slice(0, meta["series"][0]["rows"] if "series" in meta else None)
        title = f"{name}: {meta['series'][0]['name']}, the first of {len(meta['series'])} series" if "series" in meta else name
        time, values = arrays["time"][rows].astype("datetime64[ns]"), arrays["values"][rows]
        filled = arrays["filled"][rows] if "filled" in arrays else np.zeros(values.shape, bool)
        return preview.channels(time, values, filled, labelled, title)
    labels = arrays["train/labels"]
    chosen = _spread(labels, SHOWN)
    if own.kind.modality == "images":
        samples: Any = arrays["train/images"][chosen]
        names = meta["classes"]
    else:
        samples = [arrays["train/values"][row, : arrays["train/lengths"][row]] for row in chosen]
        names = meta["class_names"]
    return classification.samples(samples, labels[chosen], names, f"{name}: samples of each class")


def findings(own: OwnData) -> list[str]:
    """Return sentences about classes or channels, counts and imbalance."""
    arrays, meta = own.content.arrays, own.content.meta
    if own.kind.modality == "series":
        channels = ", ".join(channel["name"] for channel in meta["channels"])
        rows = f"{len(arrays['time']):,} rows"
        series = f"{len(meta['series'])} series, {rows}" if "series" in meta else rows
        return [f"a series to forecast: {series}, every {meta['frequency']}, channels {channels}"]
    labels, names = arrays["train/labels"], meta["classes" if own.kind.modality == "images" else "class_names"]
    counts = np.bincount(labels, minlength=len(names))
    kind = "labelled pictures" if own.kind.modality == "images" else "labelled sequences"
    lines = [f"{kind}: {len(labels):,} of {len(names)} classes" + (", and a test set" if own.has_test else "")]
    sentence = class_balance.imbalance(counts, names)
    return [*lines, f"{sentence}; {class_balance.REMEDY}"] if sentence else lines


def _spread(labels: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    """Return rows that show all classes in turn, the first samples of each."""
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        turn[rows] = np.arange(len(rows))
    return np.sort(np.lexsort((labels, turn))[:number])
