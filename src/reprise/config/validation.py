"""What is refused before Hydra composes or OmegaConf resolves: ways out of conf/, code, the environment, logins, explosions."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from reprise.errors import UserError

LARGEST = 1_000_000
"""Characters of a config with its anchors and interpolations written out; shipped ones have some thousands."""
DEEPEST = 64
"""Levels of nesting."""
POINTER = re.compile(r"\$\{([\w.-]+)\}")
LOGIN = re.compile(r"(?i)://[^\s/]*@|://[^\s/:]*:\S*@|[?&;]\w*(?:pass|pwd|secret|token|key)\w*=[^&;\s]")
"""A user name, password or token in an address."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def refuse_overrides(overrides: Sequence[str]) -> None:
    """An override names a key of the config: not a package, not a file, nothing of Hydra's own."""
    for item in overrides:
        key, equals, _ = item.lstrip("+~").partition("=")
        if not (equals or item.startswith("~")) or not key:
            continue  # Hydra's to complain of
        if key.split(".")[0] == "hydra":
            raise UserError(f"{key}: no such key", "Hydra's own settings stay as they are")
        if not re.fullmatch(r"[\w.-]+", key) or key.startswith("-"):
            raise UserError(f"{key}: no such key", "a key is names with dots between them")


def refuse_files(conf: Path) -> None:
    """Every file of conf/, also those that Hydra would not read: none of them is a trap for a later run."""
    for file in sorted(conf.rglob("*.yaml")):
        try:
            refuse_file(file, _objection(file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError):  # said by whoever needs the file
            continue


def refuse_file(file: Path, objection: str) -> None:
    """Raise what there is to object to."""
    if objection:
        raise UserError(f"{file}: {objection}")


@functools.lru_cache(maxsize=512)
def _objection(text: str) -> str:
    """Why a file of conf/ is refused, or "". Text that is no YAML is left to whoever reads it."""
    if said := explosion(text):
        return said
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader, in C where there is one
    except (yaml.YAMLError, ValueError):
        return ""
    if isinstance(tree, dict):
        if any(str(key).split(".")[0] == "hydra" for key in tree):
            return "hydra: no such key; Hydra's own settings stay as they are"
        for _, said in texts(tree.get("defaults")):
            if ".." in said or "hydra" in said or not re.fullmatch(r"[\w@ ./?-]*", said):
                return f"defaults: {said}: names no file of conf/"
    for path, said in texts(tree):
        if LOGIN.search(said):
            return f"{path}: holds a login, and runs keep conf/; set MLFLOW_TRACKING_URI or REPRISE_MIRROR instead"
    return ""


def explosion(text: str) -> str:
    """Whether YAML is larger or deeper than any config, its anchors written out ("billion laughs"), or holds itself; or "".

    Nothing is built for it: ten lines of anchors can make gigabytes.
    """
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent) and event.anchor not in sizes:
                return f"*{event.anchor} stands for what it is itself a part of, or for nothing"
            if _measure(event, sizes, opened) > LARGEST:
                return f"more than {LARGEST:,} characters with its anchors written out"
            if len(opened) > DEEPEST:
                return f"nested more than {DEEPEST} levels deep"
    except yaml.YAMLError:  # said by whoever reads it
        pass
    return ""


def _measure(event: yaml.Event, sizes: dict[str, int], opened: list[tuple[str | None, int]]) -> int:
    """The size of the node that ends with an event; `opened` are anchor and size so far of every node that has not ended."""
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
    """Nesting that would exhaust the interpreter's stack."""
    level = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise UserError(f"{where or 'the config'}: nested more than {DEEPEST} levels deep")


def refuse_pointers(tree: Any) -> None:
    """A config may point at its own values. It may not call code, read the environment (secrets would get into runs), or grow."""
    written = 0
    for path, text in texts(tree):
        if "${" in POINTER.sub("", text):
            raise UserError(f"{path}={text}: calls a resolver", "only ${key.of.the.config} is allowed")
        for name in POINTER.findall(text):
            target = _at(tree, path, name)
            if any("${" in inner for _, inner in texts(target)):
                raise UserError(f"{path}={text}: points at what points elsewhere", "name the last key itself")
            written += len(str(target))
    if written > LARGEST:
        raise UserError(f"the config has more than {LARGEST:,} characters with its interpolations written out")


def texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of nested dicts and lists, keys too, with its dotted path."""
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
    """What `${name}`, standing at `path`, points at; leading dots count from there upwards. None: nothing."""
    up = len(name) - len(name.lstrip("."))
    parts = [*path.split(".")[: -up or None], *name.lstrip(".").split(".")] if up else name.split(".")
    for part in parts:
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
