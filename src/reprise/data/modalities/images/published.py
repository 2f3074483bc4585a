"""Published images: IDX and CSV files."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.config.modalities.images import ImageData
from reprise.config.sections import RawFile
from reprise.data import formats
from reprise.errors import UserError

Arrays = dict[str, npt.NDArray[Any]]


def read(data: ImageData, contents: Mapping[str, bytes]) -> Arrays:
    """Return `<part>/images` uint8 [sample, H, W, C] and `<part>/labels` int64 [sample]; part is train or test.

    Raises:
        UserError: if a file is not what its entry in conf/data/ describes.

    """
    arrays: Arrays = {}
    if data.reader == "csv_images":
        read = [formats.read_csv_images(content, name, data.shape) for name, content in contents.items()]
        arrays["train/images"], arrays["train/labels"] = (np.concatenate(parts) for parts in zip(*read, strict=True))
    else:
        arrays = {str(file.array): _idx(data, file, contents[file.name]) for file in data.files}
    parts = ["train", "test"] if len(arrays) > 2 else ["train"]
    if set(arrays) != {f"{part}/{name}" for part in parts for name in ("images", "labels")}:
        raise UserError(
            f"conf/data/{data.name}.yaml: files: each needs an array",
            "train/images and train/labels, and test/images and test/labels where the publisher names a test set",
        )
    for part in parts:
        images, labels = arrays[f"{part}/images"], arrays[f"{part}/labels"]
        if len(images) != len(labels) or not len(images):
            raise UserError(f"{data.name}/{part} has {len(images)} images and {len(labels)} labels")
        if ((labels < 0) | (labels >= len(data.classes))).any():
            raise UserError(f"{data.name}/{part} has a label outside its {len(data.classes)} classes")
    return arrays


def _idx(data: ImageData, file: RawFile, content: bytes) -> npt.NDArray[Any]:
    """Return labels `int64 [sample]`, or images `uint8 [sample, height, width, channel]`. IDX files omit a single channel."""
    array = formats.read_idx(content, file.name)
    if str(file.array).endswith("/labels"):
        if array.ndim == 1 and np.issubdtype(array.dtype, np.integer):
            return array.astype(np.int64)
    elif array.dtype == np.uint8 and array.ndim in {3, 4} and [*array.shape[1:], 1][:3] == data.shape:
        return array.reshape(-1, *data.shape)
    raise UserError(f"{file.name} holds {array.dtype} {list(array.shape)}: not what array={file.array} is to be")
