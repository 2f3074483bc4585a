"""Networks for sequences: parameter counts as published, and sequences of unequal length.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from reprise.models.inception_time import InceptionTime
from reprise.models.recurrent import Recurrent
from reprise.models.resnet1d import ResNet1d


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
