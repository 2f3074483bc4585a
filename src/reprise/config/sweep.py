"""What a sweep is: its space, how it is searched, what it is judged by. `conf/sweep/*.yaml`, frozen when a sweep begins."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.compose import choices, compose, read_yaml, validated
from reprise.config.refusals import LOGIN, refuse_files
from reprise.config.schema import Config, Name, Section
from reprise.config.targets import nearest
from reprise.errors import UserError

Plain = bool | int | float | str | None
BY_DEFAULT = {
    "images": {"metric": "val/accuracy", "direction": "maximize"},
    "series": {"metric": "val/mae", "direction": "minimize"},
}
"""What trials are judged by where nothing is said, by the kind of the data."""
OWN = ("sweep", "experiment", "name", "n_trials")
"""Keys of a sweep that are set on the command line without `sweep.` before them."""


class Part(Section):
    """A part of the space. `when` names other keys of it and the values they must have for this one to be searched."""

    when: dict[str, Plain] = Field(default={})


class Range(Part):
    """A number between two, both included; with `log` on a scale of powers."""

    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None

    @_model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low}: a scale of powers begins above 0")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    def ends(self) -> list[Plain]:
        """The values to try a config with."""
        return [self.low, self.high]


class FloatRange(Range):
    """Any number."""

    kind: Literal["float"]


class IntRange(Range):
    """Whole numbers."""

    kind: Literal["int"]
    low: int
    high: int
    step: PositiveInt | None = None


class Choice(Part):
    """One of several: values of a key, or files of a config group."""

    kind: Literal["choice"]
    values: Annotated[list[Plain], Field(min_length=1)]

    def ends(self) -> list[Plain]:
        """The values to try a config with: all."""
        return self.values


class Objective(Section):
    """What a trial is judged by: a metric of val at its best epoch, or `parameters` or `train_seconds`. Never one of test."""

    metric: Annotated[str, Field(pattern=r"^(val/\w+|parameters|train_seconds)$")]
    direction: Literal["maximize", "minimize"]


class Limit(Section):
    """A trial above it is none to choose."""

    metric: Annotated[str, Field(pattern=r"^(val/\w+|parameters|train_seconds)$")]
    at_most: float


class Sampler(Section):
    """How the next trial is chosen."""

    kind: Literal["tpe", "cmaes", "gp", "random", "grid", "sobol"] = "tpe"
    seed: NonNegativeInt = 0
    startup: NonNegativeInt = 10
    """Trials drawn at random before the sampler learns from them."""


class Pruner(Section):
    """When a trial is given up before its end, from what val said after each epoch (`wilcoxon`: after each seed)."""

    kind: Literal["none", "median", "hyperband", "asha", "wilcoxon"] = "none"
    warmup: NonNegativeInt = 0
    """The first epoch after which a trial can be given up."""
    startup: NonNegativeInt = 5
    """Trials that must have ended before one can be given up (`median`)."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Of so many trials one goes on to the next rung (`hyperband`, `asha`)."""


class Sweep(Section):
    """A whole sweep."""

    name: Name
    experiment: str
    n_trials: PositiveInt
    objectives: Annotated[list[Objective], Field(min_length=1)]
    limits: list[Limit] = Field(default=[])
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    seeds: PositiveInt = 1
    """Trainings of one trial; it is judged by their mean."""
    max_failures: NonNegativeInt = 10
    """More failed trials than this end the sweep."""
    overrides: list[str] = Field(default=[])
    """What holds for all trials."""
    space: dict[str, Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]]

    @_model_validator(mode="after")
    def _space_fits_together(self) -> Self:
        if not self.space:
            raise ValueError("space: is empty")
        before: dict[str, Part] = {}
        for key, part in self.space.items():
            for other, value in part.when.items():
                if other not in before:
                    raise ValueError(f"space.{key}.when names {other}, which does not stand before it in the space")
                known = before[other]
                if isinstance(known, Choice) and value not in known.values:
                    raise ValueError(f"space.{key}.when: {other} is never {value}")
            before[key] = part
        if self.sampler.kind == "grid" and not all(isinstance(part, Choice) for part in self.space.values()):
            raise ValueError("sampler.kind=grid needs a choice for every key")
        return self

    @_model_validator(mode="after")
    def _can_prune(self) -> Self:
        if self.pruner.kind == "none":
            return self
        if len(self.objectives) > 1:
            raise ValueError("pruner: several objectives cannot prune; take sweep.pruner.kind=none")
        if not self.objectives[0].metric.startswith("val/"):
            raise ValueError(f"pruner: {self.objectives[0].metric} is known only at the end; take sweep.pruner.kind=none")
        if self.pruner.kind == "wilcoxon" and self.seeds < 2:
            raise ValueError("pruner.kind=wilcoxon compares seeds; take sweep.seeds=3, say")
        return self

    def active(self, chosen: dict[str, Any]) -> Iterator[tuple[str, FloatRange | IntRange | Choice]]:
        """The keys to search, in order; `chosen` is filled by the caller as it goes."""
        for key, part in self.space.items():
            if all(other in chosen and chosen[other] == value for other, value in part.when.items()):
                yield key, part

    def config(self, root: Path, chosen: dict[str, Any]) -> Config:
        """The config of a trial, from the conf/ under `root`."""
        return compose(root, [f"experiment={self.experiment}", *self.overrides, *as_overrides(chosen)])


def as_overrides(chosen: dict[str, Any]) -> list[str]:
    """Values by key as Hydra's overrides; groups first, for they bring keys with them."""
    return [f"{key}={_written(value)}" for key, value in sorted(chosen.items(), key=lambda item: "." in item[0])]


def _written(value: Plain) -> str:
    return value if isinstance(value, str) and value.replace("_", "").isalnum() else json.dumps(value)


def read_sweep(root: Path, words: Sequence[str]) -> Sweep:
    """The sweep that `sweep=NAME key=value …` asks for.

    `sweep.KEY=value` sets a key of the sweep, as do n_trials and name; all other keys are those of the experiment and hold for
    every trial. With `sweep=grid`, keys with several values (`a=1,2`) are the space.

    Raises:
        UserError: for an unknown sweep, an unknown key (naming the nearest), or a value out of range.

    """
    said, held = _apart(words)
    named, experiment = said.pop("sweep", None), said.pop("experiment", None)
    if named is None:
        raise UserError("no sweep named", f"add sweep=NAME, one of {', '.join([*choices(root, 'sweep'), 'grid'])}")
    refuse_files(root / "conf")
    tree, held = _grid(held) if named == "grid" else (_named(root, named), held)
    tree = {"name": named if named != "grid" else f"grid-{experiment}", **tree, "overrides": held}
    if experiment:
        tree["experiment"] = experiment
    for key, value in said.items():
        put(tree, key, yaml.safe_load(value))
    if "experiment" in tree and "objectives" not in tree:
        kind = compose(root, [f"experiment={tree['experiment']}", *held]).window.kind
        tree["objectives"] = [BY_DEFAULT[kind]]
    sweep = validated(Sweep, tree, f"conf/sweep/{named}.yaml")
    _try_out(root, sweep)
    return sweep


def _apart(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What is said of the sweep, by key, and the words that hold for every trial."""
    said: dict[str, str] = {}
    held: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: not of the form key=value")
        if LOGIN.search(value):
            raise UserError(f"{key}: holds a login, which the study would keep", "set MLFLOW_TRACKING_URI instead")
        if key in OWN or key.startswith("sweep."):
            said[key.removeprefix("sweep.")] = value
        else:
            held.append(word)
    return said, held


def _named(root: Path, name: str) -> dict[str, Any]:
    if name not in choices(root, "sweep"):
        raise UserError(f"sweep={name}: no conf/sweep/{name}.yaml", nearest(name, [*choices(root, "sweep"), "grid"]))
    tree: dict[str, Any] = read_yaml(root / "conf" / "sweep" / f"{name}.yaml")
    return tree


def _grid(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """A space of every combination of the keys that were given several values, and the words that hold for all."""
    several = {key: values.split(",") for key, _, values in (word.partition("=") for word in words) if _is_list(values)}
    if not several:
        raise UserError("sweep=grid searches keys with several values", "say key=1,2,3")
    space = {key: {"kind": "choice", "values": [yaml.safe_load(value) for value in values]} for key, values in several.items()}
    tree = {"space": space, "sampler": {"kind": "grid"}, "n_trials": math.prod(map(len, several.values()))}
    return tree, [word for word in words if word.partition("=")[0] not in several]


def _is_list(values: str) -> bool:
    return "," in values and not values.startswith(("[", "{", '"', "'"))


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path of nested dicts; what is missing on the way is made.

    Raises:
        UserError: when a value stands in the way.

    """
    *sections, last = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"{path}: no such key")
    tree[last] = value


def _try_out(root: Path, sweep: Sweep) -> None:
    """Compose a config with each end of each part of the space: what is wrong is said before the first trial."""
    for key, part in sweep.space.items():
        for value in part.ends():
            try:
                sweep.config(root, {**part.when, key: value})
            except UserError as error:
                raise UserError(f"space.{key}: {error}") from None
