"""Decode picture files: orientation, transparency, bit depth and size, to `uint8 [height, width, channel]`."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise import cpus
from reprise.data.picture_files import Listed

Pixels = npt.NDArray[np.uint8]
FORMATS = ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"]
GREY_MODES = {"1", "L", "LA", "I", "F"}
FULL_RANGE = (0.0, 65_535.0)
_ORIENTATION = 0x0112
"""The EXIF and TIFF tag: 1 to 8."""


@dataclass(frozen=True)
class Decoding:
    """How picture files are decoded: settings of the data set, which `predict` and `explain` use as well."""

    shape: tuple[int, ...]
    """Height, width, and 1 channel (grey) or 3 (colour)."""
    resize: str
    """stretch, crop or pad."""
    background: tuple[int, ...] = (255, 255, 255)
    """Red, green and blue of the ground that transparent pixels are composited onto."""
    limits: tuple[float, float] | None = None
    """The stored values that become 0 and 255, of pictures with more than 8 bits a pixel; none: 0 and 65,535."""


@dataclass(frozen=True)
class Facts:
    """What was found in a file, before its pixels were brought to size."""

    height: int
    width: int
    channels: int
    """1 for grey, 3 for colour."""
    transparent: bool
    frames: bool
    """Whether it holds several frames, of which the first is read."""
    bits: int
    """8, 16 or 32."""
    peak: float
    """The largest stored value."""
    clipped: int
    """Pixels outside the limits."""


@dataclass(frozen=True)
class Decoded:
    """Pixels `uint8 [height, width, channel]` of the asked shape."""

    pixels: Pixels
    facts: Facts


@dataclass(frozen=True)
class Picture:
    """A file that was read: what was decoded or what is wrong with it, and the sha256 of its bytes."""

    listed: Listed
    decoded: Decoded | None
    problem: str
    sha256: str

    @property
    def pixels(self) -> Pixels:
        """The pixels of a picture without a problem."""
        assert self.decoded is not None, self.problem
        return self.decoded.pixels


class UnsupportedPictureError(ValueError):
    """A whole picture whose values cannot be read without guessing."""


def read_all(listed: Sequence[Listed], decoding: Decoding) -> Iterator[Picture]:
    """Yield every picture in the order listed, decoded on all processors."""
    with ThreadPoolExecutor(cpus.available(), thread_name_prefix="pictures") as pool:
        yield from pool.map(lambda one: _read(one, decoding), listed)


def shapes(listed: Sequence[Listed]) -> list[tuple[int, int, int] | None]:
    """Height, width and channels (1 or 3) of each file, upright, from its header alone; none where it cannot be read."""
    with ThreadPoolExecutor(cpus.available(), thread_name_prefix="pictures") as pool:
        return list(pool.map(_shape, listed))


def stacked(read: Iterable[Picture]) -> Pixels:
    """Stack the pixels of pictures: `uint8 [picture, height, width, channel]`."""
    return np.stack([one.pixels for one in read])


def pixel_hash(pixels: Pixels) -> bytes:
    """Hash decoded pixels: equal pixels have equal hashes, whatever file format they came from."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _read(listed: Listed, decoding: Decoding) -> Picture:
    try:
        content = listed.file.read_bytes()
    except OSError as error:
        return Picture(listed, None, error.strerror or str(error), "")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        return Picture(listed, decode(content, decoding), "", sha256)
    except ValueError as error:
        return Picture(listed, None, str(error), sha256)


def _shape(listed: Listed) -> tuple[int, int, int] | None:
    from PIL import Image

    try:
        with Image.open(listed.file, formats=FORMATS) as opened:
            (width, height), channels = opened.size, _channels(opened)
            lies = opened.getexif().get(_ORIENTATION) in {5, 6, 7, 8}
            turned = lies and opened.format != "TIFF"  # of which Pillow states the upright size
            return (width, height, channels) if turned else (height, width, channels)
    except Exception:  # as in `decode`, which names what is wrong with it
        return None


def decode(content: bytes, decoding: Decoding) -> Decoded:
    """Decode the content of a picture file; of several frames, the first.

    The picture is turned upright as its EXIF orientation states. Transparent pixels are composited onto `decoding.background` in
    full resolution. Of more than 8 bits a pixel, `decoding.limits` become 0 and 255, in 256 equal steps.

    Raises:
        ValueError: when the bytes are no whole picture, or its values cannot be read.

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
    except Exception as error:  # Pillow and what it stands on fail in as many ways as there are damaged files
        raise ValueError(f"damaged: {error}") from None
    picture = picture.convert("L" if channels == 1 else "RGB")
    fit: Any = {"stretch": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}[decoding.resize]
    filtering = Image.Resampling.BILINEAR  # Pillow widens it to the size of what is shrunk: nothing is skipped
    pixels = np.array(fit(picture, (width, height), filtering), np.uint8).reshape(height, width, channels)
    return Decoded(pixels, facts)


def _upright(opened: Any, decoding: Decoding) -> tuple[Any, Facts]:
    """The picture as 8-bit L or RGB, opaque and upright."""
    from PIL import Image

    depth, white_is_zero = _stored_depth(opened), _white_is_zero(opened)
    _mask_transparent_value(opened)
    opened.load()  # before the EXIF notes are read: PNG may hold them after its pixels; TIFF turns its pixels itself
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(opened.getexif().get(_ORIENTATION, 1))
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
    frames = opened.format != "MPO" and bool(getattr(opened, "is_animated", False))  # MPO: a photograph and its previews
    coloured = transparent and len(set(decoding.background)) > 1
    facts = Facts(opaque.height, opaque.width, 3 if coloured else _channels(opened), transparent, frames, bits, peak, clipped)
    return opaque, facts


def _channels(opened: Any) -> int:
    return 1 if opened.mode in GREY_MODES or opened.mode.startswith("I;16") else 3


def _composite(picture: Any, background: Sequence[int]) -> tuple[Any, bool]:
    """The picture as opaque L or RGB, and whether it was transparent.

    Each channel is `round((value * alpha + ground * (255 - alpha)) / 255)`.
    """
    from PIL import Image

    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        alpha = layered.getchannel("A")
        if alpha.getextrema()[0] < 255:
            ground = Image.new("RGB", layered.size, tuple(background))
            ground.paste(layered, mask=alpha)
            return ground, True
        return layered.convert("RGB"), False
    if picture.mode in {"1", "L"}:
        return picture.convert("L"), False
    return picture.convert("RGB"), False


def _eight_bits(opened: Any, limits: tuple[float, float] | None, white_is_zero: bool) -> tuple[Any, float, int]:
    """One channel of 16 or 32 bits as L, or LA where one value is transparent; the largest value; pixels outside the limits."""
    from PIL import Image

    values = np.asarray(opened)
    if opened.mode.startswith("I;16"):
        low, high = limits or FULL_RANGE
        numbers = np.arange(65_536.0)[:: -1 if white_is_zero else 1]  # what each stored value means
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
    """The range in 256 equal parts. Of whole numbers (`step` 1), `high` is the last value of it and not its border."""
    scaled: Pixels = np.floor((numbers - low) * 256 / (high - low + step)).clip(0, 255).astype(np.uint8)
    return scaled


def _high_bytes(opened: Any, limits: tuple[float, float] | None) -> tuple[Any, float]:
    """A picture of several channels of 16 bits: Pillow reads the high byte of each, which is the full range in 256 steps."""
    if limits not in {None, FULL_RANGE}:
        raise UnsupportedPictureError("16 bits in several channels: data.range holds for pictures of one channel only")
    if "transparency" in opened.info:
        raise UnsupportedPictureError("16-bit colour with a transparent colour is not supported; save it with an alpha channel")
    extremes = opened.getextrema()
    colours = extremes[: 1 if opened.mode == "LA" else 3]
    return opened, max(high for _, high in colours) * 256.0 + 255.0


def _raw_mode(opened: Any) -> str:
    """How the pixels are stored, in Pillow's notation: "L;4", "RGB;16B"."""
    arguments = opened.tile[0].args if opened.tile else ""
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _stored_depth(opened: Any) -> int:
    """Bits of a channel, 8 or 16."""
    return 16 if opened.format in {"PNG", "TIFF"} and re.search(r";16[BLN]?$", _raw_mode(opened)) else 8


def _mask_transparent_value(opened: Any) -> None:
    """Bring the transparent value of a PNG to the scale of its pixels, which Pillow widens from 2 or 4 bits to 8.

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
    """Whether a TIFF of 16 or 32 bits stores white as 0; Pillow inverts such pixels up to 8 bits only."""
    return bool(opened.format == "TIFF" and opened.tag_v2.get(262) == 0)
