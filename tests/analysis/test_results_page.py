"""The page of results: tables by kind of task, baselines beside every row, and a mark on rows that do not beat the best of them."""

from typing import Any

import pytest

from reprise.analysis import results_page
from reprise.analysis.result import FITTED_BASELINE, Result, best_baseline
from reprise.stages.summary import Summary

Baselines = dict[str, dict[str, float | None]]


def result(
    name: str,
    test: dict[str, float | None],
    baselines: Baselines,
    *,
    config: dict[str, Any] | None = None,
    data: str = "etth1",
    seeds: int = 3,
    long: bool = False,
) -> Result:
    summary = Summary(
        test=test,
        test_std=dict.fromkeys(test, 0.001 if seeds > 1 else None),
        val=test,
        val_std=dict.fromkeys(test, None),
        baselines=baselines,
        data=data,
        seeds=list(range(seeds)),
        parameters=1234,
        epochs=5,
        weights={"seed0": "ab" * 32},
        machine="a processor",
    )
    return Result(name, summary, config or {}, [], long)


def forecast(name: str, horizon: int, mse: float, *, lookback: int = 336, fitted: bool = False, **naive: float) -> Result:
    """Return a forecast of several targets. `naive` are the MSE of baselines."""
    config = {
        "window": {"horizon": horizon, "lookback": lookback, "lookback_crosses": True, "targets": None},
        "model": {"_target_": FITTED_BASELINE if fitted else "reprise.models.linear.NLinear"},
        "published": {"value": 0.374, "note": "as the MSE of it"} if name == "etth1_96_nlinear" else None,
    }
    baselines: Baselines = {one: {"mse_scaled": value, "mae_scaled": value} for one, value in naive.items()}
    return result(name, {"loss": mse, "mse_scaled": mse, "mae_scaled": mse + 0.02}, baselines, config=config, long=True)


NAIVE = {"repeat_last": 1.294, "seasonal_naive": 0.512}


def table_rows(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize(("accuracy", "beaten"), [(0.99, True), (0.9833, False), (0.9749, False)])
def test_a_classification_that_does_not_beat_its_best_baseline_says_so(accuracy: float, beaten: bool) -> None:
    baselines: Baselines = {"majority_class": {"accuracy": 0.1}, "nearest_neighbour": {"accuracy": 0.9833}}
    digits = result("digits_cnn", {"accuracy": accuracy}, baselines, data="digits")
    best = best_baseline(digits, [digits])
    assert best
    assert (best.name, best.value, best.beaten) == ("nearest neighbour", 0.9833, beaten)
    page = results_page.classification([digits], [digits])
    assert ("| digits_cnn ‡ |" in page) == (not beaten)
    assert ("`digits_cnn` ‡ does not beat nearest neighbour: accuracy of" in page) == (not beaten)
    assert {"0.1000", "0.9833", f"{accuracy:.4f} ± 0.0010", "1,234"} <= set(table_rows(page)[2])


def test_a_forecast_of_one_target_is_compared_in_its_unit() -> None:
    baselines: Baselines = {"repeat_last": {"mae": 2.2}, "drift": {"mae": 2.0}}
    temperature = result("temperature_lstm", {"mae": 2.1, "mse_scaled": 0.1, "mae_scaled": 0.2}, baselines, data="weather")
    page = results_page.forecasts([temperature], [temperature])
    assert "`temperature_lstm` ‡ does not beat drift: MAE of 2.100 against 2.000." in page
    assert results_page.horizons([temperature], [temperature]) == ""


def test_ridge_regression_of_the_same_windows_is_a_baseline_of_other_models() -> None:
    ridge, elsewhere = forecast("etth1_96_ridge", 96, 0.367, fitted=True, **NAIVE), forecast("r", 192, 0.1, fitted=True, **NAIVE)
    better, worse = forecast("etth1_96_sparse_tsf", 96, 0.361, **NAIVE), forecast("etth1_96_nlinear", 96, 0.372, **NAIVE)
    every = [ridge, elsewhere, better, worse]
    assert [bool(best and best.beaten) for best in (best_baseline(one, every) for one in every)] == [True, True, True, False]
    assert "does not beat `etth1_96_ridge`: MSE (scaled) of 0.372 against 0.367." in results_page.horizons(every, every)


def test_a_model_has_one_row_with_a_column_per_horizon_and_their_mean() -> None:
    rows = [
        forecast("etth1_96_nlinear", 96, 0.37, **NAIVE, seasonal_mean=0.404),
        forecast("etth1_720_nlinear", 720, 0.45, repeat_last=1.335, seasonal_mean=0.424),
        forecast("etth1_96_sparse_tsf", 96, 0.36, lookback=720, **NAIVE, seasonal_mean=0.41),
    ]
    page = results_page.horizons(rows, rows)
    mse, mae = page.split("\nMAE:")
    assert table_rows(mse)[0] == ["model", "lookback", "96", "720", "mean", "seeds"]
    assert table_rows(mse)[2:] == [
        ["*repeat-last*", "–", "1.294", "1.335", "1.315", "–"],
        ["*seasonal-naive*", "–", "0.512", "–", "–", "–"],
        ["*seasonal mean*", "336", "0.404", "0.424", "0.414", "–"],
        ["*seasonal mean*", "720", "0.410", "–", "–", "–"],
        ["etth1_nlinear †", "336", "0.370 ± 0.001 (0.374)", "0.450 ± 0.001 ‡", "0.410", "3"],
        ["etth1_sparse_tsf †", "720", "0.360 ± 0.001", "–", "–", "3"],
    ]
    assert ["etth1_nlinear †", "336", "0.390 ± 0.001", "0.470 ± 0.001", "0.430", "3"] in table_rows(mae)
    assert mae.count("- `etth1_nlinear`: published as the MSE of it.") == 1


def test_baselines_of_different_lookbacks_share_a_row_only_if_they_are_known_to_agree() -> None:
    short, long = (
        forecast("etth1_96_nlinear", 96, 0.37, drift=1.4),
        forecast("etth1_192_ridge", 192, 0.4, lookback=720, drift=1.6),
    )
    page = results_page.horizons([short, long], [short, long])
    assert table_rows(page)[2:4] == [["*drift*", "336", "1.400", "–", "–", "–"], ["*drift*", "720", "–", "1.600", "–", "–"]]


def test_every_weights_file_is_listed_with_its_hash() -> None:
    digits = result("digits_cnn", {"accuracy": 0.9}, {}, data="digits", seeds=1)
    assert table_rows(results_page.weights([digits]))[2] == ["digits_cnn", "seed0", "ab" * 32, "a processor"]
