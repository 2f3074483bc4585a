"""The statistics of `compare`, against SciPy."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from reprise.analysis import significance
from reprise.tasks import metric_names

number = st.floats(-100, 100).map(lambda value: round(value, 6))
several = st.lists(number, min_size=2, max_size=12)


@given(several)
def test_the_interval_equals_students(values: list[float]) -> None:
    assume(np.std(values) > 1e-6)
    low, high = significance.interval(values)
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(number, number), min_size=2, max_size=12))
def test_the_paired_test_equals_scipys(pairs: list[tuple[float, float]]) -> None:
    a, b = (list(side) for side in zip(*pairs, strict=True))
    assume(np.std(np.subtract(a, b)) > 1e-6)
    test, expected = significance.paired(a, b), stats.ttest_rel(a, b)
    assert test is not None
    low, high = expected.confidence_interval()
    assert [test.t, test.df, test.p] == pytest.approx([expected.statistic, expected.df, expected.pvalue], rel=1e-9, abs=1e-9)
    assert [test.low, test.high] == pytest.approx([low, high], rel=1e-9, abs=1e-9)


@given(several, several)
def test_welchs_test_equals_scipys(a: list[float], b: list[float]) -> None:
    assume(min(np.std(a), np.std(b)) > 1e-6)
    test, expected = significance.welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert test is not None
    low, high = expected.confidence_interval()
    assert [test.t, test.df, test.p] == pytest.approx([expected.statistic, expected.df, expected.pvalue], rel=1e-9, abs=1e-9)
    assert [test.low, test.high] == pytest.approx([low, high], rel=1e-9, abs=1e-9)


def test_values_without_spread_give_no_test() -> None:
    assert significance.paired([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]) is None
    assert significance.welch([0.5, 0.5], [0.4, 0.4]) is None


def test_holm_equals_a_case_computed_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lies_between_the_raw_and_the_bonferroni_p(ps: list[float]) -> None:
    corrected = significance.holm(ps)
    assert all(p <= q <= min(1, len(ps) * p) + 1e-12 for p, q in zip(ps, corrected, strict=True))
    assert [q for _, q in sorted(zip(ps, corrected, strict=True))] == sorted(corrected)


@pytest.mark.parametrize("kind", ["paired", "welch"])
def test_the_suggested_number_of_seeds_is_the_smallest_with_80_percent_power(kind: str) -> None:
    """Against SciPy's noncentral t."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.9, 0.01, 5).tolist(), generator.normal(0.88, 0.02, 5).tolist()
    test = significance.paired(a, b) if kind == "paired" else significance.welch(a, b)
    assert test is not None
    count = significance.seeds_for(test, a, b)
    assert count is not None

    def power(count: int) -> float:
        if kind == "paired":
            spread, df = np.var(np.subtract(a, b), ddof=1), count - 1
        else:
            one, other = np.var(a, ddof=1), np.var(b, ddof=1)
            spread, df = one + other, (count - 1) * (one + other) ** 2 / (one**2 + other**2)
        shift, threshold = abs(test.gap) / math.sqrt(spread / count), stats.t.isf(0.025, df)
        return float(stats.nct.sf(threshold, df, shift) + stats.nct.cdf(-threshold, df, shift))

    assert power(count - 1) < 0.8 <= power(count)


def test_no_number_of_seeds_is_suggested_for_a_difference_of_zero() -> None:
    a, b = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
    test = significance.paired(a, b)
    assert test is not None
    assert significance.seeds_for(test, a, b) is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_an_interval_of_an_accuracy_stays_between_0_and_1(values: list[float]) -> None:
    low, high = significance.interval(values, *metric_names.bounds("test/accuracy"))
    free_low, free_high = significance.interval(values)
    assert (low, high) == (max(0, free_low), min(1, free_high))


@pytest.mark.parametrize(
    ("metric", "limits"),
    [
        ("val/accuracy", (0, 1)),
        ("test/f1_macro", (0, 1)),
        ("best/val/ece", (0, 1)),
        ("test/mae/temp_max", (0, math.inf)),
        ("val/mae_scaled", (0, math.inf)),
        ("test/rmse", (0, math.inf)),
        ("val/bias", (-math.inf, math.inf)),
        ("val/bias/accuracy", (-math.inf, math.inf)),
    ],
)
def test_the_limits_of_a_metric_follow_from_its_name(metric: str, limits: tuple[float, float]) -> None:
    assert metric_names.bounds(metric) == limits


@given(several, several, st.booleans())
def test_the_largest_loss_is_the_bound_of_scipys_interval(a: list[float], b: list[float], higher: bool) -> None:
    assume(min(np.std(a), np.std(b)) > 1e-6)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    loss, _ = significance.largest_loss(a, b, False, higher)
    assert loss == pytest.approx(-low if higher else high, rel=1e-9, abs=1e-9)
    assert significance.largest_loss([-x for x in a], [-x for x in b], False, not higher)[0] == pytest.approx(
        loss, rel=1e-9, abs=1e-9
    )


@given(several, several, st.floats(0, 50))
def test_a_loss_below_the_margin_agrees_with_scipys_one_sided_test(a: list[float], b: list[float], margin: float) -> None:
    """Inferiority by the margin is the null hypothesis; `a` and `b` are scores: higher is better."""
    assume(min(np.std(a), np.std(b)) > 1e-6)
    loss, _ = significance.largest_loss(a, b, False, True)
    assume(abs(loss - margin) > 1e-6)
    p = stats.ttest_ind(np.add(a, margin), b, equal_var=False, alternative="greater").pvalue
    assert (loss < margin) == (p < 0.025)


@pytest.mark.parametrize(("loss", "least", "most"), [(1.0, 0.015, 0.035), (2.0, 0.0, 0.001), (0.0, 0.8, 1.0)])
@pytest.mark.parametrize("is_paired", [True, False])
def test_a_model_that_loses_exactly_the_margin_passes_in_1_of_40_cases(
    loss: float, least: float, most: float, is_paired: bool
) -> None:
    rng = np.random.default_rng(1)
    seeds, times = 8, 4000
    a, b = rng.normal(-loss, 0.5, (times, seeds)), rng.normal(0, 0.5, (times, seeds))
    passed = np.mean(
        [significance.largest_loss(list(one), list(other), is_paired, True)[0] <= 1 for one, other in zip(a, b, strict=True)]
    )
    assert least <= passed <= most


def test_the_suggested_number_of_seeds_passes_in_4_of_5_cases() -> None:
    rng = np.random.default_rng(2)
    a, b = list(rng.normal(0, 1, 6)), list(rng.normal(0, 1, 6))
    test = significance.welch(a, b)
    assert test is not None
    margin = abs(test.gap) + 1
    enough = significance.seeds_to_pass(test, a, b, margin, True)
    assert enough is not None
    pairs = rng.normal(np.mean(a), np.std(a, ddof=1), (2000, enough)), rng.normal(np.mean(b), np.std(b, ddof=1), (2000, enough))
    passed = np.mean(
        [significance.largest_loss(list(one), list(other), False, True)[0] <= margin for one, other in zip(*pairs, strict=True)]
    )
    assert 0.76 < passed < 0.9
    assert significance.seeds_to_pass(test, a, b, 0.0, test.gap < 0) is None
