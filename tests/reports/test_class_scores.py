"""Scores per class against scikit-learn, and a report for classes of any name."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report

from reprise.reports.class_scores import Scores


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 8))
def test_scores_and_averages_equal_those_of_scikit_learn(seed: int, count: int, classes: int) -> None:
    """Both omit undefined scores from the averages (scikit-learn: `zero_division=nan`)."""
    target, predicted = np.random.default_rng(seed).integers(0, classes, (2, count))
    names = [f"class {number}" for number in range(classes)]
    options = {"labels": range(classes), "target_names": names, "zero_division": np.nan, "output_dict": True}
    expected = classification_report(target, predicted, **options)
    scores = Scores.of(target, predicted, classes)
    report = scores.described(names)
    for row in report["classes"]:
        for name, sklearn_name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score"), ("support", "support")):
            value = np.nan if row[name] is None else row[name]
            np.testing.assert_allclose(value, expected[row["name"]][sklearn_name])
    for kind in ("macro", "weighted"):
        for name, sklearn_name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            value = report["averages"][kind][name]
            if value is None:  # scikit-learn gives 0 here: no class with samples has a precision
                assert (kind, name) == ("weighted", "precision")
            else:
                np.testing.assert_allclose(value, expected[f"{kind} avg"][sklearn_name])
    assert report["accuracy"] == pytest.approx((target == predicted).mean())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True), st.integers(0, 99))
def test_classes_of_any_name_have_one_line_each(names: list[str], seed: int) -> None:
    target, predicted = np.random.default_rng(seed).integers(0, len(names), (2, 30))
    scores = Scores.of(target, predicted, len(names))
    assert [row["name"] for row in json.loads(json.dumps(scores.described(names)))["classes"]] == names
    head, classes, averages, *note = scores.as_text(names).removesuffix("\n").split("\n\n")
    assert [len(part.split("\n")) for part in (head, classes, averages)] == [1, len(names), 3]
    undefined = any(None in row.values() for row in scores.described(names)["classes"])
    assert len(note) == undefined


def test_averages_do_not_overwrite_classes_of_their_names() -> None:
    names = ["accuracy", "macro avg", "weighted avg"]
    report = Scores.of(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), 3).described(names)
    assert report["accuracy"] == 0.75
    assert [row["support"] for row in report["classes"]] == [1, 1, 2]
    assert report["classes"][0] == {"name": "accuracy", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}


def test_undefined_scores_are_null_in_json_and_a_dash_in_the_text() -> None:
    scores = Scores.of(np.array([0, 0]), np.array([0, 1]), 3)
    rows = scores.described(["a", "b", "c"])["classes"]
    assert [row["recall"] for row in rows] == [0.5, None, None]
    assert [row["precision"] for row in rows] == [1.0, 0.0, None]
    assert [row["f1"] for row in rows] == [pytest.approx(2 / 3), 0.0, None]
    assert scores.averages["macro"]["f1"] == pytest.approx(1 / 3)
    assert scores.as_text(["a", "b", "c"]).count("–") == 5
