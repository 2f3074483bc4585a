"""Tables of errors by step and by channel agree with errors computed by NumPy."""

import csv
import io

import numpy as np
import pytest
import torch

from reprise.reports.forecast_errors import INTERVALS, KINDS, ForecastErrors
from reprise.tasks.conformal import LEVELS, Margins
from reprise.tasks.forecast_metrics import ForecastMetrics

MEAN, STD, NAIVE = [1.0, -3.0], [2.0, 0.5], [0.7, 0.0]
TRUTH, FORECAST, BASELINE = torch.randn(3, 9, 4, 2, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def errors() -> ForecastErrors:
    empty = ForecastMetrics(["a", "b"], MEAN, STD, NAIVE)
    return ForecastErrors.of({"forecast": FORECAST, "drift": BASELINE}, TRUTH, empty)


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table)))


def test_the_table_of_steps_has_a_row_per_method_step_and_channel(errors: ForecastErrors) -> None:
    table = rows(errors.step_table(["a", "b, or c"]))
    assert [(row["method"], row["step"], row["channel"]) for row in table] == [
        (method, str(step), channel) for method in ("forecast", "drift") for step in range(1, 5) for channel in ("a", "b, or c")
    ]
    for row in table:
        channel, step = ["a", "b, or c"].index(row["channel"]), int(row["step"]) - 1
        off = ((FORECAST if row["method"] == "forecast" else BASELINE) - TRUTH)[:, step, channel].numpy()
        assert float(row["mae"]) == pytest.approx(STD[channel] * np.abs(off).mean())
        assert float(row["rmse"]) == pytest.approx(STD[channel] * np.sqrt(np.square(off).mean()))
        if channel == 0:
            assert float(row["mse_scaled"]) == pytest.approx(np.square(off).mean())
            assert float(row["mase"]) == pytest.approx(STD[0] * np.abs(off).mean() / NAIVE[0])
        else:  # constant in the training split
            assert row["mase"] == row["mae_scaled"] == row["mse_scaled"] == ""


def test_the_table_of_channels_is_the_mean_over_steps(errors: ForecastErrors) -> None:
    by_step, by_channel = rows(errors.step_table(["a", "b"])), rows(errors.channel_table(["a", "b"]))
    assert list(by_channel[0]) == ["method", "channel", *KINDS]
    for row in by_channel:
        steps = [step for step in by_step if (step["method"], step["channel"]) == (row["method"], row["channel"])]
        for kind in ("mae", "mse", "smape"):
            assert float(row[kind]) == pytest.approx(np.mean([float(step[kind]) for step in steps]))


def test_only_the_forecast_has_intervals_with_coverage_and_width_by_step() -> None:
    margins = Margins(30, torch.linspace(0.1, 3, len(LEVELS)).double()[:, None, None].expand(-1, 4, 2).contiguous())
    empty = ForecastMetrics(["a", "b"], MEAN, STD, NAIVE, margins=margins)
    found = ForecastErrors.of({"forecast": FORECAST, "drift": BASELINE}, TRUTH, empty)
    for row in rows(found.step_table(["a", "b"])) + rows(found.channel_table(["a", "b"])):
        if row["method"] == "drift":
            assert {row[kind] for kind in INTERVALS} == {""}
            continue
        channel = ["a", "b"].index(row["channel"])
        off = (FORECAST - TRUTH)[..., channel].abs()
        off = off[:, int(row["step"]) - 1] if "step" in row else off
        for level in (0.8, 0.95):
            margin = margins.levels[level][0, 0]
            assert float(row[f"coverage_{100 * level:g}"]) == pytest.approx((off <= margin).double().mean().item())
            assert float(row[f"width_{100 * level:g}"]) == pytest.approx(2 * STD[channel] * margin.item())
        assert float(row["wql"]) > 0


def test_errors_over_all_channels_are_those_of_the_channels_that_have_a_scale(errors: ForecastErrors) -> None:
    expected = (FORECAST - TRUTH)[..., 0].abs().mean(0)
    np.testing.assert_allclose(errors.scaled_by_step()["forecast"], expected)
    assert np.isnan(errors.scaled_by_channel()["forecast"]).tolist() == [False, True]
    assert errors.best_baseline() == "drift"
    np.testing.assert_allclose(errors.mae_by_step(1)["drift"], STD[1] * (BASELINE - TRUTH)[..., 1].abs().mean(0))
