"""Splits assign every sample once, windows stay inside their split, statistics use train only; the audit detects violations."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reprise.data import splits
from reprise.data.modalities.images import splitting as image_splitting
from reprise.data.modalities.series import splitting as series_splitting
from reprise.data.splits import SPLITS, Borders, Indices
from reprise.errors import UserError

LABELS = arrays.arrays(np.int64, st.integers(3, 150), elements=st.integers(0, 6))
SEEDS = st.integers(0, 2**32)
quick = settings(max_examples=80, deadline=None)


@st.composite
def labels_and_sizes(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], list[int]]:
    labels = draw(LABELS)
    val = draw(st.integers(0, len(labels) - 1))
    return labels, [val, draw(st.integers(0, len(labels) - 1 - val))]


@st.composite
def spans(draw: st.DrawFn) -> tuple[Borders, int]:
    """Borders of a series, and a window size that fits into each part."""
    sizes = [draw(st.integers(2, 40)) for _ in SPLITS]
    return Borders(*np.cumsum(sizes).tolist()), draw(st.integers(2, min(sizes)))


# --- image splits


@quick
@given(labels_and_sizes(), SEEDS)
def test_parts_are_disjoint_complete_sorted_and_of_the_requested_size(drawn: tuple[Any, list[int]], seed: int) -> None:
    labels, sizes = drawn
    parts = splits.stratified_split(labels, sizes, seed)
    assert [len(part) for part in parts] == [*sizes, len(labels) - sum(sizes)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)


@quick
@given(labels_and_sizes(), SEEDS)
def test_each_class_is_within_one_sample_of_its_share_up_to_every_border(drawn: tuple[Any, list[int]], seed: int) -> None:
    labels, sizes = drawn
    before = np.zeros(labels.max() + 1)
    for part in splits.stratified_split(labels, sizes, seed):
        before += np.bincount(labels[part], minlength=len(before))
        exact = np.bincount(labels) * before.sum() / len(labels)
        assert (np.abs(before - exact) < 1).all()


def test_rare_classes_are_spread_over_all_parts() -> None:
    labels = np.array([0] * 500 + list(range(1, 501)))
    val, test, _ = splits.stratified_split(labels, [200, 200], 0)
    assert [int((labels[part] == 0).sum()) for part in (val, test)] == [100, 100]


@quick
@given(labels_and_sizes(), SEEDS)
def test_the_same_seed_draws_the_same_split(drawn: tuple[Any, list[int]], seed: int) -> None:
    first, second = (splits.stratified_split(*drawn, seed) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_another_seed_draws_another_split() -> None:
    labels = np.arange(300) % 10
    drawn = {tuple(splits.stratified_split(labels, [60, 60], seed)[0].tolist()) for seed in range(20)}
    assert len(drawn) == 20


@quick
@given(labels_and_sizes(), SEEDS, st.data())
def test_identical_images_stay_in_one_split(drawn: tuple[Any, list[int]], seed: int, data: st.DataObject) -> None:
    labels, sizes = drawn
    kinds = data.draw(arrays.arrays(np.int64, len(labels), elements=st.integers(0, data.draw(st.integers(0, len(labels))))))
    parts = splits.stratified_split(labels, sizes, seed, kinds)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    groups = [np.unique(kinds[part]) for part in parts]
    assert len(np.unique(kinds)) == sum(len(kind) for kind in groups)
    border = 0
    for part, size in zip(parts[:2], np.cumsum(sizes), strict=True):  # a border moves only to the end of a group
        border += len(part)
        assert size <= border < size + np.bincount(kinds).max()


@quick
@given(labels_and_sizes(), SEEDS)
def test_groups_of_size_one_change_nothing(drawn: tuple[Any, list[int]], seed: int) -> None:
    alone = splits.stratified_split(*drawn, seed)
    grouped = splits.stratified_split(*drawn, seed, np.arange(len(drawn[0])))
    assert all(np.array_equal(one, other) for one, other in zip(alone, grouped, strict=True))


@pytest.mark.parametrize("sizes", [[5, 5], [10, 0], [100, 0]])
def test_sizes_that_leave_no_training_sample_are_refused(sizes: list[int]) -> None:
    with pytest.raises(UserError, match="of 10 samples and leave none to train on"):
        splits.stratified_split(np.zeros(10, np.int64), sizes, 0)


@quick
@given(LABELS, st.integers(1, 200), SEEDS, st.data())
def test_a_limit_keeps_that_many_samples_stratified_by_class(
    labels: npt.NDArray[np.int64], limit: int, seed: int, data: st.DataObject
) -> None:
    chosen = np.flatnonzero(data.draw(arrays.arrays(np.bool_, len(labels))))
    assume(len(chosen))
    kept = splits.limit_stratified(chosen, labels, limit, seed)
    assert set(kept.tolist()) <= set(chosen.tolist())
    assert len(set(kept.tolist())) == len(kept) == min(limit, len(chosen))
    exact = np.bincount(labels[chosen]) * len(kept) / len(chosen)
    assert (np.abs(np.bincount(labels[kept], minlength=len(exact)) - exact) < 1).all()
    assert splits.limit_stratified(chosen, labels, None, seed) is chosen


@quick
@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 30), st.just(1), st.just(2), st.just(1)), elements=st.integers(0, 2)),
    st.integers(0, 30),
)
def test_images_share_a_group_exactly_when_they_are_identical(images: npt.NDArray[np.uint8], first_part: int) -> None:
    groups = image_splitting.identical_images(images[:first_part], images[first_part:])
    same = (images[:, None] == images[None]).all(axis=(2, 3, 4))
    np.testing.assert_array_equal(groups[:, None] == groups[None], same)
    _, first = np.unique(groups, return_index=True)
    assert (np.diff(first) > 0).all()  # numbered by first appearance


@pytest.mark.parametrize(
    ("size", "of", "expected"), [(None, 10, 0), (7, 10, 7), (0.15, 1461, 219), (0.5, 7, 4), (0.2, 1797, 359)]
)
def test_a_size_is_a_count_or_a_share(size: int | float | None, of: int, expected: int) -> None:
    assert splits.count(size, of) == expected


# --- series


@quick
@given(
    st.integers(3, 2000),
    st.one_of(st.integers(1, 500), st.floats(0.01, 0.49)),
    st.one_of(st.integers(1, 500), st.floats(0.01, 0.49)),
)
def test_a_series_is_split_into_train_then_val_then_test(length: int, val: int | float, test: int | float) -> None:
    val_count, test_count = splits.count(val, length), splits.count(test, length)
    if val_count + test_count >= length:
        with pytest.raises(UserError, match=f"ask for {val_count + test_count} of {length} time steps"):
            splits.time_borders(length, val, test)
        return
    borders = splits.time_borders(length, val, test)
    (first, train), (start, stop), (after, end) = (borders.span(split) for split in SPLITS)
    assert (first, end, start, after) == (0, length, train, stop)
    assert (stop - start, end - after) == (val_count, test_count)


@quick
@given(spans(), st.integers(1, 5))
def test_no_window_crosses_a_split_border(drawn: tuple[Borders, int], stride: int) -> None:
    borders, size = drawn
    owner: dict[int, str] = {}
    for split in SPLITS:
        start, stop = borders.span(split)
        for first in splits.window_starts((start, stop), size, stride).tolist():
            for step in range(first, first + size):
                assert start <= step < stop
                assert owner.setdefault(step, split) == split


@quick
@given(st.integers(0, 50), st.integers(0, 60), st.integers(1, 70), st.integers(1, 7))
def test_every_window_that_fits_is_included(start: int, length: int, size: int, stride: int) -> None:
    starts = splits.window_starts((start, start + length), size, stride)
    assert starts.dtype == np.int64
    assert starts.tolist() == [first for first in range(start, start + length, stride) if first + size <= start + length]


# --- statistics

IMAGES = arrays.arrays(np.uint8, st.tuples(st.integers(2, 12), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
SERIES = arrays.arrays(np.float32, st.tuples(st.integers(6, 40), st.integers(1, 3)), elements=st.floats(-1000, 1000, width=32))


@quick
@given(IMAGES, st.data())
def test_image_statistics_equal_numpys_of_the_chosen_images_only(images: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    chosen = np.flatnonzero(data.draw(arrays.arrays(np.bool_, len(images))))
    assume(len(chosen))
    result = image_splitting.image_statistics(images, chosen)
    std = images[chosen].std(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(result["mean"], images[chosen].mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(result["std"], np.where(std > 0, std, 1), rtol=1e-6)
    others = images.copy()
    others[np.setdiff1d(np.arange(len(images)), chosen)] ^= 0xFF
    assert image_splitting.image_statistics(others, chosen) == result


def test_image_statistics_do_not_depend_on_the_block_size() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10_000, 2, 2, 3), np.uint8)
    result = image_splitting.image_statistics(images, np.arange(10_000))
    np.testing.assert_allclose(result["mean"], images.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(result["std"], images.std(axis=(0, 1, 2)), rtol=1e-12)


@quick
@given(SERIES, st.data())
def test_series_statistics_equal_numpys_of_the_span_only(values: npt.NDArray[np.float32], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values) - 3))
    stop = data.draw(st.integers(start + 2, len(values)))
    result = series_splitting.series_statistics(values, [(start, stop)])
    inside = values[start:stop].astype(np.float64)
    naive = np.abs(inside[1:] - inside[:-1]).mean(axis=0)
    np.testing.assert_array_equal(result["mean"], inside.mean(axis=0))
    np.testing.assert_array_equal(result["std"], np.where(naive > 0, inside.std(axis=0), 1))
    np.testing.assert_allclose(result["naive_mae"], naive)
    others = values.copy()
    others[:start] += 1
    others[stop:] -= 1
    assert series_splitting.series_statistics(others, [(start, stop)]) == result


@pytest.mark.parametrize("block", [2, 3, 7, 100])
def test_series_statistics_do_not_depend_on_the_rows_computed_at_once(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    draws = np.random.Generator(np.random.PCG64(7))
    values = draws.normal(3, 2, (60, 3)).cumsum(axis=0).astype(np.float32)
    filled, spans = draws.random((60, 2)) < 0.2, [(0, 25), (26, 27), (30, 60)]
    inside = np.concatenate([values[slice(*span)] for span in spans])[:, [2, 0]].astype(np.float64)
    pairs = np.concatenate([np.arange(start, stop - 1) for start, stop in spans])
    steps = np.abs(values[pairs + 1] - values[pairs].astype(np.float64))[:, [2, 0]]
    seen = ~(filled[pairs] | filled[pairs + 1])
    monkeypatch.setattr(series_splitting, "BLOCK", block)
    for mask, naive in ((None, steps.mean(axis=0)), (filled, (steps * seen).sum(axis=0) / seen.sum(axis=0))):
        result = series_splitting.series_statistics(values, spans, mask, [2, 0])
        np.testing.assert_allclose(result["mean"], inside.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(result["std"], inside.std(axis=0), rtol=1e-12)
        np.testing.assert_allclose(result["naive_mae"], naive, rtol=1e-12)


def test_a_constant_channel_has_a_standard_deviation_of_one() -> None:
    images = np.full((3, 2, 2, 1), 200, np.uint8)
    assert image_splitting.image_statistics(images, np.arange(3)) == {"mean": [200.0], "std": [1.0]}
    series = np.full((5, 1), 2.5, np.float32)
    assert series_splitting.series_statistics(series, [(0, 5)]) == {"mean": [2.5], "std": [1.0], "naive_mae": [0.0]}
    tenths = np.full((1001, 1), 0.1, np.float32)  # whose mean is rounded: numpy has a std of 1e-17 for it
    assert series_splitting.series_statistics(tenths, [(0, 1001)])["std"] == [1.0]


# --- the audit

Parts = dict[str, Indices]


def passed(audit: dict[str, Any]) -> dict[str, bool]:
    return {name: check["passed"] for name, check in audit.items()}


def image_parts() -> Parts:
    return {"train": np.arange(6), "val": np.array([6, 7]), "test": np.array([8, 9])}


def test_a_valid_image_split_passes() -> None:
    audit = image_splitting.audit_images(image_parts(), np.arange(10), 0)
    assert set(passed(audit).values()) == {True}


@pytest.mark.parametrize(
    ("split", "chosen"), [("val", [6, 5]), ("test", [6, 9]), ("train", [0, 1, 9]), ("train", [0, 0, 1]), ("val", [])]
)
def test_a_shared_repeated_or_absent_sample_fails_the_audit(split: str, chosen: list[int]) -> None:
    parts = image_parts() | {split: np.array(chosen, np.int64)}
    assert not passed(image_splitting.audit_images(parts, np.arange(10), 0))["splits are disjoint"]
    borders = Borders(6, 8, 10)
    assert not passed(series_splitting.audit_series(parts, borders, 1))["splits are disjoint"]


def test_an_identical_image_in_two_splits_fails_the_audit_and_is_named() -> None:
    groups = np.array([0, 1, 2, 3, 4, 5, 6, 7, 2, 9])
    audit = image_splitting.audit_images(image_parts(), groups, 0)
    assert passed(audit) == {
        "splits are disjoint": True,
        "identical images in two splits": False,
    }
    assert audit["identical images in two splits"]["samples"] == [[2, 8]]


def test_known_duplicates_of_the_publisher_pass_and_one_more_fails() -> None:
    groups = np.array([0, 1, 2, 3, 4, 5, 6, 7, 2, 3])
    passes = [
        passed(image_splitting.audit_images(image_parts(), groups, known))["identical images in two splits"]
        for known in (1, 2, 3)
    ]
    assert passes == [False, True, True]


def test_duplicates_inside_one_split_pass() -> None:
    groups = np.array([0, 0, 0, 3, 4, 5, 6, 6, 8, 9])
    assert passed(image_splitting.audit_images(image_parts(), groups, 0))["identical images in two splits"]


def series_parts(borders: Borders, size: int) -> Parts:
    return {split: splits.window_starts(borders.span(split), size) for split in SPLITS}


@quick
@given(spans())
def test_a_valid_series_split_passes(drawn: tuple[Borders, int]) -> None:
    audit = series_splitting.audit_series(series_parts(*drawn), *drawn)
    assert set(passed(audit).values()) == {True}


@quick
@given(spans(), st.sampled_from(SPLITS), st.booleans())
def test_a_window_moved_over_a_border_fails_the_audit_and_is_named(drawn: tuple[Borders, int], split: str, forward: bool) -> None:
    borders, size = drawn
    parts = series_parts(borders, size)
    moved = parts[split] + (1 if forward else -1)
    audit = series_splitting.audit_series(parts | {split: moved}, borders, size)
    assert not passed(audit)["no window crosses a split border"]
    result = audit["no window crosses a split border"]["crossing"]
    assert result == {name: [int(moved[-1] if forward else moved[0])] if name == split else [] for name in SPLITS}


@pytest.mark.parametrize("borders", [(0, 8, 10), (6, 6, 10), (6, 8, 8), (8, 6, 10)])
def test_borders_out_of_order_fail_the_audit(borders: tuple[int, int, int]) -> None:
    audit = series_splitting.audit_series(image_parts(), Borders(*borders), 1)
    assert not passed(audit)["train before val before test"]
