"""`_target_` is code: what may be named, and building it with arguments checked against its signature."""

import importlib
import inspect
import typing
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from reprise.config.schema import Target
from reprise.errors import UserError

ALLOWED = ("reprise.models.", "reprise.learning.", "torch.nn.", "torch.optim.", "torchmetrics.", "kornia.augmentation.")
"""What a `_target_` may start with, beside the packages named in `plugins`."""


def check_allowed(target: Any, plugins: Sequence[str], path: str) -> None:
    """Refuse an import path outside the allowlist."""
    allowed = (*ALLOWED, *(f"{plugin}." for plugin in plugins))
    if not isinstance(target, str) or not target.startswith(allowed):
        raise UserError(
            f"{path}={target}: not on the allowlist",
            f"name its package in plugins, or take one of {', '.join(ALLOWED)}",
        )


def build(node: Target, path: str, plugins: Sequence[str], *args: Any, **extra: Any) -> Any:
    """Call what `node` names with its own arguments and those given here, which win.

    An argument that the signature does not know, or of another type than it says, is the user's error, and so is a
    `ValueError` or `TypeError` of the constructor; `path` is where the node stands in the config (`model`, …).
    """
    check_allowed(node.target, plugins, f"{path}._target_")
    function = _locate(node.target, plugins, path)
    arguments = _check_arguments(function, node.arguments(), path, given=(len(args), extra))
    try:
        return function(*args, **{**arguments, **extra})
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}", f"it is built by {node.target}") from error


def takes(node: Target, argument: str, plugins: Sequence[str]) -> bool:
    """Whether what `node` names has an argument of this name."""
    return argument in inspect.signature(_locate(node.target, plugins, node.target)).parameters


def _locate(target: str, plugins: Sequence[str], path: str) -> Any:
    """Import what the path names. It must also be *defined* in an allowed package: `torch.nn.functional.torch.load` is not."""
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except ImportError:
        raise UserError(f"{path}._target_={target}: no module {module_name}") from None
    except AttributeError:
        raise UserError(f"{path}._target_={target}: {module_name} has no {name}") from None
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        raise UserError(f"{path}._target_={target}: neither a class nor a function")
    check_allowed(f"{found.__module__}.{found.__qualname__}", plugins, f"{path}._target_")
    return found


def _check_arguments(function: Any, arguments: dict[str, Any], path: str, given: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    positional, extra = given
    settable = [name for name in list(parameters)[positional:] if name not in extra]
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    checked = {}
    for name, value in arguments.items():
        if name not in settable:
            near = get_close_matches(name, settable, n=1, cutoff=0.3)
            raise UserError(f"{path}.{name}: no such key", f"the nearest is {path}.{near[0]}" if near else "")
        checked[name] = _convert(value, hints.get(name, Any), f"{path}.{name}")
    missing = [n for n in settable if n not in arguments and parameters[n].default is inspect.Parameter.empty]
    missing = [n for n in missing if parameters[n].kind not in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}]
    if missing:
        raise UserError(f"{path}.{missing[0]}: is missing")
    return checked


def _convert(value: Any, hint: Any, path: str) -> Any:
    """The value as the type the signature says: plain types as they are, dataclasses built from dicts."""
    try:
        adapter = _adapter(hint)
    except PydanticUserError:  # a type pydantic knows nothing of: the constructor's to judge
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join([path, *(str(part) for part in detail["loc"] if not str(part).startswith("function"))])
        if detail["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            raise UserError(f"{where}: no such key") from None
        raise UserError(f"{where}={detail['input']}: {detail['msg'].removeprefix('Input ')}") from None


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a dataclass, which brings a config of its own
        return TypeAdapter(hint)
