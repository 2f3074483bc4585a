"""Read picture files, and hash what was decoded."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from reprise import cpus
from reprise.data.modalities.images.decoding import FORMATS, ORIENTATION, Decoded, Decoding, Pixels, channels_of, decode
from reprise.data.modalities.images.picture_files import Listed

Result = TypeVar("Result")
FILES_AT_A_TIME = 32
"""Passing one file to a thread costs as much as reading a small one."""


@dataclass(frozen=True)
class Picture:
    """A file that was read: the decoded picture or the problem, and the sha256 of its bytes."""

    listed: Listed
    decoded: Decoded | None
    problem: str
    sha256: str

    @property
    def pixels(self) -> Pixels:
        """The pixels of a picture without a problem."""
        assert self.decoded is not None, self.problem
        return self.decoded.pixels

    @property
    def content_hash(self) -> bytes:
        """A hash of the decoded pixels at the resolution at which the network reads them."""
        tiles = self.decoded.tiles if self.decoded else None
        return pixel_hash(self.pixels if tiles is None else tiles.pixels)

    @property
    def tile_count(self) -> int:
        """The number of network inputs of the picture: 1 without tiles."""
        return len(self.decoded.tiles.pixels) if self.decoded and self.decoded.tiles else 1


def read_all(listed: Sequence[Listed], decoding: Decoding) -> Iterator[Picture]:
    """Yield every picture in the order listed, decoded on all available CPUs."""
    yield from _mapped(lambda one: _read(one, decoding), listed)


def shapes(listed: Sequence[Listed]) -> list[tuple[int, int, int] | None]:
    """Return height, width (upright) and channels (1 or 3) of each file, from its header only; None if it cannot be read."""
    return list(_mapped(_shape, listed))


def stacked(read: Iterable[Picture]) -> Pixels:
    """Stack the pixels of pictures: `uint8 [picture, height, width, channel]`."""
    return np.stack([one.pixels for one in read])


def pixel_hash(pixels: Pixels) -> bytes:
    """Return a hash of decoded pixels, independent of the file format."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _mapped(read: Callable[[Listed], Result], listed: Sequence[Listed]) -> Iterator[Result]:
    """Yield what `read` returns for each file, in the order listed. Threads take several files at a time."""
    parts = [listed[start : start + FILES_AT_A_TIME] for start in range(0, len(listed), FILES_AT_A_TIME)]
    with ThreadPoolExecutor(cpus.available(), thread_name_prefix="pictures") as pool:
        for results in pool.map(lambda part: [read(one) for one in part], parts):
            yield from results


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
            (width, height), channels = opened.size, channels_of(opened)
            sideways = opened.getexif().get(ORIENTATION) in {5, 6, 7, 8}
            swapped = sideways and opened.format != "TIFF"  # for TIFF, Pillow reports the upright size
            return (width, height, channels) if swapped else (height, width, channels)
    except Exception:  # as in `decode`, which reports the problem
        return None
