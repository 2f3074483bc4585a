"""Splits of a data set on disk, and the arrays they index. The test split can be locked."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from reprise import memory
from reprise.config.modalities import KINDS
from reprise.data import store
from reprise.data.contracts import WindowsMeta
from reprise.data.modality import arrays_of, tensors_of
from reprise.data.splits import Indices
from reprise.errors import UserError

if TYPE_CHECKING:  # the data stages do not import PyTorch
    from reprise.data.datasets import Dataset

REMAKE_ARRAYS = "make it again with `reprise preprocess`"
REMAKE_WINDOWS = "make it again with `reprise window`"


@dataclass(frozen=True)
class Windows:
    """A windows folder and the arrays it indexes. Each file is checked against its manifest when it is opened."""

    folder: Path
    arrays: Path
    meta: WindowsMeta

    @property
    def input_shape(self) -> list[int]:
        """Shape of one network input, channels last: `[H, W, C]` or `[T, C]`."""
        return list(self.meta.input_shape)

    @property
    def digest(self) -> str:
        """Return one hash of the splits, their statistics and the arrays they index, without settings and notes."""
        indices = {name: sha256 for name, sha256 in self._manifest.items() if name.endswith(".npy")}
        return _hash([indices, self.meta.model_dump(exclude={"made_by", "notes"})])

    def samples(self, split: str) -> str:
        """Return one hash of the evaluated samples of a split: its indices and the arrays they index."""
        arrays = store.manifest(self.arrays, REMAKE_ARRAYS).items()
        folder = self.meta.array_folder(split)
        indexed = {name: sha256 for name, sha256 in arrays if name.startswith(folder) and name.endswith(".npy")}
        return _hash([indexed, self._manifest[f"{split}.npy"], self.meta.targets_of_samples()])

    @property
    def _manifest(self) -> dict[str, str]:
        return store.manifest(self.folder, REMAKE_WINDOWS)

    def learning(self) -> "tuple[Dataset, Dataset]":
        """Return the train and the val split."""
        return self._open("train"), self._open("val")

    def val(self) -> "Dataset":
        """Return the val split."""
        return self._open("val")

    def test(self) -> "Dataset":
        """Return the test split. Only `evaluate` calls this; after `lock_test_split` (in training processes) it raises."""
        if _test_split_locked:
            raise UserError("the test split is locked in a process that trains", "only `reprise evaluate` can read it")
        return self._open("test")

    def indices(self, split: str) -> Indices:
        """Return the samples of a split, or the first row of each of its windows."""
        return np.array(store.open_array(store.check(self.folder, f"{split}.npy", REMAKE_WINDOWS)))

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return an array by its name without `.npy`, memory-mapped."""
        array = store.open_array(store.check(self.arrays, f"{name}.npy", REMAKE_ARRAYS))
        if not memory.holds(array.nbytes):
            store.read_at_random(array)
        return array

    def _open(self, split: str) -> "Dataset":
        return tensors_of(self.meta.kind).open_split(self, split)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_windows(folder: Path, arrays: Path) -> Windows:
    """Open a windows folder with the arrays it was made from.

    Raises:
        UserError: if the arrays are not those the windows were made from.

    """
    meta = read_meta(folder)
    store.manifest(arrays, REMAKE_ARRAYS)
    if meta.arrays != store.digest(arrays):
        raise UserError(f"{folder} was made from other arrays than {arrays} holds", REMAKE_WINDOWS)
    return Windows(folder, arrays, meta)


def read_meta(folder: Path) -> WindowsMeta:
    """Return the content of windows.json."""
    file = store.check(folder, "windows.json", REMAKE_WINDOWS)
    content = store.read_json(file)
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in KINDS:
        raise UserError(f"{file}: kind={kind}: no such modality", REMAKE_WINDOWS)
    return arrays_of(kind).Meta.parse(content, file, REMAKE_WINDOWS)


_test_split_locked = False


def lock_test_split() -> None:
    """Make `Windows.test` raise in this process from now on."""
    global _test_split_locked
    _test_split_locked = True
