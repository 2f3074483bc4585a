"""A user's CSV, from its bytes to the inputs of the network and back to units, without loss of precision."""

import hashlib
import io
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
from rich.console import Console
from torch import Tensor, nn

from reprise.config import Config, compose
from reprise.data import store
from reprise.data.modalities.series.tensors import SeriesWindows
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError
from reprise.inference.predictor import Predictor
from reprise.project_paths import ProjectPaths
from reprise.stages import freshness, preprocess, window
from reprise.tasks.build import build_transform
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.naive_forecasts import NaiveForecasts
from tests.data.conftest import CONF
from tests.training.conftest import compute_metrics

Values = npt.NDArray[np.float64]
TOO_SHORT_FOR_A_SEASON = "window.lookback=2: shorter than window.season, so the seasonal-mean forecast is left out"


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(CONF.parent, ["experiment=temperature_lstm", "window.lookback=30", "window.lookback_crosses=false"])


def write_csv(
    paths: ProjectPaths, config: Config, stamps: pd.DatetimeIndex, columns: dict[str, Any], **window_settings: Any
) -> Config:
    """Write a CSV to data/raw, and return its config: the first column is the target, with lookback 2 and horizon 1."""
    lines = [",".join(["when", *columns])]
    lines += [",".join(map(str, row)) for row in zip(stamps, *columns.values(), strict=True)]
    content = ("\n".join(lines) + "\n").encode()
    paths.raw("mine").mkdir(parents=True, exist_ok=True)
    (paths.raw("mine") / "mine.csv").write_bytes(content)
    data = {
        "name": "mine",
        "time": "when",
        "files": [{"fetch": "mine.csv", "sha256": hashlib.sha256(content).hexdigest()}],
        "channels": [{"name": name, "unit": "u"} for name in columns],
    }
    chosen = {"targets": [next(iter(columns))], "lookback": 2, "horizon": 1, "val_size": 0.2, "test_size": 0.2, "season": 12}
    return Config.model_validate(
        config.model_dump(by_alias=True)
        | {"data": config.data.model_dump() | data, "window": config.window.model_dump() | chosen | window_settings}
    )


def make_windows(paths: ProjectPaths, config: Config) -> Windows:
    quiet = Console(quiet=True)
    preprocess.run(config.data, paths, quiet)
    return open_windows(window.run(config, paths, quiet), paths.processed("mine"))


class NoChange(nn.Module):
    """Outputs zeros. With `predict_delta`, this forecasts the last input value."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.zeros(len(inputs), 1)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["MS", "QE-DEC", "YS-JAN", "B", "D", "W-SUN", "h", "200ms", "7ns"]),
    st.sampled_from([0, 10**6, 10**9, 10**12, -(10**12)]),
    st.sampled_from([1, 1000]),
    st.integers(0, 2**31),
)
def test_level_unit_and_frequency_do_not_change_the_inputs_of_the_network(
    config: Config, frequency: str, level: int, scale: int, seed: int
) -> None:
    steps = np.random.default_rng(seed).integers(0, 50, 60)
    stamps = pd.date_range("2001-01-01", periods=60, freq=frequency, unit="ns")
    with tempfile.TemporaryDirectory() as folder:
        paths = ProjectPaths(Path(folder))
        windows = make_windows(paths, write_csv(paths, config, stamps, {"a": level + scale * steps}, calendar=[]))
        meta = store.read_json(paths.processed("mine") / "meta.json")
        train, val = windows.learning()
        assert isinstance(train, SeriesWindows)
        scaled = (steps - steps[:36].mean()) / steps[:36].std()  # train is the first 36
        assert train.inputs.dtype == torch.float32
        inputs = train.inputs[:, 0].numpy()
        np.testing.assert_allclose(inputs - inputs.mean(), scaled[:36], atol=1e-5)
        shift = np.spacing(np.float32(level)) / 2 if level == 10**6 else 0  # of the mean, which float32 holds so exactly there
        np.testing.assert_allclose(inputs, scaled[:36], atol=1e-5 + shift / (scale * steps[:36].std()))
        assert len(np.unique(train.inputs)) == len(np.unique(steps[:36]))
        assert meta["frequency"] == frequency
        assert meta["dtype"] == ("float32" if level in {0, 10**6} else "float64")  # 1e6 and its integers are exact in float32
        np.testing.assert_array_equal(windows.array("time").view("datetime64[ns]"), stamps.to_numpy())
        predictor = Predictor(build_transform(windows.meta), NoChange(), Forecasting(windows.meta))
        raw, time = val.raw(torch.arange(len(val)))
        np.testing.assert_allclose(raw[:, -1, 0].double(), (level + scale * steps)[37:47], rtol=0, atol=1e-3 * scale)
        np.testing.assert_allclose(predictor(raw, time)[:, 0], raw[:, -1].double(), rtol=0, atol=0.01 * scale)


def test_a_series_at_a_level_of_1e12_keeps_its_steps_and_is_forecast_at_its_level(config: Config, project: ProjectPaths) -> None:
    values = 10**12 + np.arange(60)
    windows = make_windows(
        project, write_csv(project, config, pd.date_range("2001", periods=60, freq="MS"), {"a": values}, calendar=[])
    )
    train, val = windows.learning()
    assert isinstance(train, SeriesWindows)
    assert len(np.unique(train.inputs)) == 36
    predictor = Predictor(build_transform(windows.meta), NoChange(), Forecasting(windows.meta))
    forecast = predictor(*val.raw(torch.tensor([0])))
    assert forecast.dtype == torch.float64
    assert forecast.item() == pytest.approx(10**12 + 37, abs=1e-4)


def test_a_channel_at_a_high_level_does_not_change_the_others(config: Config, project: ProjectPaths) -> None:
    draw = np.random.default_rng(0)
    small = draw.normal(size=60).round(3)
    stamps = pd.date_range("2001", periods=60, freq="MS")
    both = make_windows(project, write_csv(project, config, stamps, {"a": small, "b": 10**12 + np.arange(60)}))
    first = both.learning()[0]
    alone = make_windows(project, write_csv(project, config, stamps, {"a": small})).learning()[0]
    assert isinstance(first, SeriesWindows)
    assert isinstance(alone, SeriesWindows)
    torch.testing.assert_close(first.inputs[:, 0], alone.inputs[:, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(first.inputs[:, -2:], alone.inputs[:, -2:], atol=0, rtol=0)


@pytest.mark.parametrize("frequency", ["MS", "ME", "QS", "YE", "B", "W", "h", "15min"])
def test_the_calendar_features_are_the_fraction_of_the_year_at_any_frequency(
    config: Config, project: ProjectPaths, frequency: str
) -> None:
    stamps = pd.date_range("2001-03-04 05:06:07", periods=60, freq=frequency)
    windows = make_windows(project, write_csv(project, config, stamps, {"a": np.arange(60) % 7}, calendar=["year"]))
    train = windows.learning()[0]
    assert isinstance(train, SeriesWindows)
    angle = np.unwrap(np.arctan2(*train.inputs[:, -2:].double().T.numpy()))
    days = (stamps[:36] - stamps[0]) / pd.Timedelta(days=1)
    if frequency in {"YE"}:  # more than half a turn from step to step
        angle = np.angle(np.exp(1j * (angle - angle[0] - 2 * np.pi * days / 365.2425)))
        np.testing.assert_allclose(angle, 0, atol=1e-5)
    else:
        np.testing.assert_allclose(angle - angle[0], 2 * np.pi * days / 365.2425, atol=1e-5)


def test_monthly_data_with_a_season_of_12_repeats_the_same_month_of_last_year(config: Config, project: ProjectPaths) -> None:
    values = 10**12 + np.arange(60) % 12  # repeats itself each year
    windows = make_windows(project, write_csv(project, config, pd.date_range("2001", periods=60, freq="MS"), {"a": values}))
    rows = torch.arange(len(windows.test()))
    targets = windows.test().gather(rows).targets.double()
    baselines, task = NaiveForecasts(windows), Forecasting(windows.meta)
    assert compute_metrics(task, baselines.of("seasonal_naive", rows), targets)["mae"] == pytest.approx(0, abs=1e-3)
    naive = np.abs(np.diff(np.arange(49, 60) % 12)).mean()
    assert compute_metrics(task, baselines.of("repeat_last", rows), targets)["mae"] == pytest.approx(naive, abs=1e-3)
    assert windows.meta.notes == [TOO_SHORT_FOR_A_SEASON]


def test_a_season_longer_than_the_history_is_reported(config: Config, project: ProjectPaths) -> None:
    mine = write_csv(project, config, pd.date_range("2001", periods=60, freq="MS"), {"a": np.arange(60)}, season=365)
    preprocess.run(mine.data, project, Console(quiet=True))
    printed = io.StringIO()
    window.run(mine, project, Console(file=printed))
    assert (
        "window.season=365: the series reaches back 50 steps from test, so the seasonal-naive forecast is left out"
        in printed.getvalue()
    )


def test_steps_too_small_for_float32_inputs_are_reported(config: Config, project: ProjectPaths) -> None:
    values = np.arange(60) + 10**9 * (np.arange(60) // 20 % 2)
    windows = make_windows(
        project, write_csv(project, config, pd.date_range("2001", periods=60, freq="MS"), {"a": values, "b": values % 7})
    )
    first, *others = windows.meta.notes
    assert first.startswith("a: its steps are small compared with its range")
    assert others == [TOO_SHORT_FOR_A_SEASON]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"horizon": 100}, "the train split has 36 time steps, no room for a window of 102: .* make window.horizon smaller, or "),
        ({"horizon": 12}, "the val split has 12 time steps, no .* make window.horizon smaller, or window.val_size larger"),
        ({"lookback": 12}, "the val split has 12 time steps, no room .* make window.lookback smaller, or window.val_size larger"),
        (
            {"lookback": 8, "horizon": 8},
            "the val split .* make window.lookback or window.horizon smaller, or window.val_size larger",
        ),
        ({"test_size": 2}, "the test split has 2 time steps, no room for a window of 3: .*, or window.test_size larger"),
    ],
)
def test_a_window_longer_than_a_split_is_refused_with_the_key_to_change(
    config: Config, project: ProjectPaths, setting: dict[str, int], message: str
) -> None:
    mine = write_csv(project, config, pd.date_range("2001", periods=60, freq="MS"), {"a": np.arange(60)}, **setting)
    with pytest.raises(UserError, match=message):
        make_windows(project, mine)
    assert not project.windows(mine.name).exists()


def test_a_limit_keeps_the_newest_training_windows(config: Config, project: ProjectPaths) -> None:
    values = 10**12 + np.arange(60)
    mine = write_csv(project, config, pd.date_range("2001", periods=60, freq="B"), {"a": values}, limit=5, calendar=[])
    windows = make_windows(project, mine)
    assert windows.indices("train").tolist() == [29, 30, 31, 32, 33]
    assert windows.meta.statistics["mean"] == [10**12 + np.arange(29, 36).mean()]


def test_arrays_with_timestamps_in_seconds_are_refused(config: Config, project: ProjectPaths) -> None:
    mine = write_csv(project, config, pd.date_range("2001", periods=60, freq="MS"), {"a": np.arange(60)})
    preprocess.run(mine.data, project, Console(quiet=True))
    arrays = project.processed("mine")
    freshness.demand(mine.data, project)
    before = store.read_json(arrays / "meta.json")
    with store.publish(arrays) as draft:
        store.write_json(draft / "meta.json", {key: value for key, value in before.items() if key != "time_unit"})
    with pytest.raises(
        UserError, match=r"was made with other settings than data=mine describes; .*run `reprise preprocess data=mine`"
    ):
        freshness.demand(mine.data, project)
