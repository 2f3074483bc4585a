"""`preprocess` and `window` on real data: the arrays of the contract, and no partial output after a failure."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits

from reprise.config import Config, compose
from reprise.config.modalities.images import ImageData
from reprise.config.modalities.series import SeriesData
from reprise.data import splits, store
from reprise.data.modality import arrays_of
from reprise.data.windows import open_windows
from reprise.errors import UserError
from reprise.inference.trained_run import windows_as_trained
from reprise.project_paths import ProjectPaths
from reprise.stages import download, freshness, preprocess, window
from reprise.tracking.trained import Trained
from tests.data.conftest import files_in
from tests.data.test_formats import idx

CHANNELS = ["temp_max", "temp_min", "precipitation", "wind"]


def make(project: ProjectPaths, console: Console, *overrides: str) -> Config:
    """Download and preprocess the data set of an experiment. Return its config."""
    config = compose(project.root, overrides)
    download.run(config.data, project, console)
    preprocess.run(config.data, project, console)
    return config


def digits(project: ProjectPaths, console: Console, *overrides: str) -> Config:
    return make(project, console, "experiment=digits_cnn", *overrides)


def weather(project: ProjectPaths, console: Console, *overrides: str) -> Config:
    settings = ["window.lookback=30", "window.lookback_crosses=false"]
    return make(project, console, "experiment=temperature_lstm", *settings, *overrides)


def part(project: ProjectPaths, config: Config, split: str) -> npt.NDArray[np.int64]:
    return np.asarray(store.open_array(project.windows(config.name) / f"{split}.npy"))


# --- preprocess


def test_digits_become_the_arrays_of_the_contract(project: ProjectPaths, console: Console) -> None:
    config = digits(project, console)
    folder = project.processed("digits")
    store.verify(folder, "")
    assert files_in(folder) == {"manifest.json", "meta.json", "train/images.npy", "train/labels.npy"}
    images, labels = (store.open_array(folder / "train" / f"{name}.npy") for name in ("images", "labels"))
    assert (images.dtype, images.shape) == (np.uint8, (1797, 8, 8, 1))
    assert (labels.dtype, labels.shape) == (np.int64, (1797,))
    np.testing.assert_array_equal(images[..., 0], load_digits().images)
    np.testing.assert_array_equal(labels, load_digits().target)
    meta = store.read_json(folder / "meta.json")
    assert meta == arrays_of("images").describe(config.data)
    assert meta["classes"] == [str(digit) for digit in range(10)]
    assert meta["files"][0]["sha256"] == store.sha256(project.raw("digits") / "digits.csv")


def test_weather_becomes_the_arrays_of_the_contract(project: ProjectPaths, console: Console) -> None:
    weather(project, console)
    folder = project.processed("seattle_weather")
    store.verify(folder, "")
    assert files_in(folder) == {"manifest.json", "meta.json", "values.npy", "time.npy"}
    values, time = (store.open_array(folder / f"{name}.npy") for name in ("values", "time"))
    assert (values.dtype, values.shape) == (np.float32, (1461, 4))
    assert (time.dtype, time.shape) == (np.int64, (1461,))
    assert time.view("datetime64[ns]")[[0, -1]].astype("datetime64[D]").astype(str).tolist() == ["2012-01-01", "2015-12-31"]
    table = pd.read_csv(project.raw("seattle_weather") / "seattle-weather.csv")
    np.testing.assert_array_equal(values, table[CHANNELS].to_numpy(np.float32))
    meta = store.read_json(folder / "meta.json")
    assert [channel["name"] for channel in meta["channels"]] == CHANNELS
    assert [channel["unit"] for channel in meta["channels"]] == ["°C", "°C", "mm", "m/s"]


def test_settings_of_a_run_and_the_mirror_do_not_change_the_arrays(project: ProjectPaths, console: Console) -> None:
    digits(project, console)
    before = store.digest(project.processed("digits"))
    config = compose(project.root, ["experiment=digits_cnn", "data.limit=10", "data.mirror=elsewhere"])
    preprocess.run(config.data, project, console)
    assert store.digest(project.processed("digits")) == before


def test_missing_or_changed_raw_files_are_refused_with_the_command(project: ProjectPaths, console: Console) -> None:
    config = compose(project.root, ["experiment=digits_cnn"])
    with pytest.raises(UserError, match=r"no .*digits.csv; run `reprise download data=digits`"):
        preprocess.run(config.data, project, console)
    download.run(config.data, project, console)
    file = project.raw("digits") / "digits.csv"
    file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(UserError, match=r"digits.csv is not as published .*; run `reprise download data=digits`"):
        preprocess.run(config.data, project, console)
    assert not project.processed("digits").exists()


def test_arrays_without_meta_json_are_refused_with_the_command(project: ProjectPaths, console: Console) -> None:
    data, arrays = digits(project, console).data, project.processed("digits")
    freshness.demand(data, project)
    (arrays / "meta.json").unlink()
    with pytest.raises(
        UserError,
        match=r"meta.json is missing; delete .*digits, then run `reprise preprocess data=digits`; manifest.json lists it$",
    ):
        freshness.demand(data, project)


def test_a_failure_keeps_the_existing_arrays(project: ProjectPaths, console: Console) -> None:
    config = weather(project, console)
    assert isinstance(config.data, SeriesData)
    before = store.digest(project.processed("seattle_weather"))
    with pytest.raises(UserError, match="has no column 'day'"):
        preprocess.run(config.data.model_copy(update={"time": "day"}), project, console)
    assert store.digest(project.processed("seattle_weather")) == before
    assert [path.name for path in project.processed("").iterdir()] == ["seattle_weather"]


# --- preprocess of IDX files


def published_idx(project: ProjectPaths, arrays: dict[str, npt.NDArray[Any]]) -> ImageData:
    """Write IDX files to data/raw, and return the config of their data set."""
    config = compose(project.root, ["experiment=fashion_mnist_cnn"])
    assert isinstance(config.data, ImageData)
    files = []
    for number, (name, array) in enumerate(arrays.items()):
        content = idx(array)
        files.append({"fetch": f"{number}.gz", "array": name, "sha256": hashlib.sha256(content).hexdigest()})
        project.raw("small").mkdir(parents=True, exist_ok=True)
        (project.raw("small") / str(number)).write_bytes(content)
    small = {"name": "small", "files": files, "shape": [2, 3, 1], "classes": ["a", "b"]}
    return ImageData.model_validate(config.data.model_dump() | small)


def idx_arrays(train: int = 40, test: int = 10) -> dict[str, npt.NDArray[Any]]:
    draw = np.random.default_rng(0)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, size in (("train", train), ("test", test)):
        arrays[f"{name}/images"] = draw.integers(0, 256, (size, 2, 3), np.uint8)
        arrays[f"{name}/labels"] = np.arange(size, dtype=np.uint8) % 2
    return arrays


def test_idx_files_become_the_arrays_of_the_contract(project: ProjectPaths, console: Console) -> None:
    arrays = idx_arrays()
    preprocess.run(published_idx(project, arrays), project, console)
    for name, array in arrays.items():
        array_on_disk = store.open_array(project.processed("small") / f"{name}.npy")
        assert array_on_disk.dtype == (np.uint8 if "images" in name else np.int64)
        np.testing.assert_array_equal(array_on_disk.reshape(array.shape), array)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"train/images": np.zeros((40, 3, 2), np.uint8)}, r"0 holds uint8 \[40, 3, 2\]: not what array=train/images is to be"),
        ({"train/images": np.zeros((40, 2, 3), np.float32)}, "0 holds float32"),
        ({"train/images": np.zeros(40, np.uint8)}, "0 holds uint8"),
        ({"train/labels": np.zeros((40, 1), np.uint8)}, "1 holds uint8"),
        ({"train/labels": np.zeros(40, np.float32)}, "1 holds float32"),
        ({"train/labels": np.zeros(39, np.uint8)}, "has 40 images and 39 labels"),
        ({"train/labels": np.full(40, 2, np.uint8)}, "has a label outside its 2 classes"),
        ({"train/labels": np.full(40, -1, np.int8)}, "has a label outside its 2 classes"),
        ({"test/images": np.zeros((0, 2, 3), np.uint8), "test/labels": np.zeros(0, np.uint8)}, "has 0 images"),
        ({"somewhere": np.zeros(3, np.uint8)}, "not what array=somewhere"),
    ],
)
def test_invalid_idx_files_are_refused(
    project: ProjectPaths, console: Console, changed: dict[str, npt.NDArray[Any]], why: str
) -> None:
    data = published_idx(project, idx_arrays() | changed)
    with pytest.raises(UserError, match=why):
        preprocess.run(data, project, console)
    assert not project.processed("").exists() or list(project.processed("").iterdir()) == []


def test_a_config_that_names_no_labels_is_refused(project: ProjectPaths, console: Console) -> None:
    arrays = idx_arrays()
    for missing in ("train/labels", "test/images"):
        data = published_idx(project, {name: array for name, array in arrays.items() if name != missing})
        with pytest.raises(UserError, match="files: each needs an array"):
            preprocess.run(data, project, console)


# --- window


def test_the_windows_of_digits_follow_the_contract(project: ProjectPaths, console: Console) -> None:
    config = digits(project, console)
    folder = window.run(config, project, console)
    assert files_in(folder) == {"manifest.json", "windows.json", "audit.json", "train.npy", "val.npy", "test.npy"}
    train, val, test = (part(project, config, split) for split in splits.SPLITS)
    assert (len(train), len(val), len(test)) == (1079, 359, 359)
    assert sorted(np.concatenate([train, val, test]).tolist()) == list(range(1797))
    images = load_digits().images[train]
    windows_json = store.read_json(folder / "windows.json")
    assert windows_json["input_shape"] == [8, 8, 1]
    assert windows_json["statistics"]["mean"] == pytest.approx([images.mean()])
    assert windows_json["statistics"]["std"] == pytest.approx([images.std()])
    audit = store.read_json(folder / "audit.json")
    assert len(audit) == 3
    assert all(check["passed"] for check in audit.values())
    opened = open_windows(folder, project.processed("digits"))
    assert [len(split) for split in (*opened.learning(), opened.val())] == [1079, 359, 359]


def test_the_windows_of_the_weather_follow_the_contract(project: ProjectPaths, console: Console) -> None:
    config = weather(project, console)
    folder = window.run(config, project, console)
    train, val, test = (part(project, config, split) for split in splits.SPLITS)
    first, second = 1461 - 219 - 219, 1461 - 219
    assert train.tolist() == list(range(first - 30))
    assert val.tolist() == list(range(first, second - 30))
    assert test.tolist() == list(range(second, 1461 - 30))
    windows_json = store.read_json(folder / "windows.json")
    assert windows_json["borders"] == {"train": first, "val": second, "test": 1461}
    assert windows_json["input_shape"] == [30, 6]
    assert windows_json["inputs"] == [*CHANNELS, "year_sin", "year_cos"]
    assert (windows_json["target_positions"], windows_json["target_columns"], windows_json["units"]) == ([0], [0], ["°C"])
    values = store.open_array(project.processed("seattle_weather") / "values.npy")[:first].astype(np.float64)
    assert windows_json["statistics"]["mean"] == pytest.approx([*values.mean(axis=0), 0, 0])
    assert windows_json["statistics"]["std"] == pytest.approx([*values.std(axis=0), 1, 1])
    assert windows_json["statistics"]["naive_mae"] == pytest.approx([np.abs(np.diff(values[:, 0])).mean()])
    audit = store.read_json(folder / "audit.json")
    assert len(audit) == 4
    assert all(check["passed"] for check in audit.values())


def test_windows_have_the_chosen_channels(project: ProjectPaths, console: Console) -> None:
    config = weather(project, console, "window.inputs=[wind,temp_max]", "window.horizon=2", "window.calendar=[]")
    windows_json = store.read_json(window.run(config, project, console) / "windows.json")
    assert windows_json["inputs"] == ["wind", "temp_max"]
    assert (windows_json["input_columns"], windows_json["target_positions"], windows_json["target_columns"]) == ([3, 0], [1], [0])
    opened = open_windows(project.windows(config.name), project.processed("seattle_weather"))
    batch = opened.val().gather(torch.tensor([0]))
    assert (batch.inputs.shape, batch.targets.shape) == ((1, 30, 2), (1, 2, 1))


def test_making_windows_twice_gives_the_same_bytes(project: ProjectPaths, console: Console) -> None:
    for make_config in (digits, weather):
        config = make_config(project, console)
        first, second = (store.digest(window.run(config, project, console)) for _ in range(2))
        assert first == second


def test_a_run_is_evaluated_only_on_the_windows_it_was_trained_on(project: ProjectPaths, console: Console) -> None:
    """Another split could test it on its training images."""
    config = digits(project, console)
    folder = window.run(config, project, console)
    outcome = {"run_id": "1234", "name": "mine", "seed": 0, "best_epoch": 1, "epochs": 1, "parameters": 1, "train_seconds": 1.0}
    trained = Trained(**outcome, windows=str(folder.relative_to(project.root)))
    assert windows_as_trained(config, trained, project).folder == folder
    window.run(compose(project.root, ["experiment=digits_cnn", "window.seed=1"]), project, console)
    with pytest.raises(
        UserError, match=r"windows/digits_cnn no longer holds the windows that mine was trained on; train again, .*"
    ):
        windows_as_trained(config, trained, project)
    window.run(config, project, console)
    same = trained.model_copy(update={"splits": open_windows(folder, project.processed("digits")).digest})
    assert windows_as_trained(config, same, project).folder == folder
    with pytest.raises(UserError, match="no longer holds the windows that"):
        windows_as_trained(config, trained.model_copy(update={"splits": "0" * 64}), project)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"^no .*windows/digits_cnn; make it again with `reprise window`$"):
        windows_as_trained(config, trained, project)


def test_the_hash_of_a_split_depends_only_on_its_samples(project: ProjectPaths, console: Console) -> None:
    """Settings of the training split and facts about the data change no hash of val; another seed, or one image more, does."""

    def hashes(*overrides: str) -> dict[str, str]:
        config = compose(project.root, ["experiment=digits_cnn", *overrides])
        opened = open_windows(window.run(config, project, console), project.processed("digits"))
        return {split: opened.samples(split) for split in ("train", "val", "test")} | {"all": opened.digest}

    digits(project, console)
    first = hashes()
    limited = hashes("window.limit=100")
    assert {split for split in first if first[split] != limited[split]} == {"train", "all"}
    assert not set(first.values()) & set(hashes("window.seed=1").values())
    meta = project.processed("digits") / "meta.json"
    arrays = project.processed("digits")
    images, labels = (np.load(arrays / "train" / f"{name}.npy") for name in ("images", "labels"))
    meta_json = store.read_json(meta)
    with store.publish(arrays) as draft:
        store.write_array(draft / "train" / "images.npy", np.concatenate([images, images[:1] ^ 1]))
        store.write_array(draft / "train" / "labels.npy", np.concatenate([labels, labels[:1]]))
        store.write_json(draft / "meta.json", meta_json)
    assert not set(first.values()) & set(hashes().values())


def test_the_statistics_do_not_depend_on_val_and_test(project: ProjectPaths, console: Console) -> None:
    for make_config, name in ((digits, "train/images.npy"), (weather, "values.npy")):
        config = make_config(project, console)
        before = store.read_json(window.run(config, project, console) / "windows.json")
        folder = project.processed(config.data.name)
        array = np.array(store.open_array(folder / name))
        train = part(project, config, "train")
        is_train = (
            np.isin(np.arange(len(array)), train) if make_config is digits else np.arange(len(array)) < before["borders"]["train"]
        )
        array[~is_train] = np.array(array[~is_train] * 3 + 1, array.dtype)
        meta = store.read_json(folder / "meta.json")
        others = {str(file.relative_to(folder)): np.load(file) for file in folder.rglob("*.npy")} | {name: array}
        with store.publish(folder) as draft:
            store.write_json(draft / "meta.json", meta)
            for other, content in others.items():
                store.write_array(draft / other, content)
        after = store.read_json(window.run(config, project, console) / "windows.json")
        assert after["arrays"] != before["arrays"]
        assert after["statistics"] == before["statistics"]


def test_a_split_with_few_images_of_a_class_gives_a_warning(project: ProjectPaths) -> None:
    console = Console(record=True, width=300)
    config = digits(project, console, "window.val_size=40", "window.test_size=400")
    window.run(config, project, console)
    val = part(project, config, "val")
    labels = store.open_array(project.processed("digits") / "train" / "labels.npy")
    counts = np.bincount(labels[val], minlength=10)
    printed = console.export_text()
    assert (counts < 5).any()
    few = sorted((int(number), str(digit)) for digit, number in enumerate(counts) if number < 5)
    listed = ", ".join(f"{digit} ({number})" for number, digit in few)
    assert f"window  warning: val has fewer than 5 images of {listed}: its metrics are unreliable for them\n" in printed
    assert "warning: test" not in printed


def test_a_limit_does_not_change_val_and_test(project: ProjectPaths, console: Console) -> None:
    for make_config in (digits, weather):
        config = make_config(project, console)
        window.run(config, project, console)
        unlimited = [part(project, config, split) for split in splits.SPLITS]
        window.run(make_config(project, console, "data.limit=100"), project, console)
        train, val, test = (part(project, config, split) for split in splits.SPLITS)
        assert len(train) == 100
        assert set(train) <= set(unlimited[0])
        np.testing.assert_array_equal(val, unlimited[1])
        np.testing.assert_array_equal(test, unlimited[2])
    assert train.tolist() == unlimited[0][-100:].tolist()  # of a series, the windows nearest to the border


def test_a_published_test_set_is_the_test_split(project: ProjectPaths, console: Console) -> None:
    data = published_idx(project, idx_arrays())
    preprocess.run(data, project, console)
    config = of_small(project, data)
    folder = window.run(config, project, console)
    assert part(project, config, "test").tolist() == list(range(10))
    assert (len(part(project, config, "train")), len(part(project, config, "val"))) == (32, 8)
    assert store.read_json(folder / "windows.json")["parts"] == {"train": "train", "val": "train", "test": "test"}


def of_small(project: ProjectPaths, data: ImageData, **settings: Any) -> Config:
    config = compose(project.root, ["experiment=fashion_mnist_cnn"])
    changed = config.window.model_copy(update={"val_size": 8} | settings)
    return config.model_copy(update={"data": data, "window": changed})


def test_a_test_image_that_is_among_the_training_images_fails_the_stage(project: ProjectPaths, console: Console) -> None:
    arrays = idx_arrays()
    arrays["test/images"][3] = arrays["train/images"][5]
    data = published_idx(project, arrays)
    preprocess.run(data, project, console)
    with pytest.raises(UserError, match=r"audit of the splits failed: identical images in two splits: .*\[\[5, 43\]\]"):
        window.run(of_small(project, data), project, console)
    assert not project.windows("").exists() or list(project.windows("").iterdir()) == []


def test_identical_training_images_stay_in_one_split(project: ProjectPaths, console: Console) -> None:
    arrays = idx_arrays()
    arrays["train/images"] = arrays["train/images"][np.arange(40) // 4]  # ten images, four times each
    data = published_idx(project, arrays)
    preprocess.run(data, project, console)
    config = of_small(project, data, val_size=9)
    window.run(config, project, console)
    val = part(project, config, "val")
    assert len(val) == 12  # three whole groups
    assert {int(sample) // 4 for sample in val}.isdisjoint(int(sample) // 4 for sample in part(project, config, "train"))


real_split, real_starts = splits.stratified_split, splits.window_starts


def shares_a_sample(*arguments: Any) -> Any:
    val, test, train = real_split(*arguments)
    return [val, np.append(test, train[0]), train]


def begins_too_early(span: tuple[int, int], size: int, stride: int = 1) -> Any:
    return real_starts((max(span[0] - 1, 0), span[1]), size, stride)


@pytest.mark.parametrize(
    ("make_config", "name", "broken", "check"),
    [
        (digits, "stratified_split", shares_a_sample, "splits are disjoint"),
        (weather, "window_starts", begins_too_early, "no window crosses a split border"),
    ],
)
def test_a_failed_audit_fails_the_stage_and_keeps_the_old_windows(
    project: ProjectPaths, console: Console, make_config: Any, name: str, broken: Any, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(project, console)
    with monkeypatch.context() as patch:
        patch.setattr(splits, name, broken)
        with pytest.raises(UserError, match=f"{config.name}: the audit of the splits failed: {check}"):
            window.run(config, project, console)
    assert list(project.windows("").iterdir()) == []
    before = store.digest(window.run(config, project, console))
    monkeypatch.setattr(splits, name, broken)
    with pytest.raises(UserError):
        window.run(config, project, console)
    assert [path.name for path in project.windows("").iterdir()] == [config.name]
    assert store.digest(project.windows(config.name)) == before


def test_windows_are_not_made_from_damaged_arrays(project: ProjectPaths, console: Console) -> None:
    config = digits(project, console)
    file = project.processed("digits") / "train" / "images.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="run `reprise preprocess data=digits`"):
        window.run(config, project, console)


@pytest.mark.parametrize(
    ("make_config", "override", "why"),
    [
        (digits, "window.test_size=null", "its publisher names no test set; set it to a count"),
        (digits, "window.val_size=1e-4", "the val split is left without an image"),
        (digits, "window.val_size=0.9", "of 1797 samples and leave none to train on"),
        (weather, "window.val_size=0.9", "of 1461 time steps and leave none to train on"),
        (
            weather,
            "window.lookback=219",
            "the val split has 219 time steps, no room for a window of 220: window.lookback=219 and window.horizon=1",
        ),
        (weather, "window.inputs=[wind]", "window.targets=temp_max: not among window.inputs"),
    ],
)
def test_an_impossible_split_is_refused_in_one_line(
    project: ProjectPaths, console: Console, make_config: Any, override: str, why: str
) -> None:
    config = make_config(project, console, override)
    with pytest.raises(UserError, match=why):
        window.run(config, project, console)
    assert not project.windows(config.name).exists()


def test_a_test_size_with_a_published_test_set_is_refused(project: ProjectPaths, console: Console) -> None:
    data = published_idx(project, idx_arrays())
    preprocess.run(data, project, console)
    with pytest.raises(UserError, match="its publisher names a test set; set it to null"):
        window.run(of_small(project, data, test_size=5), project, console)


def test_a_data_set_of_identical_images_is_refused(project: ProjectPaths, console: Console) -> None:
    arrays = idx_arrays()
    arrays["train/images"][:] = 7
    data = published_idx(project, arrays)
    preprocess.run(data, project, console)
    with pytest.raises(UserError, match="the train split is left without an image"):
        window.run(of_small(project, data), project, console)


# --- identity of windows


def test_windows_are_identified_by_their_settings_and_arrays(project: ProjectPaths, console: Console) -> None:
    config = digits(project, console)
    arrays = project.processed("digits")
    assert not window.are_for(project.windows(config.name), config, arrays)
    folder = window.run(config, project, console)
    assert window.are_for(folder, config, arrays)
    assert window.folder_for(config, project) == folder
    record = project.windows_code(config.name)
    record.write_text(record.read_text().replace('"code": "', '"code": "0'))
    assert window.folder_for(config, project).parent == project.store / "windows", "other code made them"
    window.record_code(config, project)
    assert window.folder_for(config, project) == folder
    record.unlink()
    assert window.folder_for(config, project).parent == project.store / "windows", "as in a clone after `dvc pull`"
    other = compose(project.root, ["experiment=digits_cnn", "window.seed=1"])
    assert not window.are_for(folder, other, arrays)
    other_folder = window.folder_for(other, project)
    assert other_folder.parent == project.store / "windows"
    window.run(other, project, console, other_folder)
    assert window.are_for(other_folder, other, arrays)
    with store.publish(arrays) as draft:
        store.write_json(draft / "meta.json", {})
    assert not window.are_for(folder, config, arrays)


def test_another_compression_of_the_raw_files_gives_the_same_arrays(
    project: ProjectPaths, console: Console, tmp_path: Path
) -> None:
    digits(project, console)
    raw = (project.raw("digits") / "digits.csv").read_bytes()
    before = store.digest(project.processed("digits"))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "digits.csv.gz").write_bytes(gzip.compress(raw, 1))
    config = compose(project.root, ["experiment=digits_cnn", f"data.sources=[{json.dumps(f'{tmp_path}/mirror/')}]"])
    (project.raw("digits") / "digits.csv").unlink()
    download.run(config.data, project, console)
    preprocess.run(config.data, project, console)
    assert store.digest(project.processed("digits")) == before
