"""preprocess: published bytes to arrays (.npy) and meta.json. Fits nothing, chooses nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from reprise.config import DataConfig, ImageData, SeriesData
from reprise.data import formats, store
from reprise.errors import UserError
from reprise.stages.places import Places

Arrays = dict[str, npt.NDArray[Any]]


def run(data: DataConfig, places: Places, console: Console) -> Path:
    """Make data/processed/<data set>/.

    images: `<part>/images.npy` uint8 [sample, height, width, channel] and `<part>/labels.npy` int64 [sample], where part is
    train and, where the publisher names one, test. series: `values.npy` float32 [time, channel], `time.npy` int64 seconds.
    """
    contents = _read(data, places.raw(data.name))
    arrays = _images(data, contents) if isinstance(data, ImageData) else _series(data, contents)
    folder = places.processed(data.name)
    with store.publish(folder) as draft:
        for name, array in arrays.items():
            store.write_array(draft / f"{name}.npy", array)
        store.write_json(draft / "meta.json", meta(data))
    shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items())
    console.print(f"preprocess  {data.name}: {shapes}", highlight=False, soft_wrap=True)
    return folder


def meta(data: DataConfig) -> dict[str, Any]:
    """What meta.json says: all that describes the data set, and nothing of how a run uses it."""
    return data.model_dump(exclude={"limit", "sources", "mirror"})


def _read(data: DataConfig, raw: Path) -> dict[str, bytes]:
    contents = {}
    for file in data.files:
        if not (raw / file.name).is_file():
            raise UserError(f"no {raw / file.name}", f"run `reprise download data={data.name}`")
        if store.sha256(raw / file.name) != file.sha256:
            raise UserError(f"{raw / file.name} is not as published (sha256 differs)", f"run `reprise download data={data.name}`")
        contents[file.name] = (raw / file.name).read_bytes()
    return contents


def _images(data: ImageData, contents: dict[str, bytes]) -> Arrays:
    arrays: Arrays = {}
    if data.reader == "csv_images":
        read = [formats.read_csv_images(content, name, data.shape) for name, content in contents.items()]
        arrays["train/images"], arrays["train/labels"] = (np.concatenate(parts) for parts in zip(*read, strict=True))
    else:
        for file in data.files:
            if file.array is None:
                raise UserError(f"conf/data/{data.name}.yaml: files: {file.fetch} does not say which array it holds")
            array = formats.read_idx(contents[file.name], file.name)
            arrays[file.array] = array.astype(np.int64) if array.ndim == 1 else array.reshape(len(array), *data.shape)
    for part in {name.split("/")[0] for name in arrays}:
        images, labels = arrays[f"{part}/images"], arrays[f"{part}/labels"]
        if len(images) != len(labels):
            raise UserError(f"{data.name}/{part} has {len(images)} images and {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= len(data.classes):
            raise UserError(f"{data.name}/{part} has a label outside its {len(data.classes)} classes")
    return arrays


def _series(data: SeriesData, contents: dict[str, bytes]) -> Arrays:
    (name, content), *others = contents.items()
    if others:
        raise UserError(f"conf/data/{data.name}.yaml: a series is one file, not {len(contents)}")
    time, values = formats.read_csv_series(content, name, data.time, [channel.name for channel in data.channels])
    return {"time": time, "values": values}
