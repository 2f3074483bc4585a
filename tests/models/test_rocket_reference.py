"""Hydra and MultiRocket against aeon 1.6.0, which holds the code of their authors (`reference/aeon_features.py`).

Shapes: `N` samples, `K` kernels, `Q` biases of each kernel, `P` features.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.models.hydra import Hydra
from reprise.models.multi_rocket import KERNELS, POOLINGS, MultiRocket

FILE = Path(__file__).parent / "reference" / "aeon_features.npz"
CHANNELS = (1, 5)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(FILE) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.mark.parametrize("channels", CHANNELS)
def test_hydra_has_the_features_of_aeon(reference: dict[str, Tensor], channels: int) -> None:
    expected = {name: reference[f"{channels}_hydra_{name}"] for name in ("kernels", "channels", "features")}
    network = Hydra([40, channels], groups=8, kernels=4)
    network.kernels.copy_(expected["kernels"].view_as(network.kernels))
    if channels > 1:
        network.channels.copy_(expected["channels"])
    torch.testing.assert_close(network(inputs(reference, channels)), expected["features"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", CHANNELS)
def test_multi_rocket_has_the_dilations_and_biases_of_aeon(reference: dict[str, Tensor], channels: int) -> None:
    for part, name in zip(fitted(reference, channels).parts, ("series", "difference"), strict=True):
        dilations, counts, biases = (reference[f"{channels}_rocket_{name}_{key}"] for key in ("dilations", "counts", "biases"))
        assert part.counts == dict(zip(dilations.tolist(), counts.tolist(), strict=True))  # type: ignore[union-attr]
        torch.testing.assert_close(by_dilation(part.biases, part.counts), biases.float(), rtol=1e-4, atol=2e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", CHANNELS)
def test_multi_rocket_has_the_statistics_of_aeon(reference: dict[str, Tensor], channels: int) -> None:
    """Of the series: of its difference, aeon shifts half of the weights by the length of the series itself, one step too far.

    Its mean is that of response plus bias, and its stretch is one longer between two other values, one shorter if all are positive.
    """
    network = fitted(reference, channels)
    part = network.parts[0]
    ours = network(inputs(reference, channels)).chunk(2, dim=1)[0]
    theirs = reference[f"{channels}_rocket_features"].chunk(2, dim=1)[0]
    share, mean, index, stretch = by_statistic(ours, part.counts)  # type: ignore[arg-type]
    their_share, their_stretch, their_mean, their_index = theirs.chunk(POOLINGS, dim=1)
    torch.testing.assert_close(share, their_share)
    torch.testing.assert_close(index, their_index)
    biases = by_dilation(part.biases, part.counts)  # type: ignore[arg-type]
    torch.testing.assert_close(mean, their_mean - 2 * biases * (their_share > 0), rtol=1e-4, atol=1e-4)
    longer, all_positive = their_stretch - stretch, share == 1
    assert set(longer[~all_positive].unique().tolist()) == {0.0, 1.0}
    assert (longer[all_positive] == -1).all()


def inputs(reference: dict[str, Tensor], channels: int) -> Tensor:
    return reference[f"{channels}_series"].transpose(1, 2)


def fitted(reference: dict[str, Tensor], channels: int) -> MultiRocket:
    """Return a network fitted to the first sample, whose kernels read the channels that aeon drew."""
    network = MultiRocket([40, channels], features=KERNELS * 4)
    if channels > 1:
        for part, name in zip(network.parts, ("series", "difference"), strict=True):
            chosen = iter(reference[f"{channels}_rocket_{name}_channels"].tolist())
            mixing = torch.zeros_like(part.mixing)  # type: ignore[arg-type]
            for row, size in zip(mixing.view(-1, channels), reference[f"{channels}_rocket_{name}_sizes"].tolist(), strict=True):
                row[[next(chosen) for _ in range(size)]] = 1.0
            part.mixing = mixing
    network.fit(inputs(reference, channels)[:1])
    return network


def by_dilation(biases: Tensor, counts: dict[int, int]) -> Tensor:
    """Order `[K, Q]` as aeon does: by dilation, kernel and bias, `[K * Q]`."""
    return torch.cat([part.flatten() for part in biases.split(list(counts.values()), dim=1)])


def by_statistic(features: Tensor, counts: dict[int, int]) -> Tensor:
    """Order features `[N, P]` of dilations, of kernels with and without padding, as `[4, N, K * Q]`."""
    parts = []
    halves = features.split([POOLINGS * KERNELS // 2 * count for count in counts.values() for _ in range(2)], dim=1)
    for number, count in enumerate(counts.values()):
        ordered = torch.empty(len(features), POOLINGS, KERNELS, count)
        for parity in range(2):
            half = halves[2 * number + parity].unflatten(1, (POOLINGS, KERNELS // 2, count))
            ordered[:, :, (number + parity) % 2 :: 2] = half
        parts.append(ordered.flatten(2))
    return torch.cat(parts, dim=2).transpose(0, 1)
