"""A config group chosen on the command line replaces what the experiment set under the group that it had chosen itself.

`model=mine` gives what conf/model/mine.yaml says: `blocks` and `dense`, which an experiment wrote for its own model, are left
out. A choice that the experiment makes itself changes nothing. Keys that the user sets (`model.width=64`) hold in any case.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

MERGED = {"trainer"}
"""Groups whose choices differ in a few keys (on which device, in how many processes): of an experiment's own, those alone are
replaced. Its epochs and batch size hold on every device."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def replacing(conf: Path, overrides: Sequence[str]) -> Iterator[Path]:
    """Give the conf/ to compose from: the one there is, or a temporary one whose experiments lack the replaced keys."""
    chosen = {key: value.strip("'\" ") for key, _, value in (item.lstrip("+").partition("=") for item in overrides)}
    dropped = _replaced(conf, chosen) if "experiment" in chosen else {}
    if not dropped:
        yield conf
        return
    with tempfile.TemporaryDirectory(prefix="reprise-conf-") as name:
        draft = Path(name)
        for entry in conf.iterdir():
            if entry.name != "experiment":
                (draft / entry.name).symlink_to(entry.resolve())
        (draft / "experiment").mkdir()
        for file in (conf / "experiment").glob("*.yaml"):
            (draft / "experiment" / file.name).write_text(_without(file.read_text("utf-8"), dropped), "utf-8")
        yield draft


def own_choices(conf: Path, experiment: str) -> dict[str, str]:
    """Return the choice of each group that an experiment makes, or that it inherits."""
    found = _defaults(conf / "config.yaml")[1]
    return {**found, **_overridden(conf, experiment, 0)}


def _replaced(conf: Path, chosen: Mapping[str, str]) -> dict[str, set[str] | None]:
    """Return the groups chosen anew, each with the keys that are replaced; None: all of them."""
    own = own_choices(conf, chosen["experiment"])
    found: dict[str, set[str] | None] = {}
    for group, choice in chosen.items():
        if group == "experiment" or not (conf / group).is_dir() or own.get(group) in {choice, None, "???"}:
            continue
        if group in MERGED:
            one, other = (group_values(conf / group, name) for name in (own[group], choice))
            found[group] = {key for key in {**one, **other} if one.get(key) != other.get(key)}
        else:
            found[group] = None
    return found


def _without(text: str, dropped: Mapping[str, set[str] | None]) -> str:
    """Return the text of an experiment's file without the keys of these groups. Its comments (`# @package`) stay."""
    tree = _read(text)
    if not tree.keys() & dropped.keys():
        return text
    for group in tree.keys() & dropped.keys():
        keys = dropped[group]
        if keys is None or not isinstance(tree[group], dict):
            del tree[group]
        else:
            tree[group] = {key: value for key, value in tree[group].items() if key not in keys}
    comments = [line for line in text.splitlines() if line.startswith("#")]
    return "\n".join([*comments, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)])


def _overridden(conf: Path, experiment: str, depth: int) -> dict[str, str]:
    """Return what an experiment chooses: what it inherits, then its own `override /GROUP: CHOICE`."""
    inherited, own = _defaults(conf / "experiment" / f"{experiment}.yaml")
    found: dict[str, str] = {}
    for name in inherited if depth < len(list((conf / "experiment").glob("*.yaml"))) else ():  # else it inherits from itself
        found |= _overridden(conf, name, depth + 1)
    return found | own


def group_values(folder: Path, choice: str, depth: int = 0) -> dict[str, Any]:
    """Return the top-level keys of a group's file, on top of those of the files in its defaults list."""
    file = folder / f"{choice}.yaml"
    tree = _read(file.read_text("utf-8")) if file.is_file() else {}
    found: dict[str, Any] = {}
    for name in _defaults(file)[0] if depth < len(list(folder.glob("*.yaml"))) else ():
        found |= group_values(folder, name, depth + 1)
    return found | {key: value for key, value in tree.items() if key != "defaults"}


def _defaults(file: Path) -> tuple[list[str], dict[str, str]]:
    """Return a file's defaults list: the files of its own group, and the choices of other groups."""
    entries = _read(file.read_text("utf-8")).get("defaults") if file.is_file() else None
    names, choices = list[str](), dict[str, str]()
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, str) and entry != "_self_":
            names.append(entry)
        elif isinstance(entry, dict):
            choices |= {str(key).removeprefix("override ").strip().lstrip("/"): str(value) for key, value in entry.items()}
    return names, choices


def _read(text: str) -> dict[str, Any]:
    try:
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader, in C where there is one
    except (yaml.YAMLError, ValueError):  # said by Hydra, which reads it next
        return {}
    return tree if isinstance(tree, dict) else {}
