"""Networks for sequences: parameter counts as published, and sequences of unequal length.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

import re
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reprise.models.inception_time import InceptionTime
from reprise.models.padding import fill_padding
from reprise.models.recurrent import Recurrent
from reprise.models.resnet1d import ResNet1d
from reprise.models.ridge_classifier import RidgeClassifier


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_resnet_has_the_parameters_of_its_paper() -> None:
    """504,000 before the classifier: Ismail-Fawaz et al. 2023 (LITE), table 1."""
    convolutions = [(1, 64, 8), (64, 64, 5), (64, 64, 3), (64, 128, 8), (128, 128, 5), (128, 128, 3)]
    convolutions += [(128, 128, 8), (128, 128, 5), (128, 128, 3), (1, 64, 1), (64, 128, 1)]  # the last two in shortcuts
    weights = sum(channels * filters * width + filters for channels, filters, width in convolutions)
    batch_norm = 4 * 2 * 64 + 8 * 2 * 128  # three convolutions and a shortcut in each block
    assert weights + batch_norm == 504_000
    assert parameters(ResNet1d([150, 1], 2)) == 504_000 + 128 * 2 + 2


def test_inception_has_the_parameters_of_its_paper() -> None:
    """420,192 before the classifier: Ismail-Fawaz et al. 2023 (LITE), table 1."""
    first = 32 * (40 + 20 + 10) + 32 + 2 * 128  # no bottleneck for one channel
    other = 128 * 32 + 32 * 32 * (40 + 20 + 10) + 128 * 32 + 2 * 128
    shortcuts = (128 + 2 * 128) + (128 * 128 + 2 * 128)
    assert first + 5 * other + shortcuts == 420_192
    assert parameters(InceptionTime([150, 1], 2)) == 420_192 + 128 * 2 + 2


def test_a_bidirectional_lstm_has_twice_the_weights() -> None:
    one_direction = 4 * (16 * 3 + 16 * 16 + 2 * 16)
    assert parameters(Recurrent([12, 3], 5, hidden=16)) == one_direction + 16 * 5 + 5
    assert parameters(Recurrent([12, 3], 5, hidden=16, bidirectional=True)) == 2 * one_direction + 32 * 5 + 5


UNEQUAL: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Recurrent([30, 2], 3, hidden=8, layers=2),
    "gru": lambda: Recurrent([30, 2], 3, cell="gru", hidden=8),
    "bidirectional lstm": lambda: Recurrent([30, 2], 3, hidden=8, layers=2, bidirectional=True),
    "resnet": lambda: ResNet1d([30, 2], 3, filters=[8, 12]),
    "inception": lambda: InceptionTime([30, 2], 3, filters=4),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_padding_changes_no_output(name: str) -> None:
    torch.manual_seed(0)
    network = UNEQUAL[name]()
    for buffer in network.buffers():  # batch norm as after training: padding is not a fixed point of it
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    network.eval()
    inputs, lengths = torch.randn(4, 30, 2), torch.tensor([30, 7, 1, 18])
    alone = [network(sequence[None, :length]) for sequence, length in zip(inputs, lengths.tolist(), strict=True)]
    torch.testing.assert_close(network(inputs, lengths), torch.cat(alone))
    everything = torch.full((4,), 30)
    torch.testing.assert_close(network(inputs, everything), network(inputs))


def test_a_bidirectional_network_joins_the_final_states_of_both_directions() -> None:
    network = Recurrent([12, 2], 3, cell="lstm", hidden=5, layers=2, bidirectional=True).eval()
    series = torch.randn(4, 12, 2)
    states, _ = network.layers(series)
    torch.testing.assert_close(network(series), network.head(torch.cat([states[:, -1, :5], states[:, 0, 5:]], dim=1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet1d([8, 8, 1], 3), "reads sequences [T, C], not inputs of shape [8, 8, 1]"),
        (lambda: ResNet1d([8, 1], 3, filters=[8, 0]), "filters=[8, 0]: needs one or more values of at least 1"),
        (lambda: ResNet1d([8, 1], 3, kernels=[]), "kernels=[]: needs one or more values of at least 1"),
        (lambda: InceptionTime([8], 3), "reads sequences [T, C], not inputs of shape [8]"),
        (lambda: InceptionTime([8, 1], 3, depth=0), "depth=0: must be at least 1"),
        (lambda: InceptionTime([8, 1], 3, bottleneck=0), "bottleneck=0: must be at least 1"),
        (lambda: InceptionTime([8, 1], 3, kernels=[0]), "kernels=[0]: needs one or more values of at least 1"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


MASKED: dict[str, Callable[[int], nn.Module]] = {
    "lstm": lambda steps: Recurrent([steps, 3], 3, hidden=8, layers=2, masked=True),
    "gru": lambda steps: Recurrent([steps, 3], 3, cell="gru", hidden=8, masked=True),
    "bidirectional lstm": lambda steps: Recurrent([steps, 3], 3, hidden=8, layers=2, bidirectional=True, masked=True),
    "bidirectional gru": lambda steps: Recurrent([steps, 3], 3, cell="gru", hidden=8, bidirectional=True, masked=True),
    "resnet": lambda steps: ResNet1d([steps, 3], 3, filters=[8, 12], masked=True),
    "inception": lambda steps: InceptionTime([steps, 3], 3, filters=4, masked=True),
}


def masked_inputs(lengths: list[int], steps: int) -> torch.Tensor:
    """Return random sequences of two channels, padded with 0, and their mask as third channel."""
    mask = (torch.arange(steps) < torch.tensor(lengths)[:, None]).float().unsqueeze(-1)
    values = torch.randn(len(lengths), max(lengths), 2, generator=torch.Generator().manual_seed(1))
    return torch.cat([nn.functional.pad(values, (0, 0, 0, steps - max(lengths))) * mask, mask], dim=-1)


def with_trained_norms(network: nn.Module) -> nn.Module:
    """Return the network in evaluation, with statistics of batch norm under which padding is not a fixed point."""
    for buffer in network.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 1.5)
    return network.eval()


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(sorted(MASKED)), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), more=st.integers(0, 20))
def test_a_masked_network_gives_the_same_output_for_any_amount_of_padding(name: str, lengths: list[int], more: int) -> None:
    torch.manual_seed(0)
    network = with_trained_norms(MASKED[name](9))
    expected = torch.cat(
        [network(masked_inputs(lengths, max(lengths))[row : row + 1, :size]) for row, size in enumerate(lengths)]
    )
    torch.testing.assert_close(network(masked_inputs(lengths, max(lengths) + more)), expected)


@pytest.mark.parametrize("name", MASKED)
def test_an_exported_masked_network_gives_the_same_output_for_any_batch_size(name: str) -> None:
    torch.manual_seed(0)
    network = with_trained_norms(MASKED[name](9))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*were assigned during export.*")
        graph = torch.export.export(network, (masked_inputs([4, 9], 9),), dynamic_shapes=({0: torch.export.Dim("batch")},))
        inputs = masked_inputs([9, 1, 5], 9)
        torch.testing.assert_close(graph.module()(inputs), network(inputs))


def test_a_masked_network_has_the_weights_of_one_without_the_mask() -> None:
    assert parameters(ResNet1d([12, 4], 3, masked=True)) == parameters(ResNet1d([12, 3], 3))
    with pytest.raises(ValueError, match=r"\[12, 1\] have no channel beside the mask"):
        ResNet1d([12, 1], 3, masked=True)


def test_a_masked_ridge_classifier_reads_values_and_lengths_from_its_inputs() -> None:
    inputs, classes = masked_inputs([9, 10, 12, 9, 11, 12], 12), torch.arange(6) % 2
    masked = RidgeClassifier([12, 3], 2, features=["values"], fill="repeat", masked=True)
    masked.fit([(inputs, classes)], [])
    plain = RidgeClassifier([12, 2], 2, features=["values"])
    filled = fill_padding(inputs[..., :2], inputs[..., 2].sum(1).long(), "repeat")
    plain.fit([(filled, classes)], [])
    assert torch.equal(masked(inputs), plain(filled))
