"""Write the best trial of a sweep as an experiment in conf/, ready to commit."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial

from reprise.config import Config, compose, conf_files
from reprise.config.choices import own_choices
from reprise.config.compose import leaves
from reprise.config.space import as_overrides
from reprise.config.sweep import put
from reprise.data import store
from reprise.errors import UserError
from reprise.sweeps.study import Study
from reprise.sweeps.view import format_objectives


def name_of(sweep: str) -> str:
    """Return the name of the experiment with the best trial of a sweep."""
    return f"{sweep}_tuned"


def write(study: Study, trial: FrozenTrial, root: Path) -> Path:
    """Write a trial's config as conf/experiment/NAME_tuned.yaml, based on the searched experiment.

    If the trial replaces a config group (`optimizer: sgd`), the file does not inherit from the experiment, as it would inherit
    keys of the replaced group. Settings that changed in conf/ since the sweep started are written out. The file is written only
    if it composes to exactly the trial's config.

    Raises:
        UserError: if it does not, because conf/ has keys that it did not have at the start of the sweep.

    """
    sweep, name = study.sweep, name_of(study.sweep.name)
    overrides = [item.lstrip("+~").partition("=")[::2] for item in [*sweep.overrides, *as_overrides(trial.params)]]
    groups = {key: value for key, value in overrides if key in conf_files.groups(root)}
    own = own_choices(root, sweep.experiment)
    inherits = all(own.get(key) == value for key, value in groups.items())  # else it would inherit keys of a replaced group
    chosen = groups if inherits else own | groups
    base = [sweep.experiment] if inherits else []
    defaults = [*base, *({f"override /{key}": value} for key, value in chosen.items() if key != "experiment"), "_self_"]
    comment = (
        "# @package _global_\n"
        f"# reprise train experiment={name}\n"
        f"# Found by `reprise sweep sweep={sweep.name}`: trial {trial.number}, {format_objectives(study, trial)}.\n"
    )
    tree = _decisive(sweep.config(study.folder, trial.params))
    expected = dict(leaves(tree))
    values: dict[str, Any] = {"name": name}
    for key, _ in overrides:
        if key not in groups and not key.startswith("tracking"):  # the tracking store is not part of the result
            _copy(tree, key, values)
    with tempfile.TemporaryDirectory() as scratch:
        conf_files.copy(root, Path(scratch) / "conf")
        draft = Path(scratch) / "conf" / "experiment" / f"{name}.yaml"
        for _ in range(2):
            content = comment + yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False)
            draft.write_text(content, "utf-8")
            composed = dict(leaves(_decisive(compose(Path(scratch), [f"experiment={name}"]))))
            for key in expected:
                if key not in composed or composed[key] != expected[key]:
                    _copy(tree, key, values)
    if composed != expected:
        key = next(key for key in [*composed, *expected] if composed.get(key) != expected.get(key))
        raise UserError(f"conf/ cannot make the config of trial {trial.number}: {key}", "it was changed since the sweep began")
    file = root / "conf" / "experiment" / f"{name}.yaml"
    store.write_atomically(file, content.encode())
    return file


def _decisive(config: Config) -> dict[str, Any]:
    return config.model_dump(by_alias=True, exclude={"name", "published", "tracking"})


def _copy(tree: dict[str, Any], key: str, values: dict[str, Any]) -> None:
    """Copy the value at a dotted path from a tree to `values`. Copy lists as a whole, as Hydra cannot override their elements."""
    path = key.split(".")
    value: Any = tree
    for depth, part in enumerate(path):
        value = value[part]
        if isinstance(value, list):
            path = path[: depth + 1]
            break
    put(values, ".".join(path), value)
