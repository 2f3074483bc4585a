"""All networks in one table: shape, type, gradient, and that they can learn.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels.
"""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reprise.models.convnet import ACTIVATIONS, Block, ConvNet, Dense
from reprise.models.inception_time import InceptionTime
from reprise.models.recurrent import Recurrent
from reprise.models.resnet import ResNet, WideResNet
from reprise.models.resnet1d import ResNet1d

Make = Callable[[list[int], int], nn.Module]
IMAGE, COLOUR, SERIES = [8, 10, 1], [7, 6, 3], [12, 2]


def convnet(*blocks: Block, dense: tuple[Dense, ...] = (Dense(16),), **options: str) -> Make:
    return lambda shape, outputs: ConvNet(shape, outputs, list(blocks), list(dense), **options)  # type: ignore[arg-type]


def recurrent(**options: str | int | float) -> Make:
    return lambda shape, outputs: Recurrent(shape, outputs, **options)  # type: ignore[arg-type]


NETWORKS: dict[str, tuple[Make, list[int]]] = {
    "published network": (convnet(Block(8, pool=2), Block(16, pool=2)), [14, 14, 1]),
    "2-D": (convnet(Block(8, kernel=3, pool=2)), IMAGE),
    "2-D, same, twice, batch norm": (convnet(Block(8, padding="same", convolutions=2, batch_norm=True)), COLOUR),
    "2-D, strided, average": (convnet(Block(8, stride=2, pool=2, pooling="average")), COLOUR),
    "1-D": (convnet(Block(8, padding="same", pool=2), Block(8, kernel=5)), SERIES),
    "1-D, batch norm, average": (convnet(Block(8, batch_norm=True, pool=3, pooling="average")), SERIES),
    "global max": (convnet(Block(8), Block(16, padding="same"), dense=(), global_pool="max"), COLOUR),
    "global average, 1-D": (convnet(Block(16), global_pool="average"), SERIES),
    "glorot": (convnet(Block(8), init="glorot"), IMAGE),
    "no convolution": (convnet(dense=(Dense(16), Dense(8))), IMAGE),
    "no dense layer": (convnet(Block(8), dense=()), IMAGE),
    **{name: (convnet(Block(8), activation=name), SERIES) for name in ACTIVATIONS},
    "lstm": (recurrent(cell="lstm", hidden=16), SERIES),
    "gru of two layers": (recurrent(cell="gru", hidden=16, layers=2), SERIES),
    "bidirectional lstm": (recurrent(cell="lstm", hidden=16, bidirectional=True), SERIES),
    "bidirectional gru of two layers": (recurrent(cell="gru", hidden=16, layers=2, bidirectional=True), SERIES),
    "resnet for pictures": (lambda shape, outputs: ResNet(shape, outputs, depth=8), IMAGE),
    "wide resnet": (lambda shape, outputs: WideResNet(shape, outputs, depth=10, width=1), COLOUR),
    "resnet": (lambda shape, outputs: ResNet1d(shape, outputs, filters=[16, 16, 24]), SERIES),
    "inception": (lambda shape, outputs: InceptionTime(shape, outputs, filters=8, kernels=[6, 3]), SERIES),
    "inception, one channel, four modules": (lambda shape, outputs: InceptionTime(shape, outputs, depth=4, filters=8), [50, 1]),
}


@pytest.fixture(params=NETWORKS)
def network_and_shape(request: pytest.FixtureRequest) -> tuple[nn.Module, list[int]]:
    make, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    return make(shape, 3), shape


def test_a_network_returns_one_row_of_outputs_per_input(network_and_shape: tuple[nn.Module, list[int]]) -> None:
    network, shape = network_and_shape
    network.eval()
    for count in (1, 5):
        outputs = network(torch.randn(count, *shape))
        assert outputs.shape == (count, 3)
        assert outputs.dtype == torch.float32


def test_outputs_do_not_depend_on_the_other_samples_of_the_batch(network_and_shape: tuple[nn.Module, list[int]]) -> None:
    network, shape = network_and_shape
    network.eval()
    inputs = torch.randn(4, *shape)
    alone = torch.cat([network(one[None]) for one in inputs])
    torch.testing.assert_close(network(inputs), alone)


def test_a_gradient_reaches_every_weight_and_every_input(network_and_shape: tuple[nn.Module, list[int]]) -> None:
    network, shape = network_and_shape
    inputs = torch.randn(64, *shape, requires_grad=True)
    network(inputs).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name
    assert inputs.grad is not None
    assert inputs.grad.any()


def test_every_network_can_overfit_a_small_batch(network_and_shape: tuple[nn.Module, list[int]]) -> None:
    network, shape = network_and_shape
    inputs, classes = torch.randn(9, *shape), torch.arange(9) % 3
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), classes).backward()
        optimizer.step()
    assert (network(inputs).argmax(-1) == classes).all()


@pytest.mark.parametrize(
    ("make", "millions"),
    [
        (lambda: ResNet([32, 32, 3], 10, 20), 0.27),
        (lambda: ResNet([32, 32, 3], 10, 32), 0.46),
        (lambda: ResNet([32, 32, 3], 10, 44), 0.66),
        (lambda: ResNet([32, 32, 3], 10, 56), 0.85),
        (lambda: WideResNet([32, 32, 3], 10, 40, 4), 8.9),
        (lambda: WideResNet([32, 32, 3], 10, 16, 8), 11.0),
        (lambda: WideResNet([32, 32, 3], 10, 28, 10), 36.5),
    ],
)
def test_residual_networks_have_as_many_parameters_as_in_their_papers(make: Callable[[], nn.Module], millions: float) -> None:
    """He et al. 2016, table 6; Zagoruyko and Komodakis 2016, table 4."""
    with torch.device("meta"):
        count = sum(weight.numel() for weight in make().parameters())
    assert round(count / 1e6, 2 if millions < 1 else 1) == millions


def test_the_shortcut_of_a_resnet_takes_every_other_pixel_and_adds_channels_of_zeros() -> None:
    block = ResNet([8, 8, 3], 2, depth=8).blocks[1].eval()
    nn.init.zeros_(block.get_submodule("norm2").weight)  # leaves the shortcut alone
    features = torch.rand(2, 16, 7, 8)
    expected = torch.cat([features[:, :, ::2, ::2], torch.zeros(2, 16, 4, 4)], dim=1)
    assert torch.equal(block(features), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(COLOUR, 2, depth=18), "depth=18: must be 6n + 2: 8, 14, 20, 26, …"),
        (lambda: WideResNet(COLOUR, 2, depth=4), "depth=4: must be 6n + 4: 10, 16, 22, 28, …"),
        (lambda: WideResNet(COLOUR, 2, width=0), "width=0: must be at least 1"),
        (lambda: WideResNet(COLOUR, 2, dropout=1.0), "dropout=1.0: must be at least 0 and below 1"),
        (lambda: ResNet(SERIES, 2), "reads pictures [H, W, C], not inputs of shape [12, 2]"),
    ],
)
def test_an_invalid_argument_of_a_residual_network_is_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


def test_dropout_is_active_only_in_training() -> None:
    for network in (
        ConvNet(SERIES, 3, [Block(8, dropout=0.5)], [Dense(16, dropout=0.5)]),
        Recurrent(SERIES, 3, hidden=16, layers=2, dropout=0.5),
    ):
        inputs = torch.randn(4, *SERIES)
        assert not torch.equal(network(inputs), network(inputs))
        network.eval()
        assert torch.equal(network(inputs), network(inputs))


def test_flip_tta_averages_the_outputs_of_the_image_and_its_mirror_image() -> None:
    torch.manual_seed(0)
    with_tta = ConvNet(COLOUR, 3, [Block(8)], [Dense(16)], tta_hflip=True).eval()
    plain = ConvNet(COLOUR, 3, [Block(8)], [Dense(16)]).eval()
    plain.load_state_dict(with_tta.state_dict())
    images = torch.randn(4, *COLOUR)
    left_right = images[:, :, range(COLOUR[1] - 1, -1, -1)]
    torch.testing.assert_close(with_tta(images), (plain(images) + plain(left_right)) / 2)
    torch.testing.assert_close(with_tta(images), with_tta(left_right))
    torch.testing.assert_close(with_tta.train()(images), plain(images))
    with pytest.raises(ValueError, match=r"^tta_hflip: only images have a mirror image$"):
        ConvNet(SERIES, 3, [], [], tta_hflip=True)


def reference(network: ConvNet, *layers: nn.Module) -> nn.Sequential:
    """Plain torch, channels first from end to end, with the weights of `network`; flattened channels last."""
    plain = nn.Sequential(*layers)
    plain.load_state_dict(dict(zip(plain.state_dict(), network.state_dict().values(), strict=True)))
    return plain.eval()


class ChannelsLast(nn.Module):
    """`[B, C, H, W]` to `[B, H * W * C]`, as Keras flattens."""

    def forward(self, features: Tensor) -> Tensor:
        return features.permute(0, *range(2, features.dim()), 1).reshape(len(features), -1)


def test_the_published_network_equals_plain_torch_layers() -> None:
    network = ConvNet([28, 28, 1], 10, [Block(32, pool=2), Block(64, pool=2)], [Dense(128, dropout=0.3)]).eval()
    plain = reference(
        network,
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(ChannelsLast(), nn.Linear(1600, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)),
    )
    images = torch.randn(4, 28, 28, 1)
    torch.testing.assert_close(network(images), plain(images.permute(0, 3, 1, 2)))
    assert sum(weight.numel() for weight in network.parameters()) == 225_034


def test_every_option_of_a_block_gives_the_matching_torch_layer() -> None:
    blocks = [
        Block(4, kernel=5, stride=2, convolutions=2, pool=2, pooling="average", dropout=0.1),
        Block(6, kernel=3, padding="same", batch_norm=True),
    ]
    network = ConvNet([31, 2], 3, blocks, [], activation="gelu").eval()
    plain = reference(
        network,
        *(nn.Conv1d(2, 4, 5, 2), nn.GELU(), nn.Conv1d(4, 4, 5, 2), nn.GELU(), nn.AvgPool1d(2), nn.Dropout(0.1)),
        *(nn.Conv1d(4, 6, 3, padding="same", bias=False), nn.BatchNorm1d(6), nn.GELU()),
        *(ChannelsLast(), nn.Linear(2 * 6, 3)),
    )
    series = torch.randn(4, 31, 2)
    torch.testing.assert_close(network(series), plain(series.permute(0, 2, 1)))


def test_a_recurrent_network_uses_the_last_state_of_the_last_layer() -> None:
    network = Recurrent([12, 2], 3, cell="lstm", hidden=5, layers=2).eval()
    plain = nn.LSTM(2, 5, 2, batch_first=True)
    plain.load_state_dict(network.layers.state_dict())
    series = torch.randn(4, 12, 2)
    _, (last, _) = plain(series)
    torch.testing.assert_close(network(series), network.head(last[-1]))
    assert isinstance(Recurrent([12, 2], 3, cell="gru").layers, nn.GRU)


def test_glorot_init_draws_weights_within_its_bound_and_zero_biases() -> None:
    torch.manual_seed(0)
    network = ConvNet([12, 12, 3], 10, [Block(64, kernel=5)], [Dense(50)], init="glorot")
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, fans in zip(layers, [(5 * 5 * 3, 5 * 5 * 64), (8 * 8 * 64, 50), (50, 10)], strict=True):
        bound, weights = math.sqrt(6 / sum(fans)), layer.weight.detach()  # Glorot and Bengio 2010, eq. 16
        assert 0.95 * bound < weights.abs().max() <= bound
        assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)  # that of a uniform distribution
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("shape", "blocks", "dense", "message"),
    [
        ([8, 8, 1], [Block(4, kernel=0)], [], "blocks.0.kernel=0: must be at least 1; its input is 8 x 8 x 1"),
        ([8, 8, 1], [Block(0)], [], "blocks.0.filters=0: must be at least 1; its input is 8 x 8 x 1"),
        ([8, 8, 1], [Block(4, stride=0)], [], "blocks.0.stride=0: must be at least 1; its input is 8 x 8 x 1"),
        ([8, 8, 1], [Block(4, convolutions=0)], [], "blocks.0.convolutions=0: must be at least 1; its input is 8 x 8 x 1"),
        ([8, 8, 1], [Block(4, pool=0)], [], "blocks.0.pool=0: must be at least 1; its input is 8 x 8 x 1"),
        ([8, 8, 1], [Block(4), Block(4, pool=5)], [], "blocks.1.pool=5: too large; its input is 4 x 4 x 4"),
        ([8, 4, 1], [Block(4, kernel=5)], [], "blocks.0.kernel=5: too large; its input is 8 x 4 x 1"),
        ([8, 8, 1], [Block(4, kernel=5, convolutions=2)], [], "blocks.0.kernel=5: too large; its input is 4 x 4 x 4"),
        ([8, 2], [Block(4, pool=7)], [], "blocks.0.pool=7: too large; its input is 6 x 4"),
        (
            [8, 8, 1],
            [Block(4, padding="same", stride=2)],
            [],
            "blocks.0.stride=2: padding=same needs stride 1; its input is 8 x 8 x 1",
        ),
        ([8, 8, 1], [Block(4, dropout=1)], [], "blocks.0.dropout=1: must be at least 0 and below 1; its input is 6 x 6 x 4"),
        ([8, 8, 1], [], [Dense(4), Dense(0)], "dense.1.units=0: must be at least 1; its input is 4"),
        ([8, 8, 1], [], [Dense(4, dropout=-0.1)], "dense.0.dropout=-0.1: must be at least 0 and below 1; its input is 4"),
        ([8], [], [], "reads images [H, W, C] or sequences [T, C], not inputs of shape [8]"),
    ],
)
def test_a_layer_that_does_not_fit_is_reported_with_its_input_shape(
    shape: list[int], blocks: list[Block], dense: list[Dense], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ConvNet(shape, 3, blocks, dense)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden=0: must be at least 1"),
        ({"layers": 0}, "layers=0: must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: must be at least 0 and below 1"),
        ({"cell": "rnn"}, "cell=rnn: there are lstm, gru"),
        ({"input_shape": [8, 8, 1]}, "reads sequences [T, C], not inputs of shape [8, 8, 1]"),
    ],
)
def test_an_invalid_argument_of_a_recurrent_network_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Recurrent(**({"input_shape": [12, 2], "outputs": 3} | options))  # type: ignore[arg-type]


def test_an_unknown_activation_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match=r"^dense.0: activation=relo: there are relu, gelu, silu, tanh, elu; its input is 16$"):
        ConvNet(IMAGE, 3, [], [Dense(16)], activation="relo")
