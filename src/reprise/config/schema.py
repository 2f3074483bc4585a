"""Schema of a resolved config: all keys with their types and ranges. Comments in conf/ explain the keys."""

import os.path
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
)
from pydantic import model_validator as _model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _size(value: Any) -> Any:
    if (isinstance(value, int) and not isinstance(value, bool) and value >= 1) or (isinstance(value, float) and 0 < value < 1):
        return value
    raise ValueError("should be a count of at least 1, or a share between 0 and 1")


Size = Annotated[int | float, PlainValidator(_size)]
"""A count, or a share below 1 (as in scikit-learn's `train_test_split`)."""

Share = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]


def _seeds(value: Any) -> Any:
    seeds = value if isinstance(value, list) else [value]
    minimum = 0 if isinstance(value, list) else 1
    valid = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= minimum for seed in seeds)
    if valid and seeds and len(set(seeds)) == len(seeds):
        return value
    raise ValueError("should be a count of at least 1, or a list of different seeds")


Seeds = Annotated[int | list[int], PlainValidator(_seeds)]
"""The number of trainings, or a list of their seeds."""


def _inside(value: str) -> str:
    if re.search(r"[\\\x00-\x1f]", value) or not all(part.strip(".") for part in value.removesuffix(".gz").split("/")):
        raise ValueError("should be a file's name, inside the folder it is looked for in")
    return value


def _source(value: str) -> str:
    scheme, _, location = value.partition(":")
    pattern = {"debian": "[a-z0-9][a-z0-9+.-]*", "package": "[A-Za-z_][A-Za-z0-9_]*"}.get(scheme)
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
"""A folder, a URL without login, a Debian package, or a Python package (not imported, hence without dots)."""


class Section(BaseModel):
    """A section of the config: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Target(Section):
    """A class or function to call, by its import path, with its arguments (checked by `build`)."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    target: str = Field(alias="_target_")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments as plain containers, without the import path."""
        return self.model_dump(exclude={"target"})


class RawFile(Section):
    """One published file."""

    fetch: FileName
    sha256: Sha256
    array: str | None = None

    @property
    def name(self) -> str:
        """File name under data/raw; compressed files are stored decompressed."""
        return self.fetch.removesuffix(".gz")


class Channel(Section):
    """One column of a series."""

    name: str
    unit: str


class Dataset(Section):
    """Fields common to all data sets."""

    name: Name
    title: str
    homepage: str
    citation: str
    licence: str
    limit: PositiveInt | None


class PublishedData(Dataset):
    """A data set of published files, with their sources."""

    mirror: FileName
    sources: Annotated[list[Source], Field(min_length=1)]
    files: Annotated[list[RawFile], Field(min_length=1)]


class ImageData(PublishedData):
    """Labelled images of one size."""

    kind: Literal["images"]
    reader: Literal["idx", "csv_images"]
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    classes: Annotated[list[str], Field(min_length=2)]
    known_duplicates: NonNegativeInt


class FolderData(Dataset):
    """The user's own pictures: one folder per class, or a CSV table of files and labels."""

    kind: Literal["images"]
    reader: Literal["image_folder"]
    path: Annotated[str, AfterValidator(os.path.expanduser)]
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)] | None
    resize: Literal["stretch", "crop", "pad"]
    background: Annotated[list[Byte], Field(min_length=3, max_length=3)] = [
        255,
        255,
        255,
    ]  # default for configs of earlier runs
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
    def _range_ascends(self) -> Self:
        if self.range and self.range[0] >= self.range[1]:
            raise ValueError(f"range={self.range}: the value that becomes 0, and a larger one that becomes 255")
        return self


class SeriesData(PublishedData):
    """One long series of several channels."""

    kind: Literal["series"]
    reader: Literal["csv_series"]
    time: str
    channels: Annotated[list[Channel], Field(min_length=1)]


DataConfig = Annotated[Annotated[ImageData | FolderData, Field(discriminator="reader")] | SeriesData, Field(discriminator="kind")]


class DataSection(Section):
    """The data section of a config on its own."""

    data: DataConfig


class ImageWindow(Section):
    """Split of an image data set."""

    kind: Literal["images"]
    val_size: Size
    test_size: Size | None
    seed: NonNegativeInt
    limit: PositiveInt | None


class SeriesWindow(Section):
    """Split of a series into windows: input steps, forecast steps and channels."""

    kind: Literal["series"]
    lookback: PositiveInt
    horizon: PositiveInt
    stride: PositiveInt
    inputs: list[str] | None
    targets: Annotated[list[str], Field(min_length=1)]
    calendar: list[Literal["year"]]
    val_size: Size
    test_size: Size
    season: PositiveInt
    limit: PositiveInt | None


WindowConfig = Annotated[ImageWindow | SeriesWindow, Field(discriminator="kind")]


class AugmentConfig(Section):
    """Augmentation of training images, drawn anew in every epoch; 0 turns a transform off."""

    flip: Share
    shift: NonNegativeInt
    rotate: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    elastic: NonNegativeFloat
    erase: Share

    @property
    def does_nothing(self) -> bool:
        """Whether all transforms are off."""
        return not any(self.model_dump().values())


class OptimizerConfig(Target):
    """An optimizer, called with the parameters of the network and these arguments."""

    lr: PositiveFloat


class TrainerConfig(Section):
    """Devices, duration and precision of a training."""

    accelerator: Literal["auto", "cpu", "gpu"]
    devices: PositiveInt
    num_nodes: PositiveInt
    strategy: Literal["single", "ddp", "fsdp"]
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"]
    max_epochs: PositiveInt
    batch_size: PositiveInt
    eval_batch_size: PositiveInt
    gradient_clip: PositiveFloat | None
    patience: PositiveInt | None
    deterministic: bool | Literal["warn"]
    threads: PositiveInt | None
    preload_to_device: bool | Literal["auto"]
    progress: bool

    @property
    def world_size(self) -> int:
        """Number of processes on all nodes together."""
        return self.devices * self.num_nodes

    @_model_validator(mode="after")
    def _strategy_fits_devices(self) -> Self:
        if self.strategy == "single" and self.world_size > 1:
            raise ValueError(f"strategy=single trains on one device, not {self.world_size}; take trainer=ddp")
        if self.strategy == "fsdp" and self.precision == "fp16":
            raise ValueError("strategy=fsdp does not scale the loss, which precision=fp16 needs; take bf16")
        if self.batch_size < self.world_size:
            raise ValueError(f"batch_size={self.batch_size} cannot be split over {self.world_size} devices")
        return self


class CheckpointConfig(Section):
    """When to save checkpoints, in addition to the end of each epoch."""

    steps: PositiveInt | None
    minutes: PositiveFloat | None
    grace: PositiveFloat = 25.0

    @property
    def patience(self) -> float:
        """Seconds to wait for a stopped training: the grace period and three seconds to close the run."""
        return self.grace + 3


class TrackingConfig(Section):
    """The MLflow tracking store."""

    uri: str | None
    experiment: str
    log_model: bool


class Published(Section):
    """A published value of the main metric for this network and data set."""

    value: float
    note: str


class Config(Section):
    """The config of a run. `seeds` trainings use the seeds `seed`, `seed + 1`, ..., or those listed in `seeds`."""

    name: Name
    seed: NonNegativeInt
    seeds: Seeds
    published: Published | None = None
    plugins: list[Name]
    data: DataConfig
    window: WindowConfig
    augment: AugmentConfig
    task: Target
    model: Target
    optimizer: OptimizerConfig
    scheduler: Target
    trainer: TrainerConfig
    checkpoint: CheckpointConfig = CheckpointConfig(steps=None, minutes=None)
    tracking: TrackingConfig
    resume: bool = True

    @property
    def every_seed(self) -> list[int]:
        """The seed of each training."""
        return self.seeds if isinstance(self.seeds, list) else [self.seed + offset for offset in range(self.seeds)]

    @_model_validator(mode="before")
    @classmethod
    def _window_is_of_the_kind_of_the_data(cls, tree: Any) -> Any:
        # Check this first: windows of the wrong kind lack keys, which would be reported instead.
        data, window = (tree.get(section) if isinstance(tree, dict) else None for section in ("data", "window"))
        if isinstance(data, dict) and isinstance(window, dict) and data.get("kind") != window.get("kind"):
            raise ValueError(f"window={window.get('kind')} cannot cut data={data.get('name')}, which holds {data.get('kind')}")
        return tree

    @_model_validator(mode="after")
    def _window_names_channels_of_the_data(self) -> Self:
        if isinstance(self.data, SeriesData) and isinstance(self.window, SeriesWindow):
            known = [channel.name for channel in self.data.channels]
            for key, chosen in (("inputs", self.window.inputs or []), ("targets", self.window.targets)):
                for channel in chosen:
                    if channel not in known:
                        raise ValueError(f"window.{key} names {channel!r}; data={self.data.name} has {', '.join(known)}")
        return self

    @_model_validator(mode="after")
    def _only_images_are_augmented(self) -> Self:
        if isinstance(self.data, SeriesData) and not self.augment.does_nothing:
            raise ValueError(f"augment alters images, and data={self.data.name} is a series; take augment=none")
        return self

    @_model_validator(mode="after")
    def _gradient_can_be_clipped(self) -> Self:
        fused = self.optimizer.arguments().get("fused")
        if self.trainer.precision == "fp16" and self.trainer.gradient_clip is not None and fused:
            raise ValueError(
                "trainer.gradient_clip with trainer.precision=fp16 needs optimizer.fused=false: "
                "a fused optimizer gets gradients that are still scaled"
            )
        return self


class Surroundings(Section):
    """The sections that do not affect what a run computes: devices and tracking store."""

    trainer: TrainerConfig
    tracking: TrackingConfig


class Pipeline(Section):
    """Schema of conf/pipeline.yaml: the experiments and data sets of the DVC pipelines, and overrides for all of them.

    `experiments` and `datasets` belong to dvc.yaml, `long` and `long_datasets` to long/dvc.yaml. `folders` are own image
    folders, for both. `plugins` maps each plugin to the path of its package or module, relative to the project root.
    """

    experiments: dict[Name, Name]
    long: dict[Name, Name]
    datasets: list[Name]
    long_datasets: list[Name]
    folders: list[Name] = []
    ablation: dict[Name, str]
    plugins: dict[Name, str] = {}
    overrides: list[str]
