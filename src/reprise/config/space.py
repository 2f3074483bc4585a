"""Search space of a sweep: ranges and choices by key, and the conversion of their values to overrides."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, PositiveInt
from pydantic import model_validator as _model_validator

from reprise.config.sections import Section


def written(value: Any) -> str:
    """Return a value in the syntax of Hydra's overrides."""
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
    """Return a value as the sweep database stores it: lists as text, and `1e-3`, which YAML reads as text, as a number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return written(value) if isinstance(value, dict | list) else value


Plain = Annotated[bool | int | float | str | None, BeforeValidator(plain)]
Number = Annotated[float, BeforeValidator(plain)]


class Part(Section):
    """One key of the space. `when`: other keys and the values they must have for this key to be searched."""

    when: dict[str, Plain] = Field(default={})
    """Other keys and the values they must have for this key to be searched."""

    def is_active(self, chosen: Mapping[str, Any]) -> bool:
        """Return whether the key is searched, given the values of earlier keys."""
        return all(other in chosen and chosen[other] == value for other, value in self.when.items())


class Range(Part):
    """A range of numbers, both ends included; with `log` on a logarithmic scale."""

    low: Number
    """The lower end."""
    high: Number
    """The upper end."""
    log: bool = False
    """Whether to search on a logarithmic scale."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """The distance of neighbouring values; by default any value."""

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
        """Return the two ends of the range, for the preflight."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Return whether the value is in the range, ignoring the step."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class FloatRange(Range):
    """A range of real numbers."""

    kind: Literal["float"]
    """A range of real numbers."""


class IntRange(Range):
    """A range of integers."""

    kind: Literal["int"]
    """A range of integers."""
    low: int
    high: int
    step: PositiveInt | None = None


class Choice(Part):
    """A choice between values of a key (numbers, strings, lists) or files of a config group."""

    kind: Literal["choice"]
    """A choice between values."""
    values: Annotated[list[Plain], Field(min_length=1)]
    """The values, or the names of files of a group."""

    def ends(self) -> list[Any]:
        """Return all values, for the preflight."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Return whether the value is one of the choices."""
        return value in self.values


Space = dict[str, Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]]
"""Parts by key; a key comes after those named in its `when`."""


def conditions(space: Space, key: str) -> dict[str, Any]:
    """Return the values that other keys must have for this key to be searched, including indirect conditions."""
    required: dict[str, Any] = {}
    for other, value in space[key].when.items():
        required |= {**conditions(space, other), other: value}
    return required


def combinations(space: Space) -> list[dict[str, Any]]:
    """Return every combination of choices, the last key changing fastest. Inactive keys are omitted."""
    result: list[dict[str, Any]] = [{}]
    for key, part in space.items():
        result = [
            {**chosen, **added}
            for chosen in result
            for added in ([{key: value} for value in part.ends()] if part.is_active(chosen) else [{}])
        ]
    return result


def as_overrides(chosen: Mapping[str, Any]) -> list[str]:
    """Return values by key as Hydra overrides, group choices first because they define keys."""
    return [f"{key}={written(value)}" for key, value in sorted(chosen.items(), key=lambda item: "." in item[0])]
