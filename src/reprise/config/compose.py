"""Composition: conf/ and overrides in, one checked `Config` out. The only place that knows conf/."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from reprise.config.schema import Config, DataConfig, Pipeline, TrackingConfig
from reprise.config.targets import check_allowed
from reprise.errors import UserError


def project_root() -> Path:
    """The nearest folder, from here upwards, that holds conf/config.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "config.yaml").is_file():
            return folder
    raise UserError(f"no conf/config.yaml in {here} or above it", "run reprise inside a clone of the project")


def pipeline(root: Path) -> Pipeline:
    """conf/pipeline.yaml."""
    try:
        return Pipeline.model_validate(yaml.safe_load((root / "conf" / "pipeline.yaml").read_text()))
    except ValidationError as error:
        raise UserError(f"conf/pipeline.yaml: {_first(error)}") from None


def compose(root: Path, overrides: Sequence[str]) -> Config:
    """The config that conf/ and Hydra overrides (`experiment=NAME`, `optimizer.lr=0.01`, …) make.

    Raises:
        UserError: for an unknown key or choice (naming the nearest), a wrong type, or a value out of range.

    """
    return check(_hydra(root, overrides), "the composed config")


def compose_dataset(root: Path, name: str) -> DataConfig:
    """The data set `conf/data/NAME.yaml` describes; its file holds no interpolation."""
    file = root / "conf" / "data" / f"{name}.yaml"
    if not file.is_file():
        raise UserError(f"no data set named {name}", _nearest(name, choices(root, "data")))
    try:
        return TypeAdapter[DataConfig](DataConfig).validate_python(yaml.safe_load(file.read_text()))
    except ValidationError as error:
        raise UserError(f"conf/data/{name}.yaml: {_first(error)}") from None


def tracking_config(root: Path) -> TrackingConfig:
    """Where runs are written down by default: conf/tracking/local.yaml."""
    uri = yaml.safe_load((root / "conf" / "tracking" / "local.yaml").read_text()).get("uri")
    return TrackingConfig(uri=uri, experiment="", log_model=False)


def load(file: Path) -> Config:
    """A config that `compose` wrote."""
    if not file.is_file():
        raise UserError(f"no {file}", "run `reprise compose` first, or `dvc repro` for everything")
    return check(yaml.safe_load(file.read_text()), str(file))


def render(config: BaseModel) -> str:
    """The config as YAML; `load` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(by_alias=True), sort_keys=False, allow_unicode=True, width=1000)


def check(tree: Any, where: str) -> Config:
    """The tree as a `Config`: types, ranges, cross-checks and the allowlist of `_target_`."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise UserError(_first(error), f"it stands in {where}" if Path(where).is_file() else "") from None
    for path, target in _targets(config.model_dump(by_alias=True)):
        check_allowed(target, config.plugins, path)
    return config


def choices(root: Path, group: str) -> list[str]:
    """The files a config group offers."""
    return sorted(file.stem for file in (root / "conf" / group).glob("*.yaml"))


def groups(root: Path) -> list[str]:
    """The config groups."""
    return sorted(folder.name for folder in (root / "conf").iterdir() if folder.is_dir())


def leaf_keys(root: Path, overrides: Sequence[str]) -> list[str]:
    """The dotted path of every leaf of the config that the group choices among the overrides make."""
    chosen = [item for item in overrides if item.split("=", 1)[0] in groups(root)]
    return [path for path, _ in leaves(_hydra(root, chosen, suggest=False))]


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dicts and lists, with its dotted path; an empty container is a leaf."""
    children: Iterable[tuple[str, Any]] = ()
    if isinstance(node, dict):
        children = ((str(key), value) for key, value in node.items())
    elif isinstance(node, list) and any(isinstance(item, dict | list) for item in node):
        children = ((str(position), value) for position, value in enumerate(node))
    empty = True
    for key, value in children:
        empty = False
        yield from leaves(value, f"{path}.{key}" if path else key)
    if empty:
        yield path, node


def _hydra(root: Path, overrides: Sequence[str], suggest: bool = True) -> dict[str, Any]:
    # Imported here: a stage that reads a composed file need not wait for Hydra.
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(root / "conf"), version_base="1.3"):
            tree = hydra_compose("config", overrides=list(overrides))
        _refuse_resolvers(OmegaConf.to_container(tree, resolve=False))
        return OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        explained = _explain(root, overrides) if suggest else None
        raise explained or UserError(str(error).split("\n")[0]) from None


def _explain(root: Path, overrides: Sequence[str]) -> UserError | None:
    """The override that Hydra could not take, with the nearest name that it could."""
    named = groups(root)
    for item in overrides:
        key, _, value = item.lstrip("+~").partition("=")
        if key in named and value not in choices(root, key):
            return UserError(f"{key}={value}: no conf/{key}/{value}.yaml", _nearest(value, choices(root, key)))
    if not any(item.startswith("experiment=") for item in overrides):
        return UserError("no experiment named", f"add experiment=NAME, one of {', '.join(choices(root, 'experiment'))}")
    known = leaf_keys(root, overrides)
    for item in overrides:
        key = item.lstrip("+~").partition("=")[0]
        if key not in named and not any(path == key or path.startswith(f"{key}.") for path in known):
            return UserError(f"{key}: no such key", _nearest(key, [*known, *named]))
    return None


def _refuse_resolvers(tree: Any) -> None:
    """A config may point at its own keys; it may not call code or read the environment (secrets would get into runs)."""
    for path, value in leaves(tree):
        if isinstance(value, str) and (found := re.search(r"\$\{\s*[^}]*?:", value)):
            raise UserError(f"{path}: {found.group()}…}} calls a resolver", "only ${key.of.the.config} is allowed")


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_":
                yield f"{path}.{key}", value
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for position, item in enumerate(node):
            yield from _targets(item, f"{path}.{position}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.3)
    return f"the nearest is {near[0]}" if near else f"there are {', '.join(known)}"


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic as `key=value: why`."""
    detail = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in detail["loc"] if not _is_branch(part))
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] in {"extra_forbidden", "missing"}:
        return f"{path}: {'no such key' if detail['type'] == 'extra_forbidden' else 'is missing'}"
    return message if isinstance(detail["input"], dict) else f"{path}={detail['input']}: {message}"


def _is_branch(part: str | int) -> bool:
    """Whether pydantic put this into the path to name a branch of a union, not a key."""
    return part in {"images", "series"} or (isinstance(part, str) and bool(re.search(r"[\[(]|^(int|float|bool|str)$", part)))
