"""Weights of classes: against scikit-learn, and with the effect of repeating samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from reprise.config import check, compose
from reprise.data import class_balance
from reprise.data.modalities.images.tensors import Images
from reprise.errors import UserError
from reprise.tasks.build import build_network, build_task, build_transform
from reprise.tasks.class_baselines import _majority
from reprise.tasks.class_weights import balanced_weights, class_counts, described
from reprise.tasks.classification import Classification
from tests.metas import image_meta, sequence_meta
from tests.training.conftest import compute_metrics

CLASSES = image_meta(["cat", "dog", "eel"])
ROOT = Path(__file__).resolve().parents[2]


def split_of(labels: list[int]) -> Images:
    count = len(labels)
    return Images(
        torch.zeros(count, 6, 6, 1, dtype=torch.uint8), torch.tensor(labels), torch.arange(count), build_transform(CLASSES)
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=200))
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    weights = balanced_weights(torch.bincount(torch.tensor(labels), minlength=7))
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=np.array(labels))
    np.testing.assert_allclose(weights[present], expected, rtol=1e-6)
    assert not weights[[label for label in range(7) if label not in present]].any()
    assert weights[labels].mean().item() == pytest.approx(1, rel=1e-5)


def test_a_weight_of_a_class_is_worth_as_many_copies_of_its_samples() -> None:
    logits, truth = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2])
    weighted = Classification(CLASSES, 0.1, class_weights={"dog": 3, "eel": 2.0})
    copies = torch.tensor([0, 1, 2, 3, 3, 3, 4, 4, 5, 5])
    plain = Classification(CLASSES, 0.1).loss(logits[copies], truth[copies])
    torch.testing.assert_close(weighted.loss(logits, truth), plain * len(copies) / len(truth))
    torch.testing.assert_close(
        Classification(CLASSES, 0.1, class_weights=[1.0, 3.0, 2.0]).loss(logits, truth), weighted.loss(logits, truth)
    )
    assert compute_metrics(weighted, logits, truth) == compute_metrics(Classification(CLASSES, 0.1), logits, truth)


def test_balanced_weights_come_from_the_training_split_and_are_recorded() -> None:
    task = Classification(CLASSES, class_weights="balanced")
    assert "class_weights" not in task.facts()
    task.fit_to_train(split_of([0] * 6 + [1] * 3 + [2]))
    assert task.facts()["class_weights"] == "cat 0.555556, dog 1.11111, eel 3.33333"
    assert not task.state_dict()  # weights of an experiment without class weights are saved as before
    unweighted = Classification(CLASSES)
    unweighted.fit_to_train(split_of([0, 1, 2]))
    assert unweighted.weights is None
    assert class_counts(split_of([2, 2, 0]), 3).tolist() == [1, 0, 2]
    many = [f"class {number}" for number in range(60)]
    assert described(torch.arange(1.0, 61.0), many) == "from class 0 1 to class 59 60"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ([1.0, 2.0], r"2 weights for the 3 classes cat, dog, eel"),
        ({"dgo": 2.0}, "names dgo: no such class; the nearest is dog"),
        ([1.0, 0.0, 2.0], "0.0: a weight must be above 0"),
        ([1.0, float("nan"), 2.0], "nan: a weight must be above 0"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(setting: list[float] | dict[str | int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classification(CLASSES, class_weights=setting)


def test_the_key_is_part_of_a_config_only_if_it_is_set() -> None:
    plain = compose(ROOT, ["experiment=digits_cnn"])
    assert "class_weights" not in plain.model_dump()["task"]
    weighted = compose(ROOT, ["experiment=digits_cnn", "task.class_weights={0:2,9:1.5}"])
    assert check(weighted.model_dump(by_alias=True)) == weighted
    digits = image_meta([*map(str, range(10))], (8, 8, 1))
    assert build_task(weighted, digits).weights.tolist() == [2.0, *[1.0] * 8, 1.5]  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"task\.class_weights: no such key"):
        build_task(compose(ROOT, ["experiment=temperature_lstm", "+task.class_weights=balanced"]), digits)


def test_a_classifier_in_closed_form_refuses_weights() -> None:
    config = compose(ROOT, ["experiment=gun_point_hydra", "task.class_weights=balanced"])
    meta = sequence_meta(steps=30)
    with pytest.raises(UserError, match=r"task\.class_weights: RidgeClassifier is computed in closed form"):
        build_network(config, meta, build_task(config, meta))


def test_the_majority_class_has_a_balanced_accuracy_of_one_over_the_number_of_classes() -> None:
    truth = torch.tensor([0] * 95 + [1] * 3 + [2] * 2)
    metrics = compute_metrics(Classification(CLASSES), _majority(truth, torch.tensor([3.0, 0.0, 0.0])), truth)
    assert metrics["accuracy"] == 0.95
    assert metrics["balanced_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("counts", "begin"),
    [
        ([95, 5], "imbalanced: 95 % are a (95), b has 5"),
        ([30, 10], "imbalanced: 75 % are a"),
        ([29, 10], ""),
        ([0, 0], ""),
        ([9, 0], ""),
    ],
)
def test_imbalance_is_said_from_three_to_one(counts: list[int], begin: str) -> None:
    sentence = class_balance.imbalance(np.array(counts), ["a", "b"])
    assert sentence.startswith(begin)
    assert bool(sentence) == bool(begin)
