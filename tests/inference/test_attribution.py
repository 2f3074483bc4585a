"""Attributions over time and channels, checked against scores whose parts are known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reprise.inference.attribution import attribute, integrated_gradients, occlusion, shortest_span
from reprise.models.ridge_classifier import RidgeClassifier

WEIGHTS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
INPUTS, BASELINES = (torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))


def weighted_sums(batch: Tensor, samples: Tensor) -> Tensor:
    """Two scores `[B, 2]`: the weighted sum of all inputs, and twice as much of the sample with index 2."""
    total = (batch * WEIGHTS).sum((1, 2))
    return torch.stack([total, torch.where(samples == 2, 2.0, 1.0) * total], dim=1)


def test_both_methods_return_weight_times_difference_from_the_baseline_of_a_weighted_sum() -> None:
    expected = ((INPUTS - BASELINES) * WEIGHTS)[:, None].repeat(1, 2, 1, 1).numpy()
    expected[2, 1] *= 2
    found = attribute(weighted_sums, INPUTS, BASELINES)
    assert found.method == "integrated gradients"
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_allclose(occlusion(weighted_sums, INPUTS, BASELINES), expected, atol=1e-5)


def test_occlusion_divides_the_fall_of_a_segment_evenly_over_its_steps() -> None:
    found = occlusion(weighted_sums, INPUTS, BASELINES, segments=2)  # of 3 and 2 steps
    exact = ((INPUTS - BASELINES) * WEIGHTS).numpy()
    for steps in (slice(0, 3), slice(3, 5)):
        mean = exact[:, steps].mean(axis=1, keepdims=True).repeat(steps.stop - steps.start, axis=1)
        np.testing.assert_allclose(found[:, 0, steps], mean, atol=1e-5)


def test_a_score_of_steps_is_explained_by_occlusion() -> None:
    """A count has no gradient; a count added to a small sum has one that does not add up."""

    def count(batch: Tensor, samples: Tensor) -> Tensor:
        return (batch[:, 1:2, 2] > 0.5).float()

    def mixed(batch: Tensor, samples: Tensor) -> Tensor:
        return count(batch, samples) + 0.01 * batch[:, 0, :1]

    inputs = torch.ones(2, 5, 3)
    assert integrated_gradients(count, inputs, torch.zeros_like(inputs)) is None
    for score in (count, mixed):
        found = attribute(score, inputs, torch.zeros_like(inputs))
        assert found.method == "occlusion"
        assert found.values[0, 0].argmax() == 1 * 3 + 2
        assert found.values[0, 0, 1, 2] == pytest.approx(1)


def test_features_of_hydra_and_multi_rocket_are_explained_by_occlusion_and_find_the_channel_and_the_steps() -> None:
    """Class 1 has a bump at steps 20 to 29 of the second of two channels, and is otherwise noise as class 0 is."""
    generator = torch.Generator().manual_seed(0)
    inputs, classes = 0.3 * torch.randn(60, 48, 2, generator=generator), torch.arange(60) % 2
    inputs[1::2, 20:30, 1] += 3
    network = RidgeClassifier([48, 2], 2, groups=8, biases=100, seed=0)
    network.fit([(inputs, classes)], [])

    def score(batch: Tensor, samples: Tensor) -> Tensor:
        logits: Tensor = network(batch)
        return logits[:, 1:] - logits[:, :1]

    found = attribute(score, inputs[1:9:2], torch.zeros(4, 48, 2))
    assert found.method == "occlusion"
    strength = np.abs(found.values[:, 0]).mean(axis=0)  # [T, C]
    assert strength[:, 1].sum() > 0.6 * strength.sum()
    first, last = shortest_span(strength[:, 1])
    assert (first >= 18, last <= 31) == (True, True)


@pytest.mark.parametrize(
    ("strength", "span"),
    [
        ([0, 0, 1, 0], (2, 2)),
        ([1, 1, 1, 1], (0, 1)),
        ([3, 0, 0, 2, 2], (3, 4)),
        ([0, 0, 0], (0, 2)),
        ([0.1] * 7 + [0.7], (7, 7)),
    ],
)
def test_the_shortest_span_has_half_of_the_sum(strength: list[float], span: tuple[int, int]) -> None:
    assert shortest_span(np.array(strength, np.float64)) == span


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any))
def test_no_shorter_span_has_half_of_the_sum(numbers: list[int]) -> None:
    strength = np.array(numbers, np.float64)
    first, last = shortest_span(strength)
    assert strength[first : last + 1].sum() >= strength.sum() / 2
    shorter = last - first
    assert all(strength[start : start + shorter].sum() < strength.sum() / 2 for start in range(len(strength)))
