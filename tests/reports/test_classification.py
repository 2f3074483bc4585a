"""Which samples of a classification are drawn."""

import numpy as np
import pytest

from reprise.reports.classification import SHOWN, _of_each_class


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([50, 50], [12, 12]), ([3, 50], [3, 21]), ([1, 2, 3], [1, 2, 3]), ([9] * 5, [5, 5, 5, 5, 4]), ([2] * 30, [1] * 24)],
)
def test_as_many_samples_of_each_class_as_possible_are_drawn_sorted_by_class(counts: list[int], expected: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = _of_each_class(labels).numpy()
    assert len(rows) == min(SHOWN, len(labels))
    assert sorted(labels[rows]) == labels[rows].tolist()
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == expected
    first = [np.flatnonzero(labels == label)[0] for label in np.unique(labels[rows])]
    assert set(first) <= set(rows.tolist())
