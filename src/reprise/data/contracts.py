"""The content of meta.json (arrays) and windows.json (splits), which every modality extends."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reprise.data import store
from reprise.errors import UserError


class Contract(BaseModel):
    """A JSON file that one stage writes and others read."""

    model_config = ConfigDict(frozen=True, strict=True)

    @classmethod
    def parse(cls, content: Any, file: Path, remake: str) -> Self:
        """Return the content of a file. `remake` is the hint how to write the file again.

        Raises:
            UserError: if an entry is missing or of another type.

        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{file} is not what this version reads: {key}: {first['msg']}", remake) from None

    @classmethod
    def read(cls, file: Path, remake: str) -> Self:
        """Return the content of a JSON file. In a published folder, its sha256 is checked."""
        return cls.parse(store.read_json(file), file, remake)


class ArraysMeta(Contract):
    """meta.json: the description of a data set. Modalities add what they need; the settings of the data set are kept as well."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    name: str


class WindowsMeta(Contract):
    """windows.json: how the splits are read. Modalities add what they need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    input_shape: list[int]
    """Shape of one network input, channels last."""
    statistics: dict[str, list[float]]
    """Statistics of the train split by name, one number per channel."""
    notes: list[str] = Field(default=[])
    """What was left out, lost or assumed."""
    arrays: str = ""
    """The hash of the arrays."""
    made_by: dict[str, Any] = Field(default={})
    """The settings."""

    def array_folder(self, split: str) -> str:
        """Return the subfolder of the arrays that the indices of a split refer to."""
        return ""

    def network_arguments(self) -> dict[str, Any]:
        """Return arguments for constructors of networks that have parameters of these names."""
        return {}

    def covariates(self) -> list[str]:
        """Return the settings that name input columns which are not in the past of the targets: known ahead, or static."""
        return []

    def learning_rows(self) -> dict[str, tuple[int, int]]:
        """Return the row after the last one of train and of val, by series. Empty if samples are independent of each other."""
        return {}

    def labels(self) -> list[str]:
        """Return the names of the outputs: classes, or target channels."""
        return list(getattr(self, "classes", None) or getattr(self, "targets", []))

    def targets_of_samples(self) -> dict[str, Any]:
        """Return what determines the targets of a sample beside its index and the arrays."""
        return {}
