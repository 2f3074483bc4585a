"""Images on disk: reading, splitting, and the statistics of the train split."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.config.modalities.images import FolderData, ImageData, ImageWindow
from reprise.data import splits, store
from reprise.data.audit import EPSILON, TOLERANCE, Floats, Moments
from reprise.data.contracts import ArraysMeta, WindowsMeta
from reprise.data.modalities.images import folder as picture_folder
from reprise.data.modalities.images import picture_files, published, splitting, tiling
from reprise.data.modality import Processed, Split
from reprise.data.published import read_files
from reprise.data.splits import Indices
from reprise.errors import UserError

BLOCK = 256
"""Number of images that are read at once to recompute the statistics."""


class ImageArrays(ArraysMeta):
    """meta.json of images."""

    classes: list[str]
    known_duplicates: int


def _is_false(value: object) -> bool:
    """Return whether a key is left out: windows made before it existed stay valid."""
    return value is False


class Meta(WindowsMeta):
    """windows.json of images."""

    classes: list[str]
    parts: dict[str, str]
    """The part of the arrays (train, test) that the indices of each split refer to."""
    tiled: bool = Field(default=False, exclude_if=_is_false)
    """Whether a network input is a tile of a picture. Indices are those of pictures."""

    def array_folder(self, split: str) -> str:
        """Return the folder of images.npy and labels.npy of a split, with a slash."""
        return f"{self.parts[split]}/"

    def network_arguments(self) -> dict[str, Any]:
        """Return mean and standard deviation of the pixels of each channel, by which the inputs are standardised."""
        return {"pixel_mean": self.statistics["mean"], "pixel_std": self.statistics["std"]}


def describe(data: DataConfig) -> dict[str, Any]:
    """Return the settings that decide the arrays."""
    return data.model_dump(exclude={"limit", "sources", "mirror", "broken"})


def read(data: DataConfig, raw: Path, console: Console) -> Processed:
    """Return `<part>/images` uint8 [sample, H, W, C] and `<part>/labels` int64 [sample]; part is train or test. Tiles: `tiling`.

    For a picture folder also files.json, the sha256 of each picture by part and name in the order of the arrays, and
    left_out.json, the reason why a file was left out.
    """
    if isinstance(data, FolderData):
        made = picture_folder.read(data, console)
        return Processed(made.arrays, made.meta, {"files": made.files, "left_out": made.left_out})
    assert isinstance(data, ImageData)
    return Processed(published.read(data, read_files(data, raw)), {})


def list_sources(data: DataConfig) -> list[dict[str, Any]]:
    """Return part, label, name and sha256 of every picture of a folder."""
    assert isinstance(data, FolderData)
    listed = picture_files.listing(Path(data.path)).pictures
    with ThreadPoolExecutor(thread_name_prefix="hashes") as pool:
        hashes = pool.map(lambda one: _hash_if_readable(one.file), listed)
        return [
            {"part": one.part, "label": one.label, "name": one.name, "sha256": sha256}
            for one, sha256 in zip(listed, hashes, strict=True)
        ]


def _hash_if_readable(file: Path) -> str | None:
    """Return the sha256; None for an unreadable file, which `preprocess` reports as broken."""
    try:
        return store.sha256(file)
    except OSError:
        return None


def sources_changed(data: DataConfig, folder: Path) -> str:
    """Return a reason if pictures were added, removed or edited since the arrays in `folder` were made, else ""."""
    assert isinstance(data, FolderData)
    if not Path(data.path).exists():
        return ""
    listed = picture_files.listing(Path(data.path)).pictures
    made = store.read_json(folder / "meta.json")
    changed = picture_files.digest(listed) != made["listing"] or _edited(listed, folder)
    return f"holds other pictures than {data.path} does now" if changed else ""


def _edited(listed: list[picture_files.Listed], folder: Path) -> bool:
    """Return whether the bytes of a file changed since the arrays were made, even if its size did not."""
    made, hashes = store.published_at(folder), store.read_json(folder / "files.json")
    known = {(part, name): sha256 for part, files in hashes.items() for name, sha256 in files.items()}
    newer = [one for one in listed if one.file.is_file() and one.file.stat().st_mtime > made]
    return any(known.get((one.part, one.name), store.sha256(one.file)) != store.sha256(one.file) for one in newer)


def split(window: WindowConfig, arrays: Path) -> Split:
    """Split the training images, stratified by class, and use the published test set if there is one."""
    assert isinstance(window, ImageWindow)
    meta = ImageArrays.read(arrays / "meta.json", "make it again with `reprise preprocess`")
    images, labels = (store.open_array(arrays / "train" / f"{name}.npy") for name in ("images", "labels"))
    published_test = (arrays / "test").is_dir()
    if published_test == (window.test_size is not None):
        why = "its publisher names a test set" if published_test else "its publisher names no test set"
        raise UserError(
            f"window.test_size={window.test_size} with data={meta.name}: {why}",
            f"set it to {'null' if published_test else 'a count, or a share below 1'}",
        )
    tests = store.open_array(arrays / "test" / "images.npy") if published_test else images[:0]
    groups = splitting.identical_images(images, tests)
    labels = np.asarray(labels)
    sizes = [splits.count(window.val_size, len(labels)), splits.count(window.test_size, len(labels))]
    val, test, train = splits.stratified_split(labels, sizes, window.seed, groups[: len(labels)])
    if published_test:
        test = np.arange(len(tests), dtype=np.int64)
    train = splits.limit_stratified(train, labels, window.limit, window.seed)
    parts = {"train": train, "val": val, "test": test}
    if empty := [split for split, chosen in parts.items() if not len(chosen)]:
        raise UserError(f"the {empty[0]} split is left without an image", "change window.val_size or window.test_size")
    sources = {"train": "train", "val": "train", "test": "test" if published_test else "train"}
    described = Meta(
        kind="images",
        input_shape=list(images.shape[1:]),
        classes=meta.classes,
        parts=sources,
        statistics=splitting.image_statistics(*tiling.network_inputs(arrays / "train", train)),
        tiled=tiling.is_tiled(arrays / "train"),
    )
    in_groups = parts | (
        {"test": test + len(images)} if published_test else {}
    )  # `groups` counts the published test images after the training images
    checks = splitting.audit_images(in_groups, groups, meta.known_duplicates)
    by_part = {name: np.asarray(store.open_array(arrays / name / "labels.npy")) for name in set(sources.values())}
    warnings = splits.warnings_of_small_classes(
        {name: by_part[sources[name]][chosen] for name, chosen in parts.items()}, meta.classes, "images"
    )
    return Split(parts, described, checks, warnings)


def statistics(meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return mean and std of each channel over the train split by running moments, and their rounding tolerances."""
    moments = Moments.of(_blocks(*tiling.network_inputs(arrays / meta.array_folder("train"), train)))
    step = TOLERANCE * moments.std + 4 * EPSILON * np.abs(moments.mean)
    # `split` computed the variance as a difference of squares
    slack = {"mean": step, "std": step + 8 * EPSILON * np.square(moments.mean) / moments.std}
    return {"mean": moments.mean, "std": moments.std}, slack


def _blocks(images: npt.NDArray[np.uint8], chosen: Indices) -> Iterator[Floats]:
    for start in range(0, len(chosen), BLOCK):
        block = images[chosen[start : start + BLOCK]]
        yield block.reshape(-1, block.shape[-1]).astype(np.float64)
