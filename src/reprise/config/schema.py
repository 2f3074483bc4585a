"""Schema of a resolved config: all keys with their types and ranges.

Comments in conf/ explain the keys, and texts beneath the fields those that conf/ does not. The reference of the config in docs/
is made from both.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PlainValidator, PositiveFloat, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.modalities import ANY_DATA, ANY_WINDOW
from reprise.config.sections import DataConfig, Name, Section, Share, Target, TaskConfig, WindowConfig
from reprise.config.trainer import TrainerConfig

if TYPE_CHECKING:
    AnyData = DataConfig
    AnyWindow = WindowConfig
else:
    AnyData, AnyWindow = ANY_DATA, ANY_WINDOW


def _seeds(value: Any) -> Any:
    seeds = value if isinstance(value, list) else [value]
    minimum = 0 if isinstance(value, list) else 1
    valid = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= minimum for seed in seeds)
    if valid and seeds and len(set(seeds)) == len(seeds):
        return value
    raise ValueError("should be a count of at least 1, or a list of different seeds")


INITIAL_WEIGHTS = r"^[A-Za-z0-9][A-Za-z0-9_./~-]*(@sha256:[0-9a-f]{64})?$"

Seeds = Annotated[int | list[int], PlainValidator(_seeds, json_schema_input_type=int | list[int])]
"""The number of trainings, or a list of their seeds."""


class DataSection(Section):
    """The data section of a config on its own."""

    data: AnyData


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
    def is_identity(self) -> bool:
        """Whether all transforms are off."""
        return not any(self.model_dump().values())

    @property
    def interpolates(self) -> bool:
        """Whether pixels are computed from their neighbours; a flip and a shift by whole pixels only copy them."""
        return bool(self.rotate or self.scale or self.shear or self.elastic)


class OptimizerConfig(Target):
    """An optimizer, called with the parameters of the network and these arguments."""

    lr: PositiveFloat
    """The learning rate, or the highest one of a schedule."""
    no_weight_decay: list[Literal["bias", "norm"]] = Field(default=[])
    """The kinds of parameters without weight decay: biases, and weights of normalisation layers."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the optimizer."""
        return self.model_dump(exclude={"target", "no_weight_decay"})

    @_model_validator(mode="after")
    def _decays(self) -> Self:
        if self.no_weight_decay and not self.arguments().get("weight_decay"):
            raise ValueError("no_weight_decay: the optimizer has no weight_decay to exclude parameters from")
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
    """Whether to log the model to MLflow, so that it can be loaded and registered."""


class Published(Section):
    """A published value for this network and data set: accuracy, MAE, or for several targets the MSE of standardised values."""

    value: float
    """The published value."""
    note: str
    """Where it was published and how it was measured, as the end of a sentence that begins with `was published`."""


class Config(Section):
    """The config of a run. `seeds` trainings use the seeds `seed`, `seed + 1`, ..., or those listed in `seeds`."""

    name: Name
    seed: NonNegativeInt
    seeds: Seeds
    published: Published | None = None
    plugins: list[Name]
    init_from: Annotated[str, Field(pattern=INITIAL_WEIGHTS)] | None = Field(default=None, exclude_if=lambda name: name is None)
    """The weights to start from: of a run, of an experiment in data/models/, or published; with `@sha256:…`, only these bytes."""
    freeze: list[str] = Field(default=[], exclude_if=lambda patterns: not patterns)
    """Patterns of the names of parameters that keep the weights of `init_from`."""
    data: AnyData
    """What is learned from; a file of conf/data/."""
    window: AnyWindow
    """The split, and for a series its windows; a file of conf/window/."""
    augment: AugmentConfig
    """Augmentation of training images; a file of conf/augment/."""
    task: TaskConfig
    """Targets, loss and metrics; a file of conf/task/."""
    model: Target
    """The network; a file of conf/model/."""
    optimizer: OptimizerConfig
    """The optimizer; a file of conf/optimizer/."""
    scheduler: Target
    """The schedule of the learning rate; a file of conf/scheduler/."""
    trainer: TrainerConfig
    """Devices, duration and precision; a file of conf/trainer/."""
    checkpoint: CheckpointConfig = CheckpointConfig(steps=None, minutes=None)
    tracking: TrackingConfig
    """The MLflow tracking store; a file of conf/tracking/."""
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
    def _window_fits_data(self) -> Self:
        self.window.check_data(self.data)
        return self

    @_model_validator(mode="after")
    def _data_can_be_augmented(self) -> Self:
        if not self.data.augmentable and not self.augment.is_identity:
            raise ValueError(f"augment alters images, and data={self.data.name} holds {self.data.kind}; use augment=none")
        return self

    @_model_validator(mode="after")
    def _frozen_layers_are_trained(self) -> Self:
        if self.freeze and self.init_from is None:
            raise ValueError("freeze needs init_from: layers that are frozen from the start would keep random weights")
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
    """Schema of conf/pipeline.yaml: the experiments and data sets of the DVC pipelines, and overrides for all of them."""

    experiments: dict[Name, Name]
    """The data set of each experiment that `dvc repro` makes."""
    long: dict[Name, Name]
    """Those that `dvc repro long/dvc.yaml` makes."""
    datasets: list[Name]
    """The published data sets of `experiments`."""
    long_datasets: list[Name]
    """The published data sets of `long`, as far as they are not in `datasets`."""
    folders: list[Name] = Field(default=[])
    """Your own data, for both lists: names of files of conf/data/."""
    ablation: dict[Name, str]
    """The experiments of the ablation figure, with their labels."""
    plugins: dict[Name, str] = Field(default={})
    """The path of the package or module of each plugin, relative to the project."""
    overrides: list[str]
    """Overrides of all experiments."""
    seeds: dict[Name, PositiveInt] = Field(default={})
    """The number of trainings of single experiments, instead of that in `overrides`."""
