"""What a modality (a kind of data) provides, and the registry of modalities.

A modality `NAME` consists of its config schema `reprise.config.modalities.NAME` and the package `reprise.data.modalities.NAME`
with two modules: `arrays` (reading, splitting and windowing with NumPy: the data stages do not import PyTorch) and `tensors`
(the `Dataset` and the input transform). The modules define the functions of `Arrays` and `Tensors`.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.data.contracts import WindowsMeta
from reprise.data.splits import Indices

if TYPE_CHECKING:  # the data stages do not import PyTorch
    from reprise.data.datasets import Dataset, InputTransform
    from reprise.data.windows import Windows

Statistics = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Processed:
    """What `preprocess` writes."""

    arrays: Mapping[str, npt.NDArray[Any]]
    """By file name without `.npy`."""
    meta: Mapping[str, Any]
    """Entries of meta.json in addition to those of `describe`."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """Further JSON files, by name without `.json`."""


@dataclass(frozen=True)
class Split:
    """What `window` writes."""

    indices: Mapping[str, Indices]
    """The samples, or first rows of the windows, of train, val and test."""
    meta: WindowsMeta
    checks: Mapping[str, Mapping[str, Any]]
    """Audits of the split by name, each with `passed` and its findings."""
    warnings: list[str] = field(default_factory=list)


class Arrays(Protocol):
    """The module `arrays` of a modality."""

    Meta: type[WindowsMeta]

    def describe(self, data: DataConfig) -> dict[str, Any]:
        """Return the entries of meta.json that follow from the config. Arrays with other entries are stale."""
        ...

    def read(self, data: DataConfig, raw: Path, console: Console) -> Processed:
        """Read the files of a data set: published ones in `raw`, own ones where they are. Raises UserError if one is invalid."""
        ...

    def list_sources(self, data: DataConfig) -> list[dict[str, Any]]:
        """Return the files of an own data set with their sha256, for DVC to notice a change. Not called for published data."""
        ...

    def sources_changed(self, data: DataConfig, folder: Path) -> str:
        """Return how the files of an own data set differ from its arrays in `folder` ("holds other …"), or ""."""
        ...

    def split(self, window: WindowConfig, arrays: Path) -> Split:
        """Split the arrays in a folder and compute the statistics of the train split. Raises UserError if a split is empty."""
        ...

    def statistics(self, meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[Statistics, Statistics]:
        """Return the statistics of the train split, computed by another algorithm than in `split`, and their tolerances."""
        ...


class Tensors(Protocol):
    """The module `tensors` of a modality."""

    def open_split(self, windows: "Windows", split: str) -> "Dataset":
        """Return a split as tensors."""
        ...

    def input_transform(self, meta: WindowsMeta) -> "InputTransform":
        """Return the module that maps raw inputs to network inputs."""
        ...

    def describe_inputs(self, meta: WindowsMeta) -> dict[str, Any]:
        """Return a description of the raw inputs for users of a logged model."""
        ...


def arrays_of(kind: str) -> Arrays:
    """Return the module `arrays` of a modality."""
    return cast(Arrays, importlib.import_module(f"reprise.data.modalities.{kind}.arrays"))


def tensors_of(kind: str) -> Tensors:
    """Return the module `tensors` of a modality."""
    return cast(Tensors, importlib.import_module(f"reprise.data.modalities.{kind}.tensors"))
