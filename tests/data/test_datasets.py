"""Windows, targets and scaling of a split, against values computed by hand."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise import memory
from reprise.data import store
from reprise.data import windows as opened
from reprise.data.datasets import Dataset, standardize
from reprise.data.modalities.images.tensors import Images
from reprise.data.modalities.series.tensors import SeriesWindows, StandardizeWithCalendar
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError

DAY = 86_400 * 10**9
MEAN, STD = [10.0, 100.0], [2.0, 10.0]


def published(folder: Path, **arrays: Any) -> Path:
    with store.publish(folder) as draft:
        for name, array in arrays.items():
            store.write_array(draft / f"{name.replace('__', '/')}.npy", array)
    return folder


def windows_folder(folder: Path, arrays: Path, meta: dict[str, Any], **parts: list[int]) -> Path:
    with store.publish(folder) as draft:
        for split, chosen in parts.items():
            store.write_array(draft / f"{split}.npy", np.array(chosen, np.int64))
        store.write_json(draft / "windows.json", meta | {"arrays": store.digest(arrays)})
    return folder


@pytest.fixture
def series(tmp_path: Path) -> Windows:
    """Twelve days of three channels; day `t` holds `t`, `10 t` and `100 t`."""
    values = np.outer(np.arange(12), [1, 10, 100]).astype(np.float32)
    arrays = published(tmp_path / "series", values=values, time=DAY * np.arange(12))
    meta = {
        "kind": "series",
        "input_shape": [2, 4],
        "lookback": 2,
        "horizon": 3,
        "borders": {"train": 6, "val": 11, "test": 12},
        "inputs": ["c", "a", "year_sin", "year_cos"],
        "input_columns": [2, 0],
        "calendar": ["year"],
        "target_positions": [1],
        "target_columns": [0],
        "targets": ["a"],
        "units": [""],
        "season": 7,
        "frequency": "D",
        "statistics": {"mean": [100.0, 1.0, 0.0, 0.0], "std": [50.0, 2.0, 1.0, 1.0], "naive_mae": [1.0]},
    }
    return open_windows(windows_folder(tmp_path / "series_windows", arrays, meta, train=[0, 1], val=[6], test=[]), arrays)


@pytest.fixture
def images(tmp_path: Path) -> Windows:
    """Five training and two test images of 1 x 2 pixels and two channels, all pixels of image `i` being `10 i` and `40 i`."""
    pixels = np.stack([np.full((1, 2, 2), [10 * number, 40 * number], np.uint8) for number in range(6)])
    arrays = published(
        tmp_path / "images",
        train__images=pixels[:5],
        train__labels=np.arange(5) + 10,
        test__images=pixels[4:],
        test__labels=np.arange(2) + 20,
    )
    meta = {
        "kind": "images",
        "input_shape": [1, 2, 2],
        "classes": ["a", "b"],
        "parts": {"train": "train", "val": "train", "test": "test"},
        "statistics": {"mean": MEAN, "std": STD},
    }
    return open_windows(
        windows_folder(tmp_path / "images_windows", arrays, meta, train=[0, 3, 4], val=[1, 2], test=[0, 1]), arrays
    )


# --- series


def test_the_target_follows_the_input_steps_of_a_window(series: Windows) -> None:
    train, _ = series.learning()
    batch = train.gather(torch.tensor([1, 0]))
    assert batch.inputs.shape == (2, 2, 4)
    expected = [[[(100 * day - 100) / 50, (day - 1) / 2] for day in days] for days in ([1, 2], [0, 1])]
    torch.testing.assert_close(batch.inputs[:, :, :2], torch.tensor(expected))
    targets = [[[(day - 1) / 2] for day in days] for days in ([3, 4, 5], [2, 3, 4])]
    torch.testing.assert_close(batch.targets, torch.tensor(targets))
    assert batch.loss_weight == 1.0


def test_the_calendar_features_are_those_of_the_days_of_the_window(series: Windows) -> None:
    batch = series.val().gather(torch.tensor([0]))
    phase = [2 * math.pi * day / 365.2425 for day in (6, 7)]
    expected = torch.tensor([[math.sin(angle), math.cos(angle)] for angle in phase])
    torch.testing.assert_close(batch.inputs[0, :, 2:], expected)


def test_raw_inputs_are_in_original_units(series: Windows) -> None:
    values, time = series.learning()[0].raw(torch.tensor([1]))
    assert values.tolist() == [[[100.0, 1.0], [200.0, 2.0]]]
    assert time.tolist() == [[DAY, 2 * DAY]]


def test_a_split_contains_the_rows_of_its_windows_only(series: Windows) -> None:
    for name, dataset in zip(("train", "val"), series.learning(), strict=True):
        assert isinstance(dataset, SeriesWindows)
        starts = series.indices(name)
        assert dataset.values[:, 0].tolist() == [*range(starts[0], starts[-1] + 5)]
        assert len(dataset.inputs) == len(dataset.time) == len(dataset.values)
        assert isinstance(dataset.values, np.memmap)  # in memory, there are the transformed rows only
        assert dataset.starts.tolist() == (starts - starts[0]).tolist()


def test_the_history_for_baselines_is_in_original_units(series: Windows) -> None:
    assert series.array("values")[:, 0].tolist() == [*range(12)]
    assert series.indices("train").tolist() == [0, 1]


def test_moving_a_split_changes_only_its_device(series: Windows, images: Windows) -> None:
    for windows in (series, images):
        train = windows.learning()[0]
        moved = train.to(torch.device("meta"))
        assert (train.device.type, moved.device.type) == ("cpu", "meta")
        assert (len(moved), moved.nbytes) == (len(train), train.nbytes)
        assert moved.gather(torch.tensor([0], device="meta")).inputs.device.type == "meta"
        assert train.gather(torch.tensor([0])).inputs.device.type == "cpu"


@pytest.mark.parametrize(
    ("stamp", "share"),
    [
        ("1970-01-01", 0.0),
        ("1970-04-02T07:27:18", 0.25),
        ("1970-07-02T14:54:36", 0.5),
        ("2169-12-31T12:00:00", 0.0),  # 200 mean years are 73,048.5 days; nanoseconds end in 2262
        ("1969-10-01T16:32:42", 0.75),
    ],
)
def test_the_calendar_feature_is_sine_and_cosine_of_the_fraction_of_the_year(stamp: str, share: float) -> None:
    time = torch.from_numpy(np.array([stamp], "datetime64[ns]").astype(np.int64))
    transform = StandardizeWithCalendar(torch.zeros(1), torch.ones(1), ["year"])
    features = transform(torch.zeros(1, 1), time)[:, 1:]
    assert features.dtype == torch.float32
    expected = [[math.sin(2 * math.pi * share), math.cos(2 * math.pi * share)]]
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_without_calendar_features_there_is_no_column() -> None:
    assert StandardizeWithCalendar(torch.zeros(1), torch.ones(1), [])(torch.zeros(3, 1), torch.arange(3)).shape == (3, 1)


# --- images


def test_images_and_labels_are_those_of_the_requested_rows(images: Windows) -> None:
    train, val = images.learning()
    batch = train.gather(torch.tensor([2, 0]))
    assert batch.targets.tolist() == [14, 10]
    assert (batch.inputs.dtype, batch.inputs.shape) == (torch.float32, (2, 1, 2, 2))
    assert batch.inputs[0].tolist() == [[[(40 - 10) / 2, (160 - 100) / 10]] * 2]
    assert train.raw(torch.tensor([1]))[0][0].tolist() == [[[30, 120]] * 2]
    assert (len(train), len(val)) == (3, 2)
    assert val.gather(torch.tensor([1])).targets.tolist() == [12]


def test_the_test_split_reads_the_published_test_part(images: Windows) -> None:
    assert images.test().gather(torch.tensor([0, 1])).targets.tolist() == [20, 21]
    assert images.test().raw(torch.tensor([0, 1]))[0][:, 0, 0, 0].tolist() == [40, 50]


def test_a_process_that_trains_cannot_open_the_test_split(images: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "_test_split_locked", False)
    images.test()
    opened.lock_test_split()
    with pytest.raises(UserError, match="only `reprise evaluate` can read it"):
        images.test()
    images.learning()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
@pytest.mark.parametrize("fits", [True, False])
def test_pages_of_arrays_larger_than_memory_are_read_one_by_one(
    images: Windows, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    """Read ahead, most pages would be dropped again before they are used."""
    monkeypatch.setattr(memory, "available", lambda: 2**40 if fits else 0)
    pixels = images.array("train/images")
    maps = Path("/proc/self/smaps").read_text().split("VmFlags:")
    [flags] = [after.split("\n")[0] for before, after in pairwise(maps) if str(images.arrays / "train/images.npy") in before]
    assert ("rr" in flags.split()) is not fits
    assert pixels[2, 0, 0, 0] == 20


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_standardize_gives_the_same_for_every_dtype_and_does_not_modify_its_input(dtype: torch.dtype) -> None:
    values = torch.arange(200).reshape(50, 2, 2).to(dtype)
    kept = values.clone()
    result = standardize(values, torch.tensor(MEAN), torch.tensor([3.0, 7.0]))
    assert torch.equal(result, (values.to(torch.float32) - torch.tensor(MEAN)) / torch.tensor([3.0, 7.0]))
    assert torch.equal(values, kept)


def test_gather_does_not_modify_the_stored_arrays(series: Windows, images: Windows) -> None:
    for windows in (series, images):
        split: Dataset = windows.learning()[0]
        kept = split.gather(torch.arange(len(split)))
        first = [tensor.clone() for tensor in kept[:2]]
        kept.inputs.zero_()
        again = split.gather(torch.arange(len(split)))
        assert all(torch.equal(one, other) for one, other in zip(first, again[:2], strict=True))


# --- opening


def test_windows_have_the_recorded_input_shape(series: Windows, images: Windows) -> None:
    assert (series.input_shape, images.input_shape) == ([2, 4], [1, 2, 2])


@pytest.mark.parametrize("what", ["arrays", "windows"])
def test_a_damaged_folder_is_refused_with_the_command_that_makes_it(series: Windows, what: str) -> None:
    folder = getattr(series, "folder" if what == "windows" else what)
    file = next(folder.glob("*.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    command = "window" if what == "windows" else "preprocess"
    with pytest.raises(UserError, match=rf"{file} is not what was written.*`reprise {command}"):
        _ = series.learning(), series.test()


def test_windows_made_from_other_arrays_are_refused(series: Windows) -> None:
    published(series.arrays, values=np.zeros((12, 3), np.float32), time=DAY * np.arange(12))
    with pytest.raises(UserError, match="was made from other arrays"):
        open_windows(series.folder, series.arrays)


def test_nbytes_counts_all_arrays_of_a_split(images: Windows) -> None:
    train = images.learning()[0]
    assert isinstance(train, Images)
    assert train.nbytes == 5 * 4 + 5 * 8
    assert replace(train, labels=train.labels[:1]).nbytes == 5 * 4 + 8
