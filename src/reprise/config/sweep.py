"""What a sweep is: its space, how it is searched, what it is judged by. `conf/sweep/*.yaml`, frozen when a sweep begins."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.compose import choices, compose, read_yaml, validated, variants
from reprise.config.schema import Config, Name, Section
from reprise.config.space import Choice, FloatRange, IntRange, Part, Plain, Space, as_overrides, combinations, conditions
from reprise.config.targets import nearest
from reprise.config.validation import LOGIN, refuse_files, refuse_overrides
from reprise.errors import UserError

BY_DEFAULT = {
    "images": {"metric": "val/accuracy", "direction": "maximize"},
    "series": {"metric": "val/mae", "direction": "minimize"},
}
"""What trials are judged by where nothing is said, by the kind of the data."""
OWN = ("sweep", "experiment", "name", "n_trials")
"""Keys of a sweep that are set on the command line without `sweep.` before them."""
INSTEAD = {
    "seeds": "say sweep.seeds=3 for three trainings a trial",
    "resume": "say name=NEW for a sweep from the start",
}
"""Keys of an experiment that a sweep has another word for."""


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
    """The first epoch after which a trial can be given up; those of several seeds count on."""
    startup: NonNegativeInt = 5
    """Trials that must have ended before one can be given up (`median`)."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """Of so many trials one goes on to the next rung (`hyperband`, `asha`)."""


WILCOXON_SEEDS = 5
"""The fewest that can tell: four pairs that all point one way come out at p = 1/16, three at 1/8, and 1/10 is asked."""


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
    space: Space
    first: list[dict[str, Plain]] = Field(default=[])
    """Values that the first trials begin with, as those known to be good; the sampler draws what they leave open."""

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
        return self

    @_model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.sampler.kind == "cmaes" and len(self.objectives) > 1:
            raise ValueError("sampler.kind=cmaes: knows one objective; take tpe or gp")
        if self.sampler.kind == "grid":
            if not all(isinstance(part, Choice) for part in self.space.values()):
                raise ValueError("sampler.kind=grid needs a choice for every key")
            if self.n_trials > (most := len(combinations(self.space))):
                raise ValueError(f"n_trials={self.n_trials}: the grid has {most} combinations")
            if self.first:
                raise ValueError("first: a grid has an order of its own")
        return self

    @_model_validator(mode="after")
    def _first_lie_in_the_space(self) -> Self:
        for number, chosen in enumerate(self.first):
            for key, value in chosen.items():
                if key not in self.space:
                    raise ValueError(f"first.{number}.{key}: is not in the space, which has {', '.join(self.space)}")
                if not self.space[key].holds(value):
                    raise ValueError(f"first.{number}.{key}={value}: lies outside the space")
        return self

    @_model_validator(mode="after")
    def _can_prune(self) -> Self:
        if self.pruner.kind == "none":
            return self
        if len(self.objectives) > 1:
            raise ValueError("pruner: several objectives cannot prune; take sweep.pruner.kind=none")
        if not self.objectives[0].metric.startswith("val/"):
            raise ValueError(f"pruner: {self.objectives[0].metric} is known only at the end; take sweep.pruner.kind=none")
        if self.pruner.kind == "wilcoxon" and self.seeds < WILCOXON_SEEDS:
            raise ValueError(f"pruner.kind=wilcoxon compares seeds, the fewest are {WILCOXON_SEEDS}; take sweep.seeds=5")
        return self

    def active(self, chosen: dict[str, Any]) -> Iterator[tuple[str, FloatRange | IntRange | Choice]]:
        """The keys to search, in order; `chosen` is filled by the caller as it goes."""
        for key, part in self.space.items():
            if part.is_active(chosen):
                yield key, part

    def config(self, root: Path, chosen: dict[str, Any]) -> Config:
        """The config of a trial, from the conf/ under `root`."""
        return compose(root, [f"experiment={self.experiment}", *self.overrides, *as_overrides(chosen)])

    def ends(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Values that reach each end of each part of the space, and the key whose end it is: what a sweep is tried out with."""
        for key, part in self.space.items():
            for value in part.ends():
                yield key, {**conditions(self.space, key), key: value}


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
    _preflight(root, sweep)
    return sweep


@dataclass(frozen=True)
class Resumed:
    """What `resume` was asked: the sweep, what it sets anew, and what else was said, which has to be as the sweep was begun."""

    name: str
    changes: dict[str, Any]
    """Of n_trials and max_failures, by key."""
    settings: dict[str, Any]
    """Of the sweep's other keys."""
    overrides: list[str]

    def demand_same(self, sweep: Sweep) -> None:
        """Refuse what the sweep was not begun with, naming the command that goes on with it.

        Raises:
            UserError: naming the first such word.

        """
        begun, space = sweep.model_dump(), {key: part.model_dump() for key, part in sweep.space.items()}
        others = [f"sweep.{key}={value}" for key, value in self.settings.items() if _at(begun, key) != value]
        others += [word for word in self.overrides if word not in sweep.overrides and not _is_in(space, word)]
        if others:
            command = f"reprise sweep sweep={self.name} resume"
            hint = f"`{command}` goes on with it; n_trials and sweep.max_failures alone may be set anew, name=NEW begins another"
            raise UserError(f"{others[0]}: sweep {self.name} was begun without it, and goes on as it was begun", hint)


def read_resumed(words: Sequence[str]) -> Resumed:
    """Return what `sweep=NAME resume key=value …` asks for. The words that began the sweep may be said again.

    Raises:
        UserError: when no sweep is named.

    """
    said, held = _apart(words)
    settings = {key: yaml.safe_load(value) for key, value in said.items()}
    named, name = settings.pop("sweep", None), settings.pop("name", None)
    if named == "grid" and "experiment" in settings:
        named = f"grid-{settings['experiment']}"  # as `read_sweep` calls it
    if not (name or named):
        raise UserError("resume goes on with a sweep as it was begun", "say `reprise sweep sweep=NAME resume`")
    changes: dict[str, Any] = {key: settings.pop(key) for key in ("n_trials", "max_failures") if key in settings}
    return Resumed(str(name or named), changes, settings, held)


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _is_in(space: dict[str, Any], word: str) -> bool:
    """Whether an override with several values (`a=1,2`) is a part of the space of a grid."""
    values = [yaml.safe_load(one.partition("=")[2]) for one in variants(word)]
    return len(values) > 1 and space.get(word.partition("=")[0], {}).get("values") == values


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
        elif instead := INSTEAD.get(key):
            raise UserError(f"{word}: is no setting of a trial", instead)
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
    refuse_overrides(words)
    several = [each for word in words if len(each := variants(word)) > 1]
    if not several:
        raise UserError("sweep=grid searches keys with several values", "say key=1,2,3")
    split = [[one.partition("=")[::2] for one in each] for each in several]
    space = {each[0][0]: {"kind": "choice", "values": [yaml.safe_load(value) for _, value in each]} for each in split}
    tree = {"space": space, "sampler": {"kind": "grid"}, "n_trials": math.prod(map(len, several))}
    return tree, [word for word in words if len(variants(word)) == 1]


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


def _preflight(root: Path, sweep: Sweep) -> None:
    """Compose a config with each end of each part of the space: what is wrong is said before the first trial."""
    if sweep.config(root, sweep.first[0] if sweep.first else {}).trainer.world_size > 1:
        raise UserError("a trial trains on one device", "take trainer=auto; workers=N trains N trials at the same time")
    for key, chosen in sweep.ends():
        try:
            config = sweep.config(root, chosen)
        except UserError as error:
            raise UserError(f"space.{key}: {error}") from None
        if config.trainer.world_size > 1:
            raise UserError(f"space.{key}: a trial trains on one device", "leave out what asks for several")
