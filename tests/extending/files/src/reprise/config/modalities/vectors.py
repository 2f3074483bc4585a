"""Config schema of vectors: labelled rows of numbers."""

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.sections import PublishedData, Size, WindowConfig


class VectorData(PublishedData):
    """A CSV without header: numbers, and an integer label in the last column."""

    kind: Literal["vectors"]
    classes: Annotated[list[str], Field(min_length=2)]


class VectorWindow(WindowConfig):
    """Split of labelled vectors."""

    kind: Literal["vectors"]
    val_size: Size
    test_size: Size
    seed: int


DATA = (VectorData,)
WINDOW = VectorWindow
