"""The content of windows.json, as far as networks and tasks read it."""

from collections.abc import Sequence
from typing import Any

from reprise.data.modalities.images.arrays import Meta as ImageMeta
from reprise.data.modalities.sequences.arrays import Meta as SequenceMeta
from reprise.data.modalities.series.arrays import Meta as SeriesMeta


def image_meta(classes: Sequence[str] = ("a", "b", "c"), shape: Sequence[int] = (6, 6, 1), **changes: Any) -> ImageMeta:
    """Return windows.json of images."""
    channels = shape[-1]
    content = {
        "kind": "images",
        "input_shape": list(shape),
        "classes": list(classes),
        "parts": {"train": "train", "val": "train", "test": "test"},
        "statistics": {"mean": [0.0] * channels, "std": [1.0] * channels},
    }
    return ImageMeta.model_validate(content | changes)


def series_meta(
    targets: Sequence[str] = ("y",), inputs: Sequence[str] | None = None, lookback: int = 5, horizon: int = 1, **changes: Any
) -> SeriesMeta:
    """Return windows.json of a series."""
    names = list(inputs or targets)
    positions = [names.index(target) for target in targets]
    calendar = list(changes.get("calendar", []))
    content = {
        "kind": "series",
        "input_shape": [lookback, len(names) + 2 * len(calendar)],
        "lookback": lookback,
        "horizon": horizon,
        "borders": {"train": 70, "val": 85, "test": 100},
        "inputs": names,
        "input_columns": list(range(len(names))),
        "calendar": calendar,
        "targets": list(targets),
        "target_positions": positions,
        "target_columns": positions,
        "units": ["" for _ in targets],
        "season": 7,
        "frequency": "D",
        "statistics": {"mean": [0.0] * len(names), "std": [1.0] * len(names), "naive_mae": [1.0] * len(targets)},
    }
    return SeriesMeta.model_validate(content | changes)


def sequence_meta(
    classes: Sequence[str] = ("a", "b"), steps: int = 12, channels: Sequence[str] = ("x",), masked: bool = False, **changes: Any
) -> SequenceMeta:
    """Return windows.json of labelled sequences."""
    content = {
        "kind": "sequences",
        "input_shape": [steps, len(channels) + masked],
        "classes": list(classes),
        "channels": list(channels),
        "masked": masked,
        "parts": {"train": "train", "val": "train", "test": "test"},
        "statistics": {"mean": [0.0] * len(channels), "std": [1.0] * len(channels)},
    }
    return SequenceMeta.model_validate(content | changes)
