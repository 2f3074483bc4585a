"""Columns known in advance and static columns: what the network reads of them, and that it reads no later target."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config import Config, compose
from reprise.config.modalities.series import SeriesWindow
from reprise.data import store
from reprise.data.modalities.series.arrays import Meta, split
from reprise.data.modalities.series.static import categories_of, channels_of, encode
from reprise.data.modalities.series.tensors import SeriesWindows, input_transform
from reprise.data.tables.reader import Table, read_table
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError
from reprise.inference.forecast import format_of, raw_inputs
from reprise.project_paths import ProjectPaths
from reprise.tasks.build import build_network, build_task
from tests.data.conftest import CONF
from tests.data.test_own_tables import config_of, meta_of, windows_of

Values = npt.NDArray[np.float32]
SPLITS = ("train", "val", "test")
KNOWN = ("data.target=sales", "data.known=[promo, price]", "window.lookback=6", "window.horizon=3", "model=gru")


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(CONF.parent, ["experiment=temperature_lstm"])


def windows_in(folder: Path, values: Values, config: Config, **changes: Any) -> Windows:
    """Windows of an hourly series with the channels known, a and b, of which the first is known in advance."""
    chosen = {"inputs": None, "targets": None, "calendar": ["hour"], "season": 2, "lookback_crosses": False, **changes}
    window = SeriesWindow.model_validate(config.window.model_dump() | chosen)
    time = pd.date_range("2001-01-01", periods=len(values), freq="h", unit="ns").to_numpy().astype(np.int64)
    channels = [{"name": channel, "unit": ""} for channel in ("known", "a", "b")]
    content = {"kind": "series", "name": "x", "channels": channels, "frequency": "h", "known_channels": ["known"]}
    with store.publish(folder / "arrays") as draft:
        store.write_array(draft / "values.npy", values)
        store.write_array(draft / "time.npy", time)
        store.write_json(draft / "meta.json", content)
    made = split(window, folder / "arrays")
    assert all(check["passed"] for check in made.checks.values())
    with store.publish(folder / "windows") as draft:
        for name, starts in made.indices.items():
            store.write_array(draft / f"{name}.npy", starts)
        described = made.meta.model_copy(update={"arrays": store.digest(folder / "arrays")})
        store.write_json(draft / "windows.json", described.model_dump())
    return open_windows(folder / "windows", folder / "arrays")


def opened(windows: Windows, name: str) -> SeriesWindows:
    dataset = dict(zip(SPLITS, (*windows.learning(), windows.test()), strict=True))[name]
    assert isinstance(dataset, SeriesWindows)
    return dataset


@settings(max_examples=15, deadline=None)
@given(
    lookback=st.integers(1, 6),
    horizon=st.integers(1, 5),
    crosses=st.booleans(),
    name=st.sampled_from(SPLITS),
    seed=st.integers(0, 99),
)
def test_inputs_hold_known_values_of_the_horizon_and_the_last_value_of_other_channels(
    config: Config, lookback: int, horizon: int, crosses: bool, name: str, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(3, 2, size=(120, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        windows = windows_in(Path(folder), values, config, lookback=lookback, horizon=horizon, lookback_crosses=crosses)
        meta, dataset = meta_of(windows), opened(windows, name)
        rows = torch.arange(len(dataset))
        batch, raw = dataset.gather(rows), dataset.raw(rows)
        transformed = input_transform(meta)(*raw)
        starts = windows.indices(name)
    assert meta.inputs == ["a", "b", "known", "hour_sin", "hour_cos"]
    assert (meta.targets, meta.known, meta.observed) == (["a", "b"], ["known"], ["a", "b"])
    assert list(batch.inputs.shape[1:]) == meta.input_shape == [lookback + horizon, 5]
    assert torch.equal(batch.inputs, transformed)  # the batches of training, and the transform of a logged model
    scaled = (values[:, [1, 2, 0]] - np.array(meta.statistics["mean"][:3])) / np.array(meta.statistics["std"][:3])
    for start, inputs, targets in zip(starts.tolist(), batch.inputs.numpy(), batch.targets.numpy(), strict=True):
        steps = np.arange(start, start + lookback + horizon)
        np.testing.assert_allclose(inputs[:, 2], scaled[steps, 2], atol=1e-5)
        np.testing.assert_allclose(inputs[:, :2], scaled[np.minimum(steps, start + lookback - 1), :2], atol=1e-5)
        np.testing.assert_allclose(targets, scaled[steps[lookback:], :2], atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(lookback=st.integers(1, 6), horizon=st.integers(1, 5), seed=st.integers(0, 99))
def test_neither_inputs_nor_statistics_depend_on_later_targets_or_on_rows_of_val_and_test(
    config: Config, lookback: int, horizon: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(120, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        windows = windows_in(Path(one), values, config, lookback=lookback, horizon=horizon)
        meta = meta_of(windows)
        first = int(windows.indices("val")[0]) + lookback
        changed = values.copy()
        changed[first:, 1:] += 100  # all targets from the first forecast of val on
        changed[meta.borders["train"] :, 0] *= 3
        other = windows_in(Path(two), changed, config, lookback=lookback, horizon=horizon)
        assert meta_of(other).statistics == meta.statistics
        before, after = (opened(each, "val").gather(torch.tensor([0])).inputs[0] for each in (windows, other))
        starts = {name: windows.indices(name) for name in SPLITS}
    assert torch.equal(before[:, :2], after[:, :2])
    ends = [0, *(meta.borders[name] for name in SPLITS)]
    for name, start, stop in zip(SPLITS, ends, ends[1:], strict=False):
        assert (starts[name] >= start).all()
        assert (starts[name] + lookback + horizon <= stop).all()


def shops(file: Path, ahead: int = 0, **changes: Any) -> Path:
    """Write three shops in long format, whose sales follow promotions and prices; the last `ahead` rows have no sales."""
    generator, frames = np.random.default_rng(1), []
    for name, region, code, size in (("a", "north", "1", 10.5), ("b", "south", "2", 20.0), ("c", "north", "x", 35.0)):
        promo, price = generator.integers(0, 2, 90), generator.normal(5, 1, 90).round(2)
        frame = pd.DataFrame({"day": pd.date_range("2020-01-01", periods=90), "shop": name, "region": region, "code": code})
        frame = frame.assign(size=size, promo=promo, price=price, sales=(20 + 6 * promo - 2 * price).round(2))
        frame["sales"] = frame["sales"].where(np.arange(90) < 90 - ahead)
        frames.append(frame.assign(**changes))
    pd.concat(frames).to_csv(file, index=False)
    return file


STATIC = ("data.id=shop", "data.static=[region, code, size]", *KNOWN)


def test_static_columns_are_constant_inputs_one_for_each_category(project: ProjectPaths, tmp_path: Path) -> None:
    windows = windows_of(project, config_of(shops(tmp_path / "s.csv"), *STATIC))
    meta = meta_of(windows)
    encoded = ["region=north", "region=south", "code=1", "code=2", "code=x", "size"]
    assert meta.inputs == ["sales", *encoded, "promo", "price"]
    assert (meta.observed, meta.targets, meta.known) == (["sales"], ["sales"], ["promo", "price"])
    rows = np.array(windows.array("values"))[[0, 90, 180]][:, 3:]
    assert rows.tolist() == [[1, 0, 1, 0, 0, 10.5], [0, 1, 0, 1, 0, 20], [1, 0, 0, 0, 1, 35]]
    sizes = np.repeat([10.5, 20, 35], [one.train - one.start for one in meta.series])
    assert meta.statistics["mean"][6] == pytest.approx(sizes.mean())
    assert meta.statistics["std"][6] == pytest.approx(sizes.std())
    batch = opened(windows, "train").gather(torch.tensor([0]))
    assert (batch.inputs[0, :, 1:7] == batch.inputs[0, 0, 1:7]).all()


def test_categories_are_encoded_by_one_channel_each() -> None:
    series: list[dict[str, float | str]] = [{"size": 2.0, "area": "n"}, {"size": 3.0, "area": "s"}]
    categories = categories_of(series)
    assert categories == {"size": None, "area": ["n", "s"]}
    assert channels_of(categories) == ["size", "area=n", "area=s"]
    assert encode(series[1], categories) == [3.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="area=w: not in the training data, which have n, s"):
        encode({"size": 2.0, "area": "w"}, categories)
    with pytest.raises(ValueError, match="size=big: is no number"):
        encode({"size": "big", "area": "n"}, categories)


def test_filled_targets_are_marked_beside_known_and_static_columns(project: ProjectPaths, tmp_path: Path) -> None:
    file = shops(tmp_path / "s.csv")
    frame = pd.read_csv(file)
    frame.loc[[100, 170], "sales"] = np.nan
    frame.to_csv(file, index=False)
    windows = windows_of(project, config_of(file, "data.gaps=interpolate", *STATIC))
    assert np.argwhere(windows.array("filled")).tolist() == [[100, 0], [170, 0]]
    assert meta_of(windows).missing_targets == {"train": 1, "val": 0, "test": 1}


def read(config: Config, meta: Meta, file: Path) -> Table:
    return read_table(file, file.name, format_of(config.data, meta))


def raw_of(config: Config, meta: Meta, file: Path) -> list[tuple[npt.NDArray[Any], ...]]:
    """The raw inputs of the forecast of each series of a file."""
    table = read(config, meta, file)
    return [
        raw_inputs(meta, one.values[:, [0]], one.time[-1] + np.arange(1, 4) * 86_400 * 10**9, file.name, table, one)
        for one in table.series
    ]


def test_a_new_file_gives_the_inputs_of_the_window_at_its_end(project: ProjectPaths, tmp_path: Path) -> None:
    config = config_of(shops(tmp_path / "s.csv"), *STATIC)
    windows = windows_of(project, config)
    meta, test = meta_of(windows), opened(windows, "test")
    last = [int(np.flatnonzero(windows.indices("test") == one.test - 9)[0]) for one in meta.series]
    found = raw_of(config, meta, shops(tmp_path / "new.csv", ahead=3))  # 6 steps, then 3 without sales
    for row, one in zip(last, found, strict=True):
        for expected, part in zip(test.raw(torch.tensor([row])), one, strict=True):
            assert torch.equal(expected[0], torch.from_numpy(part))


def test_a_new_file_without_known_values_ahead_is_refused_with_what_it_lacks(project: ProjectPaths, tmp_path: Path) -> None:
    config = config_of(shops(tmp_path / "s.csv"), *STATIC)
    meta = meta_of(windows_of(project, config))
    message = "2 time steps after the last target of series a, and a forecast needs promo, price at the next 3; add rows with"
    with pytest.raises(UserError, match=message):
        raw_of(config, meta, shops(tmp_path / "new.csv", ahead=2))


def test_an_unknown_category_is_refused_and_a_category_of_digits_stays_text(project: ProjectPaths, tmp_path: Path) -> None:
    config = config_of(shops(tmp_path / "s.csv"), *STATIC)
    meta = meta_of(windows_of(project, config))
    assert read(config, meta, shops(tmp_path / "new.csv", 3, code="2")).series[0].static["code"] == "2"
    with pytest.raises(UserError, match=r"new.csv: region=west: not in the training data, which have north, south"):
        raw_of(config, meta, shops(tmp_path / "new.csv", 3, region="west"))


def test_a_known_column_can_be_left_out_but_not_forecast(project: ProjectPaths, tmp_path: Path) -> None:
    file = shops(tmp_path / "s.csv")
    one = meta_of(windows_of(project, config_of(file, "data.id=shop", *KNOWN, "window.inputs=[sales, price]")))
    assert (one.inputs, one.known) == (["sales", "price"], ["price"])
    with pytest.raises(UserError, match=r"window\.targets=promo: known in advance \(data.known\)"):
        windows_of(project, config_of(file, "data.id=shop", *KNOWN, "window.targets=[promo]"))
    with pytest.raises(UserError, match=r"static: has one value for each series, and data.id names no column"):
        config_of(file, "data.target=sales", "data.static=region")


def test_networks_that_read_only_the_past_of_targets_are_refused(project: ProjectPaths, tmp_path: Path) -> None:
    config = config_of(shops(tmp_path / "s.csv"), *STATIC)
    windows = windows_of(project, config)
    task = build_task(config, windows.meta)
    batch = opened(windows, "train").gather(torch.arange(5))
    for model in ("lstm", "cnn1d", "resnet1d"):
        network = build_network(config_of(tmp_path / "s.csv", *STATIC, f"model={model}"), windows.meta, task)
        assert task.decode(network(batch.inputs), batch.inputs).shape == (5, 3, 1)
    for model in ("nlinear", "ridge"):
        with pytest.raises(UserError, match=r"does not read data.known and data.static; choose model=lstm"):
            build_network(config_of(tmp_path / "s.csv", *STATIC, f"model={model}"), windows.meta, task)
    with pytest.raises(UserError, match="they must be the same"):  # the future of a covariate is not forecast
        build_network(config_of(tmp_path / "s.csv", *STATIC, "model=recursive"), windows.meta, task)


def test_a_recursive_network_reads_values_not_changes(project: ProjectPaths, tmp_path: Path) -> None:
    settings = ("data.target=sales", "window.inputs=[sales]", "window.lookback=6", "window.horizon=3", "model=recursive")
    file = shops(tmp_path / "s.csv")
    windows = windows_of(project, config_of(file, "data.id=shop", *settings))
    for delta in (True, False):
        config = config_of(file, "data.id=shop", *settings, f"task.predict_delta={delta}")
        task = build_task(config, windows.meta)
        if delta:
            with pytest.raises(UserError, match=r"task\.predict_delta=true"):
                build_network(config, windows.meta, task)
            continue
        batch = opened(windows, "train").gather(torch.arange(5))
        assert build_network(config, windows.meta, task)(batch.inputs).shape == (5, 3)


def test_the_baselines_are_those_of_the_targets(project: ProjectPaths, tmp_path: Path) -> None:
    windows = windows_of(project, config_of(shops(tmp_path / "s.csv"), *STATIC))
    task = build_task(config_of(tmp_path / "s.csv", *STATIC), windows.meta)
    first = int(windows.indices("test")[0])
    values = np.array(windows.array("values"))[:, 0]
    forecast = task.postprocess(task.baselines(windows)["repeat_last"](torch.tensor([0])))
    assert forecast.flatten().tolist() == pytest.approx([float(values[first + 5])] * 3, rel=1e-6)
