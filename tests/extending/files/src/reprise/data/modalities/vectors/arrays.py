"""Vectors on disk."""

from pathlib import Path
from typing import Any

import numpy as np
from reprise.config.modalities.vectors import VectorData, VectorWindow
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.data import splits, store
from reprise.data.audit import Floats
from reprise.data.contracts import ArraysMeta, WindowsMeta
from reprise.data.modality import Processed, Split
from reprise.data.published import read_files
from reprise.data.splits import Indices


class VectorArrays(ArraysMeta):
    """meta.json of vectors."""

    classes: list[str]


class Meta(WindowsMeta):
    """windows.json of vectors."""

    classes: list[str]


def describe(data: DataConfig) -> dict[str, Any]:
    return data.model_dump(exclude={"limit", "sources", "mirror"})


def read(data: DataConfig, raw: Path, console: Console) -> Processed:
    assert isinstance(data, VectorData)
    (content,) = read_files(data, raw).values()
    table = np.loadtxt(content.decode().splitlines(), delimiter=",", dtype=np.float32, ndmin=2)
    return Processed({"values": table[:, :-1], "labels": table[:, -1].astype(np.int64)}, {})


def split(window: WindowConfig, arrays: Path) -> Split:
    assert isinstance(window, VectorWindow)
    values, labels = (np.asarray(store.open_array(arrays / f"{name}.npy")) for name in ("values", "labels"))
    sizes = [splits.count(size, len(labels)) for size in (window.val_size, window.test_size)]
    val, test, train = splits.stratified_split(labels, sizes, window.seed)
    statistics = {"mean": values[train].mean(0).tolist(), "std": values[train].std(0).tolist()}
    classes = VectorArrays.read(arrays / "meta.json", "make it again with `reprise preprocess`").classes
    meta = Meta(kind="vectors", input_shape=[values.shape[1]], statistics=statistics, classes=classes)
    parts = {"train": train, "val": val, "test": test}
    return Split(parts, meta, {"splits are disjoint": splits.disjoint(parts)})


def statistics(meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    values = np.asarray(store.open_array(arrays / "values.npy"), np.float64)[train]
    found = {"mean": values.mean(0), "std": values.std(0)}
    return found, {name: np.full_like(one, 1e-5) for name, one in found.items()}
