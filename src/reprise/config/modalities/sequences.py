"""Config schema of sequences: samples of one or several channels over time, each with a class."""

import os.path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from reprise.config.sections import DataConfig, PublishedData, Size, WindowConfig

Missing = Literal["refuse", "interpolate"]
Channels = Annotated[list[str], Field(min_length=1)]


class PublishedSequences(PublishedData):
    """Published labelled sequences: `.ts` files, or IDX files of grey images, whose rows are the steps (`idx_rows`)."""

    kind: Literal["sequences"]
    reader: Literal["ts", "idx_rows"]
    """The reader of the files."""
    channels: Channels
    """The names of the channels."""
    classes: Annotated[dict[str, str], Field(min_length=2)]
    """The name of each class, by its label in the files."""
    missing: Missing
    """Missing values: `refuse`, or `interpolate` over time."""
    known_duplicates: NonNegativeInt
    """The number of identical sequences that may be in two splits."""


class OwnSequences(DataConfig):
    """The user's own labelled sequences: `.ts` files, or CSV files with one sequence a row."""

    kind: Literal["sequences"]
    reader: Literal["ucr"]
    """The reader of the files."""
    path: Annotated[str, AfterValidator(os.path.expanduser)]
    channels: Channels | None
    label: Annotated[str, Field(min_length=1)]
    separator: Annotated[str, Field(min_length=1)]
    decimal: Literal["auto", ".", ","]
    missing: Missing
    known_duplicates: NonNegativeInt


class SequenceWindow(WindowConfig):
    """Split of labelled sequences."""

    kind: Literal["sequences"]
    val_size: Size
    test_size: Size | None
    seed: NonNegativeInt
    limit: PositiveInt | None
    """The maximum number of training samples; that of the data."""


DATA = (PublishedSequences, OwnSequences)
WINDOW = SequenceWindow
