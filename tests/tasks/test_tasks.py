"""Metrics against scikit-learn, against torch, and against values computed by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error, mean_squared_error, recall_score
from torch import Tensor

from reprise.data.modalities.series.arrays import Meta as SeriesMeta
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from tests.metas import image_meta, series_meta
from tests.training.conftest import CLASSES, SERIES, compute_metrics


def logits_of(*probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities).log()


def random_predictions(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, classes, generator=generator) * 2, torch.randint(0, classes, (count,), generator=generator)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(2, 12))
def test_classification_agrees_with_scikit_learn(seed: int, count: int, classes: int) -> None:
    logits, truth = random_predictions(seed, count, classes)
    metrics = compute_metrics(Classification(image_meta([*map(str, range(classes))])), logits, truth)
    predicted, labels = logits.argmax(-1).numpy(), range(classes)
    present = sorted({*predicted.tolist(), *truth.tolist()})
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert metrics["f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro", labels=present))
    true = sorted(set(truth.tolist()))  # as `balanced_accuracy_score`, which warns of classes that are only predicted
    assert metrics["balanced_accuracy"] == pytest.approx(recall_score(truth, predicted, average="macro", labels=true))
    assert metrics["loss"] == pytest.approx(log_loss(truth, logits.double().softmax(-1), labels=labels))


def test_ece_is_the_weighted_gap_between_confidence_and_accuracy() -> None:
    """Guo et al. 2017, eq. 3: two of fifteen bins hold samples: [0.6, 0.667] two of them, [0.8, 0.867] two."""
    logits = logits_of([0.62, 0.38], [0.62, 0.38], [0.82, 0.18], [0.82, 0.18])
    truth = torch.tensor([0, 1, 0, 0])  # right, wrong | right, right
    expected = 2 / 4 * abs(0.5 - 0.62) + 2 / 4 * abs(1.0 - 0.82)
    assert compute_metrics(Classification(image_meta(["a", "b"])), logits, truth)["ece"] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200))
def test_ece_agrees_with_its_definition(seed: int, count: int) -> None:
    logits, truth = random_predictions(seed, count, 4)
    confidence, predicted = (part.numpy() for part in logits.softmax(-1).max(-1))
    correct = predicted == truth.numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)]
    metrics = compute_metrics(Classification(image_meta([*"abcd"])), logits, truth)
    assert metrics["ece"] == pytest.approx(sum(gaps), abs=1e-5)


def test_label_smoothing_affects_the_loss_but_not_the_metrics() -> None:
    logits, truth = random_predictions(0, 50, 3)
    plain, smooth = Classification(CLASSES), Classification(CLASSES, label_smoothing=0.1)
    assert compute_metrics(smooth, logits, truth) == compute_metrics(plain, logits, truth)
    logs = logits.log_softmax(-1)
    by_hand = 0.9 * plain.loss(logits, truth) - 0.1 * logs.mean()  # Szegedy et al. 2016, section 7
    torch.testing.assert_close(smooth.loss(logits, truth), by_hand)
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"^label_smoothing=.*: must be at least 0 and below 1$"):
            Classification(CLASSES, share)


def test_probabilities_and_losses_are_computed_in_float32_for_any_dtype_of_the_logits() -> None:
    task, (logits, truth) = Classification(CLASSES), random_predictions(0, 50, 3)
    low = logits.to(torch.bfloat16)
    assert task.postprocess(low).dtype == task.loss(low, truth).dtype == torch.float32
    torch.testing.assert_close(task.postprocess(low).sum(-1), torch.ones(50))
    assert compute_metrics(task, low, truth) == compute_metrics(task, low.float(), truth)


PERFECT = {"loss": 0.0, "accuracy": 1.0, "balanced_accuracy": 1.0, "f1_macro": 1.0, "ece": 0.0}


PERFECT = {"loss": 0.0, "accuracy": 1.0, "balanced_accuracy": 1.0, "f1_macro": 1.0, "ece": 0.0}


def test_metrics_of_a_perfect_and_of_an_always_wrong_classifier() -> None:
    task, truth = Classification(CLASSES), torch.tensor([0, 1, 2, 2])
    sure = torch.nn.functional.one_hot(truth, 3) * 100.0
    assert compute_metrics(task, sure, truth) == PERFECT
    wrong = compute_metrics(task, sure, (truth + 1) % 3)
    assert (wrong["accuracy"], wrong["f1_macro"], wrong["ece"], wrong["loss"]) == (0.0, 0.0, 1.0, 100.0)


def series(**changes: Any) -> SeriesMeta:
    return SERIES.model_copy(update=changes)


def test_predict_delta_adds_the_output_to_the_last_input_step() -> None:
    outputs = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    inputs = torch.tensor([[[0.0, 0.0, 0.0], [9.0, 9.0, 9.0], [10.0, 20.0, 30.0]]])  # [B, T, C]
    meta = series_meta(["a", "b"], ["b", "c", "a"], horizon=2)
    levels = Forecasting(meta, predict_delta=False)
    assert levels.outputs == 4
    assert levels.decode(outputs, inputs).tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    assert Forecasting(meta).decode(outputs, inputs).tolist() == [[[31.0, 12.0], [33.0, 14.0]]]


def test_a_predicted_delta_of_zero_is_the_naive_forecast() -> None:
    task = Forecasting(SERIES)
    inputs = torch.randn(4, 5, 2)
    assert torch.equal(task.decode(torch.zeros(4, 2), inputs), inputs[:, -1:, 1:].expand(4, 2, 1))


def test_postprocess_returns_the_units_of_the_target() -> None:
    predictions = torch.tensor([[[0.0], [1.5]]])
    assert Forecasting(SERIES).postprocess(predictions).tolist() == [[[-20.0], [-14.0]]]
    assert Forecasting(SERIES).postprocess(predictions.double()).dtype == torch.float64


def test_forecasting_metrics_equal_values_computed_by_hand() -> None:
    """Two samples of two steps; the target's standard deviation is 4 units, the naive forecast errs by 5 units."""
    truth = torch.zeros(2, 2, 1)
    predictions = torch.tensor([[[0.0], [1.0]], [[-1.0], [2.0]]])  # errors of 0, 4, 4 and 8 units
    assert compute_metrics(Forecasting(SERIES), predictions, truth) == pytest.approx(
        {
            "mae": 4.0,
            "mse": 24.0,
            "rmse": math.sqrt(24),
            "mase": 4 / 5,
            "smape": (0 / 40 + 8 / 36 + 8 / 44 + 16 / 32) / 4,  # the truth is -20
            "mae_scaled": 1.0,
            "mse_scaled": 1.5,
            "loss": 1.5,
        }
    )


def several(mean: Any, std: Any, naive: Any, horizon: int = 2) -> SeriesMeta:
    """windows.json of a series whose channels are all targets, `t0` in `u0`, `t1` in `u1`, …"""
    statistics = {name: list(map(float, values)) for name, values in (("mean", mean), ("std", std), ("naive_mae", naive))}
    targets, units = ([f"{letter}{one}" for one in range(len(std))] for letter in "tu")
    return series_meta(targets, horizon=horizon, units=units, statistics=statistics)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 9), st.integers(1, 3))
def test_forecasting_agrees_with_scikit_learn(seed: int, count: int, horizon: int, channels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    predictions, truth = torch.randn(2, count, horizon, channels, generator=generator)
    mean, std, naive = torch.rand(3, channels, generator=generator) + 0.5
    task = Forecasting(several(mean.tolist(), std.tolist(), naive.tolist(), horizon))
    metrics = compute_metrics(task, predictions, truth)
    scaled = [values.double().flatten(0, 1).numpy() for values in (truth, predictions)]
    units = [values * std.double().numpy() + mean.double().numpy() for values in scaled]
    assert metrics["mae_scaled"] == pytest.approx(mean_absolute_error(*scaled))
    assert metrics["mse_scaled"] == metrics["loss"] == pytest.approx(mean_squared_error(*scaled))
    errors = mean_absolute_error(*units, multioutput="raw_values"), mean_squared_error(*units, multioutput="raw_values")
    for number, (mae, mse) in enumerate(zip(*errors, strict=True)):
        suffix = f"/t{number}" if channels > 1 else ""
        assert metrics[f"mae{suffix}"] == pytest.approx(mae)
        assert metrics[f"mse{suffix}"] == pytest.approx(mse)
        assert metrics[f"rmse{suffix}"] == pytest.approx(math.sqrt(mse))
        assert metrics[f"mase{suffix}"] == pytest.approx(mae / naive[number].item())
    assert metrics["mase"] == pytest.approx((errors[0] / naive.double().numpy()).mean())


def test_targets_of_different_units_are_not_pooled() -> None:
    """A pressure in Pa and a share in %: the pressure's errors would drown the share's, and choose the epoch."""
    task = Forecasting(several([0, 0], [1000.0, 0.5], [500.0, 0.25]))
    metrics = compute_metrics(task, torch.ones(3, 2, 2), torch.zeros(3, 2, 2))
    assert {"mae", "mse", "rmse"}.isdisjoint(metrics)
    assert (metrics["mae/t0"], metrics["mae/t1"], metrics["rmse/t0"], metrics["mse/t1"]) == (1000.0, 0.5, 1000.0, 0.25)
    assert (metrics["mae_scaled"], metrics["mse_scaled"], metrics["mase"]) == (1.0, 1.0, 2.0)
    assert (task.monitor, task.mode) == ("mae_scaled", "min")
    assert task.units == {
        "mae/t0": "u0", "mse/t0": "u0²", "rmse/t0": "u0", "mae/t1": "u1", "mse/t1": "u1²", "rmse/t1": "u1",
    }  # fmt: skip


def test_a_single_target_has_plain_metric_names_with_its_unit() -> None:
    task = Forecasting(series(units=["km/h"]))
    assert task.monitor == "mae"
    assert task.units == {"mae": "km/h", "mse": "(km/h)²", "rmse": "km/h"}
    assert Forecasting(series(units=[""])).units == {}


def test_metrics_undefined_for_a_constant_training_split_have_a_reason_and_no_value() -> None:
    """MASE would divide by the naive forecast's error, which is 0; scaled errors by a standard deviation of 0."""
    truth, alone = torch.zeros(3, 2, 1), Forecasting(several([7.0], [1.0], [0.0]))
    reason = "t0: constant in the training split"
    assert alone.undefined == {"mase": reason, "mae_scaled": reason, "mse_scaled": reason}
    assert compute_metrics(alone, truth + 1, truth) == {
        "loss": 1.0,
        "mae": 1.0,
        "mse": 1.0,
        "rmse": 1.0,
        "smape": 2 / 15,  # 8 instead of 7
    }
    assert alone.monitor == "mae"
    truth, one_of_two = torch.zeros(3, 2, 2), Forecasting(several([7.0, 0.0], [1.0, 4.0], [0.0, 2.0]))
    assert one_of_two.undefined == {"mase": reason, "mase/t0": reason}
    metrics = compute_metrics(one_of_two, truth + 1, truth)
    assert metrics["mae_scaled"] == 1.0  # of t1 alone
    assert metrics["mase/t1"] == 2.0
    assert metrics.keys().isdisjoint(one_of_two.undefined)
    assert one_of_two.monitor == "mae_scaled"
    assert Forecasting(several([7.0, 3.0], [1.0, 1.0], [0.0, 0.0])).monitor == "loss"


def test_the_monitor_is_configurable_and_validated() -> None:
    assert (Classification(CLASSES).monitor, Classification(CLASSES).mode) == ("accuracy", "max")
    by_name = {
        name: Classification(CLASSES, monitor=name).mode for name in ("accuracy", "balanced_accuracy", "f1_macro", "ece", "loss")
    }
    assert by_name == {"accuracy": "max", "balanced_accuracy": "max", "f1_macro": "max", "ece": "min", "loss": "min"}
    assert Forecasting(SERIES, monitor="mase").monitor == "mase"
    assert Forecasting(several([0, 0], [1.0, 1.0], [1.0, 1.0]), monitor="mae/t1").monitor == "mae/t1"
    for wrong, task, meta in (("acuracy", Classification, CLASSES), ("maee", Forecasting, SERIES)):
        with pytest.raises(ValueError, match=rf"^monitor={wrong}: no such validation metric; the nearest is (accuracy|mae)$"):
            task(meta, monitor=wrong)
    with pytest.raises(ValueError, match=r"^monitor=mase: undefined, t0: constant in the training split; the nearest is m"):
        Forecasting(several([7.0], [1.0], [0.0]), monitor="mase")


@pytest.mark.parametrize(("loss", "expected"), [("mse", 1.5), ("mae", 1.0), ("huber", (0 + 0.5 + 0.5 + 1.5) / 4)])
def test_the_configured_loss_is_used(loss: Any, expected: float) -> None:
    task, truth = Forecasting(SERIES, loss=loss), torch.zeros(2, 2, 1)
    predictions = torch.tensor([[[0.0], [1.0]], [[-1.0], [2.0]]])
    assert task.loss(predictions, truth).item() == pytest.approx(expected)
    assert compute_metrics(task, predictions, truth)["loss"] == pytest.approx(expected)


def test_small_errors_at_large_levels_are_not_lost() -> None:
    """A pressure of 101325 Pa that is forecast to within 0.01 Pa: float32 cannot represent the difference, float64 can."""
    meta = series(statistics={"mean": [0.0, 101_325.0], "std": [1.0, 10.0], "naive_mae": [1.0]})
    truth = torch.zeros(1, 2, 1)
    assert compute_metrics(Forecasting(meta), truth + 0.001, truth)["mae"] == pytest.approx(0.01, rel=1e-6)
