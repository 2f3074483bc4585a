"""The table of errors by series agrees with errors computed by NumPy for each series alone."""

import csv
import io
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from reprise.figures import forecasting
from reprise.project_paths import ProjectPaths
from reprise.reports import forecasting as report
from reprise.reports import series_errors
from reprise.reports.evaluated import Evaluated
from reprise.reports.series_errors import SeriesErrors
from reprise.tasks.forecast_metrics import ForecastMetrics
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.kept_predictions import Forecasts
from tests.data.test_many_series import LENGTHS, shops

MEAN, STD = [1.0, -3.0], [2.0, 0.5]
TRUTH, FORECAST, BASELINE = torch.randn(3, 9, 4, 2, generator=torch.Generator().manual_seed(0)).double()
MEMBERSHIP = np.array([0, 0, 0, 2, 2, 2, 2, 2, 2])
NAIVE = {"shop 1": [0.5, 0.25], "never tested": [1.0, 1.0], "constant": [0.0, 2.0]}


def errors() -> SeriesErrors:
    empty = ForecastMetrics(["a", "b"], MEAN, STD, [0.7, 0.4])
    return SeriesErrors.of({"forecast": FORECAST, "drift": BASELINE}, TRUTH, empty, MEMBERSHIP, NAIVE)


def test_a_row_per_series_channel_and_method_has_the_errors_of_the_windows_of_the_series() -> None:
    table = list(csv.DictReader(io.StringIO(errors().table(["a", "b"]))))
    keys = [(row["series"], row["channel"], row["method"]) for row in table]
    assert keys == list(itertools.product(NAIVE, "ab", ("forecast", "drift")))
    assert [row["windows"] for row in table] == ["3"] * 4 + ["0"] * 4 + ["6"] * 4
    for row in table:
        number, channel = list(NAIVE).index(row["series"]), "ab".index(row["channel"])
        if row["series"] == "never tested":
            assert row["mae"] == row["mase"] == ""
            continue
        chosen = (FORECAST if row["method"] == "forecast" else BASELINE) - TRUTH
        off = STD[channel] * chosen[number == MEMBERSHIP][..., channel].numpy()
        assert float(row["mae"]) == pytest.approx(np.abs(off).mean())
        assert float(row["rmse"]) == pytest.approx(np.sqrt(np.square(off).mean()))
        assert float(row["mae_scaled"]) == pytest.approx(np.abs(off).mean() / STD[channel])
        naive = NAIVE[row["series"]][channel]
        assert (float(row["mase"]) == pytest.approx(np.abs(off).mean() / naive)) if naive else row["mase"] == ""


def test_series_with_a_mase_are_counted_and_compared_with_a_baseline() -> None:
    mase = errors().mase()
    assert np.isnan(mase["forecast"]).tolist() == [False, True, False]
    expected = sum(mase["forecast"][number] < mase["drift"][number] for number in (0, 2))
    assert errors().better_than("drift") == (expected, 2)


def test_forecasts_over_time_are_those_of_one_series_and_residuals_of_all_are_in_the_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(__file__).resolve().parents[2] / "conf", tmp_path / "project" / "conf")
    windows = shops(ProjectPaths(tmp_path / "project"), tmp_path, "window.lookback=5", "window.horizon=3")
    meta, test = windows.meta, windows.test()
    rows = torch.arange(len(test))
    targets = test.gather(rows).targets
    run = Evaluated("a run", 1, {}, windows, {}, Forecasts(rows, targets + 1, targets))
    drawn: dict[str, Any] = {}
    for name in ("forecast", "residuals"):
        monkeypatch.setattr(forecasting, name, lambda *parts, name=name: drawn.update({name: parts}) or plt.figure())
    report.write(tmp_path / "out", run, Forecasting(meta))
    times, truth, *_, title = drawn["forecast"]
    longest = max(meta.series, key=lambda one: one.test - one.val)  # type: ignore[attr-defined]
    assert title == f"a run, series {longest.name}: sales"
    values = np.asarray(windows.array("values"))[longest.val : longest.test, 0]
    np.testing.assert_allclose(truth, np.lib.stride_tricks.sliding_window_view(values, 3)[-len(truth) :], rtol=1e-5)
    assert (np.diff(times[:, 0]) > np.timedelta64(0)).all()
    times, truth, predicted, *_ = drawn["residuals"]
    assert len(times) == len(test)
    assert (np.diff(times[:, 0]) >= np.timedelta64(0)).all()
    np.testing.assert_allclose(predicted - truth, meta.statistics["std"][0], rtol=1e-4)


def test_windows_are_assigned_to_their_series_and_naive_errors_are_those_of_its_train_split(
    tmp_path: Path,
) -> None:
    shutil.copytree(Path(__file__).resolve().parents[2] / "conf", tmp_path / "project" / "conf")
    project = ProjectPaths(tmp_path / "project")
    windows = shops(project, tmp_path, "window.lookback=5", "window.horizon=3")
    values = np.asarray(windows.array("values"), np.float64)[:, 0]
    meta = windows.meta
    naive = series_errors.naive_errors(windows)
    assert list(naive) == list(LENGTHS)
    for one in meta.series:  # type: ignore[attr-defined]
        assert naive[one.name] == pytest.approx([np.abs(np.diff(values[one.start : one.train])).mean()])
    test = windows.test()
    rows = torch.arange(len(test))
    targets = test.gather(rows).targets
    empty = ForecastMetrics(["sales"], meta.statistics["mean"], meta.statistics["std"], meta.statistics["naive_mae"])
    forecasts = {"forecast": targets + 1, "repeat last": targets - 2}
    series_errors.write(tmp_path / "out", "a run", windows, rows, forecasts, targets, empty)
    with (tmp_path / "out" / "errors_by_series.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert sum(int(row["windows"]) for row in table if row["method"] == "forecast") == len(test)
    for row in table:
        off = (1 if row["method"] == "forecast" else 2) * meta.statistics["std"][0]
        assert float(row["mae"]) == pytest.approx(off)
        assert float(row["mase"]) == pytest.approx(off / naive[row["series"]][0])
    assert (tmp_path / "out" / "error_by_series.png").stat().st_size > 5000
