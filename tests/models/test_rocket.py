"""Features of convolutions for sequences: values computed by hand, published counts, and the classifier that reads them.

Shapes: `B` batch, `T` time steps, `C` channels, `K` kernels, `Q` biases, `P` features.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from reprise.models import multi_rocket
from reprise.models.closed_form import ClosedForm
from reprise.models.hydra import Hydra, SparseScaler
from reprise.models.multi_rocket import MultiRocket, bias_counts, fixed_kernels, pool
from reprise.models.padding import Fill, fill_padding
from reprise.models.ridge_classifier import RidgeClassifier


class Batch(NamedTuple):
    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_hydra_counts_the_winners_of_each_step() -> None:
    network = Hydra([12, 1], groups=2, kernels=2)
    assert network.dilations == [1]
    with torch.no_grad():
        network.kernels.zero_()
        network.kernels[0, :, 0, 0, 4] = 1.0  # the series itself
        network.kernels[0, :, 0, 1, 5] = 1.0  # its next value
    series = torch.tensor([0.0, 3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0])
    soft_own, soft_next, hard_own, hard_next = network(series.view(1, 12, 1))[0, :4].tolist()
    following = torch.cat([series[1:], torch.zeros(1)])
    assert soft_own == series[series >= following].sum()  # 3 + 4 + 9 + 6 + 5 + 5
    assert soft_next == following[following > series].sum()  # 3 + 4 + 5 + 9 + 6 + 5
    assert hard_own == (series <= following).sum()  # the smallest response adds 1
    assert hard_next == (following < series).sum()


@pytest.mark.parametrize("channels", [1, 2, 7, 30])
def test_hydra_counts_every_step_of_every_group_once(channels: int) -> None:
    network = Hydra([40, channels], groups=8, kernels=4, seed=1)
    features = network(torch.randn(5, 40, channels))
    assert network.dilations == [1, 2, 4]
    assert features.shape == (5, network.features) == (5, 3 * 2 * 8 * 4)
    parts = features.unflatten(1, (3, 2, 2, 4, 4))  # dilation, series or difference, soft or hard, group, kernel
    for order, steps in ((0, 40), (1, 39)):
        assert (parts[:, :, order, 1].sum(-1) == steps).all()
    assert network.channels.shape[-1] == {1: 1, 2: 2, 7: 3, 30: 8}[channels]


def test_hydra_kernels_have_mean_zero_and_the_same_size_and_depend_on_the_seed() -> None:
    kernels = Hydra([40, 3], seed=1).kernels
    torch.testing.assert_close(kernels.sum(-1), torch.zeros(kernels.shape[:-1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(kernels.abs().sum(-1), torch.ones(kernels.shape[:-1]))
    assert torch.equal(kernels, Hydra([40, 3], seed=1).kernels)
    assert not torch.equal(kernels, Hydra([40, 3], seed=2).kernels)


def test_the_sparse_scaler_leaves_zeros_at_zero() -> None:
    features = torch.tensor([[0.0, 4.0], [4.0, 9.0], [16.0, 1.0], [0.0, 4.0]])
    scaler = SparseScaler(2)
    scaler.fit(features)
    roots = torch.tensor([0.0, 2.0, 4.0, 0.0])
    expected = (roots - 1.5) / (roots.std() + 0.5**4 + 1e-8)
    torch.testing.assert_close(scaler(features)[:, 0], torch.where(roots == 0, 0.0, expected))
    torch.testing.assert_close(
        scaler(features)[:, 1], (features[:, 1].sqrt() - 2) / features[:, 1].sqrt().std(), rtol=1e-5, atol=0
    )


def test_the_84_kernels_are_different_and_sum_to_zero() -> None:
    kernels = fixed_kernels()
    assert kernels.shape == (84, 9)
    assert len({tuple(row) for row in kernels.tolist()}) == 84
    assert not kernels.sum(1).any()
    assert ((kernels == 2).sum(1) == 3).all()


def test_multi_rocket_has_the_features_of_its_paper() -> None:
    """About 50,000: 84 kernels with 74 biases each, four statistics, series and difference (Tan et al. 2022)."""
    assert MultiRocket([150, 1]).features == 84 * 74 * 4 * 2 == 49_728


def test_dilations_share_the_biases() -> None:
    assert bias_counts(steps=17, total=4) == {1: 3, 2: 1}  # exponents 0, 1/3, 2/3 and 1
    assert bias_counts(steps=9, total=5) == {1: 5}
    for steps in (10, 24, 150, 1000):
        counts = bias_counts(steps, 74)
        assert sum(counts.values()) == 74
        assert max(counts) * 8 < steps


def test_the_four_statistics_of_a_response() -> None:
    response = torch.tensor([3.0, 1.0, 2.0, 4.0, 0.0, 5.0]).view(1, 1, 6)
    statistics = pool(response, torch.tensor([[1.0, 9.0]]))
    above_one = [4 / 6, (2 + 1 + 3 + 4) / 4, (0 + 2 + 3 + 5) / 4, 2]  # steps 0, 2, 3 and 5; the longest stretch is 2, 3
    torch.testing.assert_close(statistics[0, :, 0, 0], torch.tensor(above_one))
    assert statistics[0, :, 0, 1].tolist() == [0, 0, -1, 0]


def reference_responses(series: Tensor, dilation: int) -> Tensor:
    """Responses `[K, T]` of one channel, by their definition: the series is 0 beyond its ends."""
    steps, kernels = len(series), fixed_kernels()
    responses = torch.zeros(84, steps)
    for kernel in range(84):
        for step in range(steps):
            for tap in range(9):
                source = step + (tap - 4) * dilation
                if 0 <= source < steps:
                    responses[kernel, step] += kernels[kernel, tap] * series[source]
    return responses


def test_features_are_the_statistics_of_the_responses_with_and_without_padding() -> None:
    network = MultiRocket([18, 1], features=84 * 2)
    inputs = torch.randn(6, 18, 1)
    network.fit(inputs)
    part = network.parts[0]
    assert part.counts == {1: 1, 2: 1}
    expected = []
    for number, dilation in enumerate((1, 2)):
        responses = reference_responses(inputs[3, :, 0], dilation)
        biases = part.biases[:, number : number + 1]
        for parity, crop in ((0, 0), (1, 4 * dilation)):  # kernels that read the padding, then the others
            own = slice((number + parity) % 2, None, 2)
            expected.append(pool(responses[None, own, crop : 18 - crop], biases[own]).flatten())
    features = network(inputs)[3, : 84 * 2 * 4]
    torch.testing.assert_close(features, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_biases_are_quantiles_of_responses_to_training_samples() -> None:
    network = MultiRocket([30, 1], features=84 * 3)
    inputs = torch.randn(1, 30, 1)  # one sample: all biases come from it
    network.fit(inputs)
    part = network.parts[0]
    start = 0
    for dilation, count in part.counts.items():
        responses = reference_responses(inputs[0, :, 0], dilation)
        own = part.biases[:, start : start + count]
        assert (own >= responses.min(1).values[:, None] - 1e-4).all()
        assert (own <= responses.max(1).values[:, None] + 1e-4).all()
        start += count
    golden = (1 + 5**0.5) / 2
    levels = torch.arange(1, 84 * part.counts[1] + 1, dtype=torch.float64) * golden % 1  # of the first dilation
    first = reference_responses(inputs[0, :, 0], 1)[0]
    torch.testing.assert_close(part.biases[0, 0], torch.quantile(first, float(levels[0])), rtol=1e-4, atol=1e-4)


def test_multi_rocket_is_the_same_for_any_batch_size_and_seed_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(7, 24, 3)
    first, same, other = (MultiRocket([24, 3], features=168, seed=seed) for seed in (1, 1, 2))
    for network in (first, same, other):
        network.fit(inputs)
    whole = first(inputs)
    assert torch.equal(whole, same(inputs))
    assert not torch.equal(whole, other(inputs))
    monkeypatch.setattr(multi_rocket, "VALUES_AT_ONCE", 1)
    torch.testing.assert_close(first(inputs), whole)


@pytest.mark.parametrize("channels", [1, 2, 6, 20])
def test_each_kernel_reads_some_channels(channels: int) -> None:
    mixing = MultiRocket([100, channels]).parts[0].mixing
    counts = mixing.sum(-1)
    assert set(mixing.unique().tolist()) <= {0.0, 1.0}
    assert counts.min() == 1
    assert counts.max() == min(channels, 9)


def waves(count: int, channels: int) -> tuple[Tensor, Tensor]:
    """Waves of three frequencies with noise, at random phases; the class is the frequency."""
    classes = torch.arange(count) % 3
    phase = torch.rand(count, 1, 1) * 6
    time = torch.arange(40.0)[None, :, None] * torch.rand(channels).add(0.5)
    return torch.sin(time * (0.3 + 0.2 * classes[:, None, None]) + phase) + 0.3 * torch.randn(count, 40, channels), classes


@pytest.mark.parametrize("features", [["hydra"], ["multi_rocket"], ["hydra", "multi_rocket"]])
@pytest.mark.parametrize("channels", [1, 3])
def test_frequencies_are_recognised(features: list[str], channels: int) -> None:
    inputs, classes = waves(90, channels)
    network = RidgeClassifier([40, channels], 3, features=features, groups=16, biases=420)  # type: ignore[arg-type]
    assert isinstance(network, ClosedForm)
    network.fit([Batch(inputs[:30], classes[:30]), Batch(inputs[30:60], classes[30:60])], [])
    outputs = network(inputs[60:])
    assert (outputs.argmax(1) == classes[60:]).float().mean() >= 0.9
    fresh = RidgeClassifier([40, channels], 3, features=features, groups=16, biases=420, seed=5)  # type: ignore[arg-type]
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(inputs[60:]), outputs)


def test_kernels_follow_from_the_seed_of_the_run_or_a_seed_of_their_own() -> None:
    def kernels(run: int, seed: int | None = None) -> Tensor:
        torch.manual_seed(run)
        return RidgeClassifier([20, 1], 2, features=["hydra"], seed=seed).state_dict()["extractors.0.transform.kernels"]

    assert torch.equal(kernels(run=1), kernels(run=1))
    assert not torch.equal(kernels(run=1), kernels(run=2))
    assert torch.equal(kernels(run=1, seed=3), kernels(run=2, seed=3))


@pytest.mark.parametrize("features", ["hydra", "multi_rocket"])
def test_the_features_can_be_exported_for_any_batch_size(features: str) -> None:
    inputs, classes = waves(30, 2)
    network = RidgeClassifier([40, 2], 3, features=[features], groups=4, biases=84)  # type: ignore[list-item]
    network.fit([Batch(inputs, classes)], [])
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        exported = torch.export.export(network.eval(), (inputs[:4],), dynamic_shapes=({0: batch},)).module()
        torch.testing.assert_close(exported(inputs), network(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("zero", [1.0, 3.0, 5.0, 0.0, 0.0]), ("repeat", [1.0, 3.0, 5.0, 5.0, 5.0]), ("stretch", [1.0, 2.0, 3.0, 4.0, 5.0])],
)
def test_padding_is_filled(fill: Fill, expected: list[float]) -> None:
    inputs = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0], [1.0, 3.0, 5.0, 7.0, 9.0]]).unsqueeze(-1)
    filled = fill_padding(inputs, torch.tensor([3, 5]), fill).squeeze(-1)
    torch.testing.assert_close(filled, torch.tensor([expected, [1.0, 3.0, 5.0, 7.0, 9.0]]))
    assert fill_padding(inputs, None, fill) is inputs


@pytest.mark.parametrize("fill", ["zero", "repeat", "stretch"])
def test_what_was_in_the_padding_does_not_matter(fill: Fill) -> None:
    inputs, classes = waves(30, 2)
    lengths = torch.randint(10, 41, (30,))
    network = RidgeClassifier([40, 2], 3, groups=4, biases=84, fill=fill)
    network.fit([Batch(inputs, classes, lengths)], [])
    other = torch.where(torch.arange(40)[None, :, None] < lengths[:, None, None], inputs, 99.0)
    assert torch.equal(network(inputs, lengths), network(other, lengths))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hydra([20]), "reads sequences [T, C], not inputs of shape [20]"),
        (lambda: Hydra([9, 1]), "reads sequences of at least 10 steps, not 9"),
        (lambda: Hydra([20, 1], groups=3), "groups=3: must be even and at least 2"),
        (lambda: Hydra([20, 1], kernels=0), "kernels=0: must be at least 1"),
        (lambda: MultiRocket([20]), "reads sequences [T, C], not inputs of shape [20]"),
        (lambda: MultiRocket([9, 1]), "reads sequences of at least 10 steps, not 9"),
        (lambda: MultiRocket([20, 1], features=83), "features=83: must be at least 84"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
