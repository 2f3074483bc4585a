"""Labelled sequences: files become arrays, each sequence is in one split, statistics see valid steps of train alone."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_strategy
from rich.console import Console

from reprise.config import compose_dataset
from reprise.config.modalities.sequences import OwnSequences, PublishedSequences, SequenceWindow
from reprise.data import store
from reprise.data.audit import statistics as audit_statistics
from reprise.data.modalities.sequences import arrays, files, splitting, tensors
from reprise.data.windows import open_windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import preprocess
from tests.metas import sequence_meta

ROOT = Path(__file__).resolve().parents[2]
quick = settings(max_examples=60, deadline=None)
HEADER = "@problemName own\n@timeStamps false\n@univariate false\n@equalLength false\n@classLabel true a b\n@data\n"


def write_ts(file: Path, sequences: list[tuple[list[list[float]], str]], header: str = HEADER) -> Path:
    """Write sequences, each a list of channels and a class."""
    lines = (":".join([*(",".join(map(str, channel)) for channel in channels), label]) for channels, label in sequences)
    file.write_text(header + "\n".join(lines) + "\n")
    return file


def some_sequences(count: int, seed: int = 0) -> list[tuple[list[list[float]], str]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 9, count)
    return [(random.normal(size=(2, length)).round(3).tolist(), "ab"[number % 2]) for number, length in enumerate(lengths)]


def own(path: Path, **changes: Any) -> OwnSequences:
    data = compose_dataset(ROOT, "ucr", [f"data.path={path}"])
    assert isinstance(data, OwnSequences)
    return data.model_copy(update=changes)


def window(**changes: Any) -> SequenceWindow:
    return SequenceWindow(**{"kind": "sequences", "val_size": 4, "test_size": 4, "seed": 0, "limit": None, **changes})


def made(folder: Path, data: OwnSequences) -> Path:
    """Return the folder with the arrays of a data set."""
    return preprocess.run(data, ProjectPaths(folder), Console(quiet=True))


# --- files


def test_a_pair_of_files_is_read_as_train_and_test_padded_to_the_longest(tmp_path: Path) -> None:
    write_ts(tmp_path / "own_TRAIN.ts", [([[1, 2, 3], [4, 5, 6]], "b"), ([[7], [8]], "a")])
    write_ts(tmp_path / "own_TEST.ts", [([[1, 2, 3, 4], [5, 6, 7, 8]], "a")])
    for path in (tmp_path, tmp_path / "own_TRAIN.ts"):
        processed = arrays.read(own(path), tmp_path, Console(quiet=True))
        assert processed.arrays["train/values"].tolist() == [
            [[1, 4], [2, 5], [3, 6], [0, 0]],
            [[7, 8], [0, 0], [0, 0], [0, 0]],
        ]
        assert processed.arrays["train/lengths"].tolist() == [3, 1]
        assert processed.arrays["train/labels"].tolist() == [1, 0]
        assert processed.arrays["test/values"].shape == (1, 4, 2)
        assert (processed.meta["class_names"], processed.meta["channel_names"]) == (["a", "b"], ["channel 1", "channel 2"])
        assert not processed.meta["equal_lengths"]


def test_a_csv_has_one_sequence_a_row(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("up,1,2,3,10,20,30\ndown,3,2,1,30,20,10\n")
    processed = arrays.read(own(tmp_path / "own.csv", channels=["left", "right"]), tmp_path, Console(quiet=True))
    assert processed.arrays["train/values"].tolist() == [[[1, 10], [2, 20], [3, 30]], [[3, 30], [2, 20], [1, 10]]]
    assert (processed.meta["class_names"], processed.arrays["train/labels"].tolist()) == (["down", "up"], [1, 0])
    assert processed.meta["equal_lengths"]
    assert "test/values" not in processed.arrays


def test_missing_values_are_refused_or_interpolated_and_counted(tmp_path: Path) -> None:
    file = write_ts(tmp_path / "own.ts", [([["?", 2, "?", 4, "?"], [1, 1, 1, 1, 1]], "a"), ([[1], [2]], "b")])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"own.ts, sequence 1, step 1, channel 1: a value is missing, and 3 in all"):
        files.read_own(own(file))
    read = files.read_own(own(file, missing="interpolate"))
    assert read.sequences.values[0, :, 0].tolist() == [2, 2, 3, 4, 4]
    assert read.interpolated == 3


def test_a_channel_without_any_value_is_refused(tmp_path: Path) -> None:
    file = write_ts(tmp_path / "own.ts", [([["?", "?"], [1, 1]], "a"), ([[1, 2], [2, 3]], "b")])  # type: ignore[list-item]
    with pytest.raises(UserError, match="sequence 1 has no value in channel 1"):
        files.read_own(own(file, missing="interpolate"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"0 files NAME_TRAIN.ts or NAME_TRAIN.csv \(none\)"),
        (["a_TRAIN.ts", "b_train.csv"], r"2 files NAME_TRAIN.ts or NAME_TRAIN.csv \(a_TRAIN.ts, b_train.csv\)"),
    ],
)
def test_a_folder_holds_one_pair(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        files.own_files(tmp_path)


def test_a_file_of_another_kind_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.arff").touch()
    with pytest.raises(UserError, match=r"ends in none of \.ts, \.csv"):
        files.own_files(tmp_path / "own.arff")
    with pytest.raises(UserError, match="no such file or folder"):
        files.own_files(tmp_path / "own.ts")


def test_sequences_to_train_on_need_classes(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("1,2,4\n3,5,6\n")
    with pytest.raises(UserError, match=r"data\.label=none: a sequence to train on needs a class"):
        files.read_own(own(tmp_path / "own.csv", label="none"))


def test_published_classes_must_be_those_of_the_file(tmp_path: Path) -> None:
    sequences = files.read_own(own(write_ts(tmp_path / "own.ts", some_sequences(4)))).sequences
    assert files.replace_labels(sequences, {"b": "second", "a": "first"}, "own.ts").classes == ["first", "second"]
    with pytest.raises(UserError, match=r"own\.ts has the classes a, b, and data.classes names a, c"):
        files.replace_labels(sequences, {"a": "first", "c": "third"}, "own.ts")


def test_arrays_are_stale_once_a_file_changed_or_a_test_file_was_added(tmp_path: Path) -> None:
    data = own(write_ts(tmp_path / "own_TRAIN.ts", some_sequences(12)))
    folder = made(tmp_path, data)
    assert not arrays.sources_changed(data, folder)
    write_ts(tmp_path / "own_TEST.ts", some_sequences(4))
    assert "holds other sequences" in arrays.sources_changed(data, folder)
    folder = made(tmp_path, data)
    assert not arrays.sources_changed(data, folder)
    write_ts(tmp_path / "own_TRAIN.ts", some_sequences(12, seed=1))
    assert "holds other sequences" in arrays.sources_changed(data, folder)


# --- splits


@settings(max_examples=15, deadline=None)
@given(st.integers(12, 40), st.integers(0, 10), st.booleans())
def test_every_sequence_is_in_one_split_and_identical_ones_together(
    tmp_path_factory: Any, count: int, seed: int, pair: bool
) -> None:
    folder = tmp_path_factory.mktemp("split")
    sequences = some_sequences(count, seed)
    sequences[1:4] = [sequences[0]] * 3
    data = own(write_ts(folder / "own_TRAIN.ts", sequences))
    if pair:
        write_ts(folder / "own_TEST.ts", some_sequences(6, seed + 100))
    made_arrays = made(folder, data)
    split = arrays.split(window(test_size=None if pair else 4, seed=seed), made_arrays)
    train_part = [split.indices["train"], split.indices["val"], *([] if pair else [split.indices["test"]])]
    assert sorted(np.concatenate(train_part).tolist()) == list(range(count))
    if pair:
        assert split.indices["test"].tolist() == list(range(6))
    assert sum(bool({0, 1, 2, 3} & set(part.tolist())) for part in train_part) == 1
    assert all(check["passed"] for check in split.checks.values())


def test_a_copy_in_a_published_test_set_fails_the_audit(tmp_path: Path) -> None:
    sequences = some_sequences(12)
    data = own(write_ts(tmp_path / "own_TRAIN.ts", sequences))
    write_ts(tmp_path / "own_TEST.ts", [*some_sequences(6, 1), sequences[3]])
    check = arrays.split(window(test_size=None), made(tmp_path, data)).checks["identical sequences in two splits"]
    assert (check["passed"], check["count"], check["samples"]) == (False, 1, [[3, 18]])


def test_sequences_differ_by_length_even_if_their_padded_values_are_equal() -> None:
    values = np.zeros((3, 4, 1), np.float32)
    values[1] = -0.0
    assert splitting.identical_sequences(values, np.array([2, 2, 3])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("pair", "test_size", "message"), [(True, 4, "has a test set of its own"), (False, None, "has no test set")]
)
def test_test_size_is_set_exactly_if_there_is_no_test_file(
    tmp_path: Path, pair: bool, test_size: int | None, message: str
) -> None:
    data = own(write_ts(tmp_path / "own_TRAIN.ts", some_sequences(12)))
    if pair:
        write_ts(tmp_path / "own_TEST.ts", some_sequences(6, 1))
    with pytest.raises(UserError, match=message):
        arrays.split(window(test_size=test_size), made(tmp_path, data))


def test_few_sequences_of_a_class_are_a_warning(tmp_path: Path) -> None:
    split = arrays.split(window(), made(tmp_path, own(write_ts(tmp_path / "own.ts", some_sequences(20)))))
    assert "val has fewer than 5 sequences of a (2), b (2): its metrics are unreliable for them" in split.warnings


# --- statistics and inputs


VALUES = arrays_strategy.arrays(
    np.float32, st.tuples(st.integers(3, 8), st.just(5), st.just(2)), elements=st.floats(-100, 100, width=16)
)


@quick
@given(VALUES, st.data())
def test_statistics_ignore_padding_and_sequences_of_other_splits(values: npt.NDArray[np.float32], data: st.DataObject) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values))))
    train = np.array(sorted(data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1))))
    stated = splitting.sequence_statistics(values, lengths, train)
    rows = np.concatenate([values[sample, : lengths[sample]] for sample in train]).astype(np.float64)
    np.testing.assert_allclose(stated["mean"], rows.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(stated["std"], np.where(np.ptp(rows, axis=0) > 0, rows.std(axis=0), 1), atol=1e-9)
    changed = values.copy()
    changed[np.setdiff1d(np.arange(len(values)), train)] += 17
    for sample, length in enumerate(lengths):
        changed[sample, length:] = 1e6
    assert splitting.sequence_statistics(changed, lengths, train) == stated


def test_the_audit_recomputes_the_statistics_and_notices_others(tmp_path: Path) -> None:
    folder = made(tmp_path, own(write_ts(tmp_path / "own.ts", some_sequences(30))))
    split = arrays.split(window(), folder)
    store.write_array(tmp_path / "windows" / "train.npy", split.indices["train"])
    assert audit_statistics(tmp_path / "windows", folder, split.meta)["passed"]
    other = split.meta.model_copy(update={"statistics": split.meta.statistics | {"mean": [0.0, 0.0]}})
    assert not audit_statistics(tmp_path / "windows", folder, other)["passed"]


@quick
@given(VALUES, st.data())
def test_the_transform_standardizes_valid_steps_and_clears_whatever_pads_them(
    values: npt.NDArray[np.float32], data: st.DataObject
) -> None:
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values))))
    meta = sequence_meta(steps=5, channels=["x", "y"], masked=True, statistics={"mean": [1.0, -2.0], "std": [2.0, 4.0]})
    transform = tensors.input_transform(meta)
    inputs = transform(torch.from_numpy(values), lengths)
    padded = values.copy()
    for sample, length in enumerate(lengths.tolist()):
        expected = (values[sample, :length] - np.float32([1, -2])) / np.float32([2, 4])
        np.testing.assert_allclose(inputs[sample, :length, :2], expected, atol=1e-6)
        assert inputs[sample, :, 2].tolist() == [1.0] * length + [0.0] * (5 - length)
        assert not inputs[sample, length:].any()
        padded[sample, length:] = np.nan
    assert torch.equal(transform(torch.from_numpy(padded), lengths), inputs)


@pytest.mark.parametrize("equal", [True, False])
def test_a_split_gathers_what_its_files_hold(tmp_path: Path, equal: bool) -> None:
    sequences = [([list(range(number, number + (5 if equal else 3 + number % 3)))], "ab"[number % 2]) for number in range(20)]
    folder = made(tmp_path, own(write_ts(tmp_path / "own.ts", sequences, HEADER.replace("@equalLength false\n", ""))))  # type: ignore[arg-type]
    split = arrays.split(window(), folder)
    with store.publish(tmp_path / "windows") as draft:
        for name, indices in split.indices.items():
            store.write_array(draft / f"{name}.npy", indices)
        store.write_json(draft / "windows.json", split.meta.model_dump() | {"arrays": store.digest(folder)})
    train, _ = open_windows(tmp_path / "windows", folder).learning()
    rows = torch.arange(len(train))
    batch, raw = train.gather(rows), train.raw(rows)
    assert [int(values[0]) for values in raw[0]] == split.indices["train"].tolist()
    assert batch.targets.tolist() == [number % 2 for number in split.indices["train"].tolist()]
    assert split.meta.network_arguments() == {"masked": not equal}
    assert list(batch.inputs.shape[1:]) == split.meta.input_shape == [5, 1 if equal else 2]
    assert len(raw) == (1 if equal else 2)
    assert abs(batch.inputs[..., 0].sum().item()) < 1e-4  # standardized over the valid steps of train; padding is 0


# --- images as sequences of rows


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return an IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def image_rows(root: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[PublishedSequences, Path]:
    """Return a data set of rows of images, the same for train and test, and its raw files."""
    shipped = compose_dataset(ROOT, "mnist_rows")
    assert isinstance(shipped, PublishedSequences)
    contents = [idx(images), idx(labels)] * 2
    raw = root / "raw"
    raw.mkdir()
    for file, content in zip(shipped.files, contents, strict=True):
        (raw / file.name).write_bytes(content)
    files_with_hashes = [
        file.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
        for file, content in zip(shipped.files, contents, strict=True)
    ]
    return shipped.model_copy(update={"files": files_with_hashes}), raw


def test_each_row_of_an_image_is_a_step_and_each_column_a_channel(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    labels = (np.arange(20) % 10).astype(np.uint8)
    data, raw = image_rows(tmp_path, images, labels)
    read = arrays.read(data, raw, Console(quiet=True))
    for part in ("train", "test"):
        np.testing.assert_array_equal(read.arrays[f"{part}/values"], images.astype(np.float32))  # [sample, step, channel]
        assert read.arrays[f"{part}/values"].dtype == np.float32
        assert (read.arrays[f"{part}/lengths"] == 28).all()
        np.testing.assert_array_equal(read.arrays[f"{part}/labels"], labels)
    assert read.meta["class_names"] == [str(digit) for digit in range(10)]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 28, 28), np.uint8), np.array([1, 2], np.uint8), "has 3 images, and train-labels-idx1-ubyte 2 labels"),
        (np.zeros((2, 28, 28), np.uint8), np.array([1, 11], np.uint8), "has the label 11, which data.classes does not name"),
        (np.zeros((2, 28, 28, 3), np.uint8), np.array([1, 2], np.uint8), r"\[2, 28, 28, 3\] and uint8 \[2\]: not grey images"),
        (np.zeros((2, 28, 27), np.uint8), np.array([1, 2], np.uint8), "has 27 channels, and data.channels names 28"),
    ],
)
def test_images_that_are_no_sequences_are_refused(
    tmp_path: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], message: str
) -> None:
    data, raw = image_rows(tmp_path, images, labels)
    with pytest.raises(UserError, match=message):
        arrays.read(data, raw, Console(quiet=True))
