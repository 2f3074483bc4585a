"""Group choices on the command line replace the keys that an experiment sets for its own choice of that group.

`model=mine` yields conf/model/mine.yaml without the keys (`blocks`, `dense`) that the experiment sets for its own model. If the
experiment makes the same choice itself, nothing changes. Keys set by the user (`model.width=64`) always apply.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from reprise.config import conf_files

MERGED = {"trainer"}
"""Groups of which only the keys that differ between the two choices (device, processes) are replaced. The experiment's epochs and
batch size stay."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@contextmanager
def replacing(root: Path, overrides: Sequence[str]) -> Iterator[Path]:
    """Yield the conf/ to compose from: that of the project if it is complete and nothing is replaced, or a temporary folder.

    The temporary folder has links to the files of the project and of reprise, and experiments that lack the replaced keys.
    """
    chosen = {key: value.strip("'\" ") for key, _, value in (item.lstrip("+").partition("=") for item in overrides)}
    dropped = _replaced(root, chosen) if "experiment" in chosen else {}
    first, *others = conf_files.folders(root)
    if not dropped and not others:
        yield first
        return
    with tempfile.TemporaryDirectory(prefix="reprise-conf-") as draft:
        for name, file in conf_files.files(root):
            target = Path(draft) / name
            target.parent.mkdir(exist_ok=True, parents=True)
            if dropped and name.startswith("experiment/"):
                target.write_text(_without(file.read_text("utf-8"), dropped), "utf-8")
            else:
                target.symlink_to(file.resolve())
        yield Path(draft)


def own_choices(root: Path, experiment: str) -> dict[str, str]:
    """Return the choice of each group that an experiment makes or inherits."""
    inherited = _defaults(conf_files.find(root, conf_files.ROOT_CONFIG))[1]
    return {**inherited, **_overridden(root, experiment, 0)}


def _replaced(root: Path, chosen: Mapping[str, str]) -> dict[str, set[str] | None]:
    """Return the groups with a new choice, each with the keys to replace (None: all keys)."""
    own = own_choices(root, chosen["experiment"])
    known = conf_files.groups(root)
    replaced: dict[str, set[str] | None] = {}
    for group, choice in chosen.items():
        if group == "experiment" or group not in known or own.get(group) in {choice, None, "???"}:
            continue
        if group in MERGED:
            one, other = (group_values(root, group, name) for name in (own[group], choice))
            replaced[group] = {key for key in {**one, **other} if one.get(key) != other.get(key)}
        else:
            replaced[group] = None
    return replaced


def _without(text: str, dropped: Mapping[str, set[str] | None]) -> str:
    """Return the text of an experiment file without the keys of these groups. Comments (`# @package`) are kept."""
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


def _overridden(root: Path, experiment: str, depth: int) -> dict[str, str]:
    """Return the group choices of an experiment: inherited ones, then its own `override /GROUP: CHOICE`."""
    inherited, own = _defaults(conf_files.find(root, f"experiment/{experiment}.yaml"))
    choices: dict[str, str] = {}
    for name in inherited if depth < len(conf_files.choices(root, "experiment")) else ():  # else it inherits from itself
        choices |= _overridden(root, name, depth + 1)
    return choices | own


def group_values(root: Path, group: str, choice: str, depth: int = 0) -> dict[str, Any]:
    """Return the top-level keys of a group's file, merged over those of the files in its defaults list."""
    file = conf_files.find(root, f"{group}/{choice}.yaml")
    tree = _read(file.read_text("utf-8")) if file.is_file() else {}
    values: dict[str, Any] = {}
    for name in _defaults(file)[0] if depth < len(conf_files.choices(root, group)) else ():
        values |= group_values(root, group, name, depth + 1)
    return values | {key: value for key, value in tree.items() if key != "defaults"}


def _defaults(file: Path) -> tuple[list[str], dict[str, str]]:
    """Return the defaults list of a file: files of its own group, and choices of other groups."""
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
    except (yaml.YAMLError, ValueError):  # Hydra reads the file next and reports the error
        return {}
    return tree if isinstance(tree, dict) else {}
