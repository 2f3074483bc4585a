"""Config schema of images: labelled pictures of one size."""

import os.path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.sections import Byte, DataConfig, PublishedData, Size, WindowConfig, is_none


class ImageData(PublishedData):
    """Labelled images of one size."""

    augmentable: ClassVar[bool] = True
    kind: Literal["images"]
    reader: Literal["idx", "csv_images"]
    """The reader of the files."""
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    """Height, width and channels."""
    classes: Annotated[list[str], Field(min_length=2)]
    """The names of the classes, in the order of their numbers."""
    known_duplicates: NonNegativeInt
    """The number of identical images that may be in two splits."""


class FolderData(DataConfig):
    """The user's own pictures: one folder per class, or a CSV table of files and labels."""

    augmentable: ClassVar[bool] = True
    kind: Literal["images"]
    reader: Literal["image_folder"]
    """The reader of the files."""
    path: Annotated[str, AfterValidator(os.path.expanduser)]
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)] | None
    resize: Literal["stretch", "crop", "pad", "tiles"]
    overlap: Annotated[float, Field(ge=0, le=0.9)] | None = Field(default=None, exclude_if=is_none)
    background: Annotated[list[Byte], Field(min_length=3, max_length=3, default=[255, 255, 255])]  # default for earlier runs
    range: Annotated[list[int | float], Field(min_length=2, max_length=2)] | None = None
    broken: Literal["refuse", "leave_out"]
    duplicates: Literal["refuse", "leave_out", "keep"]
    known_duplicates: NonNegativeInt

    @_model_validator(mode="after")
    def _grey_or_colour(self) -> Self:
        if self.shape and self.shape[2] not in {1, 3}:
            raise ValueError(f"shape={self.shape}: height, width, and 1 channel (grey) or 3 (colour)")
        return self

    @_model_validator(mode="after")
    def _tiles_have_a_size(self) -> Self:
        if self.resize == "tiles" and not self.shape:
            raise ValueError("resize=tiles: shape is the size of a tile; set data.shape=[height,width,channels]")
        if self.overlap is not None and self.resize != "tiles":
            raise ValueError(f"overlap={self.overlap}: tiles overlap; set data.resize=tiles, or leave overlap out")
        return self

    @_model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.range and self.range[0] >= self.range[1]:
            raise ValueError(f"range={self.range}: the value that becomes 0, and a larger one that becomes 255")
        return self


class ImageWindow(WindowConfig):
    """Split of an image data set."""

    kind: Literal["images"]
    val_size: Size
    test_size: Size | None
    seed: NonNegativeInt
    limit: PositiveInt | None
    """The maximum number of training samples; that of the data."""


DATA = (ImageData, FolderData)
WINDOW = ImageWindow
