"""`_target_` is code: what may be named, and building it with arguments checked against its signature."""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import re
import sys
import typing
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from reprise.config.plugins import look_in_root
from reprise.config.schema import Target
from reprise.errors import UserError

ALLOWED = {
    "task": ("reprise.training.tasks.*",),
    "model": ("reprise.models.*.*", "torch.nn.*"),
    "optimizer": ("torch.optim.*",),
    "scheduler": ("reprise.training.schedules.*", "torch.optim.lr_scheduler.*"),
}
"""What the `_target_` of a section may be, beside the packages named in `plugins`; `*` is one name."""
HYDRA_WORDS = {"_args_", "_partial_", "_convert_", "_recursive_"}
"""What Hydra's `instantiate` would understand beside `_target_`. Nothing here calls it."""
VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def check_allowed(target: Any, plugins: Sequence[str], path: str) -> None:
    """Refuse an import path outside the allowlist of the section that `path` begins with."""
    allowed = ALLOWED.get(path.split(".")[0], ())
    if isinstance(target, str):
        if target.startswith(tuple(f"{plugin}." for plugin in plugins)):
            return
        if any(re.fullmatch(re.escape(pattern).replace(r"\*", "[A-Za-z][A-Za-z0-9_]*"), target) for pattern in allowed):
            return
    raise UserError(
        f"{path}={target}: not on the allowlist",
        f"name its package in plugins, or take one of {', '.join(allowed)}",
    )


def check_plugins(plugins: Sequence[str]) -> None:
    """Refuse plugins that are no package of the user's own: Python's and those that reprise needs can load and run anything.

    The others are found in the project's root first, from now on.
    """
    for plugin in plugins:
        if (top := plugin.split(".")[0]) in sys.stdlib_module_names or top in _brought():
            raise UserError(f"plugins={plugin}: no package of your own", "write a module that calls it, and name that")
    look_in_root(plugins)


@functools.cache
def _brought() -> frozenset[str]:
    """The import names of reprise, of what it requires, and of what that requires."""
    known, left = set[str](), ["reprise"]
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name not in known:
            known.add(name)
            left += _requirements(name)
    owners = importlib.metadata.packages_distributions()
    return frozenset(module for module, names in owners.items() if {re.sub(r"[-_.]+", "-", one).lower() for one in names} & known)


def _requirements(distribution: str) -> list[str]:
    try:
        said = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:  # for another Python or system
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in said if "extra ==" not in line]


def build(node: Target, path: str, plugins: Sequence[str], *args: Any, **given: Any) -> Any:
    """Call what `node` names with its own arguments and those given here.

    An argument that the signature does not know, that is given here, or of another type than the signature says, is the
    user's error, and so is a `ValueError` or `TypeError` of the constructor; `path` is where the node stands in the config
    (`model`, …).
    """
    function = _locate(node.target, plugins, path)
    parameters = list(inspect.signature(function).parameters.values())
    taken = {parameter.name for parameter in parameters[: len(args)]} | set(given)
    own = _check_arguments(function, [one for one in parameters if one.name not in taken], taken, node.arguments(), path)
    try:
        return function(*args, **own, **given)
    except (ValueError, TypeError) as error:
        about = re.match(r"\w+", str(error))  # many a complaint begins with the argument's name
        separator = "." if about and about.group() in own else ": "
        raise UserError(f"{path}{separator}{error}", f"it is built by {node.target}") from error


def _locate(target: str, plugins: Sequence[str], path: str) -> Any:
    """Import what the path names. It must also be *defined* in an allowed package: what torch.nn merely imports is not."""
    where = f"{path}._target_"
    check_plugins(plugins)
    check_allowed(target, plugins, where)
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"{where}={target}: {error}") from error
    found = getattr(module, name, None)
    if found is None:
        raise UserError(f"{where}={target}: {module_name} has no {name}")
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        raise UserError(f"{where}={target}: neither a class nor a function")
    if not f"{found.__module__}.".startswith(tuple(f"{package}." for package in (*_packages(path), *plugins))):
        raise UserError(f"{where}={found.__module__}.{found.__qualname__}: not on the allowlist")
    if not target.startswith(tuple(f"{plugin}." for plugin in plugins)) and not _is_of_its_kind(found, path):
        raise UserError(f"{where}={target}: no {path}")
    return found


def _packages(section: str) -> list[str]:
    return [pattern.split(".*")[0] for pattern in ALLOWED.get(section, ())]


def _is_of_its_kind(found: Any, section: str) -> bool:
    """Whether a class makes what its section is for; a schedule of ours is a function."""
    from torch import nn, optim  # late: to read a config takes no PyTorch

    kinds = {"model": nn.Module, "optimizer": optim.Optimizer, "scheduler": optim.lr_scheduler.LRScheduler, "task": object}
    return issubclass(found, kinds[section]) if inspect.isclass(found) else section == "scheduler"


def _check_arguments(
    function: Any, free: Sequence[inspect.Parameter], taken: Collection[str], arguments: dict[str, Any], path: str
) -> dict[str, Any]:
    """The arguments, each as the type that the signature says; `free` are the parameters they may name."""
    settable = [parameter.name for parameter in free if parameter.kind not in VARIADIC]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in free)
    hints = _hints(function)
    checked = {}
    for name, value in arguments.items():
        if name in taken:
            raise UserError(f"{path}.{name}: is given by reprise itself", "leave it away")
        if name not in settable and not takes_any:
            raise UserError(f"{path}.{name}: no such key", nearest(name, settable, f"{path}."))
        checked[name] = _convert(value, hints.get(name, Any), f"{path}.{name}")
    required = [one.name for one in free if one.name in settable and one.default is inspect.Parameter.empty]
    for name in required:
        if name not in arguments:
            raise UserError(f"{path}.{name}: is missing")
    return checked


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # a plugin that imports its types for type checkers alone: its arguments are its own to judge
        return {}


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """The known name that is most like the one given, after `prefix`; else all there are."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    return f"the nearest is {prefix}{near[0]}" if near else f"there are {', '.join(known)}" if known else "it takes none"


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
        *parts, last = [path, *(str(part) for part in detail["loc"] if not str(part).startswith("function"))]
        where = ".".join([*parts, last])
        if detail["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            kinds = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
            known = [field.name for kind in kinds for field in dataclasses.fields(kind)]
            raise UserError(f"{where}: no such key", nearest(last, known, f"{'.'.join(parts)}.")) from None
        if detail["type"] in {"missing", "missing_argument"}:
            raise UserError(f"{where}: is missing") from None
        raise UserError(f"{where}={detail['input']}: {detail['msg'].removeprefix('Input ')}") from None


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a dataclass, which brings a config of its own
        return TypeAdapter(hint)
