"""Arrays of pictures that are cut into tiles (`data.resize=tiles`). A split holds whole pictures, so no tile leaks into another.

Beside `<part>/images`, the whole pictures reduced to the size of a tile, there are `<part>/tiles` uint8 [tile, H, W, C], those of
one picture after another, and `<part>/first_tiles` int64 [picture + 1]: the tiles of picture `i` are the rows from
`first_tiles[i]` to before `first_tiles[i + 1]`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import store
from reprise.data.modalities.images.pictures import Picture
from reprise.data.splits import Indices

TILES, FIRST = "tiles", "first_tiles"


def arrays(read: Sequence[Picture]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of the tiles of pictures by name; none if they are not cut."""
    tiles = [one.decoded.tiles.pixels for one in read if one.decoded and one.decoded.tiles]
    if not tiles:
        return {}
    return {TILES: np.concatenate(tiles), FIRST: np.cumsum([0, *map(len, tiles)], dtype=np.int64)}


def is_tiled(part: Path) -> bool:
    """Return whether the folder of a part has tiles."""
    return (part / f"{TILES}.npy").is_file()


def rows_of(first: Indices, pictures: Indices) -> Indices:
    """Return the rows of all tiles of some pictures."""
    counts = first[pictures + 1] - first[pictures]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(first[pictures], counts) + within, np.int64)


def network_inputs(part: Path, chosen: Indices) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Return the array of network inputs in the folder of a part, and its rows of the chosen pictures."""
    if not is_tiled(part):
        return store.open_array(part / "images.npy"), chosen
    first = np.asarray(store.open_array(part / f"{FIRST}.npy"))
    return store.open_array(part / f"{TILES}.npy"), rows_of(first, chosen)
