"""Published images as sequences: each row of an image is a time step, each column a channel."""

from collections.abc import Mapping

import numpy as np

from reprise.config.modalities.sequences import PublishedSequences
from reprise.data import formats
from reprise.data.sequence_arrays import Sequences
from reprise.errors import UserError

ARRAYS = {f"{part}/{name}" for part in ("train", "test") for name in ("images", "labels")}


def read_image_rows(data: PublishedSequences, contents: Mapping[str, bytes]) -> dict[str, Sequences]:
    """Return the sequences of IDX files of grey images, by name of the images file, train first. The first step is the top row.

    Raises:
        UserError: if a file is not what conf/data/ describes.

    """
    names = {str(file.array): file.name for file in data.files}
    if set(names) != ARRAYS or len(names) < len(data.files):
        raise UserError(f"conf/data/{data.name}.yaml: files: each needs an array", f"one each of {', '.join(sorted(ARRAYS))}")
    return {
        names[f"{part}/images"]: _sequences(data, contents, names[f"{part}/images"], names[f"{part}/labels"])
        for part in ("train", "test")
    }


def _sequences(data: PublishedSequences, contents: Mapping[str, bytes], images_file: str, labels_file: str) -> Sequences:
    images, labels = (formats.read_idx(contents[name], name) for name in (images_file, labels_file))
    if images.ndim != 3 or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        shapes = " and ".join(f"{array.dtype} {list(array.shape)}" for array in (images, labels))
        raise UserError(f"{images_file} and {labels_file} hold {shapes}: not grey images and their labels")
    if len(images) != len(labels) or not len(images):
        raise UserError(f"{images_file} has {len(images)} images, and {labels_file} {len(labels)} labels")
    found = [str(label) for label in np.unique(labels)]
    if unknown := [label for label in found if label not in data.classes]:
        raise UserError(f"{labels_file} has the label {unknown[0]}, which data.classes does not name", "name every class once")
    position = {label: number for number, label in enumerate(data.classes)}
    numbers = np.array([position[str(label)] for label in labels.tolist()], np.int64)
    lengths = np.full(len(images), images.shape[1], np.int64)
    return Sequences(images.astype(np.float32), lengths, numbers, list(data.classes.values()))
