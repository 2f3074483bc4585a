"""Name parts for a run: how its config differs from the experiment it is based on."""

import re
from pathlib import Path
from typing import Any

from reprise.config.choices import group_values
from reprise.config.compose import composed_tree, leaves
from reprise.config.conf_files import choices
from reprise.config.schema import Config
from reprise.errors import UserError

MAX_PARTS, MAX_LENGTH = 3, 40
"""Maximum number of parts, and of characters in total."""
MACHINE_KEYS = {
    f"trainer.{key}" for key in ("accelerator", "deterministic", "eval_batch_size", "progress", "preload_to_device", "threads")
}
"""Keys that do not describe the experiment."""
SECTIONS = ("data", "model", "optimizer", "scheduler", "augment", "task", "window", "trainer")
"""The compared sections, in this order."""


def differences(root: Path, config: Config) -> list[str]:
    """Return name parts for the differences from conf/experiment/<config.name>.yaml: `flowers`, `sgd`, `lr0.003`.

    A different data set gives its name, a different group choice gives the choice, and a different key gives the key with its
    value. The list is empty if the experiment does not exist.
    """
    if config.name not in choices(root, "experiment"):
        return []
    try:
        usual = composed_tree(root, [f"experiment={config.name}"])
    except UserError:
        return []
    tree = config.model_dump(by_alias=True)
    parts = [part for section in SECTIONS for part in _section_parts(root, section, tree[section], usual[section])]
    kept = [re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("_.") for part in parts][:MAX_PARTS]
    while len("-".join(kept)) > MAX_LENGTH:
        kept.pop()
    return [part for part in kept if part]


def _section_parts(root: Path, section: str, now: dict[str, Any], usual: dict[str, Any]) -> list[str]:
    one, other = dict(leaves(now, section)), dict(leaves(usual, section))
    keys = [key for key in one if one[key] != other.get(key) and key not in MACHINE_KEYS]
    if section == "data":
        keys = [] if now["name"] != usual["name"] else [key for key in keys if key in {"data.limit", "data.shape", "data.resize"}]
        return [now["name"]] if now["name"] != usual["name"] else [_key_part(key, one[key]) for key in keys]
    keys = [key for key in keys if key != "window.limit"]  # equals data.limit
    if not keys:
        return []
    for choice in choices(root, section):
        values = group_values(root, section, choice)
        if values.keys() == now.keys() and all(value == now[key] or "${" in str(value) for key, value in values.items()):
            return [choice]
    if f"{section}._target_" in keys:
        return [str(now["_target_"]).rpartition(".")[2]]
    lists = dict.fromkeys(match[1] for key in keys if (match := re.match(r".+?\.(\w+)\.\d+(\.|$)", key)))
    return [*lists, *(_key_part(key, one[key]) for key in keys if not re.search(r"\.\d+(\.|$)", key))]


def _key_part(key: str, value: Any) -> str:
    name = key.rpartition(".")[2]
    if isinstance(value, bool) or value is None:
        return name if value else f"no_{name}"
    return value if isinstance(value, str) else f"{name}{value:g}" if isinstance(value, int | float) else name
