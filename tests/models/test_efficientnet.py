"""EfficientNet-Lite equals the reference implementation, with random and with published weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from rich.console import Console
from torch import Tensor, nn

from reprise.config.pretrained import PRETRAINED
from reprise.errors import UserError
from reprise.models.efficientnet import PIXEL_MEAN, PIXEL_STD, EfficientNetLite, from_published
from reprise.project_paths import ProjectPaths
from reprise.stages import download

SIZES = {0: 224, 1: 240, 2: 260}
"""Height and width in pixels that the published networks were trained on, by version."""


def reference(version: int, side: int, outputs: int) -> nn.Module:
    network: nn.Module = EfficientNet.from_name(f"efficientnet-lite{version}", image_size=side, num_classes=outputs)
    return network.eval()


def outputs_of(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = network.eval()(images)
    return outputs


@pytest.mark.parametrize(("version", "side", "millions"), [(0, 64, 4.7), (1, 33, 5.4), (2, 50, 6.1)])
def test_a_network_equals_the_reference_with_the_same_weights(version: int, side: int, millions: float) -> None:
    torch.manual_seed(version)
    theirs = reference(version, side, 1000)
    for module in theirs.modules():  # statistics that differ from channel to channel
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    ours = EfficientNetLite([side, side, 3], 1000, version)  # type: ignore[arg-type]
    ours.load_state_dict(from_published(theirs.state_dict()))
    assert round(sum(weight.numel() for weight in ours.parameters()) / 1e6, 1) == millions
    images = torch.randn(2, side, side, 3)
    torch.testing.assert_close(outputs_of(ours, images), outputs_of(theirs, images.movedim(-1, 1)), atol=1e-5, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("version", SIZES)
def test_the_published_weights_give_the_outputs_of_the_reference(version: int, tmp_path: Path) -> None:
    data = PRETRAINED[f"imagenet/efficientnet_lite{version}"]
    try:
        folder = download.run(data, ProjectPaths(tmp_path), Console(quiet=True))
    except UserError as error:
        pytest.skip(f"the weights cannot be fetched: {error}")
    weights = torch.load(folder / data.files[0].name, weights_only=True)
    side = SIZES[version]
    theirs = reference(version, side, 1000)
    theirs.load_state_dict(weights)
    ours = EfficientNetLite([side, side, 3], 1000, version)  # type: ignore[arg-type]
    ours.load_state_dict(from_published(weights))
    images = torch.randn(4, side, side, 3)
    torch.testing.assert_close(outputs_of(ours, images), outputs_of(theirs, images.movedim(-1, 1)), atol=1e-5, rtol=0)


def test_pixels_reach_the_network_in_the_published_range_whatever_the_statistics_of_the_data() -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3)).float()
    mean, std = torch.tensor([90.0, 120.0, 200.0]), torch.tensor([30.0, 60.0, 5.0])
    of_data = EfficientNetLite([32, 32, 3], 4, pixel_mean=mean.tolist(), pixel_std=std.tolist())
    published = EfficientNetLite([32, 32, 3], 4)
    published.load_state_dict(of_data.state_dict())  # mean and std are no weights: other data have others
    expected = outputs_of(published, (pixels - PIXEL_MEAN) / PIXEL_STD)
    torch.testing.assert_close(outputs_of(of_data, (pixels - mean) / std), expected)


def test_grey_pictures_are_read_as_three_equal_channels() -> None:
    grey, colour = (EfficientNetLite([32, 40, channels], 4) for channels in (1, 3))
    colour.load_state_dict(grey.state_dict())
    images = torch.randn(2, 32, 40, 1)
    assert torch.equal(outputs_of(grey, images), outputs_of(colour, images.expand(-1, -1, -1, 3)))


def test_blocks_are_skipped_at_random_in_training_only_and_keep_their_mean() -> None:
    torch.manual_seed(0)
    block: Any = EfficientNetLite([32, 32, 3], 2, drop_connect=0.5).blocks[-2]
    outputs = torch.ones(4000, 1, 1, 1)
    assert torch.equal(block.eval()._skip(outputs), outputs)
    skipped = block.train()._skip(outputs)
    torch.testing.assert_close(skipped.mean(), torch.tensor(1.0), atol=0.05, rtol=0)
    assert skipped.unique().tolist() == [0.0, pytest.approx(1 / (1 - block.drop))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": [32, 32, 2]}, r"^reads pictures \[H, W, C\] of 1 or 3 channels, not inputs of shape \[32, 32, 2\]$"),
        ({"dropout": 1.0}, r"^dropout=1.0: must be at least 0 and below 1$"),
        ({"drop_connect": -0.1}, r"^drop_connect=-0.1: must be at least 0 and below 1$"),
    ],
)
def test_an_invalid_argument_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**({"input_shape": [32, 32, 3], "outputs": 2} | changes))  # type: ignore[arg-type]
