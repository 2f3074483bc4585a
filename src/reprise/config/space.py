"""What a sweep searches: ranges and choices by key, and how their values are written as overrides."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.schema import Section


def written(value: Any) -> str:
    """A value as Hydra reads it back from an override."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, str) and (value.startswith(("[", "{")) or _is_word(value)):
        return value
    return json.dumps(value)


def _is_word(text: str) -> bool:
    return text.replace("_", "").isalnum() and yaml.safe_load(text) == text


def plain(value: Any) -> Any:
    """A value as the database of sweeps keeps it: `1e-3`, which YAML takes for text, as a number; a list as its text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return written(value) if isinstance(value, dict | list) else value


Plain = Annotated[bool | int | float | str | None, BeforeValidator(plain)]
Number = Annotated[float, BeforeValidator(plain)]


class Part(Section):
    """A part of the space. `when` names other keys of it and the values they must have for this one to be searched."""

    when: dict[str, Plain] = Field(default={})

    def is_active(self, chosen: Mapping[str, Any]) -> bool:
        """Whether it is searched, beside these values of the keys before it."""
        return all(other in chosen and chosen[other] == value for other, value in self.when.items())


class Range(Part):
    """A number between two, both included; with `log` on a scale of powers."""

    low: Number
    high: Number
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None

    @_model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low}: a scale of powers begins above 0")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    def ends(self) -> list[Any]:
        """The values to try a config with."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether it can be drawn, but for the step."""
        return isinstance(value, int | float) and self.low <= value <= self.high


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
    """One of several: values of a key (numbers, words, lists), or files of a config group."""

    kind: Literal["choice"]
    values: Annotated[list[Plain], Field(min_length=1)]

    def ends(self) -> list[Any]:
        """The values to try a config with: all."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.values


Space = dict[str, Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]]
"""By key; a key stands behind those its `when` names."""


def conditions(space: Space, key: str) -> dict[str, Any]:
    """The values that other keys must have for this one to be searched, and for those to be searched in their turn."""
    needed: dict[str, Any] = {}
    for other, value in space[key].when.items():
        needed |= {**conditions(space, other), other: value}
    return needed


def combinations(space: Space) -> list[dict[str, Any]]:
    """Every combination of choices, the last key changing fastest; a key that is not searched beside the others is left out."""
    every: list[dict[str, Any]] = [{}]
    for key, part in space.items():
        every = [
            {**chosen, **more}
            for chosen in every
            for more in ([{key: value} for value in part.ends()] if part.is_active(chosen) else [{}])
        ]
    return every


def as_overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Values by key as Hydra's overrides; groups first, for they bring keys with them."""
    return [f"{key}={written(value)}" for key, value in sorted(chosen.items(), key=lambda item: "." in item[0])]
