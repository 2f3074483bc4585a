"""Several series of one table: windows of one model that never reach from one series into another."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from reprise.data import store
from reprise.data.modalities.series.arrays import Meta
from reprise.data.windows import Windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tasks.naive_forecasts import NaiveForecasts
from tests.data.test_own_tables import config_of, meta_of, windows_of

LENGTHS = {"a": 90, "b": 70, "c": 81}


def write_shops(file: Path, lengths: dict[str, int], change_last: int = 0) -> Path:
    """Write random walks in long format, sorted by date; the last rows of each series can be changed."""
    frames = []
    for number, (name, length) in enumerate(lengths.items()):
        values = np.random.Generator(np.random.PCG64(number)).normal(size=length).cumsum() + 10 * number
        values[length - change_last :] += 1000 * (change_last > 0)
        dates = pd.date_range("2020-01-01", periods=length, freq="D")
        frames.append(pd.DataFrame({"date": dates, "shop": name, "sales": values.round(3)}))
    pd.concat(frames).sort_values(["date", "shop"]).to_csv(file, index=False)
    return file


def shops(paths: ProjectPaths, folder: Path, *overrides: str, change_last: int = 0) -> Windows:
    file = write_shops(folder / "shops.csv", LENGTHS, change_last)
    return windows_of(paths, config_of(file, "data.id=shop", *overrides))


def series_of(meta: Meta, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """Return the number of the series that each row belongs to."""
    return [next(n for n, one in enumerate(meta.series) if one.start <= row < one.test) for row in rows.tolist()]


@pytest.mark.parametrize("crosses", ["true", "false"])
def test_a_window_lies_within_one_series_and_its_targets_within_one_split(
    project: ProjectPaths, tmp_path: Path, crosses: str
) -> None:
    windows = shops(project, tmp_path, f"window.lookback_crosses={crosses}", "window.lookback=5", "window.horizon=3")
    meta = meta_of(windows)
    size, expected = 8, 0
    for split in ("train", "val", "test"):
        starts = windows.indices(split)
        assert series_of(meta, starts) == series_of(meta, starts + size - 1)
        for one in meta.series:
            first, stop = {"train": (one.start, one.train), "val": (one.train, one.val), "test": (one.val, one.test)}[split]
            inside = [start for start in starts.tolist() if first <= start + 5 and start + size <= stop and start >= one.start]
            reach = 5 if split == "train" or crosses == "false" else 0
            expected += len(inside)
            assert len(inside) == stop - first - reach - 3 + 1
    assert expected == sum(len(windows.indices(split)) for split in ("train", "val", "test"))


def test_the_statistics_are_those_of_all_train_splits_and_no_others(project: ProjectPaths, tmp_path: Path) -> None:
    windows = shops(project, tmp_path)
    meta, values = meta_of(windows), np.asarray(windows.array("values"), np.float64)[:, 0]
    parts = [values[one.start : one.train] for one in meta.series]
    assert meta.statistics["mean"][0] == pytest.approx(np.concatenate(parts).mean())
    assert meta.statistics["std"][0] == pytest.approx(np.concatenate(parts).std())
    assert meta.statistics["naive_mae"][0] == pytest.approx(np.concatenate([np.abs(np.diff(part)) for part in parts]).mean())
    changed = meta_of(shops(project, tmp_path, change_last=10))
    assert changed.statistics == meta.statistics
    checks = store.read_json(windows.folder / "audit.json")
    assert all(check["passed"] for check in checks.values())
    assert set(checks["train before val before test"]["series"]) == set(LENGTHS)


def test_a_seasonal_forecast_that_would_read_the_series_before_is_left_out(project: ProjectPaths, tmp_path: Path) -> None:
    assert "seasonal_naive" in NaiveForecasts(shops(project, tmp_path)).names
    assert "seasonal_naive" not in NaiveForecasts(shops(project, tmp_path, "window.season=65")).names


def test_the_values_of_a_window_are_those_of_its_series(project: ProjectPaths, tmp_path: Path) -> None:
    windows = shops(project, tmp_path)
    table = pd.read_csv(tmp_path / "shops.csv", parse_dates=["date"])
    last = torch.tensor([len(windows.indices("test")) - 1])
    _, time = windows.test().raw(last)
    values = windows.test().raw(last)[0][0, :, 0].numpy()
    own = table[table["shop"] == "c"].set_index("date")["sales"]
    np.testing.assert_allclose(values, own.loc[pd.DatetimeIndex(time[0].numpy().view("datetime64[ns]"))], rtol=1e-6)


def test_columns_as_series_have_one_channel(project: ProjectPaths, tmp_path: Path) -> None:
    dates = pd.date_range("2020-01-01", periods=80, freq="D")
    walks = np.random.Generator(np.random.PCG64(0)).normal(size=(80, 3)).cumsum(0)
    frame = pd.DataFrame(walks, columns=["x", "y", "z"])
    frame.insert(0, "date", dates)
    frame.to_csv(tmp_path / "wide.csv", index=False)
    meta = meta_of(windows_of(project, config_of(tmp_path / "wide.csv", "data.columns=series", "data.units=kg")))
    assert (meta.targets, meta.units) == (["value"], ["kg"])
    assert [(one.name, one.start, one.test) for one in meta.series] == [("x", 0, 80), ("y", 80, 160), ("z", 160, 240)]


def test_a_series_that_is_too_short_is_named(project: ProjectPaths, tmp_path: Path) -> None:
    file = write_shops(tmp_path / "shops.csv", {"long": 300, "short": 20})
    message = "series 'short': the val split has 3 time steps, no room for a window of 4: .*, or leave the series out"
    with pytest.raises(UserError, match=message):
        windows_of(project, config_of(file, "data.id=shop", "window.horizon=4"))


def test_a_limit_keeps_windows_of_every_series(project: ProjectPaths, tmp_path: Path) -> None:
    windows = shops(project, tmp_path, "window.limit=12")
    assert len(windows.indices("train")) == 12
    assert set(series_of(meta_of(windows), windows.indices("train"))) == {0, 1, 2}
