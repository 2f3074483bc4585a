"""Augmentation of training images, batch by batch on their device, with random numbers that depend only on (seed, epoch, row).

The results do not depend on batch size, workers, ranks or earlier steps. Shapes: `B` batch, `H W` pixels, `C` channels.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.config import AugmentConfig

KNOTS = 4
"""Points of the elastic grid along each side."""
DRAWS_WITHOUT_ELASTIC = 12
DRAWS = DRAWS_WITHOUT_ELASTIC + 2 * KNOTS**2
"""Random numbers per sample: flip, two shifts, angle, scale, shear, six for the erased rectangle; then the elastic grid."""
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 0.3
"""Minimum and maximum erased share of the image, and the minimum aspect ratio: Zhong et al. 2017, section 4."""


@dataclass(frozen=True)
class Augment:
    """The augmentation of one training."""

    config: AugmentConfig
    seed: int

    def __call__(self, images: Tensor, rows: Tensor, epoch: int) -> Tensor:
        """Return the augmented images `float32 [B, H, W, C]` (0 to 255) of these rows `int64 [B]` in this epoch."""
        config = self.config
        draws = uniform(self.seed, epoch, rows, DRAWS if config.elastic else DRAWS_WITHOUT_ELASTIC)
        if config.interpolates:
            grid = _grid(config, draws, images.shape)
            moved = F.grid_sample(images.movedim(-1, 1), grid, padding_mode="zeros", align_corners=False)
            images = moved.movedim(1, -1)
        elif config.flip or config.shift:
            images = _flip_and_shift(images, draws[:, 0] < config.flip, _whole_pixels(config.shift, draws[:, 1:3]), config.shift)
        return _erase(images, config.erase, draws[:, 6:12]) if config.erase else images


def uniform(seed: int, epoch: int, rows: Tensor, count: int) -> Tensor:
    """Return numbers in [0, 1), `float32 [B, count]`: hashes of (seed, epoch, row, position), the same on every device.

    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators (its 64-bit finalizer).
    """
    start = torch.tensor([seed, epoch], dtype=torch.int64)
    stream = int(_mix(_mix(start[:1]) + start[1:]))  # computed on the CPU: a number needs no copy to a GPU
    state = _mix(stream + rows)  # [B]
    bits = _mix(state[:, None] + torch.arange(count, device=rows.device))
    return (_shifted(bits, 40)).to(torch.float32) / 2**24


def _mix(values: Tensor) -> Tensor:
    """Hash each `int64` to an `int64`; products wrap around."""
    values = (values + 1) * -0x61C8864680B583EB  # 2**64 / golden ratio, as a signed number
    values = (values ^ _shifted(values, 30)) * -0x40A7B892E31B1A47
    values = (values ^ _shifted(values, 27)) * -0x6B2FB644ECCEEE15
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, places: int) -> Tensor:
    """Return the logical right shift of 64 bits (`>>` of a signed number would repeat its sign)."""
    return (values >> places) & ((1 << (64 - places)) - 1)


def _whole_pixels(shift: int, draws: Tensor) -> Tensor:
    """Map draws from [0, 1) to whole numbers from -shift to shift, `float32`."""
    return torch.round(draws * (2 * shift + 1) - shift - 0.5).clamp(-shift, shift)  # a draw of 0 and an odd shift round beyond it


def _flip_and_shift(images: Tensor, flipped: Tensor, steps: Tensor, most: int) -> Tensor:
    """Return copies of the images, some flipped, each shifted by whole pixels and filled with 0: nothing is interpolated.

    Args:
        images: `[B, H, W, C]`.
        flipped: which images are flipped horizontally, `bool [B]`.
        steps: column and row of the image that become the first ones of the output, relative to 0, `[B, 2]`. Columns count from
            the right of a flipped image, as a source position of `_grid` does.
        most: the largest shift.

    """
    images = torch.where(flipped[:, None, None, None], images.flip(2), images)
    _, height, width, _ = images.shape
    across, down = steps.long().unbind(1)
    padded = F.pad(images, (0, 0, most, most, most, most))
    crops = padded.unfold(1, height, 1).unfold(2, width, 1)  # [B, row, column, C, H, W], a view
    first_row, first_column = down + most, torch.where(flipped, -across, across) + most
    return crops[torch.arange(len(images), device=images.device), first_row, first_column].movedim(1, -1)


def _grid(config: AugmentConfig, draws: Tensor, shape: torch.Size) -> Tensor:
    """Return the source position of each output pixel for `grid_sample`, `float32 [B, H, W, 2]` from -1 to 1."""
    batch, height, width, channels = shape
    signed = 2 * draws - 1
    mirror = 1 - 2 * (draws[:, 0] < config.flip).to(torch.float32)
    steps = _whole_pixels(config.shift, draws[:, 1:3])
    turn = math.radians(config.rotate) * signed[:, 3]
    size = 1 / (1 + config.scale * signed[:, 4])
    slant = math.tan(math.radians(config.shear)) * signed[:, 5]
    cos, sin = torch.cos(turn) * size, torch.sin(turn) * size
    rows = [
        cos * mirror,
        (cos * slant - sin) * height / width,
        2 * steps[:, 0] / width,
        sin * mirror * width / height,
        sin * slant + cos,
        2 * steps[:, 1] / height,
    ]
    grid = F.affine_grid(torch.stack(rows, 1).view(batch, 2, 3), [batch, channels, height, width], align_corners=False)
    if config.elastic:
        knots = signed[:, 12:].view(batch, 2, KNOTS, KNOTS) * 2 * config.elastic
        bend = F.interpolate(knots, (height, width), mode="bicubic", align_corners=True)
        grid = grid + torch.stack([bend[:, 0] / width, bend[:, 1] / height], -1)
    return grid


def _erase(images: Tensor, probability: float, draws: Tensor) -> Tensor:
    """Fill a random rectangle of some images with a random grey. Source: Zhong et al. 2017, algorithm 1."""
    _, height, width, _ = images.shape
    least, most = ERASED_AREA
    area = height * width * (least + (most - least) * draws[:, 1])
    aspect = torch.exp((2 * draws[:, 2] - 1) * -math.log(ERASED_ASPECT))
    tall, wide = (area * aspect).sqrt().clamp(max=height).round(), (area / aspect).sqrt().clamp(max=width).round()
    top, left = torch.floor(draws[:, 3] * (height - tall + 1)), torch.floor(draws[:, 4] * (width - wide + 1))
    wide = wide * (draws[:, 0] < probability)  # width 0 for images that are not erased
    inside_rows, inside_columns = (
        (along >= begin[:, None]) & (along < (begin + length)[:, None])
        for along, begin, length in (
            (torch.arange(height, device=images.device), top, tall),
            (torch.arange(width, device=images.device), left, wide),
        )
    )
    inside = inside_rows[:, :, None, None] & inside_columns[:, None, :, None]
    return torch.where(inside, 255 * draws[:, 5].view(-1, 1, 1, 1), images)
