"""Every pixel mode, with and without transparency, in every EXIF orientation, against a reference written with NumPy alone."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reprise.data.modalities.images.decoding import Decoding, decode

Array = npt.NDArray[Any]
ORIENTATIONS: dict[int, Callable[[Array], Array]] = {  # stored pixels -> upright pixels; EXIF 2.32, 4.6.4
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@dataclass
class Case:
    """The stored colours and alpha, and the function that encodes them as a file."""

    colours: Array
    """`[H, W, 3]`, 0 to 255."""
    alpha: Array | int
    """`[H, W]`, or 255."""
    write: Callable[[int], bytes]
    options: dict[str, Any] = field(default_factory=dict)


def reference(case: Case, orientation: int, ground: tuple[int, int, int], channels: int) -> Array:
    alpha = np.broadcast_to(np.asarray(case.alpha, np.int64), case.colours.shape[:2])[..., None]
    total = case.colours.astype(np.int64) * alpha + np.array(ground) * (255 - alpha)
    opaque = (2 * total + 255) // 510  # rounded
    upright = ORIENTATIONS[orientation](opaque)
    if channels == 3:
        return upright
    return (upright @ np.array([19_595, 38_470, 7_471]) + 32_768 >> 16)[..., None]  # ITU-R 601-2 in 16 bits


def exif(orientation: int) -> Image.Exif:
    note = Image.Exif()
    note[0x0112] = orientation
    return note


def saved(picture: Image.Image, kind: str, **options: Any) -> Callable[[int], bytes]:
    def write(orientation: int) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind, exif=exif(orientation), **options)
        return buffer.getvalue()

    return write


def png(samples: Array, depth: int, colour_type: int, transparent: Array | None = None) -> Callable[[int], bytes]:
    """Return an encoder for what Pillow does not write: 2, 4 and 16 bits, and 16-bit colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = samples.shape[:2]
    if depth < 8:
        bits = (samples[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = samples.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def write(orientation: int) -> bytes:
        parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))]
        if transparent is not None:
            parts.append(chunk(b"tRNS", transparent.astype(">u2").tobytes()))
        parts.append(chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0")))
        return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")])

    return write


def grey(values: Array) -> Array:
    return np.repeat(np.asarray(values)[..., None], 3, -1)


def bits(rng: np.random.Generator, size: tuple[int, int], transparent: bool) -> Case:
    values = rng.integers(0, 2, size)
    key = np.array([1]) if transparent else None
    return Case(grey(values * 255), np.where(values == 1, 0, 255) if transparent else 255, png(values, 1, 0, key))


def bits_tiff(rng: np.random.Generator, size: tuple[int, int]) -> Case:
    values = rng.integers(0, 2, size).astype(bool)
    return Case(grey(values * 255), 255, saved(Image.fromarray(values), "TIFF"))


def shallow(depth: int) -> Callable[[np.random.Generator, tuple[int, int]], Case]:
    def make(rng: np.random.Generator, size: tuple[int, int]) -> Case:
        values, key = rng.integers(0, 2**depth, size), rng.integers(0, 2**depth)
        return Case(
            grey(values * (255 // (2**depth - 1))), np.where(values == key, 0, 255), png(values, depth, 0, np.array([key]))
        )

    return make


def plain(mode: str, kind: str, **options: Any) -> Callable[[np.random.Generator, tuple[int, int]], Case]:
    """L, LA, RGB and RGBA as Pillow writes them."""

    def make(rng: np.random.Generator, size: tuple[int, int]) -> Case:
        values = rng.integers(0, 256, (*size, len(mode)), np.uint8)
        colours = values[..., : len(mode.rstrip("A"))]
        colours = np.repeat(colours, 3, -1) if mode.startswith("L") else colours
        alpha = values[..., -1] if mode.endswith("A") else 255
        picture = Image.frombytes(mode, size[::-1], values.tobytes())
        return Case(colours, alpha, saved(picture, kind, **options))

    return make


def keyed(colour_type: int) -> Callable[[np.random.Generator, tuple[int, int]], Case]:
    """Grey or colour of 8 bits with a transparent value; few values, so that it occurs."""

    def make(rng: np.random.Generator, size: tuple[int, int]) -> Case:
        values = rng.integers(0, 3, (*size, 3 if colour_type else 1)) * 100
        key = values[0, 0]
        alpha = np.where((values == key).all(-1), 0, 255)
        return Case(np.broadcast_to(values, (*size, 3)), alpha, png(values, 8, colour_type, key))

    return make


def palette(kind: str, transparency: str) -> Callable[[np.random.Generator, tuple[int, int]], Case]:
    def make(rng: np.random.Generator, size: tuple[int, int]) -> Case:
        table = rng.permutation(256)[:24].reshape(8, 3)  # no colour twice: a writer may not merge entries
        values = rng.integers(0, 8, size).astype(np.uint8)
        picture = Image.frombytes("P", size[::-1], values.tobytes())
        picture.putpalette(table.astype(np.uint8).tobytes())
        alphas = {"none": np.full(8, 255), "one": np.where(np.arange(8) == 3, 0, 255), "each": rng.integers(0, 256, 8)}
        alpha = alphas[transparency]
        options: dict[str, Any] = {"optimize": False} if kind == "GIF" else {}
        if transparency != "none":
            options["transparency"] = 3 if transparency == "one" else bytes(alpha.astype(np.uint8))
        return Case(table[values], alpha[values], saved(picture, kind, **options))

    return make


def palette_alpha(rng: np.random.Generator, size: tuple[int, int]) -> Case:
    table = rng.integers(0, 256, (8, 3))
    values = np.stack([rng.integers(0, 8, size), rng.integers(0, 256, size)], -1).astype(np.uint8)
    picture = Image.frombytes("PA", size[::-1], values.tobytes())
    picture.putpalette(table.astype(np.uint8).tobytes())
    return Case(table[values[..., 0]], values[..., 1], saved(picture, "TIFF"))


def cmyk(rng: np.random.Generator, size: tuple[int, int]) -> Case:
    values = rng.integers(0, 256, (*size, 4), np.uint8)
    ink, white = values[..., :3].astype(np.int64), 255 - values[..., 3:].astype(np.int64)
    colours = white - (2 * ink * white + 255) // 510
    return Case(colours, 255, saved(Image.frombytes("CMYK", size[::-1], values.tobytes()), "TIFF"))


def deep(colour_type: int) -> Callable[[np.random.Generator, tuple[int, int]], Case]:
    """16 bits: grey, colour, grey with alpha, colour with alpha."""

    def make(rng: np.random.Generator, size: tuple[int, int]) -> Case:
        values = rng.integers(0, 65_536, (*size, {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]))
        high = values >> 8
        alpha = high[..., -1] if colour_type >= 4 else 255
        return Case(
            np.broadcast_to(high[..., : 1 if colour_type in {0, 4} else 3], (*size, 3)), alpha, png(values, 16, colour_type)
        )

    return make


def deep_keyed(rng: np.random.Generator, size: tuple[int, int]) -> Case:
    values = rng.integers(0, 3, size) * 100 + 30_000  # 30,000 and 30,100 share their high byte
    key = values[0, 0]
    return Case(grey(values >> 8), np.where(values == key, 0, 255), png(values, 16, 0, np.array([key])))


def limited(dtype: str, low: float, high: float, **options: Any) -> Callable[[np.random.Generator, tuple[int, int]], Case]:
    """One channel of 16 or 32 bits in a TIFF with a stated range, some values outside of it."""

    def make(rng: np.random.Generator, size: tuple[int, int]) -> Case:
        values = rng.uniform(low - (high - low) / 10, high + (high - low) / 10, size)
        values = values.clip(0, None).astype(dtype) if dtype.endswith("u2") else values.astype(dtype)
        steps = high - low + (0 if "f" in dtype else 1)
        expected = np.floor((values.astype(np.float64) - low) * 256 / steps).clip(0, 255)
        picture = Image.fromarray(values)
        if options.get("inverted"):
            stored = 65_535 - values.astype(np.int64)
            picture = Image.fromarray(stored.astype(np.uint16))
        write = saved(picture, "TIFF")
        entry = struct.pack("<HHIH", 262, 3, 1, 1)  # PhotometricInterpretation: black is zero

        def inverted(orientation: int) -> bytes:
            content = write(orientation)
            assert content.count(entry) == 1
            return content.replace(entry, struct.pack("<HHIH", 262, 3, 1, 0))

        return Case(grey(expected), 255, inverted if options.get("inverted") else write, {"limits": (low, high)})

    return make


CASES: dict[str, Callable[[np.random.Generator, tuple[int, int]], Case]] = {
    "1": lambda rng, size: bits(rng, size, False),
    "1, one value transparent": lambda rng, size: bits(rng, size, True),
    "1 in TIFF": bits_tiff,
    "2 bits, one value transparent": shallow(2),
    "4 bits, one value transparent": shallow(4),
    "L": plain("L", "PNG"),
    "L, one value transparent": keyed(0),
    "LA": plain("LA", "PNG"),
    "LA in TIFF": plain("LA", "TIFF"),
    "P": palette("PNG", "none"),
    "P, one entry transparent": palette("PNG", "one"),
    "P, each entry with an alpha": palette("PNG", "each"),
    "P in GIF": palette("GIF", "none"),
    "P in GIF, one entry transparent": palette("GIF", "one"),
    "PA": palette_alpha,
    "RGB": plain("RGB", "BMP"),
    "RGB, one colour transparent": keyed(2),
    "RGBA": plain("RGBA", "PNG"),
    "RGBA in TIFF": plain("RGBA", "TIFF"),
    "RGBA in WebP": plain("RGBA", "WEBP", lossless=True, exact=True),
    "CMYK": cmyk,
    "I;16": deep(0),
    "I;16, one value transparent": deep_keyed,
    "I;16 of 12 bits": limited("<u2", 0, 4095),
    "I;16B": limited(">u2", 100, 50_000),
    "I;16, white is zero": limited("<u2", 0, 4095, inverted=True),
    "I": limited("<i4", -1000, 100_000),
    "F": limited("<f4", -0.5, 1.5),
    "RGB of 16 bits": deep(2),
    "LA of 16 bits": deep(4),
    "RGBA of 16 bits": deep(6),
}
NO_EXIF = {"P in GIF", "P in GIF, one entry transparent", "RGB"}
"""Neither GIF nor BMP has EXIF."""


@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=6)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    ground=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_pixels_equal_those_of_the_reference(name: str, seed: int, size: tuple[int, int], ground: tuple[int, int, int]) -> None:
    case = CASES[name](np.random.default_rng(seed), size)
    for orientation in [1] if name in NO_EXIF else ORIENTATIONS:
        content = case.write(orientation)
        height, width = size if orientation < 5 else size[::-1]
        for channels in (1, 3):
            decoding = Decoding((height, width, channels), "pad", ground, **case.options)
            decoded = decode(content, decoding)
            np.testing.assert_array_equal(decoded.pixels, reference(case, orientation, ground, channels))
        assert (decoded.facts.height, decoded.facts.width) == (height, width)
        assert decoded.facts.transparent == bool(np.min(case.alpha) < 255)


def test_ycbcr_is_within_one_of_the_standard() -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    buffer = io.BytesIO()
    Image.frombytes("YCbCr", (9, 9), values.tobytes()).save(buffer, "TIFF")
    luma, blue, red = (values[..., channel].astype(float) - (0, 128, 128)[channel] for channel in range(3))
    expected = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1).clip(0, 255)
    decoded = decode(buffer.getvalue(), Decoding((9, 9, 3), "pad")).pixels
    assert np.abs(decoded - expected).max() <= 1.0


def test_cielab_is_within_one_of_the_standard() -> None:
    """Neutral colours: a and b are 0, and L alone gives the luminance (CIE 15), which sRGB (IEC 61966-2-1) encodes."""
    lightness = np.linspace(0, 255, 16).astype(np.uint8)
    buffer = io.BytesIO()
    stored = np.stack([lightness, np.zeros(16, np.uint8), np.zeros(16, np.uint8)], -1)
    Image.frombytes("LAB", (16, 1), stored.tobytes()).save(buffer, "TIFF")
    part = (lightness / 255 * 100 + 16) / 116
    luminance = np.where(part > 6 / 29, part**3, 3 * (6 / 29) ** 2 * (part - 4 / 29))
    expected = 255 * np.where(luminance <= 0.0031308, 12.92 * luminance, 1.055 * luminance ** (1 / 2.4) - 0.055)
    decoded = decode(buffer.getvalue(), Decoding((1, 16, 3), "pad")).pixels
    assert np.abs(decoded[0] - expected[:, None]).max() <= 1.5


def test_images_with_an_unknown_range_of_values_are_refused() -> None:
    array = np.zeros((2, 2), np.int32)
    tiff, notes = io.BytesIO(), io.BytesIO()
    Image.fromarray(array).save(tiff, "TIFF")
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(notes, "TIFF")
    colour = png(np.zeros((2, 2, 3), np.int64), 16, 2, np.zeros(3))(1)
    for content, limits, message in (
        (tiff.getvalue(), None, "32 bits a pixel: set data.range to the values that become 0 and 255"),
        (notes.getvalue(), (0.0, 1.0), "holds values that are not finite numbers"),
        (colour, None, "16-bit colour with a transparent colour is not supported; save it with an alpha channel"),
        (
            png(np.zeros((2, 2, 3)), 16, 2)(1),
            (0.0, 4095.0),
            "16 bits in several channels: data.range holds for pictures of one channel only",
        ),
    ):
        with pytest.raises(ValueError, match="^" + message.replace(".", r"\.")):
            decode(content, Decoding((4, 4, 1), "pad", limits=limits))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_is_read_and_this_is_recorded(kind: str) -> None:
    first, second = (Image.fromarray(np.full((5, 5, 3), value, np.uint8)) for value in (30, 200))
    for others, several in (([second], True), ([], False)):
        buffer = io.BytesIO()
        options: dict[str, Any] = {"save_all": True, "append_images": others} if others else {}
        first.save(buffer, kind, **options, **({"lossless": True} if kind == "WEBP" else {}))
        decoded = decode(buffer.getvalue(), Decoding((5, 5, 3), "pad"))
        assert (decoded.pixels == 30).all()
        assert decoded.facts.frames is several
