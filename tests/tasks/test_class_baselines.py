"""Classifications without training, against scikit-learn."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from reprise.data.datasets import Batch
from reprise.tasks import class_baselines as baselines


@dataclass
class Split:
    """Samples in memory."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, rows: Tensor, augment: Any = None) -> Batch:
        return Batch(self.inputs[rows], self.labels[rows])


@pytest.fixture
def windows() -> Any:
    digits = load_digits()
    images, labels = torch.from_numpy(digits.images).float().unsqueeze(-1), torch.from_numpy(digits.target)
    train, val, test = (Split(images[part], labels[part]) for part in (slice(300), slice(300, 400), slice(400, 700)))
    return SimpleNamespace(learning=lambda: (train, val), test=lambda: test, input_shape=[8, 8, 1])


def test_the_nearest_neighbour_is_that_of_scikit_learn(windows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "ROWS", 64)
    monkeypatch.setattr(baselines, "DISTANCES", 10_000)
    (train, val), test = windows.learning(), windows.test()
    reference = KNeighborsClassifier(1).fit(train.inputs.flatten(1), train.labels)
    logits = baselines.class_baselines(windows, 10)["nearest_neighbour"](torch.arange(300))
    assert logits.argmax(1).tolist() == reference.predict(test.inputs.flatten(1)).tolist()
    hits = round(reference.score(val.inputs.flatten(1), val.labels) * 100)
    np.testing.assert_allclose(logits.softmax(1).amax(1), (hits + 1) / 102)
    np.testing.assert_allclose(logits.exp().sum(1), 1)


def test_the_majority_class_has_the_probabilities_of_the_training_labels(windows: Any) -> None:
    windows.learning()[0].labels[:] = torch.tensor([3] * 200 + [1] * 100)
    logits = baselines.class_baselines(windows, 10)["majority_class"](torch.arange(5))
    assert logits.argmax(1).tolist() == [3] * 5
    np.testing.assert_allclose(logits.exp()[0, [1, 3, 4]], [101 / 310, 201 / 310, 1 / 310])


def test_a_guessing_neighbour_keeps_its_class_and_finite_logits(windows: Any) -> None:
    _, val = windows.learning()
    val.labels[:] = 99
    logits = baselines.class_baselines(windows, 10)["nearest_neighbour"](torch.arange(300))
    assert logits.isfinite().all()
    np.testing.assert_allclose(logits.exp().amax(1), 0.101)


def test_the_neighbour_is_left_out_where_it_costs_too_much(windows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = 300 * (100 + 300) * 64
    monkeypatch.setattr(baselines, "MOST_MULTIPLICATIONS", cost)
    assert [*baselines.class_baselines(windows, 10)] == ["majority_class", "nearest_neighbour"]
    monkeypatch.setattr(baselines, "MOST_MULTIPLICATIONS", cost - 1)
    assert [*baselines.class_baselines(windows, 10)] == ["majority_class"]
