"""The predictions that `evaluate` keeps are exact and bounded in size."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.tasks.kept_predictions import Classified, EvenlySpaced, Forecasts


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 9), st.integers(1, 12))
def test_six_numbers_per_sample_are_enough_for_the_figures(seed: int, count: int, classes: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator)
    logits[0] = 1.0  # a tie: the first class counts, as in the metrics
    targets = torch.randint(0, classes, (count,), generator=generator)
    parts = zip(torch.split(logits, size), torch.split(targets, size), strict=True)
    kept = torch.cat([Classified.keep(*part, batch) for batch, part in enumerate(parts)])
    assert kept.shape == (count, 6)
    classified, probabilities = Classified.of(kept), logits.double().softmax(-1)
    np.testing.assert_array_equal(classified.target, targets)
    np.testing.assert_array_equal(classified.predicted, logits.argmax(-1))
    np.testing.assert_array_equal(classified.confidence, probabilities.amax(-1))
    top = probabilities.topk(2).values[:, 1]
    np.testing.assert_array_equal(classified.runner_up_probability, top)
    assert (classified.runner_up != classified.predicted).all()
    rows = np.arange(count)[::2]
    shown = torch.from_numpy(classified.probabilities(rows, classes))
    assert torch.equal(shown.amax(-1), probabilities[rows].amax(-1))
    assert torch.equal(shown.gather(1, targets[rows][:, None]), probabilities[rows].gather(1, targets[rows][:, None]))
    assert classified.confusion(classes).sum() == count
    assert classified.confusion(classes).trace() == classified.right.sum()


def test_a_rank_without_samples_keeps_nothing() -> None:
    assert Classified.keep(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 0).shape == (0, 6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8), st.integers(1, 40))
def test_kept_forecasts_are_evenly_spread_and_bounded(windows: int, size: int, steps: int, most: int) -> None:
    chosen = EvenlySpaced.at_most(windows, most // steps)
    rows, keep = chosen.rows, chosen.keep(size)
    predictions = torch.arange(windows * steps, dtype=torch.float32).view(windows, steps, 1)
    batches = enumerate(torch.split(predictions, size))
    forecasts = Forecasts.of(torch.cat([keep(batch, -batch, number) for number, batch in batches]), rows)
    assert torch.equal(forecasts.predictions, predictions[rows])
    assert torch.equal(forecasts.targets, -predictions[rows])
    assert len(rows) * steps <= max(most, steps)
    assert len(rows) == windows or len(set(rows.diff().tolist())) <= 1
