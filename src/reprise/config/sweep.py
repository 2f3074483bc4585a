"""Schema of a sweep (`conf/sweep/*.yaml`): space, sampler, pruner and objectives. Frozen when the sweep starts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config import conf_files
from reprise.config.compose import compose, read_yaml, validated, variants
from reprise.config.conf_files import choices
from reprise.config.schema import Config
from reprise.config.sections import Name, Section
from reprise.config.space import Choice, FloatRange, IntRange, Part, Plain, Space, as_overrides, combinations, conditions
from reprise.config.targets import nearest
from reprise.config.validation import LOGIN, refuse_files, refuse_overrides
from reprise.errors import UserError

SWEEP_KEYS = ("sweep", "experiment", "name", "n_trials")
"""Keys of a sweep that are set on the command line without the prefix `sweep.`."""
REPLACEMENTS = {
    "seeds": "use sweep.seeds=3 for three trainings per trial",
    "resume": "use name=NEW to start a new sweep",
}
"""Keys of an experiment that a sweep replaces, with a hint."""


class Objective(Section):
    """The objective of a trial: a val metric at its best epoch, `parameters` or `train_seconds`. Test metrics are not allowed."""

    metric: Annotated[str, Field(pattern=r"^(val/[\w/. -]+|parameters|train_seconds)$")]
    """A metric of val at its best epoch such as `val/mae`, `parameters` or `train_seconds`."""
    direction: Literal["maximize", "minimize"]
    """Whether larger or smaller values are better."""


class Limit(Section):
    """An upper limit of a metric; trials above it cannot become the best."""

    metric: Annotated[str, Field(pattern=r"^(val/[\w/. -]+|parameters|train_seconds)$")]
    """As in `objectives`."""
    at_most: float
    """The largest value that the best trial may have."""


class Sampler(Section):
    """The sampler that chooses the next trial."""

    kind: Literal["tpe", "cmaes", "gp", "random", "grid", "sobol"] = "tpe"
    """Tree-structured Parzen estimator, CMA-ES, Gaussian process, random, every combination, or a Sobol sequence."""
    seed: NonNegativeInt = 0
    """The seed of the sampler."""
    startup: NonNegativeInt = 10
    """Trials drawn at random before the sampler learns from them."""


class Pruner(Section):
    """The pruner that stops unpromising trials, by val metrics after each epoch (`wilcoxon`: after each seed)."""

    kind: Literal["none", "median", "hyperband", "asha", "wilcoxon"] = "none"
    """The rule: none, below the median of earlier trials, Hyperband, successive halving, or a test between seeds."""
    warmup: NonNegativeInt = 0
    """The first epoch after which a trial can be pruned; epochs are counted over all seeds of the trial."""
    startup: NonNegativeInt = 5
    """Number of finished trials before pruning starts (`median`)."""
    reduction: Annotated[int, Field(ge=2)] = 3
    """One of this many trials is promoted to the next rung (`hyperband`, `asha`)."""


WILCOXON_SEEDS = 5
"""Minimum number of seeds: four pairs of equal sign give p = 1/16, three give 1/8, and the threshold is 1/10."""


class Sweep(Section):
    """The settings of a sweep."""

    name: Name
    """The name of the sweep; by default that of its file."""
    experiment: str
    """The experiment whose settings are searched."""
    n_trials: PositiveInt
    """The number of trials."""
    objectives: list[Objective] = Field(default=[])
    """By default the metric that selects the epoch; the preflight fills it in, since the task decides it."""
    limits: list[Limit] = Field(default=[])
    """Metrics with an upper limit."""
    sampler: Sampler = Sampler()
    """What chooses the settings of the next trial."""
    pruner: Pruner = Pruner()
    """What stops unpromising trials."""
    seeds: PositiveInt = 1
    """Trainings per trial; the objective is their mean."""
    max_failures: NonNegativeInt = 10
    """The sweep stops after more failed trials than this."""
    overrides: list[str] = Field(default=[])
    """Overrides for all trials."""
    space: Space
    """The ranges and choices, by key."""
    first: list[dict[str, Plain]] = Field(default=[])
    """Values of the first trials, e.g. known good settings; the sampler draws the missing keys."""

    @_model_validator(mode="after")
    def _space_fits_together(self) -> Self:
        if not self.space:
            raise ValueError("space: is empty")
        before: dict[str, Part] = {}
        for key, part in self.space.items():
            for other, value in part.when.items():
                if other not in before:
                    raise ValueError(f"space.{key}.when names {other}, which is not defined before it in the space")
                known = before[other]
                if isinstance(known, Choice) and value not in known.values:
                    raise ValueError(f"space.{key}.when: {other} is never {value}")
            before[key] = part
        return self

    @_model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        if self.sampler.kind == "cmaes" and len(self.objectives) > 1:
            raise ValueError("sampler.kind=cmaes: supports one objective; use tpe or gp")
        if self.sampler.kind == "grid":
            if not all(isinstance(part, Choice) for part in self.space.values()):
                raise ValueError("sampler.kind=grid needs a choice for every key")
            if self.n_trials > (size := len(combinations(self.space))):
                raise ValueError(f"n_trials={self.n_trials}: the grid has {size} combinations")
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
            raise ValueError("pruner: not available with several objectives; use sweep.pruner.kind=none")
        if self.objectives and not self.objectives[0].metric.startswith("val/"):
            raise ValueError(f"pruner: {self.objectives[0].metric} is known only at the end; use sweep.pruner.kind=none")
        if self.pruner.kind == "wilcoxon" and self.seeds < WILCOXON_SEEDS:
            raise ValueError(f"pruner.kind=wilcoxon compares seeds, the fewest are {WILCOXON_SEEDS}; use sweep.seeds=5")
        return self

    def active(self, chosen: dict[str, Any]) -> Iterator[tuple[str, FloatRange | IntRange | Choice]]:
        """Yield the active keys in order; the caller adds each drawn value to `chosen` during the iteration."""
        for key, part in self.space.items():
            if part.is_active(chosen):
                yield key, part

    def config(self, root: Path, chosen: dict[str, Any]) -> Config:
        """Compose the config of a trial from conf/ under `root`."""
        return compose(root, [f"experiment={self.experiment}", *self.overrides, *as_overrides(chosen)])

    def ends(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each key with values at each end of its range, for the preflight."""
        for key, part in self.space.items():
            for value in part.ends():
                yield key, {**conditions(self.space, key), key: value}


def read_sweep(root: Path, words: Sequence[str]) -> Sweep:
    """Return the sweep described by `sweep=NAME key=value …`.

    `sweep.KEY=value`, n_trials and name set keys of the sweep. All other keys belong to the experiment and apply to every trial.
    With `sweep=grid`, keys with several values (`a=1,2`) form the space.

    Raises:
        UserError: for an unknown sweep, an unknown key (with the nearest name), or a value out of range.

    """
    settings, overrides = _split_words(words)
    named, experiment = settings.pop("sweep", None), settings.pop("experiment", None)
    if named is None:
        raise UserError("no sweep named", f"add sweep=NAME, one of {', '.join([*choices(root, 'sweep'), 'grid'])}")
    refuse_files(root / "conf")
    tree, overrides = _grid(overrides) if named == "grid" else (_named(root, named), overrides)
    fixed = tree.get("overrides", [])
    fixed = [*fixed, *overrides] if isinstance(fixed, list) else fixed  # those of the command line come last and win
    tree = {"name": named if named != "grid" else f"grid-{experiment}", **tree, "overrides": fixed}
    if experiment:
        tree["experiment"] = experiment
    for key, value in settings.items():
        put(tree, key, yaml.safe_load(value))
    sweep = validated(Sweep, tree, f"conf/sweep/{named}.yaml")
    _preflight(root, sweep)
    return sweep


@dataclass(frozen=True)
class Resumed:
    """The arguments of `resume`: the sweep, settings to change, and other settings, which must equal those of the sweep."""

    name: str
    changes: dict[str, Any]
    """New values of n_trials and max_failures, by key."""
    settings: dict[str, Any]
    """Values of other keys of the sweep."""
    overrides: list[str]

    def check_same(self, sweep: Sweep) -> None:
        """Check that all other settings equal those the sweep was started with.

        Raises:
            UserError: naming the first different setting and the command that resumes the sweep.

        """
        started, space = sweep.model_dump(), {key: part.model_dump() for key, part in sweep.space.items()}
        others = [f"sweep.{key}={value}" for key, value in self.settings.items() if _at(started, key) != value]
        others += [word for word in self.overrides if word not in sweep.overrides and not _is_in(space, word)]
        if others:
            command = f"reprise sweep sweep={self.name} resume"
            hint = f"`{command}` resumes it; only n_trials and sweep.max_failures can change, name=NEW starts a new sweep"
            raise UserError(f"{others[0]}: sweep {self.name} was started without it, and its settings cannot change", hint)


def read_resumed(words: Sequence[str]) -> Resumed:
    """Return the arguments of `sweep=NAME resume key=value …`. The settings of the original command may be repeated.

    Raises:
        UserError: if no sweep is named.

    """
    given, overrides = _split_words(words)
    settings = {key: yaml.safe_load(value) for key, value in given.items()}
    named, name = settings.pop("sweep", None), settings.pop("name", None)
    if named == "grid" and "experiment" in settings:
        named = f"grid-{settings['experiment']}"  # the name that `read_sweep` gives it
    if not (name or named):
        raise UserError("no sweep named to resume", "use `reprise sweep sweep=NAME resume`")
    changes: dict[str, Any] = {key: settings.pop(key) for key in ("n_trials", "max_failures") if key in settings}
    return Resumed(str(name or named), changes, settings, overrides)


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _is_in(space: dict[str, Any], word: str) -> bool:
    """Return whether an override with several values (`a=1,2`) is part of the space of a grid."""
    values = [yaml.safe_load(one.partition("=")[2]) for one in variants(word)]
    return len(values) > 1 and space.get(word.partition("=")[0], {}).get("values") == values


def _split_words(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split the arguments into settings of the sweep, by key, and overrides for every trial."""
    settings: dict[str, str] = {}
    overrides: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: not of the form key=value")
        if LOGIN.search(value):
            raise UserError(f"{key}: holds a login, which the study would keep", "set MLFLOW_TRACKING_URI instead")
        if key in SWEEP_KEYS or key.startswith("sweep."):
            settings[key.removeprefix("sweep.")] = value
        elif hint := REPLACEMENTS.get(key):
            raise UserError(f"{word}: is no setting of a trial", hint)
        else:
            overrides.append(word)
    return settings, overrides


def _named(root: Path, name: str) -> dict[str, Any]:
    if name not in choices(root, "sweep"):
        raise UserError(f"sweep={name}: no conf/sweep/{name}.yaml", nearest(name, [*choices(root, "sweep"), "grid"]))
    tree: dict[str, Any] = read_yaml(conf_files.find(root, f"sweep/{name}.yaml"))
    return tree


def _grid(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return a grid over the keys that have several values, and the overrides for all trials."""
    refuse_overrides(words)
    searched = [each for word in words if len(each := variants(word)) > 1]
    if not searched:
        raise UserError("sweep=grid searches keys with several values", "add key=1,2,3")
    split = [[one.partition("=")[::2] for one in each] for each in searched]
    space = {each[0][0]: {"kind": "choice", "values": [yaml.safe_load(value) for _, value in each]} for each in split}
    tree = {"space": space, "sampler": {"kind": "grid"}, "n_trials": math.prod(map(len, searched))}
    return tree, [word for word in words if len(variants(word)) == 1]


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path of nested dicts; create missing dicts.

    Raises:
        UserError: if a part of the path is a value, not a dict.

    """
    *sections, last = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"{path}: no such key")
    tree[last] = value


def _preflight(root: Path, sweep: Sweep) -> None:
    """Compose a config at each end of each key of the space, to report errors before the first trial."""
    if sweep.config(root, sweep.first[0] if sweep.first else {}).trainer.world_size > 1:
        raise UserError("a trial trains on one device", "use trainer=auto; workers=N trains N trials at the same time")
    for key, chosen in sweep.ends():
        try:
            config = sweep.config(root, chosen)
        except UserError as error:
            raise UserError(f"space.{key}: {error}") from None
        if config.trainer.world_size > 1:
            raise UserError(f"space.{key}: a trial trains on one device", "leave out what asks for several")
