"""Running metrics: values do not depend on the order and batches of samples, memory does not depend on their number."""

import math
import weakref
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error, multiclass_f1_score

from reprise.tasks import metrics as metrics_base
from reprise.tasks.classification_metrics import ClassificationMetrics, calibration_bin
from reprise.tasks.exact_sums import ExactSums
from reprise.tasks.forecast_metrics import ForecastMetrics
from reprise.tasks.metrics import Metrics

CPU = torch.device("cpu")
Make = Callable[[], Metrics]


def classification() -> Metrics:
    return ClassificationMetrics(7)


def forecasting() -> Metrics:
    return ForecastMetrics(["a", "b"], [0.5, -1.0], [2.0, 3.0], [1.0, 2.0], "huber")


def samples(make: Make, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if make is classification:
        return torch.randn(count, 7, generator=generator) * 3, torch.randint(0, 7, (count,), generator=generator)
    predictions, targets = torch.randn(2, count, 5, 2, generator=generator)
    return predictions, targets


def compute_at_once(make: Make, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    metrics = make()
    metrics.update(predictions, targets)
    return metrics.compute()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-(2.0**54), 2.0**54, allow_subnormal=False), min_size=1, max_size=30), st.randoms())
def test_sums_are_exact_and_do_not_depend_on_the_order(values: list[float], random: object) -> None:
    sums, shuffled = ExactSums(1, CPU), ExactSums(1, CPU)
    sums.add(torch.tensor(values, dtype=torch.float64)[:, None])
    random.shuffle(values)  # type: ignore[attr-defined]
    for value in values:
        shuffled.add(torch.tensor([[value]], dtype=torch.float64))
    assert sums.means([len(values)]) == shuffled.means([len(values)])
    rounded = sum(Fraction(math.trunc(Fraction(value) * 2**96), 2**96) for value in values)
    assert sums.means([len(values)]) == [float(rounded / len(values))]


def test_sums_are_exact_where_float64_is_not() -> None:
    sums = ExactSums(1, CPU)
    for value in [2.0**54, 2.0**-80, -(2.0**54)] * 1000:
        sums.add(torch.tensor([[value]], dtype=torch.float64))
    assert sums.means([1]) == [1000 * 2.0**-80]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_sums_with_infinite_nan_or_huge_values_equal_float_sums(value: float) -> None:
    sums = ExactSums(2, CPU)
    sums.add(torch.tensor([[value, 1.0], [0.5, 1.0]], dtype=torch.float64))
    first, second = sums.means([2, 2])
    assert first == value / 2 or (math.isnan(first) and math.isnan(value))
    assert second == 1.0


@pytest.mark.parametrize("make", [classification, forecasting])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_metrics_have_the_same_bits_for_any_order_batches_and_ranks(make: Make, data: st.DataObject) -> None:
    """Any batches in any order, on any number of ranks, with a checkpoint anywhere, and any buffer size."""
    count = data.draw(st.integers(1, 120))
    predictions, targets = samples(make, count, data.draw(st.integers(0, 99)))
    expected = compute_at_once(make, predictions, targets)
    order = torch.tensor(data.draw(st.permutations(range(count))))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    ranks = [make() for _ in range(data.draw(st.integers(1, 4)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_base, "MAX_BUFFERED", data.draw(st.integers(1, 200)))
        patch.setattr(metrics_base, "COPIED_TOGETHER", data.draw(st.integers(1, 4)))
        for turn, rows in enumerate(torch.tensor_split(order, cuts)):
            rank = ranks[turn % len(ranks)]
            rank.update(predictions[rows], targets[rows])
            if data.draw(st.booleans()):
                ranks[turn % len(ranks)] = make()
                ranks[turn % len(ranks)].load_state_dict(rank.state_dict())
        states = [rank.state_dict() for rank in ranks]
        by_kind = iter((torch.int64, torch.float64))

        def summed(own: Tensor) -> Tensor:
            kind = next(by_kind)
            assert own.dtype == kind
            flat = [torch.cat([part.flatten() for part in state.values() if part.dtype == kind]) for state in states]
            return torch.stack(flat).sum(0)

        ranks[0].merge(summed)
        assert ranks[0].compute() == expected
    assert int(ranks[0].count) == count


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(2, 40))
def test_classification_agrees_with_torchmetrics(seed: int, count: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator) * 2
    targets = torch.randint(0, classes, (count,), generator=generator)
    metrics = ClassificationMetrics(classes)
    metrics.update(logits, targets)
    result = metrics.compute()
    assert result["accuracy"] == pytest.approx(multiclass_accuracy(logits, targets, classes, average="micro").item())
    assert result["f1_macro"] == pytest.approx(multiclass_f1_score(logits, targets, classes, average="macro").item())
    exact = multiclass_calibration_error(logits.double().softmax(-1), targets, classes, n_bins=15).item()
    assert result["ece"] == pytest.approx(exact, abs=1e-6)


def test_a_confidence_bin_is_open_below_and_closed_above() -> None:
    """Guo et al. 2017, section 3: bin m of M holds confidences in ((m - 1) / M, m / M]. The reliability diagram uses the same bins."""
    edges = torch.tensor([0.0, 1e-9, 1 / 15, 1 / 15 + 1e-9, 0.5, 1.0, math.nan], dtype=torch.float64)
    assert calibration_bin(edges).tolist() == [0, 0, 0, 1, 7, 14, 0]


@pytest.mark.parametrize("deterministic", [False, True])
def test_many_classes_need_little_memory(deterministic: bool) -> None:
    """10,000 samples of 100 classes took 9 s and 1.7 GB under deterministic algorithms: an N x K² mesh of int64."""
    logits, targets = torch.randn(10_000, 100), torch.randint(0, 100, (10_000,))
    torch.use_deterministic_algorithms(deterministic)
    try:
        with torch.profiler.profile(profile_memory=True) as profile:
            metrics = ClassificationMetrics(100)
            metrics.update(logits, targets)
            result = metrics.compute()
    finally:
        torch.use_deterministic_algorithms(False)
    allocated = max(event.cpu_memory_usage for event in profile.key_averages())
    assert allocated < 4 * 8 * logits.numel()
    assert result["f1_macro"] == pytest.approx(f1_score(targets, logits.argmax(-1), average="macro"))


@pytest.mark.parametrize("make", [classification, forecasting])
def test_memory_does_not_grow_with_the_number_of_samples(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few batches stay alive either: a small tensor of each step between the large ones fragmented the heap by up to 300 MB."""
    monkeypatch.setattr(metrics_base, "MAX_BUFFERED", 100_000)
    metrics = make()
    stored, batches = [], []
    for seed in range(100):
        predictions, targets = samples(make, 50, seed)
        metrics.update(predictions, targets)
        batches += [weakref.ref(predictions), weakref.ref(targets)]
        del predictions, targets
        assert sum(batch() is not None for batch in batches) <= 2 * metrics_base.COPIED_TOGETHER
        if seed % 30 == 0:
            stored.append(sum(tensor.numel() for tensor in metrics.state_dict().values()))
    assert max(stored) == min(stored) < 500


def test_batches_of_another_type_or_shape_are_counted_too() -> None:
    logits, targets = samples(classification, 30)
    expected = compute_at_once(classification, logits.bfloat16(), targets)
    metrics = classification()
    for part, rows in (
        (logits.bfloat16(), slice(10)),
        (logits.bfloat16().float(), slice(10, 20)),
        (logits.bfloat16(), slice(20, 30)),
    ):
        metrics.update(part[rows], targets[rows])
    assert metrics.compute() == expected


def test_1000_classes_need_about_3000_counts() -> None:
    assert sum(tensor.numel() for tensor in ClassificationMetrics(1000).state.values()) < 3200


def test_a_full_buffer_is_emptied_and_a_larger_batch_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    add = ClassificationMetrics._add
    monkeypatch.setattr(ClassificationMetrics, "_add", lambda self, p, t: (pieces.append(len(p)), add(self, p, t)))
    monkeypatch.setattr(metrics_base, "MAX_BUFFERED", 70)
    metrics = classification()
    for rows in (4, 4, 4, 25):
        metrics.update(*samples(classification, rows))
    assert sum(pieces) == 37
    assert max(pieces) <= 10
    assert metrics.compute()["accuracy"] <= 1


@pytest.mark.parametrize("make", [classification, forecasting])
def test_zero_samples_and_the_state_of_other_metrics_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^no sample to compute metrics of$"):
        make().compute()
    empty = samples(make, 0)
    metrics = make()
    metrics.update(*empty)
    with pytest.raises(ValueError, match=r"^no sample"):
        metrics.compute()
    other = (classification if make is forecasting else forecasting)().state_dict()
    for state in (other, {}, {**metrics.state_dict(), "count": torch.zeros(2, dtype=torch.int64)}):
        with pytest.raises(ValueError, match=r"^the state is that of other metrics$"):
            make().load_state_dict(state)


def test_predictions_that_are_not_finite_give_metrics_that_are_not_finite() -> None:
    logits, targets = samples(classification, 20)
    logits[3] = math.nan
    result = compute_at_once(classification, logits, targets)
    assert math.isnan(result["loss"])
    assert math.isnan(result["ece"])
    predictions, truth = samples(forecasting, 20)
    predictions[3] = math.inf
    assert compute_at_once(forecasting, predictions, truth)["loss"] == math.inf


def test_metrics_updated_in_inference_mode_can_be_used_outside_it() -> None:
    with torch.inference_mode():
        metrics = classification()
        metrics.update(*samples(classification, 5))
    metrics.update(*samples(classification, 5))
    state = metrics.state_dict()
    assert int(metrics.count) == 10
    assert metrics.compute() == compute_at_once(classification, *samples(classification, 5))
    again = classification()
    again.load_state_dict(state)
    again.update(*samples(classification, 5))
    assert int(again.count) == 10 or again.compute()
