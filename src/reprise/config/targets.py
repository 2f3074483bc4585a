"""Build the objects named by `_target_`: check the import path against an allowlist and the arguments against the signature."""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import inspect
import re
import sys
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from reprise.config.plugins import look_in_root
from reprise.config.sections import Target
from reprise.errors import UserError

ALLOWED = {
    "task": ("reprise.tasks.*.*",),
    "model": ("reprise.models.*.*", "torch.nn.*"),
    "optimizer": ("torch.optim.*",),
    "scheduler": ("reprise.training.schedules.*", "torch.optim.lr_scheduler.*"),
}
"""Allowed `_target_` of each section, in addition to the packages named in `plugins`; `*` matches one name."""
HYDRA_KEYS = {"_args_", "_partial_", "_convert_", "_recursive_"}
"""Keys that Hydra's `instantiate` would interpret besides `_target_`. It is not used here."""
VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def check_allowed(target: Any, plugins: Sequence[str], path: str) -> None:
    """Raise UserError for an import path that is not on the allowlist of the section that `path` starts with."""
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
    """Raise UserError for plugins from Python or from the dependencies of reprise: such packages can load and run any code.

    From now on, the other plugins are searched in the project root first.
    """
    for plugin in plugins:
        if (top := plugin.split(".")[0]) in sys.stdlib_module_names or top in _dependencies():
            raise UserError(f"plugins={plugin}: not a package of yours", "write a module that calls it, and name that")
    look_in_root(plugins)


@functools.cache
def _dependencies() -> frozenset[str]:
    """Return the import names of reprise and of its direct and indirect dependencies."""
    known, pending = set[str](), ["reprise"]
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name not in known:
            known.add(name)
            pending += _requirements(name)
    owners = importlib.metadata.packages_distributions()
    return frozenset(module for module, names in owners.items() if {re.sub(r"[-_.]+", "-", one).lower() for one in names} & known)


def _requirements(distribution: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:  # only for another Python version or system
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def build(
    node: Target, path: str, plugins: Sequence[str], *args: Any, offered: Mapping[str, Any] | None = None, **given: Any
) -> Any:
    """Call the target of `node` with its arguments and those given here.

    `path` is the path of the node in the config (`model`, …). `offered` are arguments that are passed only if the target has
    parameters of these names and `node` does not set them.

    Raises:
        UserError: for an argument that is unknown, of the wrong type, or already given here, and for a `ValueError` or
            `TypeError` of the constructor.

    """
    function = _locate(node.target, plugins, path)
    parameters = list(inspect.signature(function).parameters.values())
    names, set_by_user = {parameter.name for parameter in parameters}, node.arguments()
    given |= {name: value for name, value in (offered or {}).items() if name in names and name not in set_by_user}
    taken = {parameter.name for parameter in parameters[: len(args)]} | set(given)
    own = _check_arguments(function, [one for one in parameters if one.name not in taken], taken, node.arguments(), path)
    try:
        return function(*args, **own, **given)
    except (ValueError, TypeError) as error:
        first_word = re.match(r"\w+", str(error))  # many messages start with the name of the argument
        separator = "." if first_word and first_word.group() in own else ": "
        raise UserError(f"{path}{separator}{error}", f"it is built by {node.target}") from error


def _locate(target: str, plugins: Sequence[str], path: str) -> Any:
    """Import the target. It must be *defined* in an allowed package; names that torch.nn merely imports are refused."""
    where = f"{path}._target_"
    check_plugins(plugins)
    check_allowed(target, plugins, where)
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"{where}={target}: {error}") from error
    target_object = getattr(module, name, None)
    if target_object is None:
        raise UserError(f"{where}={target}: {module_name} has no {name}")
    if not (inspect.isclass(target_object) or inspect.isfunction(target_object)):
        raise UserError(f"{where}={target}: neither a class nor a function")
    if not f"{target_object.__module__}.".startswith(tuple(f"{package}." for package in (*_packages(path), *plugins))):
        raise UserError(f"{where}={target_object.__module__}.{target_object.__qualname__}: not on the allowlist")
    if not target.startswith(tuple(f"{plugin}." for plugin in plugins)) and not _fits_section(target_object, path):
        raise UserError(f"{where}={target}: no {path}")
    return target_object


def _packages(path: str) -> list[str]:
    section = path.partition(".")[0]
    return [pattern.split(".*")[0] for pattern in ALLOWED.get(section, ())]


def _fits_section(target_object: Any, path: str) -> bool:
    """Return whether a class has the base class of its section. Functions are allowed only as schedulers."""
    from torch import nn, optim  # late: reading a config does not need PyTorch

    section = path.partition(".")[0]
    kinds = {"model": nn.Module, "optimizer": optim.Optimizer, "scheduler": optim.lr_scheduler.LRScheduler, "task": nn.Module}
    return issubclass(target_object, kinds[section]) if inspect.isclass(target_object) else section == "scheduler"


def _check_arguments(
    function: Any, free: Sequence[inspect.Parameter], taken: Collection[str], arguments: dict[str, Any], path: str
) -> dict[str, Any]:
    """Return the arguments converted to the types of the signature; `free` are the parameters that may be set."""
    settable = [parameter.name for parameter in free if parameter.kind not in VARIADIC]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in free)
    hints = _hints(function)
    checked = {}
    for name, value in arguments.items():
        if name in taken:
            raise UserError(f"{path}.{name}: is given by reprise itself", "omit it")
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
    except NameError:  # a plugin that imports types only under TYPE_CHECKING: its arguments are not checked
        return {}


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """Return a hint with the most similar known name, after `prefix`, or with all known names."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    return f"the nearest is {prefix}{near[0]}" if near else f"there are {', '.join(known)}" if known else "it takes none"


def _convert(value: Any, hint: Any, path: str) -> Any:
    """Return the value converted to the type of the signature: plain types unchanged, dataclasses built from dicts."""
    try:
        adapter = _adapter(hint)
    except PydanticUserError:  # a type that pydantic does not support: the constructor checks it
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
    except PydanticUserError:  # a dataclass, which has a config of its own
        return TypeAdapter(hint)
