"""preprocess: convert published files, or a folder of pictures, to arrays (.npy) and meta.json. Fits nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from reprise.config import DataConfig
from reprise.config.modalities.images import FolderData, ImageData
from reprise.config.modalities.series import SeriesData
from reprise.config.sections import RawFile
from reprise.data import formats, store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import preprocess_folder

Arrays = dict[str, npt.NDArray[Any]]


def run(data: DataConfig, paths: ProjectPaths, console: Console) -> Path:
    """Write data/processed/<data set>/ and return it.

    images: `<part>/images.npy` uint8 [sample, height, width, channel] and `<part>/labels.npy` int64 [sample], where part is
    train and, where the publisher names one, test. series: `values.npy` float32 or float64 [time, channel], `time.npy` int64
    [time], nanoseconds since 1970 (UTC).
    Image folders: also `files.json`, the name and sha256 of each picture by part, in the order of the arrays, and
    `left_out.json`, why a file was left out.
    """
    described, further_files = meta(data), dict[str, Any]()
    if isinstance(data, FolderData):
        folder_arrays = preprocess_folder.read(data, console)
        arrays = folder_arrays.arrays
        further_files = {"files": folder_arrays.files, "left_out": folder_arrays.left_out}
        described |= folder_arrays.meta
    else:
        contents = _read(data, paths.raw(data.name))
        if isinstance(data, ImageData):
            arrays = _images(data, contents)
        else:
            arrays, details = _series(data, contents, console)
            described |= details
    folder = paths.processed(data.name)
    with store.publish(folder) as draft:
        for name, array in arrays.items():
            store.write_array(draft / f"{name}.npy", array)
        store.write_json(draft / "meta.json", described)
        for name, content in further_files.items():
            store.write_json(draft / f"{name}.json", content)
    shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items())
    console.print(f"preprocess  {data.name}: {shapes}", highlight=False, soft_wrap=True)
    return folder


def meta(data: DataConfig) -> dict[str, Any]:
    """Return the content of meta.json: everything that describes the data set, but not how a run uses it."""
    described = data.model_dump(exclude={"limit", "sources", "mirror", "broken"})
    return described | {"time_unit": "ns"} if isinstance(data, SeriesData) else described  # older arrays held seconds


def _read(data: ImageData | SeriesData, raw: Path) -> dict[str, bytes]:
    hint = f"run `reprise download data={data.name}`"
    for file in data.files:
        if not (raw / file.name).is_file():
            raise UserError(f"no {raw / file.name}", hint)
        if store.sha256(raw / file.name) != file.sha256:
            raise UserError(f"{raw / file.name} is not as published (sha256 differs)", hint)
    return {file.name: (raw / file.name).read_bytes() for file in data.files}


def _images(data: ImageData, contents: dict[str, bytes]) -> Arrays:
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


def _series(data: SeriesData, contents: dict[str, bytes], console: Console) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays, and the entries of meta.json about their frequency and precision."""
    (name, content), *further = contents.items()
    if further:
        raise UserError(f"conf/data/{data.name}.yaml: a series is one file, not {len(contents)}")
    series = formats.read_csv_series(content, name, data.time, [channel.name for channel in data.channels])
    notes = [f"frequency {series.frequency.alias}"]
    if series.frequency.unit:
        notes.append(f"time steps are equal but for rounding to {series.frequency.unit / 1e6:g} ms")
    if series.float64_channels:
        notes.append(f"float32 would erase differences of {', '.join(series.float64_channels)}: stored as float64")
    console.print(f"preprocess  {data.name}: {'; '.join(notes)}", highlight=False, markup=False, soft_wrap=True)
    return {"time": series.time, "values": series.values}, {
        "frequency": series.frequency.alias,
        "time_rounding_ns": series.frequency.unit,
        "dtype": str(series.values.dtype),
        "float64_channels": series.float64_channels,
    }
