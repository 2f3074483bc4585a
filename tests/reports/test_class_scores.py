"""Scores of classes against scikit-learn, and a report that classes of any name fit into."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report

from reprise.reports.class_scores import Scores


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 8))
def test_scores_and_averages_are_those_of_scikit_learn(seed: int, count: int, classes: int) -> None:
    """Where a score is undefined both leave it out of the averages (scikit-learn: `zero_division=nan`)."""
    target, predicted = np.random.default_rng(seed).integers(0, classes, (2, count))
    names = [f"class {number}" for number in range(classes)]
    asked = {"labels": range(classes), "target_names": names, "zero_division": np.nan, "output_dict": True}
    expected = classification_report(target, predicted, **asked)
    found = Scores.of(target, predicted, classes)
    described = found.described(names)
    for row in described["classes"]:
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score"), ("support", "support")):
            value = np.nan if row[ours] is None else row[ours]
            np.testing.assert_allclose(value, expected[row["name"]][theirs])
    for kind in ("macro", "weighted"):
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            value = described["averages"][kind][ours]
            if value is None:  # scikit-learn has 0 here: no class that has weight has a precision
                assert (kind, ours) == ("weighted", "precision")
            else:
                np.testing.assert_allclose(value, expected[f"{kind} avg"][theirs])
    assert described["accuracy"] == pytest.approx((target == predicted).mean())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True), st.integers(0, 99))
def test_classes_of_any_name_have_a_line_of_their_own(names: list[str], seed: int) -> None:
    target, predicted = np.random.default_rng(seed).integers(0, len(names), (2, 30))
    scores = Scores.of(target, predicted, len(names))
    assert [row["name"] for row in json.loads(json.dumps(scores.described(names)))["classes"]] == names
    head, classes, averages, *note = scores.as_text(names).removesuffix("\n").split("\n\n")
    assert [len(part.split("\n")) for part in (head, classes, averages)] == [1, len(names), 3]
    undefined = any(None in row.values() for row in scores.described(names)["classes"])
    assert len(note) == undefined


def test_averages_do_not_overwrite_classes_of_their_names() -> None:
    names = ["accuracy", "macro avg", "weighted avg"]
    found = Scores.of(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]), 3).described(names)
    assert found["accuracy"] == 0.75
    assert [row["support"] for row in found["classes"]] == [1, 1, 2]
    assert found["classes"][0] == {"name": "accuracy", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}


def test_what_is_undefined_is_null_and_a_dash_and_never_a_zero() -> None:
    scores = Scores.of(np.array([0, 0]), np.array([0, 1]), 3)
    rows = scores.described(["a", "b", "c"])["classes"]
    assert [row["recall"] for row in rows] == [0.5, None, None]
    assert [row["precision"] for row in rows] == [1.0, 0.0, None]
    assert [row["f1"] for row in rows] == [pytest.approx(2 / 3), 0.0, None]
    assert scores.averages["macro"]["f1"] == pytest.approx(1 / 3)
    assert scores.as_text(["a", "b", "c"]).count("–") == 5
