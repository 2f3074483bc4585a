"""Recognise pictures of the splits of a run by the hash of their decoded pixels."""

from collections.abc import Sequence

import numpy as np

from reprise.data.modalities.images.pictures import Picture, pixel_hash
from reprise.data.windows import Windows, open_windows
from reprise.inference.answers import NEW


def splits_of(windows: Windows, read: Sequence[Picture]) -> list[str]:
    """Return train, val, test or `NEW` for each picture. For a picture in several splits, the first of them is returned.

    Decoded pixels are compared, so files that were renamed or saved in another lossless format are recognised.

    Raises:
        UserError: when the run's windows or arrays are missing or were replaced.

    """
    same = open_windows(windows.folder, windows.arrays)
    hashes = {pixel_hash(one.pixels) for one in read}
    known: dict[bytes, str] = {}
    for split in ("train", "val", "test"):
        images = same.array(f"{same.meta.array_folder(split)}images")
        for sample in same.indices(split):
            key = pixel_hash(np.asarray(images[sample]))
            if key in hashes:
                known.setdefault(key, split)
    return [known.get(pixel_hash(one.pixels), NEW) for one in read]
