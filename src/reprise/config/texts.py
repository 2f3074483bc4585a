"""Quote override values for Hydra's grammar where the schema says the key is a string, so that any character is allowed."""

import functools
import re
import shlex
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from reprise.config.schema import Config
from reprise.errors import UserError

DOUBLE = '"'


def quoted(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with string values quoted for Hydra: the value of `data.path=/a, b=c` may contain any character.

    Quoted values, references (`${data.name}`) and null for nullable keys stay unchanged.
    """
    return [_quoted(item) for item in overrides]


def quote(text: str, mark: str = "'") -> str:
    """Return the text in quotes for Hydra. Backslashes are doubled only where Hydra unescapes them."""
    escaped = re.sub(rf"(\\*)({mark}|\Z)", lambda match: match[1] * 2 + (f"\\{mark}" if match[2] else ""), text)
    return f"{mark}{escaped}{mark}"


def unreadable(overrides: Sequence[str]) -> UserError | None:
    """Return an error for the first override that Hydra's grammar cannot parse, with the correct quoting."""
    for item in overrides:
        key, equals, value = item.partition("=")
        if equals and not _parses(item):
            word = shlex.quote(f"{key}={quote(value, DOUBLE)}")
            hint = f"if it is a text, quote it twice, for the shell and for Hydra: {word}"
            return UserError(f"{item}: the value cannot be read", hint)
    return None


def _quoted(item: str) -> str:
    key, equals, value = item.partition("=")
    nullable = _texts().get(key.lstrip("+"))
    if not equals or nullable is None or "${" in value or (nullable and value == "null"):
        return item
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" and _parses(item):
        return item
    return f"{key}={quote(value)}"


def _parses(item: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser  # late: takes 0.1 s, and few overrides need it
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(item)
    except (HydraException, RecursionError):
        return False
    return True


@functools.cache
def _texts() -> dict[str, bool]:
    """Return the dotted path of every string key of the config, with whether it may be null."""
    return dict(_of_model(Config, ""))


def _of_model(model: type[BaseModel], path: str) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        kinds = list(_kinds(field.annotation))
        where = f"{path}{name}"
        if set(kinds) <= {str, types.NoneType}:
            yield where, types.NoneType in kinds
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _of_model(kind, f"{where}.")


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the plain types of a union, without `Annotated` metadata."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _kinds(typing.get_args(annotation)[0])
    elif origin in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation
