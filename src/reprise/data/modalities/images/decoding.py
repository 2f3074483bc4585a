"""Decode a picture file: orientation, transparency, bit depth, size and tiles, to `uint8 [height, width, channel]`.

This module needs NumPy and Pillow only: an exported model contains a copy of it.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
FORMATS = ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"]
GREY_MODES = {"1", "L", "LA", "I", "F"}
FULL_RANGE = (0.0, 65_535.0)
OVERLAP = 0.25
MOST_TILES = 4096
"""The largest number of tiles of a picture."""
ORIENTATION = 0x0112
"""The EXIF and TIFF tag: 1 to 8."""


@dataclass(frozen=True)
class Decoding:
    """Settings for decoding picture files. They belong to the data set; `predict` and `explain` use them as well."""

    shape: tuple[int, ...]
    """Height, width, and 1 channel (grey) or 3 (colour)."""
    resize: str
    """stretch, crop, pad or tiles."""
    background: tuple[int, ...] = (255, 255, 255)
    """Background colour (red, green, blue) for transparent pixels."""
    limits: tuple[float, float] | None = None
    """Stored values that become 0 and 255, for pictures with more than 8 bits per channel; None: 0 and 65,535."""
    overlap: float = OVERLAP
    """With tiles: the share of its side that a tile has in common with the next, at least."""


@dataclass(frozen=True)
class Tiles:
    """Overlapping parts of a picture at its own resolution, row by row, which together cover it."""

    pixels: Pixels
    """`uint8 [tile, height, width, channel]`."""
    corners: npt.NDArray[np.int64]
    """Row and column of the first pixel of each tile, `[tile, 2]`."""
    shape: tuple[int, int]
    """Height and width of the picture; a side shorter than a tile is padded with black to the side of a tile."""

    def picture(self) -> Pixels:
        """Return the picture that the tiles were cut from, `uint8 [height, width, channel]`."""
        _, height, width, channels = self.pixels.shape
        whole = np.empty((*self.shape, channels), np.uint8)
        for (row, column), tile in zip(self.corners.tolist(), self.pixels, strict=True):
            whole[row : row + height, column : column + width] = tile
        return whole


@dataclass(frozen=True)
class Facts:
    """Properties of a picture file before resizing."""

    height: int
    width: int
    channels: int
    """1 for grey, 3 for colour."""
    transparent: bool
    frames: bool
    """Whether the file has several frames; only the first is read."""
    bits: int
    """8, 16 or 32."""
    peak: float
    """The largest stored value."""
    clipped: int
    """Number of pixels outside the limits."""


@dataclass(frozen=True)
class Decoded:
    """Pixels `uint8 [height, width, channel]` in the configured shape."""

    pixels: Pixels
    """The whole picture; with tiles, reduced and padded to the size of a tile."""
    facts: Facts
    tiles: Tiles | None = None
    """With `resize=tiles`, the network inputs; else the pixels are the network input."""

    @property
    def inputs(self) -> Pixels:
        """The network inputs, `uint8 [input, height, width, channel]`: the tiles, or one."""
        return self.pixels[None] if self.tiles is None else self.tiles.pixels


def mean_of_inputs(probabilities: npt.NDArray[Any], counts: Sequence[int]) -> npt.NDArray[Any]:
    """Return the probabilities of pictures `[picture, class]` from those of their inputs, of which each picture has `counts`."""
    return np.stack([part.mean(0) for part in np.split(probabilities, np.cumsum(counts)[:-1])])


class UnsupportedPictureError(ValueError):
    """An intact picture whose pixel format is not supported."""


def decode(content: bytes, decoding: Decoding) -> Decoded:
    """Decode the content of a picture file. Of several frames, only the first is decoded.

    The picture is rotated according to its EXIF orientation. Transparent pixels are composited onto `decoding.background` at full
    resolution. Values with more than 8 bits are mapped from `decoding.limits` to 0 to 255, in 256 equal steps.

    Raises:
        ValueError: if the picture is damaged, its pixel format is not supported, or it has too many tiles.

    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # late: only pictures need it

    if not content:
        raise ValueError("empty")
    height, width, channels = decoding.shape
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            picture, facts = _upright(opened, decoding)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:
        raise ValueError("no picture") from None
    except UnsupportedPictureError:
        raise
    except Exception as error:  # Pillow and its libraries can raise any exception for damaged files
        raise ValueError(f"damaged: {error}") from None
    picture = picture.convert("L" if channels == 1 else "RGB")
    tiles = None
    if decoding.resize == "tiles":
        full = np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)
        tiles = cut(full, height, width, decoding.overlap)
    fit: Any = {"stretch": Image.Image.resize, "crop": ImageOps.fit}.get(decoding.resize, ImageOps.pad)
    filtering = Image.Resampling.BILINEAR  # Pillow scales the filter when shrinking, so no pixel is skipped
    pixels = np.array(fit(picture, (width, height), filtering), np.uint8).reshape(height, width, channels)
    return Decoded(pixels, facts, tiles)


def cut(picture: Pixels, height: int, width: int, overlap: float) -> Tiles:
    """Cut a picture `[height, width, channel]` into tiles. A side shorter than a tile is padded with black on both ends.

    Raises:
        ValueError: if there are more than `MOST_TILES` tiles.

    """
    missing = [max(0, side - have) for side, have in zip((height, width), picture.shape[:2], strict=True)]
    if any(missing):
        picture = np.pad(picture, [*((one // 2, one - one // 2) for one in missing), (0, 0)])
    rows, columns = tile_starts(picture.shape[0], height, overlap), tile_starts(picture.shape[1], width, overlap)
    if len(rows) * len(columns) > MOST_TILES:
        raise ValueError(f"{len(rows) * len(columns):,} tiles of {height} x {width}, more than {MOST_TILES:,}: use larger tiles")
    corners = [(row, column) for row in rows for column in columns]
    pixels = np.stack([picture[row : row + height, column : column + width] for row, column in corners])
    return Tiles(pixels, np.array(corners, np.int64), picture.shape[:2])


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along a side: as few as cover it, evenly spaced, that share `overlap * tile` pixels or more."""
    step = max(1, tile - math.ceil(overlap * tile))
    gaps = -(-max(0, length - tile) // step)
    return [number * (length - tile) // gaps for number in range(gaps + 1)] if gaps else [0]


def _upright(opened: Any, decoding: Decoding) -> tuple[Any, Facts]:
    """Return the picture as 8-bit L or RGB, opaque and upright, with its properties."""
    from PIL import Image

    depth, white_is_zero = _stored_depth(opened), _white_is_zero(opened)
    _mask_transparent_value(opened)
    opened.load()  # before reading EXIF: PNG can store it after the pixels; Pillow rotates TIFF while loading
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(opened.getexif().get(ORIENTATION, 1))
    bits, peak, clipped = depth, 255.0, 0
    if opened.mode.startswith(("I", "F")):
        bits = 16 if opened.mode.startswith("I;16") else 32
        picture, peak, clipped = _eight_bits(opened, decoding.limits, white_is_zero)
    elif depth > 8:
        picture, peak = _high_bytes(opened, decoding.limits)
    else:
        picture = opened
    opaque, transparent = _composite(picture, decoding.background)
    if turn is not None:
        opaque = opaque.transpose(turn)
    if bits == 8:
        peak = float(np.max(opaque.getextrema()))
    frames = opened.format != "MPO" and bool(getattr(opened, "is_animated", False))  # MPO: a photo with its previews
    coloured = transparent and len(set(decoding.background)) > 1
    facts = Facts(opaque.height, opaque.width, 3 if coloured else channels_of(opened), transparent, frames, bits, peak, clipped)
    return opaque, facts


def channels_of(opened: Any) -> int:
    """Return the channels of an opened picture: 1 for grey, 3 for colour."""
    return 1 if opened.mode in GREY_MODES or opened.mode.startswith("I;16") else 3


def _composite(picture: Any, background: Sequence[int]) -> tuple[Any, bool]:
    """Return the picture as opaque L or RGB, and whether it was transparent.

    Each channel is `round((value * alpha + background * (255 - alpha)) / 255)`.
    """
    from PIL import Image

    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        alpha = layered.getchannel("A")
        if alpha.getextrema()[0] < 255:
            canvas = Image.new("RGB", layered.size, tuple(background))
            canvas.paste(layered, mask=alpha)
            return canvas, True
        return layered.convert("RGB"), False
    if picture.mode in {"1", "L"}:
        return picture.convert("L"), False
    return picture.convert("RGB"), False


def _eight_bits(opened: Any, limits: tuple[float, float] | None, white_is_zero: bool) -> tuple[Any, float, int]:
    """Convert one channel of 16 or 32 bits to L, or LA if one value is transparent.

    Returns:
        the picture, the largest value, and the number of pixels outside the limits.

    """
    from PIL import Image

    values = np.asarray(opened)
    if opened.mode.startswith("I;16"):
        low, high = limits or FULL_RANGE
        numbers = np.arange(65_536.0)[:: -1 if white_is_zero else 1]  # the meaning of each stored value
        outside = (numbers < low) | (numbers > high)
        scaled = _scaled(numbers, low, high, 1)[values]
        peak, clipped = numbers[[values.min(), values.max()]].max(), outside[values].sum()
    else:
        if limits is None:
            raise UnsupportedPictureError("32 bits a pixel: set data.range to the values that become 0 and 255")
        if not np.isfinite(values).all():
            raise UnsupportedPictureError("holds values that are not finite numbers")
        low, high = limits
        numbers = values.astype(np.float64)
        numbers = low + high - numbers if white_is_zero else numbers
        scaled = _scaled(numbers, low, high, int(np.issubdtype(values.dtype, np.integer)))
        peak, clipped = numbers.max(), ((numbers < low) | (numbers > high)).sum()
    picture = Image.fromarray(scaled)
    if isinstance(key := opened.info.get("transparency"), int):
        picture = Image.merge("LA", [picture, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))])
    return picture, float(peak), int(clipped)


def _scaled(numbers: npt.NDArray[np.float64], low: float, high: float, step: int) -> Pixels:
    """Map the range to 256 equal steps. For integers (`step` 1), `high` is the last value inside the range."""
    scaled: Pixels = np.floor((numbers - low) * 256 / (high - low + step)).clip(0, 255).astype(np.uint8)
    return scaled


def _high_bytes(opened: Any, limits: tuple[float, float] | None) -> tuple[Any, float]:
    """Convert several channels of 16 bits: Pillow reads the high byte of each, i.e. the full range in 256 steps."""
    if limits not in {None, FULL_RANGE}:
        raise UnsupportedPictureError("16 bits in several channels: data.range holds for pictures of one channel only")
    if "transparency" in opened.info:
        raise UnsupportedPictureError("16-bit colour with a transparent colour is not supported; save it with an alpha channel")
    extremes = opened.getextrema()
    colours = extremes[: 1 if opened.mode == "LA" else 3]
    return opened, max(high for _, high in colours) * 256.0 + 255.0


def _raw_mode(opened: Any) -> str:
    """Return the storage format of the pixels in Pillow's notation: "L;4", "RGB;16B"."""
    arguments = opened.tile[0].args if opened.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _stored_depth(opened: Any) -> int:
    """Return the bits per channel, 8 or 16."""
    return 16 if opened.format in {"PNG", "TIFF"} and re.search(r";16[BLN]?$", _raw_mode(opened)) else 8


def _mask_transparent_value(opened: Any) -> None:
    """Scale the transparent value of a PNG like its pixels, which Pillow expands from 2 or 4 bits to 8.

    Source: the PNG specification, 11.3.2.1 (only the low bits of the stored value count).
    """
    if opened.format != "PNG" or _stored_depth(opened) > 8:
        return
    key = opened.info.get("transparency")
    mask, factor = {"L;2": (3, 85), "L;4": (15, 17)}.get(_raw_mode(opened), (255, 1))
    if opened.mode == "L" and isinstance(key, int):
        opened.info["transparency"] = (key & mask) * factor
    elif opened.mode == "RGB" and isinstance(key, tuple):
        opened.info["transparency"] = tuple(value & 255 for value in key)


def _white_is_zero(opened: Any) -> bool:
    """Return whether a TIFF stores white as 0. Pillow inverts such pixels only up to 8 bits."""
    return bool(opened.format == "TIFF" and opened.tag_v2.get(262) == 0)
