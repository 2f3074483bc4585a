"""Recognise pictures that a run was trained on, by the hash of their decoded pixels."""

from collections.abc import Sequence

import numpy as np

from reprise.data.datasets import Windows, open_windows
from reprise.data.pictures import Picture, pixel_hash

NEW = "new"
"""Of a picture that is in none of the run's splits."""


def splits_of(windows: Windows, read: Sequence[Picture]) -> list[str]:
    """Return train, val, test or `NEW` for each picture; of one that is in several splits, the first of them.

    Pictures are compared once decoded, so a file that was renamed or saved in another lossless format is recognised.

    Raises:
        UserError: when the run's windows or arrays are gone, or others lie in their place.

    """
    same = open_windows(windows.folder, windows.arrays)
    wanted = {pixel_hash(one.pixels) for one in read}
    found: dict[bytes, str] = {}
    for split in ("train", "val", "test"):
        images = same.images(split)
        for sample in same.chosen(split):
            key = pixel_hash(np.asarray(images[sample]))
            if key in wanted:
                found.setdefault(key, split)
    return [found.get(pixel_hash(one.pixels), NEW) for one in read]
