"""Sequences on disk: reading, splitting, and the statistics of the train split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.config.modalities.sequences import OwnSequences, PublishedSequences, SequenceWindow
from reprise.data import splits, store
from reprise.data.audit import EPSILON, TOLERANCE, Floats, Moments
from reprise.data.contracts import ArraysMeta, WindowsMeta
from reprise.data.modalities.sequences import files, splitting
from reprise.data.modality import Processed, Split
from reprise.data.splits import Indices
from reprise.errors import UserError

BLOCK = 1024
"""Number of sequences that are read at once to recompute the statistics."""


class SequenceArrays(ArraysMeta):
    """meta.json of sequences."""

    class_names: list[str]
    channel_names: list[str]
    equal_lengths: bool
    known_duplicates: int


class Meta(WindowsMeta):
    """windows.json of sequences."""

    classes: list[str]
    channels: list[str]
    masked: bool
    """Whether lengths differ. The last input channel is then the mask: 1 at the steps of a sequence, 0 at its padding."""
    parts: dict[str, str]
    """The part of the arrays (train, test) that the indices of each split refer to."""

    def array_folder(self, split: str) -> str:
        """Return the folder of values.npy, lengths.npy and labels.npy of a split, with a slash."""
        return f"{self.parts[split]}/"

    def network_arguments(self) -> dict[str, Any]:
        """Return whether the last input channel is the mask."""
        return {"masked": self.masked}


def describe(data: DataConfig) -> dict[str, Any]:
    """Return the settings that decide the arrays."""
    return data.model_dump(exclude={"limit", "sources", "mirror"})


def read(data: DataConfig, raw: Path, console: Console) -> Processed:
    """Return values, lengths and labels of each part: train and, if there is one, test.

    `<part>/values` float32 [sample, T, C], 0 after the end of a sequence; T is the length of the longest sequence of both parts.
    `<part>/lengths` and `<part>/labels` int64 [sample].
    """
    if isinstance(data, OwnSequences):
        listed = list_sources(data)  # before they are read: a later change is then noticed
        found = files.read_own(data)
    else:
        assert isinstance(data, PublishedSequences)
        found, listed = files.read_published(data, raw), []
    sequences, parts = found.sequences, {"train": slice(found.train), "test": slice(found.train, None)}
    arrays = {
        f"{part}/{name}": getattr(sequences, name)[rows]
        for part, rows in parts.items()
        for name in ("values", "lengths", "labels")
        if part == "train" or found.test
    }
    equal = bool((sequences.lengths == sequences.lengths[0]).all())
    for note in [*sequences.notes, *_notes(found, equal)]:
        console.print(f"preprocess  {data.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    meta = {
        "class_names": sequences.classes,
        "channel_names": found.channels,
        "equal_lengths": equal,
        "interpolated": found.interpolated,
        "read_from": listed,
    }
    return Processed(arrays, meta)


def _notes(found: files.DataSet, equal: bool) -> list[str]:
    lengths, classes = found.sequences.lengths, found.sequences.classes
    steps = f"{lengths[0]:,} steps" if equal else f"{lengths.min():,} to {lengths.max():,} steps"
    test = f" and {found.test:,} of test" if found.test else ""
    channels = "1 channel" if len(found.channels) == 1 else f"{len(found.channels)} channels"
    notes = [f"{found.train:,} sequences of train{test}, {steps}, {channels}, {len(classes)} classes"]
    if found.interpolated:
        notes.append(f"{found.interpolated:,} missing values were interpolated (data.missing=interpolate)")
    return notes


def list_sources(data: DataConfig) -> list[dict[str, Any]]:
    """Return part, name and sha256 of the files of an own data set."""
    assert isinstance(data, OwnSequences)
    found = files.own_files(Path(data.path))
    return [{"part": part, "name": file.name, "sha256": store.sha256(file)} for part, file in found.items()]


def sources_changed(data: DataConfig, folder: Path) -> str:
    """Return a reason if a file was added, removed or edited since the arrays in `folder` were made, else ""."""
    assert isinstance(data, OwnSequences)
    if not Path(data.path).exists():
        return ""
    made = store.read_json(folder / "meta.json")["read_from"]
    return "" if list_sources(data) == made else f"holds other sequences than {data.path} does now"


def split(window: WindowConfig, arrays: Path) -> Split:
    """Split the training sequences, stratified by class, and use the published test set if there is one.

    Identical sequences stay in one split.
    """
    assert isinstance(window, SequenceWindow)
    meta = SequenceArrays.read(arrays / "meta.json", "make it again with `reprise preprocess`")
    published_test = (arrays / "test").is_dir()
    _check_test_size(window, meta.name, published_test)
    found = {part: _open(arrays / part) for part in (["train", "test"] if published_test else ["train"])}
    values, lengths, labels = found["train"]
    groups = splitting.identical_sequences(*(np.concatenate([part[i] for part in found.values()]) for i in (0, 1)))
    sizes = [splits.count(window.val_size, len(labels)), splits.count(window.test_size, len(labels))]
    val, test, train = splits.stratified_split(labels, sizes, window.seed, groups[: len(labels)])
    if published_test:
        test = np.arange(len(found["test"][2]), dtype=np.int64)
    train = splits.limit_stratified(train, labels, window.limit, window.seed)
    parts = {"train": train, "val": val, "test": test}
    if empty := [name for name, chosen in parts.items() if not len(chosen)]:
        raise UserError(f"the {empty[0]} split is left without a sequence", "change window.val_size or window.test_size")
    sources = {"train": "train", "val": "train", "test": "test" if published_test else "train"}
    fitted = splitting.sequence_statistics(values, lengths, train)
    numbered = parts | ({"test": test + len(labels)} if published_test else {})  # as in `groups`
    described = Meta(
        kind="sequences",
        input_shape=[values.shape[1], values.shape[2] + (not meta.equal_lengths)],
        classes=meta.class_names,
        channels=meta.channel_names,
        masked=not meta.equal_lengths,
        parts=sources,
        statistics=fitted,
        notes=_constant_channels(values, lengths, train, meta.channel_names),
    )
    checks = splitting.audit_sequences(numbered, groups, meta.known_duplicates)
    by_split = {name: found[sources[name]][2][chosen] for name, chosen in parts.items()}
    return Split(parts, described, checks, splits.warnings_of_small_classes(by_split, meta.class_names, "sequences"))


def _check_test_size(window: SequenceWindow, name: str, published_test: bool) -> None:
    if published_test == (window.test_size is not None):
        why = "it has a test set of its own" if published_test else "it has no test set of its own"
        raise UserError(
            f"window.test_size={window.test_size} with data={name}: {why}",
            f"set it to {'null' if published_test else 'a count, or a share below 1'}",
        )


def _open(folder: Path) -> tuple[Any, Indices, Indices]:
    """Return values (memory-mapped), lengths and labels of a part."""
    values, lengths, labels = (store.open_array(folder / f"{name}.npy") for name in ("values", "lengths", "labels"))
    return values, np.asarray(lengths), np.asarray(labels)


def _constant_channels(values: Any, lengths: Indices, train: Indices, names: list[str]) -> list[str]:
    rows = splitting.valid_rows(values, lengths, train)
    constant = [name for name, low, high in zip(names, rows.min(axis=0), rows.max(axis=0), strict=True) if low == high]
    return [f"channel {name}: constant in the training split, so nothing of it can be learned" for name in constant]


def statistics(meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return mean and std of each channel over the train split by running moments, and their rounding tolerances."""
    values, lengths, _ = _open(arrays / meta.array_folder("train"))
    moments = Moments.of(_blocks(values, lengths, train))
    step = TOLERANCE * moments.std + 4 * EPSILON * np.abs(moments.mean)
    return {"mean": moments.mean, "std": moments.std}, {"mean": step, "std": step}


def _blocks(values: Any, lengths: Indices, chosen: Indices) -> Iterator[Floats]:
    for start in range(0, len(chosen), BLOCK):
        yield splitting.valid_rows(values, lengths, chosen[start : start + BLOCK])
