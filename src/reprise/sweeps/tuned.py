"""The best trial of a sweep as an experiment of conf/, ready to be committed."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial

from reprise.config import Config, compose
from reprise.config.choices import own_choices
from reprise.config.compose import leaves
from reprise.config.space import as_overrides
from reprise.config.sweep import put
from reprise.data import store
from reprise.errors import UserError
from reprise.sweeps.study import Study
from reprise.sweeps.view import valued


def name_of(sweep: str) -> str:
    """The experiment that a sweep ends in."""
    return f"{sweep}_tuned"


def write(study: Study, trial: FrozenTrial, root: Path) -> Path:
    """Write a trial's config as conf/experiment/NAME_tuned.yaml, on top of the experiment that was searched.

    A trial of another group (`optimizer: sgd`) than the experiment's stands on its own, without the keys that were replaced.

    What conf/ says otherwise by now than when the sweep began is written out. The file is there only once it makes the trial's
    config.

    Raises:
        UserError: when it cannot, for what conf/ has by now and had not then.

    """
    sweep, name = study.sweep, name_of(study.sweep.name)
    said = [item.lstrip("+~").partition("=")[::2] for item in [*sweep.overrides, *as_overrides(trial.params)]]
    groups = {key: value for key, value in said if (root / "conf" / key).is_dir()}
    own = own_choices(root / "conf", sweep.experiment)
    inherits = all(own.get(key) == value for key, value in groups.items())  # else it would have keys of what it replaces
    chosen = groups if inherits else own | groups
    base = [sweep.experiment] if inherits else []
    defaults = [*base, *({f"override /{key}": value} for key, value in chosen.items() if key != "experiment"), "_self_"]
    comment = (
        "# @package _global_\n"
        f"# reprise train experiment={name}\n"
        f"# Found by `reprise sweep sweep={sweep.name}`: trial {trial.number}, {valued(study, trial)}.\n"
    )
    tree = _decisive(sweep.config(study.folder, trial.params))
    wanted = dict(leaves(tree))
    values: dict[str, Any] = {"name": name}
    for key, _ in said:
        if key not in groups and not key.startswith("tracking"):  # where runs are written down is no part of what was found
            _copy(tree, key, values)
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(root / "conf", Path(scratch) / "conf")
        draft = Path(scratch) / "conf" / "experiment" / f"{name}.yaml"
        for _ in range(2):
            content = comment + yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False)
            draft.write_text(content, "utf-8")
            made = dict(leaves(_decisive(compose(Path(scratch), [f"experiment={name}"]))))
            for key in wanted:
                if key not in made or made[key] != wanted[key]:
                    _copy(tree, key, values)
    if made != wanted:
        other = next(key for key in [*made, *wanted] if made.get(key) != wanted.get(key))
        raise UserError(f"conf/ cannot make the config of trial {trial.number}: {other}", "it was changed since the sweep began")
    file = root / "conf" / "experiment" / f"{name}.yaml"
    store.write_atomically(file, content.encode())
    return file


def _decisive(config: Config) -> dict[str, Any]:
    return config.model_dump(by_alias=True, exclude={"name", "published", "tracking"})


def _copy(tree: dict[str, Any], key: str, values: dict[str, Any]) -> None:
    """Write what a tree says at a dotted path into others; of what stands in a list, the whole list: Hydra takes no less."""
    path = key.split(".")
    found: Any = tree
    for depth, part in enumerate(path):
        found = found[part]
        if isinstance(found, list):
            path = path[: depth + 1]
            break
    put(values, ".".join(path), found)
