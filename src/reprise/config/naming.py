"""What sets a config apart from the experiment that it is made from, in a few words for the name of its run."""

import re
from pathlib import Path
from typing import Any

from reprise.config.choices import group_values
from reprise.config.compose import choices, composed_tree, leaves
from reprise.config.schema import Config
from reprise.errors import UserError

WORDS, LONGEST = 3, 40
"""The most words, and the most characters of all of them."""
OF_THE_MACHINE = {
    f"trainer.{key}" for key in ("accelerator", "deterministic", "eval_batch_size", "progress", "preload_to_device", "threads")
}
"""Keys that say nothing of what was tried."""
SECTIONS = ("data", "model", "optimizer", "scheduler", "augment", "task", "window", "trainer")
"""Those that are looked at, in this order."""


def special(root: Path, config: Config) -> list[str]:
    """Return words for what a config has otherwise than conf/experiment/<its name>.yaml: `flowers`, `sgd`, `lr0.003`.

    Of another data set its name; of another choice of a group the choice; of single keys the key with its value. None where the
    experiment is not there.
    """
    if config.name not in choices(root, "experiment"):
        return []
    try:
        usual = composed_tree(root, [f"experiment={config.name}"])
    except UserError:
        return []
    tree = config.model_dump(by_alias=True)
    words = [word for section in SECTIONS for word in _words(root, section, tree[section], usual[section])]
    kept = [re.sub(r"[^A-Za-z0-9._]+", "_", word).strip("_.") for word in words][:WORDS]
    while len("-".join(kept)) > LONGEST:
        kept.pop()
    return [word for word in kept if word]


def _words(root: Path, section: str, now: dict[str, Any], usual: dict[str, Any]) -> list[str]:
    one, other = dict(leaves(now, section)), dict(leaves(usual, section))
    keys = [key for key in one if one[key] != other.get(key) and key not in OF_THE_MACHINE]
    if section == "data":
        keys = [] if now["name"] != usual["name"] else [key for key in keys if key in {"data.limit", "data.shape", "data.resize"}]
        return [now["name"]] if now["name"] != usual["name"] else [_word(key, one[key]) for key in keys]
    keys = [key for key in keys if key != "window.limit"]  # it is that of the data
    if not keys:
        return []
    for choice in choices(root, section):
        values = group_values(root / "conf" / section, choice)
        if values.keys() == now.keys() and all(value == now[key] or "${" in str(value) for key, value in values.items()):
            return [choice]
    if f"{section}._target_" in keys:
        return [str(now["_target_"]).rpartition(".")[2]]
    lists = dict.fromkeys(found[1] for key in keys if (found := re.match(r".+?\.(\w+)\.\d+(\.|$)", key)))
    return [*lists, *(_word(key, one[key]) for key in keys if not re.search(r"\.\d+(\.|$)", key))]


def _word(key: str, value: Any) -> str:
    name = key.rpartition(".")[2]
    if isinstance(value, bool) or value is None:
        return name if value else f"no_{name}"
    return value if isinstance(value, str) else f"{name}{value:g}" if isinstance(value, int | float) else name
