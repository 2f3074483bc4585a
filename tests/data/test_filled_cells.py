"""Filled cells: missing targets in batches, loss, metrics, statistics and ridge regression, against values by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from reprise.config import compose
from reprise.data import audit, store
from reprise.data.modalities.series.arrays import Meta
from reprise.data.modalities.series.filled import missing_targets, observed_steps
from reprise.data.modalities.series.tensors import SeriesWindows
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError
from reprise.models.ridge_forecaster import RidgeForecaster
from reprise.project_paths import ProjectPaths
from reprise.stages import preprocess, window
from reprise.tasks.conformal import conformal_quantile
from reprise.tasks.forecast_metrics import errors_by_step
from reprise.tasks.forecasting import Forecasting
from tests.data.conftest import CONF
from tests.metas import series_meta

QUIET = Console(quiet=True)
NAN = float("nan")


def windows_of(paths: ProjectPaths, file: Path, values: dict[str, list[float]], *overrides: str) -> Windows:
    """Windows of a daily table; NaN is an empty cell."""
    frame = pd.DataFrame(values)
    frame.insert(0, "day", pd.date_range("2020-01-01", periods=len(frame)))
    frame.to_csv(file, index=False)
    config = compose(CONF.parent, ["experiment=forecast_csv", f"data.path={file}", *overrides])
    preprocess.run(config.data, paths, QUIET)
    return open_windows(window.run(config, paths, QUIET), paths.processed(config.data.name))


def walk(rows: int, empty: tuple[int, ...] = ()) -> list[float]:
    values = np.random.default_rng(3).normal(size=rows).cumsum().round(2)
    values[list(empty)] = NAN
    return [float(value) for value in values]


SMALL = ("window.lookback=4", "window.horizon=2", "data.gaps=forward_fill")


def test_missing_targets_are_nan_in_batches_and_filled_in_lookbacks(project: ProjectPaths, tmp_path: Path) -> None:
    windows = windows_of(project, tmp_path / "a.csv", {"x": walk(100, (40, 90)), "y": walk(100)}, *SMALL)
    assert isinstance(windows.meta, Meta)
    assert windows.meta.missing_targets == {"train": 1, "val": 0, "test": 1}
    train, val = windows.learning()
    assert isinstance(train, SeriesWindows)
    batch = train.gather(torch.arange(len(train)))
    rows = windows.indices("train")[:, None] + 4 + np.arange(2)
    assert np.array_equal(batch.targets.isnan().numpy(), np.stack([rows == 40, np.zeros_like(rows, bool)], axis=-1))
    assert batch.inputs.isfinite().all()
    assert val.gather(torch.arange(len(val))).targets.isfinite().all()
    assert windows.meta.missing_targets["test"] == int(windows.array("filled")[85:, 0].sum())


def test_a_table_without_gaps_has_neither_mask_nor_entry(project: ProjectPaths, tmp_path: Path) -> None:
    windows = windows_of(project, tmp_path / "a.csv", {"x": walk(100)}, *SMALL)
    assert not (windows.arrays / "filled.npy").exists()
    assert "missing_targets" not in store.read_json(windows.folder / "windows.json")
    assert windows.val().gather(torch.arange(3)).targets.isfinite().all()


def test_a_filled_input_that_is_no_target_masks_nothing(project: ProjectPaths, tmp_path: Path) -> None:
    values = {"x": walk(100, (40, 90)), "y": walk(100)}
    windows = windows_of(project, tmp_path / "a.csv", values, "window.targets=[y]", *SMALL)
    assert isinstance(windows.meta, Meta)
    assert windows.meta.missing_targets == {}


def test_the_naive_error_on_train_leaves_out_steps_from_and_to_filled_cells(project: ProjectPaths, tmp_path: Path) -> None:
    values = [float(row % 2) for row in range(100)]  # each step is 1; the two steps at a forward-filled cell would be 0
    values[20] = values[41] = values[42] = NAN
    windows = windows_of(project, tmp_path / "a.csv", {"x": values}, *SMALL)
    assert windows.meta.statistics["naive_mae"] == [1.0]
    assert audit.statistics(windows.folder, windows.arrays, windows.meta)["passed"]


def test_a_target_without_any_value_in_a_split_is_refused(project: ProjectPaths, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"window\.targets=x: the file has none of its values to forecast in test: all are filled"
    ):
        windows_of(project, tmp_path / "a.csv", {"x": walk(100, tuple(range(84, 100))), "y": walk(100)}, *SMALL)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_counts_are_those_of_the_distinct_target_cells(data: st.DataObject) -> None:
    lookback, horizon = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    filled = np.array(data.draw(st.lists(st.booleans(), min_size=60, max_size=60)))[:, None]
    spans = {"train": (0, 30), "val": (30, 45), "test": (45, 60)}
    parts = {name: np.arange(start, stop - lookback - horizon + 1) for name, (start, stop) in spans.items()}
    cells = {
        name: {start + lookback + step for start in starts.tolist() for step in range(horizon)} for name, starts in parts.items()
    }
    expected = {name: sum(bool(filled[cell, 0]) for cell in own) for name, own in cells.items()}
    if any(expected[name] == len(cells[name]) for name in cells):
        with pytest.raises(UserError, match="all are filled"):
            missing_targets(filled, parts, lookback, horizon, ["x"])
        return
    counts, notes = missing_targets(filled, parts, lookback, horizon, ["x"])
    assert counts == (expected if any(expected.values()) else {})
    assert len(notes) == sum(number > 0 for number in expected.values())


def test_a_step_is_observed_if_neither_end_is_filled() -> None:
    filled = np.array([[False, True], [False, False], [True, True], [False, False], [False, True]])
    first, second = observed_steps([filled, filled[:2]])
    assert first.T.tolist() == [[True, False, False, True], [True, True, True, True]]  # the second channel has no observed step
    assert second.T.tolist() == [[True], [True]]


PREDICTIONS = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[3.0, 0.0], [5.0, 0.0]]])
TARGETS = torch.tensor([[[0.0, 1.0], [NAN, 2.0]], [[1.0, NAN], [NAN, NAN]]])


def task_of(**changes: Any) -> Forecasting:
    statistics = {"mean": [0.0, 0.0], "std": [2.0, 1.0], "naive_mae": [4.0, 0.5]}
    meta = series_meta(["a", "b"], horizon=2, statistics=statistics, missing_targets={"test": 4}, **changes)
    return Forecasting(meta)


def test_metrics_leave_out_missing_targets() -> None:
    metrics = task_of().new_metrics()
    metrics.update(PREDICTIONS, TARGETS)
    found = metrics.compute()
    # a: errors 1 and 2 in standard deviations of 2; b: 1 and 2
    assert found["mae/a"] == 3.0
    assert found["mae/b"] == 1.5
    assert found["mse/a"] == 4 * 2.5
    assert found["rmse/b"] == 2.5**0.5
    assert (found["mase/a"], found["mase/b"], found["mase"]) == (0.75, 3.0, 1.875)
    assert found["smape/a"] == pytest.approx((2 * 1 / 1 + 2 * 2 / 4) / 2)
    assert (found["loss"], found["mae_scaled"], found["mse_scaled"]) == (2.5, 1.5, 2.5)
    by_step = errors_by_step(metrics, PREDICTIONS, TARGETS)
    assert by_step[0][0]["mae"] == 3.0
    assert by_step[1][0] == {}  # no value of a is known at the second step
    assert by_step[1][1]["mae"] == 2.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.05, 0.9))
def test_batches_of_1_7_32_and_512_windows_give_the_same_bits(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    predictions, targets = (torch.randn(600, 2, 2, generator=generator) for _ in range(2))
    targets[torch.rand(600, 2, 2, generator=generator) < share] = NAN
    task, results = task_of(), []
    for size in (1, 7, 32, 512):
        metrics = task.new_metrics()
        for part, true in zip(predictions.split(size), targets.split(size), strict=True):
            metrics.update(part, true)
        results.append(metrics.compute())
    assert all(result == results[0] for result in results)
    observed = ~targets[..., 0].isnan()
    error = (predictions.double() - targets)[..., 0][observed].abs().mean()
    assert results[0]["mae/a"] == pytest.approx(2 * error.item(), rel=1e-12)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_a_missing_target_adds_neither_loss_nor_gradient(loss: Any) -> None:
    task = Forecasting(series_meta(["a", "b"], horizon=2, missing_targets={"train": 4}), loss=loss)
    predictions = PREDICTIONS.clone().requires_grad_()
    value = task.loss(predictions, TARGETS)
    value.backward()
    assert predictions.grad is not None
    assert torch.equal(predictions.grad != 0, ~TARGETS.isnan())
    assert value.item() == pytest.approx({"mse": 10, "mae": 6, "huber": 4}[loss] / 8)  # of 8 values, 4 are missing


def test_intervals_leave_out_missing_values() -> None:
    errors = torch.tensor([-3.0, NAN, 1.0, -2.0, 4.0, NAN, 0.5, -6.0, 7.0, 8.0, -5.0]).reshape(11, 1, 1)
    both = torch.cat([errors, torch.arange(1.0, 12.0).reshape(11, 1, 1)], dim=2)
    width = conformal_quantile(both.abs(), 0.8)  # the 8th smallest of 9, and the ceil(9.6) = 10th of 11
    assert width is not None
    assert width.tolist() == [[7.0, 10.0]]
    assert conformal_quantile(errors[:4].abs(), 0.8) is None


def test_ridge_regression_fits_the_windows_that_lack_no_target() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(60, 4, 2, generator=generator), torch.randn(60, 1, 2, generator=generator)
    lacking = targets.clone()
    lacking[::3, :, 0] = lacking[1::3, :, 1] = NAN
    kept = ~lacking.isnan()[:, 0]
    settings_ = {"season": 1, "segment": 1, "levels": ["last"]}
    one = RidgeForecaster([4, 2], 2, **settings_)
    one.fit([(inputs, lacking)], [(inputs, lacking)])
    # every channel of a window is a series of its own: the same rows as windows of one channel
    series, true = inputs.transpose(1, 2)[kept].unsqueeze(-1), targets[:, 0][kept][:, None, None]
    other = RidgeForecaster([4, 1], 1, **settings_)
    other.fit([(series, true)], [(series, true)])
    torch.testing.assert_close(one.weights, other.weights)
    assert one.chosen == other.chosen
    with pytest.raises(UserError, match="every window of train lacks targets"):
        one.fit([(inputs, torch.full_like(targets, NAN))], [(inputs, targets)])
