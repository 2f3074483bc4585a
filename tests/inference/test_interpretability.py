"""The layer table against values computed by hand and a gradient probe; feature maps and attribution against their definitions."""

import pytest
import torch
from torch import Tensor, nn

from reprise.errors import UserError
from reprise.inference.interpretability import Layer, attribution, feature_maps, first_filters, layers, require_images
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.recurrent import Recurrent


def convnet(blocks: list[Block], shape: list[int], **options: str | bool) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(shape, 3, blocks, [Dense(8)], **options)  # type: ignore[arg-type]


def by_name(network: nn.Module, shape: list[int]) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers(network, torch.zeros(1, *shape))}


def test_the_layer_table_of_the_published_network_equals_the_one_computed_by_hand() -> None:
    """The parameter counts are those of the published model summary; the rest is computed by hand."""
    network = ConvNet([28, 28, 1], 10, [Block(32, pool=2), Block(64, pool=2)], [Dense(128, dropout=0.3)])
    table = [
        (one.name, one.output, one.parameters, one.multiply_adds, one.kernel, one.stride, one.padding, one.receptive_field)
        for one in layers(network, torch.zeros(1, *[28, 28, 1]))
    ]
    three, two, one, none = [3, 3], [2, 2], [1, 1], [0, 0]
    assert table == [
        ("conv1", [26, 26, 32], 320, 26 * 26 * 32 * 9, three, one, none, [3, 3]),
        ("relu1", [26, 26, 32], 0, 0, None, None, None, [3, 3]),
        ("pool1", [13, 13, 32], 0, 0, two, two, none, [4, 4]),
        ("conv2", [11, 11, 64], 18_496, 11 * 11 * 64 * 9 * 32, three, one, none, [8, 8]),
        ("relu2", [11, 11, 64], 0, 0, None, None, None, [8, 8]),
        ("pool2", [5, 5, 64], 0, 0, two, two, none, [10, 10]),
        ("dense1", [128], 204_928, 1600 * 128, None, None, None, None),
        ("relu3", [128], 0, 0, None, None, None, None),
        ("dropout1", [128], 0, 0, None, None, None, None),
        ("output", [10], 1_290, 1280, None, None, None, None),
    ]


def test_strides_padding_and_sequences_give_the_table_computed_by_hand() -> None:
    network = convnet([Block(4, kernel=5, stride=2, pool=3), Block(6, kernel=3, padding="same", convolutions=2)], [50, 2])
    table = by_name(network, [50, 2])
    assert table["conv1"].output == [23, 4]
    assert table["conv1"].receptive_field == [5]
    assert table["pool1"].receptive_field == [5 + 2 * 2]  # its inputs are 2 steps apart
    assert table["conv2"].receptive_field == [9 + 2 * 6]  # 2 x 3 steps apart
    assert table["conv3"].receptive_field == [21 + 2 * 6]
    assert table["conv3"].padding == [2]
    assert table["conv3"].multiply_adds == 7 * 6 * 6 * 3


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_a_recurrent_layer_counts_every_gate_at_every_step(cell: str, gates: int) -> None:
    table = layers(Recurrent([30, 6], 1, cell=cell, hidden=32), torch.zeros(1, 30, 6))  # type: ignore[arg-type]
    assert table[0].parameters == gates * 32 * (6 + 32 + 2)
    assert table[0].multiply_adds == 30 * gates * 32 * (6 + 32)
    assert table[0].receptive_field is None
    assert table[0].output == [30, 32]


def test_the_parameters_add_up_and_flip_tta_lists_each_layer_once() -> None:
    network = convnet([Block(8, batch_norm=True, pool=2)], [12, 12, 1], tta_hflip=True, global_pool="max")
    assert sum(one.parameters for one in layers(network, torch.zeros(1, *[12, 12, 1]))) == sum(
        weight.numel() for weight in network.parameters()
    )
    assert len({one.name for one in layers(network, torch.zeros(1, *[12, 12, 1]))}) == len(
        layers(network, torch.zeros(1, *[12, 12, 1]))
    )
    assert network.training  # as it was before


def test_all_layers_of_a_custom_network_are_listed_also_if_names_repeat() -> None:
    """As in any nn.Sequential, whose layers are called 0, 1, …"""
    network = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)))
    network.add_module("last", nn.Linear(3, 2))
    table = layers(network, torch.zeros(1, *[3, 2, 1]))
    assert [one.name for one in table] == ["0.0", "0.1", "1.0", "1.1", "last"]
    assert sum(one.parameters for one in table) == sum(weight.numel() for weight in network.parameters())


PROBED = {
    "valid": ([Block(4), Block(5, kernel=5)], [30, 30, 1]),
    "same": ([Block(4, padding="same", convolutions=2), Block(5, kernel=5, padding="same")], [30, 30, 1]),
    "pooled": ([Block(4, pool=2), Block(5, kernel=3, pool=3, pooling="average"), Block(3, kernel=2)], [40, 34, 1]),
    "strided": ([Block(4, kernel=4, stride=3), Block(5, stride=2)], [60, 50, 2]),
    "sequence": ([Block(4, kernel=7, pool=2), Block(5, kernel=3, convolutions=2)], [64, 3]),
}


class Residual(nn.Module):
    """Two branches, added up and concatenated, joined outside of any layer; activations are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.deep, self.deeper = nn.Conv2d(4, 4, 5, stride=2, padding=2), nn.Conv2d(4, 4, 3, padding="same", dilation=2)
        self.short = nn.Conv2d(4, 4, 1, stride=2)
        self.last = nn.Conv2d(8, 3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, H, W, C]` to `[B, F, H, W]`."""
        first = self.first(inputs.movedim(-1, 1)).tanh()
        summed = self.deeper(self.deep(first).tanh()) + self.short(first)
        output: Tensor = self.last(torch.cat([summed, summed.tanh()], 1))
        return output


class ChannelsLast(nn.Module):
    """Layers that read channels last between convolutions, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.norm, self.mix = nn.LayerNorm(3), nn.LayerNorm(6), nn.Linear(6, 5)
        self.wide, self.last = nn.Conv2d(3, 6, (5, 3), dilation=(1, 3)), nn.Conv2d(5, 4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, H, W, C]` to `[B, F, H, W]`."""
        mixed = self.mix(self.norm(self.wide(self.before(inputs).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))
        output: Tensor = self.last(mixed.permute(0, 3, 1, 2))
        return output


def sequence(*stack: nn.Module) -> nn.Module:
    """Layers over `[B, H, W, C]` or `[B, T, C]`."""

    class ChannelsFirst(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            output: Tensor = super().forward(inputs.movedim(-1, 1))
            return output

    return ChannelsFirst(*stack)


CUSTOM: dict[str, tuple[nn.Module, list[int]]] = {
    "dilated": (sequence(nn.Conv1d(2, 4, 3, dilation=4)), [40, 2]),
    "dilated in turn": (sequence(nn.Conv1d(2, 4, 3, dilation=2), nn.Tanh(), nn.Conv1d(4, 4, 3, dilation=4, stride=2)), [60, 2]),
    "dilated pooling": (sequence(nn.Conv2d(1, 2, 3, stride=2), nn.MaxPool2d(3, stride=1, dilation=2)), [40, 30, 1]),
    "unequal": (sequence(nn.Conv2d(1, 2, (3, 5), stride=(1, 2), dilation=(3, 1)), nn.AvgPool2d((2, 3))), [40, 50, 1]),
    "padded": (sequence(nn.ZeroPad2d(2), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)), [20, 20, 1]),
    "grouped": (sequence(nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(4, 4), nn.Conv2d(4, 8, 1)), [20, 20, 4]),
    "branches": (Residual(), [40, 40, 1]),
    "channels last": (ChannelsLast(), [40, 40, 3]),
}


@pytest.mark.parametrize("name", PROBED | CUSTOM)
def test_the_receptive_field_is_the_extent_of_the_gradient_of_one_output_position(name: str) -> None:
    """The output position in the middle, summed over features: the inputs with a gradient span the receptive field."""
    if name in CUSTOM:
        network, shape = CUSTOM[name]
        features: nn.Module = network.eval()
    else:
        blocks, shape = PROBED[name]
        network = convnet(blocks, shape, activation="tanh")  # has a gradient everywhere
        features = sequence(network.features)
    normalized = [one for one in network.modules() if isinstance(one, nn.GroupNorm)]
    for one in normalized:  # a statistic over all positions is left out of a receptive field
        one.forward = lambda inputs: inputs  # type: ignore[method-assign]
    last = [one for one in layers(network, torch.zeros(1, *shape)) if one.receptive_field][-1].receptive_field
    assert isinstance(last, list)
    inputs = torch.randn(300, *shape, requires_grad=True)  # max pooling selects a different input each time
    output = features(inputs).double()
    middle = tuple(extent // 2 for extent in output.shape[2:])
    output[(slice(None), slice(None), *middle)].sum().backward()
    assert inputs.grad is not None
    touched = inputs.grad.abs().sum((0, -1)) > 0
    for axis, extent in enumerate(last):
        others = tuple(other for other in range(touched.dim()) if other != axis)
        line = touched.any(others[0]) if others else touched
        where = line.nonzero()[:, 0]
        assert int(where[-1] - where[0]) + 1 == extent


def test_a_kernel_of_3_with_dilation_4_has_a_receptive_field_of_9() -> None:
    (one,) = layers(sequence(nn.Conv1d(2, 4, 3, dilation=4, padding="same")), torch.zeros(1, 40, 2))
    assert (one.receptive_field, one.dilation, one.padding, one.output) == ([9], [4], [8], [40, 4])


@pytest.mark.parametrize("width", [3, 6, 40])
def test_shapes_are_channels_last_whatever_layout_the_layers_use(width: int) -> None:
    """Also if the sizes are equal, so that the shape does not show the layout."""
    network = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 7), nn.GELU(), nn.Dropout(0.5), nn.LayerNorm([40, 7]))
    table = layers(network, torch.zeros(1, *[40, width]))
    assert [one.output for one in table] == [[40, width], *[[40, 7]] * 4]
    assert {str(one.receptive_field) for one in table} == {"[1]"}
    mixed = by_name(ChannelsLast(), [40, 40, 3])
    assert {name: one.output for name, one in mixed.items()} == {
        "before": [40, 40, 3],
        "wide": [36, 34, 6],
        "norm": [36, 34, 6],
        "mix": [36, 34, 5],
        "last": [34, 32, 4],
    }


def test_an_unknown_or_unlimited_receptive_field_is_marked_in_the_table() -> None:
    table = layers(
        sequence(nn.Conv2d(1, 2, 3), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        torch.zeros(1, 10, 10, 1),
    )
    assert [one.receptive_field for one in table] == [[3, 3], "unknown", "unknown", None, None]
    assert table[1].output == [16, 16, 2]
    assert table[-1].output == [2]
    recurrent = nn.LSTM(2, 5, batch_first=True)
    assert layers(recurrent, torch.zeros(1, *[9, 2]))[0].output == [9, 5]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_feature_maps_equal_the_outputs_of_the_layers(activation: str) -> None:
    blocks = [Block(4, batch_norm=True, pool=2), Block(6, convolutions=2)]
    network = convnet(blocks, [16, 14, 3], activation=activation).eval()
    inputs = torch.randn(5, 16, 14, 3)
    maps = feature_maps(network, inputs)
    assert {name: one.shape for name, one in maps.items()} == {
        "conv1": (5, 14, 12, 4),
        "conv2": (5, 5, 4, 6),
        "conv3": (5, 3, 2, 6),
    }
    by_hand = inputs.movedim(-1, 1)
    for name, layer in network.features.named_children():
        by_hand = layer(by_hand)
        if name == f"{activation}1":
            torch.testing.assert_close(torch.from_numpy(maps["conv1"]), by_hand.movedim(1, -1))
    torch.testing.assert_close(torch.from_numpy(maps["conv3"]), by_hand.movedim(1, -1))


def test_feature_maps_with_flip_tta_are_those_of_the_unflipped_image() -> None:
    plain, flipped = (convnet([Block(4)], [9, 9, 1], tta_hflip=flip) for flip in (False, True))
    inputs = torch.randn(2, 9, 9, 1)
    assert (feature_maps(plain, inputs)["conv1"] == feature_maps(flipped, inputs)["conv1"]).all()


def test_first_filters_are_the_weights_of_the_first_convolution() -> None:
    network = convnet([Block(4, kernel=5)], [9, 9, 3])
    filters = first_filters(network)
    assert filters is not None
    assert filters.shape == (4, 5, 5, 3)
    assert filters[2, 0, 1, 2] == network.features[0].weight[2, 2, 0, 1].item()  # type: ignore[index, union-attr]
    assert first_filters(Recurrent([5, 2], 3)) is None


def test_a_model_that_reads_sequences_is_refused_by_require_images() -> None:
    require_images([8, 8, 1], "digits-seed0-1234")
    with pytest.raises(
        UserError, match=r"^lstm-seed0-1234 reads sequences of shape \[30, 6\], not images; name a run on images$"
    ):
        require_images([30, 6], "lstm-seed0-1234")


class Linear(nn.Module):
    """Logits that are a weighted sum of the inputs: every attribution is known."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ self.weights


def test_attribution_of_a_linear_network_is_weight_times_difference_from_black() -> None:
    inputs, black, weights = torch.randn(4, 3, 2, 1), torch.full((3, 2, 1), -0.4), torch.randn(6, 5)
    classes = torch.tensor([0, 4, 2, 2])
    result = attribution(Linear(weights), inputs, classes, black)
    expected = (inputs - black) * weights[:, classes].T.reshape(4, 3, 2, 1)
    torch.testing.assert_close(torch.from_numpy(result), expected)


def test_attribution_adds_up_to_the_change_of_the_logit_from_black() -> None:
    network = convnet([Block(8, pool=2)], [10, 10, 1], activation="gelu").eval()
    inputs, black, classes = torch.randn(6, 10, 10, 1), torch.full((10, 10, 1), -0.3), torch.arange(6) % 3
    result = torch.from_numpy(attribution(network, inputs, classes, black)).sum((1, 2, 3))
    difference = (network(inputs) - network(black[None])).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(result, difference.detach(), atol=2e-3, rtol=0.02)


def test_the_layer_table_takes_volumes_and_integer_inputs() -> None:
    volumes = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(2 * 3**3, 4))

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = volumes

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layers(inputs.movedim(-1, 1))  # type: ignore[no-any-return]

    table = layers(ChannelsLast(), torch.zeros(1, 8, 8, 8, 1))  # [B, D, H, W, C]
    assert table[0].output == [6, 6, 6, 2]
    assert table[0].multiply_adds == 6**3 * 2 * 27
    assert table[2].receptive_field == [4, 4, 4]
    tokens = nn.Sequential(nn.Embedding(10, 6), nn.Flatten(), nn.Linear(5 * 6, 3))
    table = layers(tokens, torch.zeros(1, 5, dtype=torch.int64))
    assert [one.output for one in table] == [[5, 6], [30], [3]]
    assert [one.parameters for one in table] == [60, 0, 93]
