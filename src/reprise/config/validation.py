"""Safety checks before Hydra composes and OmegaConf resolves: path traversal, resolvers, environment, logins, anchor bombs."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from reprise.errors import UserError

LARGEST = 1_000_000
"""Maximum characters of a config with anchors and interpolations expanded; the shipped ones have a few thousand."""
DEEPEST = 64
"""Maximum levels of nesting."""
POINTER = re.compile(r"\$\{([\w.-]+)\}")
LOGIN = re.compile(r"(?i)://[^\s/]*@|://[^\s/:]*:\S*@|[?&;]\w*(?:pass|pwd|secret|token|key)\w*=[^&;\s]")
"""Matches a user name, password or token in an address."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Raise UserError for an override that does not name a config key: a package, a file, or one of Hydra's own settings."""
    for item in overrides:
        key, equals, _ = item.lstrip("+~").partition("=")
        if not (equals or item.startswith("~")) or not key:
            continue  # Hydra reports it
        if key.split(".")[0] == "hydra":
            raise UserError(f"{key}: no such key", "Hydra's own settings stay as they are")
        if not re.fullmatch(r"[\w.-]+", key) or key.startswith("-"):
            raise UserError(f"{key}: no such key", "a key is names with dots between them")


def refuse_files(conf: Path) -> None:
    """Check every file of conf/, also those that this run does not read but a later run might."""
    for file in sorted(conf.rglob("*.yaml")):
        try:
            refuse_file(file, _objection(file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError):  # reported when the file is needed
            continue


def refuse_file(file: Path, objection: str) -> None:
    """Raise UserError if there is an objection."""
    if objection:
        raise UserError(f"{file}: {objection}")


@functools.lru_cache(maxsize=512)
def _objection(text: str) -> str:
    """Return why a file of conf/ is refused, or "". Invalid YAML is reported when the file is read."""
    if objection := explosion(text):
        return objection
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader, in C where there is one
    except (yaml.YAMLError, ValueError):
        return ""
    if isinstance(tree, dict):
        if any(str(key).split(".")[0] == "hydra" for key in tree):
            return "hydra: no such key; Hydra's own settings stay as they are"
        for _, entry in texts(tree.get("defaults")):
            if ".." in entry or "hydra" in re.split(r"\W", entry) or not re.fullmatch(r"[\w@ ./?-]*", entry):
                return f"defaults: {entry}: names no file of conf/"
    for path, value in texts(tree):
        if LOGIN.search(value):
            return f"{path}: holds a login, and runs record conf/; set MLFLOW_TRACKING_URI or REPRISE_MIRROR instead"
    return ""


def explosion(text: str) -> str:
    """Return why YAML is too large or too deep with its anchors expanded ("billion laughs"), or recursive; else "".

    The check only parses events and builds no objects: ten lines of anchors can expand to gigabytes.
    """
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) and event.anchor not in sizes:
                return f"*{event.anchor} refers to itself or to an undefined anchor"
            if _measure(event, sizes, opened) > LARGEST:
                return f"more than {LARGEST:,} characters with its anchors expanded"
            if len(opened) > DEEPEST:
                return f"nested more than {DEEPEST} levels deep"
    except yaml.YAMLError:  # reported when the file is read
        pass
    return ""


def _measure(event: yaml.Event, sizes: dict[str, int], opened: list[tuple[str | None, int]]) -> int:
    """Return the size of the node that ends with this event. `opened`: anchor and current size of every open node."""
    anchor, size = getattr(event, "anchor", None), 1
    if isinstance(event, yaml.CollectionStartEvent):
        opened.append((anchor, size))
        return 0
    if isinstance(event, yaml.AliasEvent):
        return _add(sizes[str(anchor)], opened)
    if isinstance(event, yaml.CollectionEndEvent):
        anchor, size = opened.pop()
    elif isinstance(event, yaml.ScalarEvent):
        size += len(event.value)
    else:
        return 0
    if anchor:
        sizes[anchor] = size
    return _add(size, opened)


def _add(size: int, opened: list[tuple[str | None, int]]) -> int:
    if opened:
        opened[-1] = opened[-1][0], opened[-1][1] + size
    return size


def refuse_depth(tree: Any, where: Path | str) -> None:
    """Raise UserError for nesting that would exhaust the interpreter's stack."""
    level = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise UserError(f"{where or 'the config'}: nested more than {DEEPEST} levels deep")


def refuse_pointers(tree: Any) -> None:
    """Allow interpolations of the config's own values only.

    Resolvers could run code or copy secrets from the environment into runs; chains of interpolations could grow without bound.
    """
    length = 0
    for path, text in texts(tree):
        if "${" in POINTER.sub("", text):
            raise UserError(f"{path}={text}: calls a resolver", "only ${key.of.the.config} is allowed")
        for name in POINTER.findall(text):
            target = _at(tree, path, name)
            if any("${" in inner for _, inner in texts(target)):
                raise UserError(f"{path}={text}: refers to another interpolation", "name the last key itself")
            length += len(str(target))
    if length > LARGEST:
        raise UserError(f"the config has more than {LARGEST:,} characters with its interpolations expanded")


def texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of nested dicts and lists, including keys, with its dotted path."""
    if isinstance(node, str):
        yield path, node
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(key, str):
            yield inner, key
        yield from texts(child, inner)


def _children(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []


def _at(tree: Any, path: str, name: str) -> Any:
    """Return the value of `${name}` at `path`, or None. Each leading dot of the name goes up one level."""
    up = len(name) - len(name.lstrip("."))
    parts = [*path.split(".")[: -up or None], *name.lstrip(".").split(".")] if up else name.split(".")
    for part in parts:
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
