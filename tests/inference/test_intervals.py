"""Conformal intervals: the quantile by hand, and their coverage."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.errors import UserError
from reprise.inference import intervals
from reprise.inference.intervals import Intervals, conformal_half_widths


def test_the_half_width_is_the_order_statistic_with_the_correction_for_finite_samples() -> None:
    errors = torch.tensor([-3.0, 1.0, -2.0, 4.0, 0.5, -6.0, 7.0, 8.0, -5.0]).reshape(9, 1, 1)
    width = conformal_half_widths(errors, 0.8)  # the ceil(10 * 0.8) = 8th smallest of 0.5, 1, 2, 3, 4, 5, 6, 7, 8
    assert width is not None
    assert width.tolist() == [[7.0]]


def test_each_step_and_channel_has_a_width_of_its_own() -> None:
    errors = torch.arange(1.0, 10.0).reshape(9, 1, 1) * torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    width = conformal_half_widths(errors, 0.5)
    assert width is not None
    assert width.tolist() == [[5.0, 50.0], [10.0, 100.0]]


@pytest.mark.parametrize(
    ("windows", "coverage", "exists"), [(4, 0.8, True), (3, 0.8, False), (19, 0.95, True), (18, 0.95, False)]
)
def test_a_share_needs_enough_windows(windows: int, coverage: float, exists: bool) -> None:
    assert (conformal_half_widths(torch.rand(windows, 1, 1), coverage) is not None) == exists


@settings(max_examples=20, deadline=None)
@given(windows=st.integers(19, 60), coverage=st.sampled_from(intervals.COVERAGES), seed=st.integers(0, 999))
def test_exchangeable_errors_are_covered_at_least_as_often_as_stated(windows: int, coverage: float, seed: int) -> None:
    errors = torch.randn(windows + 1, 20_000, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    width = conformal_half_widths(errors[:windows], coverage)  # 20,000 independent repetitions
    assert width is not None
    covered = float((errors[windows].abs() <= width).double().mean())
    assert coverage - 0.015 <= covered <= coverage + 1 / (windows + 1) + 0.015  # 4 standard errors


def test_intervals_are_read_back_as_written(tmp_path: Path) -> None:
    written = Intervals(windows=9, half_widths={"80": [[0.1, 2.0]]})
    file = tmp_path / "intervals.json"
    intervals.write(written, file)
    found = intervals.read(file)
    assert found == written
    assert found is not None
    assert found.half_width(0.95) is None


def test_a_run_without_intervals_has_none_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "intervals.json"
    assert intervals.read(file) is None
    file.write_text('{"windows": 3}')
    with pytest.raises(UserError, match=r"intervals.json is not what this version reads: half_widths"):
        intervals.read(file)
