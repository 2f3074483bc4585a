"""Building blocks of the config schema: value types, sections, and the base classes of data sets and windows."""

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, PositiveInt

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _size(value: Any) -> Any:
    if (isinstance(value, int) and not isinstance(value, bool) and value >= 1) or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError("should be a count of at least 1, or a share between 0 and 1")


Size = Annotated[int | float, PlainValidator(_size, json_schema_input_type=int | float)]
"""A count, or a share below 1 (as in scikit-learn's `train_test_split`)."""

Share = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]


def _inside(value: str) -> str:
    if re.search(r"[\\\x00-\x1f]", value) or not all(part.strip(".") for part in value.removesuffix(".gz").split("/")):
        raise ValueError("should be a file's name, inside the folder it is looked for in")
    return value


def _source(value: str) -> str:
    scheme, _, location = value.partition(":")
    pattern = {
        "debian": "[a-z0-9][a-z0-9+.-]*",
        "package": "[A-Za-z_][A-Za-z0-9_]*",
        "pip": "[A-Za-z0-9][A-Za-z0-9_.-]*==[A-Za-z0-9.]+",
    }.get(scheme)
    if pattern and not re.fullmatch(pattern, location.split("/")[0]):
        raise ValueError(f"should be {scheme}:NAME/FOLDER/")
    if ".." in value.split("/"):
        raise ValueError("should not lead upwards")
    if re.search(r"//\S*@", value):
        raise ValueError("holds a login, which every run would record; set REPRISE_MIRROR instead")
    return value


FileName = Annotated[str, AfterValidator(_inside)]
"""A relative file name that stays inside its folder."""
Source = Annotated[str, AfterValidator(_source)]
"""A folder, a URL without login, a Debian package, an installed Python package (not imported, hence without dots), or a Python
package that pip downloads."""


class Section(BaseModel):
    """A section of the config: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Target(Section):
    """A class or function to call, by its import path, with its arguments (checked by `build`)."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    target: str = Field(alias="_target_")
    """The import path of a class or function; it must be on the allowlist. All other keys are its arguments."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments as plain containers, without the import path."""
        return self.model_dump(exclude={"target"})


def is_none(value: object) -> bool:
    """Return whether a key is left out of a resolved config: it is then the same as before the key existed."""
    return value is None


class TaskConfig(Target):
    """The task. Class weights are left out of a resolved config that has none."""

    class_weights: Any = Field(default=None, exclude_if=is_none)
    """Weights of the classes in the loss, of a classification."""


class RawFile(Section):
    """One published file."""

    fetch: FileName
    """The name of the file at its source; `.gz` files are stored decompressed."""
    sha256: Sha256
    """The sha256 of the decompressed bytes."""
    array: str | None = None
    """What the file holds, if the reader needs to know."""

    @property
    def name(self) -> str:
        """File name under data/raw; compressed files are stored decompressed."""
        return self.fetch.removesuffix(".gz")


class DataConfig(Section):
    """A data set: the fields common to all modalities. A subclass declares `kind`, and `reader` if it has several formats."""

    augmentable: ClassVar[bool] = False
    """Whether `augment` applies to the samples."""
    if TYPE_CHECKING:  # declared by the subclasses, whose order of fields decides the bytes of meta.json
        kind: str
        """The modality."""

    name: Name
    """The name of the data set: its folder under data/."""
    title: str
    """The name in texts and figures."""
    homepage: str
    """The address of the publisher."""
    citation: str
    """The publication to cite."""
    licence: str
    """The licence of the data."""
    limit: PositiveInt | None
    """The maximum number of training samples, for a quick test."""


class PublishedData(DataConfig):
    """A data set of published files, with their sources."""

    mirror: FileName
    """The folder of the files below REPRISE_MIRROR."""
    sources: Annotated[list[Source], Field(min_length=1)]
    """Where the files are looked for, in order: folder, `https://…/`, `debian:PACKAGE/FOLDER/`, `package:PACKAGE/FOLDER/`."""
    files: Annotated[list[RawFile], Field(min_length=1)]
    """The files."""


class WindowConfig(Section):
    """The split of a data set, and its windows. A subclass declares `kind`."""

    if TYPE_CHECKING:
        kind: str
        """The modality; must be that of the data."""

    def check_data(self, data: DataConfig) -> None:
        """Raise ValueError if the data set has not what the windows name."""
