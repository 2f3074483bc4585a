"""A predictor gives the predictions that `evaluate` measures."""

from collections.abc import Callable

import pytest
import torch

from reprise.inference.predictor import Predictor
from reprise.tasks.build import build_transform
from tests.training.conftest import CLASSES, SERIES, Trained, classify, validate

METAS = {"classification": CLASSES, "forecasting": SERIES}


@pytest.mark.parametrize("count", [1, 45])
def test_a_predictor_gives_the_evaluated_predictions_bit_for_bit(learn: Callable[..., Trained], count: int) -> None:
    """From raw pixels or values in units, with the same arithmetic and batch size."""
    trained = learn()
    kind = "classification" if trained.task.monitor == "accuracy" else "forecasting"
    predictor = Predictor(build_transform(METAS[kind]), trained.network, trained.task)
    _, kept = validate(trained.network, trained.task, trained.val, count)
    measured = kept[:, 0]
    with torch.inference_mode():
        predictions = torch.cat([predictor(*trained.val.raw(rows)) for rows in torch.arange(45).split(count)])
    assert torch.equal(predictions, trained.task.postprocess(measured))


def test_predictions_are_probabilities_or_values_in_units(learn: Callable[..., Trained]) -> None:
    trained = learn(max_epochs=6)
    if trained.task.monitor == "accuracy":
        predictions = Predictor(build_transform(CLASSES), trained.network, trained.task)(*trained.val.raw(torch.arange(45)))
        torch.testing.assert_close(predictions.sum(-1), torch.ones(45))
        assert (predictions >= 0).all()
    else:
        predictions = Predictor(build_transform(SERIES), trained.network, trained.task)(*trained.val.raw(torch.arange(45)))
        assert predictions.shape == (45, 2, 1)
        assert -26 < predictions.mean() < -14  # the series goes up and down by 4 around -20


def test_a_predictor_is_in_eval_mode_and_contains_its_statistics() -> None:
    trained = classify(dropout=0.9)
    predictor = Predictor(build_transform(CLASSES), trained.network.train(), trained.task)
    (raw,) = trained.val.raw(torch.arange(9))
    assert torch.equal(predictor(raw), predictor(raw))  # no dropout
    assert {"transform.mean", "transform.std"} < set(predictor.state_dict())
    assert raw.dtype == torch.uint8
