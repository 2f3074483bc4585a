"""Compose a validated `Config` from conf/ and overrides. Only this module reads conf/."""

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from reprise.config import conf_files
from reprise.config.choices import replacing
from reprise.config.conf_files import choices, groups
from reprise.config.modalities import discriminators
from reprise.config.schema import Config, DataSection, Pipeline, Surroundings, TrackingConfig
from reprise.config.sections import DataConfig
from reprise.config.targets import HYDRA_KEYS, check_allowed, check_plugins, nearest
from reprise.config.texts import quoted, unreadable
from reprise.config.validation import explosion, refuse_depth, refuse_file, refuse_files, refuse_overrides, refuse_pointers
from reprise.errors import UserError, without_login

MISSING = "???"
"""Marks a required value in conf/."""
TARGET_SECTIONS = ("task.", "model.", "optimizer.", "scheduler.")
"""Sections with a `_target_`; arguments that conf/ leaves at their defaults can be added with `+`."""
Model = TypeVar("Model", bound=BaseModel)


def project_root() -> Path:
    """Return the working directory, or its nearest parent, that is a project."""
    start = Path.cwd()
    for folder in (start, *start.parents):
        if conf_files.is_project(folder):
            return folder
    raise UserError(f"no project in {start} or above it", "run reprise in a folder with conf/pipeline.yaml, or in one below it")


def pipeline(root: Path) -> Pipeline:
    """Return the contents of conf/pipeline.yaml."""
    file = root / "conf" / "pipeline.yaml"
    refuse_files(root / "conf")
    return validated(Pipeline, read_yaml(file), file)


def compose(root: Path, overrides: Sequence[str]) -> Config:
    """Compose the config from conf/ and Hydra overrides (`experiment=NAME`, `optimizer.lr=0.01`, …).

    Raises:
        UserError: for an unknown key or choice (with the nearest name), a wrong type, or a value out of range.

    """
    return check(composed_tree(root, overrides))


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job of a `--multirun`: all combinations of `a=1,2`, `range(…)`, `choice(…)`, the last fastest.

    Raises:
        UserError: for an infinite sweep (`interval(…)`).

    """
    refuse_overrides(overrides)
    return [list(job) for job in itertools.product(*map(variants, overrides))]


def variants(word: str) -> list[str]:
    """Split an override with several values into one override per value; return any other override unchanged.

    Raises:
        UserError: for an infinite sweep (`interval(…)`).

    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # late: as in composed_tree
    from hydra.errors import HydraException

    with suppress(HydraException, RecursionError):  # `compose` reports what is wrong
        parsed = OverridesParser.create().parse_override(word)
        if parsed.is_sweep_override():
            if not parsed.is_discrete_sweep():
                raise UserError(f"{word}: has no end", "`reprise sweep` searches intervals")
            return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
    return [word]


def surroundings(root: Path, overrides: Sequence[str]) -> Surroundings:
    """Return trainer and tracking of a config whose other sections may be incomplete."""
    tree = composed_tree(root, overrides)
    return validated(Surroundings, {key: tree[key] for key in Surroundings.model_fields})


def compose_dataset(root: Path, name: str, overrides: Sequence[str] = ()) -> DataConfig:
    """Return the data set of `conf/data/NAME.yaml` with overrides of its keys (`data.path=…`)."""
    file = conf_files.find(root, f"data/{name}.yaml")
    if name not in choices(root, "data"):
        raise UserError(f"no data set named {name}", nearest(name, choices(root, "data")))
    tree = {"data": read_yaml(file)}
    inherits = isinstance(tree["data"], dict) and "defaults" in tree["data"]
    if inherits:
        tree = composed_tree(root, [], f"data/{name}", suggest=False)
    known = [path for path, _ in leaves(tree)]
    for key in (item.partition("=")[0] for item in overrides):
        if key not in known:
            raise UserError(f"{key}: no such key", _nearest_key(key, known))
    if overrides:
        tree = composed_tree(root, overrides, f"data/{name}", suggest=False)
    section = validated(DataSection, tree, "" if overrides or inherits else file)
    _demand_complete(section)
    return section.data


def tracking_config(root: Path) -> TrackingConfig:
    """Return the default tracking config, from conf/tracking/local.yaml."""
    uri = read_yaml(conf_files.find(root, "tracking/local.yaml")).get("uri")
    return TrackingConfig(uri=uri, experiment="", log_model=False)


def load(file: Path, ignore: Sequence[str] = ()) -> Config:
    """Return a config that `compose` wrote, without the top-level keys in `ignore`."""
    if not file.is_file():
        raise UserError(f"no {file}", "run `reprise compose` first, or `dvc repro` for everything")
    tree = read_yaml(file)
    return check({key: value for key, value in tree.items() if key not in ignore} if isinstance(tree, dict) else tree, file)


def load_recorded(file: Path, root: Path) -> Config:
    """Return the config that a run recorded, for a new training with the default tracking config."""
    tree = read_yaml(file)
    tracking = tracking_config(root).model_dump() | {"experiment": tree["data"]["name"], "log_model": True}
    return check({**tree, "tracking": tracking, "resume": False}, file)


def render(config: BaseModel, escape: bool = False) -> str:
    """Return the config as YAML, in ASCII if `escape`. `load` reads it back to an equal config.

    Logins in the tracking address are removed.
    """
    tree = config.model_dump(by_alias=True)
    if uri := tree.get("tracking", {}).get("uri"):
        tree["tracking"]["uri"] = without_login(uri)
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=not escape, width=1000)


class _Dumper(yaml.SafeDumper):
    """Quotes strings with Unicode line breaks: PyYAML reads them back as spaces unless they are in double quotes."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        quote = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, quote)


_Dumper.add_representer(str, _Dumper.represent_str)


def check(tree: Any, where: Path | str = "") -> Config:
    """Validate the tree as a `Config`: types, ranges, cross-checks, and the allowlist of `_target_`. Errors mention `where`."""
    refuse_depth(tree, where)
    config = validated(Config, tree, where)
    _demand_complete(config)
    check_plugins(config.plugins)
    for path, value in leaves(config.model_dump(by_alias=True)):
        if "_target_" in path.split("."):
            check_allowed(value, config.plugins, path)
        elif keys := HYDRA_KEYS & set(path.split(".")):
            raise UserError(f"{path}: no such key", f"{keys.pop()} is reserved by Hydra and cannot be an argument")
    return config


def validated(model: type[Model], tree: Any, where: Path | str = "") -> Model:
    """Validate the tree as a pydantic model, or raise the first error as a `UserError` that mentions `where`."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _user_error(error, tree, where, list(model.model_fields)) from None


def _demand_complete(config: BaseModel) -> None:
    for path, value in leaves(config.model_dump(by_alias=True)):
        if value == MISSING:
            raise UserError(f"{path}: is missing", f"set {path}=…")


def leaf_keys(root: Path, overrides: Sequence[str]) -> list[str]:
    """Return the dotted path of every leaf of the config, composed with only the group choices among the overrides."""
    chosen = [item for item in overrides if item.split("=", 1)[0] in groups(root)]
    return [path for path, _ in leaves(composed_tree(root, chosen, suggest=False))]


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of nested dicts and lists with its dotted path; an empty container is a leaf."""
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


def composed_tree(root: Path, overrides: Sequence[str], file: str = "config", suggest: bool = True) -> dict[str, Any]:
    """Return the tree that Hydra composes from conf/ and overrides, not validated; required values may be missing (`???`).

    Raises:
        UserError: naming the invalid override.

    """
    # Late import: a stage that reads a composed file does not need Hydra.
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    refuse_overrides(overrides)
    if unknown := _unknown_choice(root, overrides):
        raise unknown
    refuse_files(root / "conf")
    try:
        with replacing(root, overrides) as conf, initialize_config_dir(str(conf), version_base="1.3"):
            tree = hydra_compose(file, overrides=quoted(overrides))
        refuse_pointers(OmegaConf.to_container(tree, resolve=False))
        return OmegaConf.to_container(tree, resolve=True)  # type: ignore[return-value]
    except RecursionError:
        raise UserError("the config is nested too deeply") from None
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        explained = _explain(root, overrides) if suggest else None
        key = getattr(error, "override", None) or getattr(error, "full_key", None)
        message = str(error) if isinstance(error, yaml.YAMLError) else str(error).split("\n")[0]
        raise explained or UserError(
            _without_address(f"{key}: {message}" if key and key not in message else message, overrides)
        ) from None


def _without_address(text: str, overrides: Sequence[str]) -> str:
    """Return an error message without the tracking address, which can contain a password."""
    for key, _, value in (item.partition("=") for item in overrides):
        if value and key.lstrip("+~").startswith("tracking"):
            text = text.replace(value, "…")
    return text


def _explain(root: Path, overrides: Sequence[str]) -> UserError | None:
    """Return an error that names the override that Hydra rejected and the nearest valid name."""
    group_names = groups(root)
    split = [(item, *item.lstrip("+~").partition("=")) for item in overrides]
    for item, key, equals, _ in split:
        if not key or not (equals or item.startswith("~")):
            return UserError(f"{item}: not of the form key=value")
    if not any(item.startswith("experiment=") for item in overrides):
        return UserError("no experiment named", f"add experiment=NAME, one of {', '.join(choices(root, 'experiment'))}")
    if error := unreadable(quoted(overrides)):
        return UserError(_without_address(str(error), overrides))
    known = leaf_keys(root, overrides)
    for item, key, _, _ in split:
        if key not in group_names and not any(path == key or path.startswith(f"{key}.") for path in known):
            addable = key.startswith(TARGET_SECTIONS) and not item.startswith(("+", "~"))
            add = f"; to add an argument: +{item}" if addable else ""
            return UserError(f"{key}: no such key", _nearest_key(key, [*known, *group_names]) + add)
    return None


def _unknown_choice(root: Path, overrides: Sequence[str]) -> UserError | None:
    """Return an error for a choice that its group does not have. Hydra itself would follow `../`."""
    for item in overrides:
        key, equals, value = item.lstrip("+~").partition("=")
        value = value.strip("'\" ")
        if equals and key in groups(root) and value not in choices(root, key):
            return UserError(f"{key}={value}: no conf/{key}/{value}.yaml", nearest(value, choices(root, key)))
    return None


def read_yaml(file: Path) -> Any:
    """Return the YAML content of a file of conf/, or of one that `compose` wrote."""
    try:
        text = file.read_text("utf-8")
        refuse_file(file, explosion(text))
        return yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"no {file}") from None
    except (yaml.YAMLError, ValueError) as error:  # also for a wrong encoding or date
        raise UserError(f"{file}: {error}") from None


def _nearest_key(key: str, known: Iterable[str]) -> str:
    """Return a hint with the key whose path, or last part, is most similar: `epochs` gives `trainer.max_epochs`."""

    def similarity(path: str) -> float:
        return max(difflib.SequenceMatcher(None, name, key).ratio() for name in (path, path.rpartition(".")[2]))

    paths = [path.split(".") for path in known]
    best = max(sorted({".".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}), key=similarity)
    return f"the nearest is {best}" if similarity(best) > 0.6 else "`reprise compose experiment=NAME` prints them all"


def _user_error(error: ValidationError, tree: Any, where: Path | str, fields: list[str]) -> UserError:
    """Return the first pydantic error as `key=value: why`. If a key is missing, report an unknown key, perhaps its misspelling.

    The nearest name of an unknown key is searched among the missing keys, the other keys of the tree, and `fields`. A union has
    one error per type; all are listed.
    """
    details = error.errors(include_url=False)
    paths = [".".join(str(part) for part in detail["loc"] if not _is_branch(part)) for detail in details]
    unknown = [number for number, detail in enumerate(details) if detail["type"] == "extra_forbidden"]
    number = unknown[0] if unknown and details[0]["type"] == "missing" else 0
    first, path = details[number], paths[number]
    location = f"in {where}" if where else ""
    if first["type"] == "extra_forbidden":
        missing = [other for detail, other in zip(details, paths, strict=True) if detail["type"] == "missing"]
        present = [name for name, _ in leaves(tree) if name != path and not name.startswith(f"{path}.")]
        known = [*missing, *present, *fields]
        return UserError(f"{path}: no such key", "; ".join(filter(None, [_nearest_key(path, known), location])))
    if first["type"] == "missing" or first["input"] == MISSING:
        return UserError(f"{path}: is missing", location or f"set {path}=…")
    messages = [detail["msg"] for detail, other in zip(details, paths, strict=True) if other == path]
    why = " or ".join(dict.fromkeys(re.sub(r"^(Value error, |Input |String |List )", "", message) for message in messages))
    why = why.replace(" or should be ", " or ")
    value = "" if isinstance(first["input"], dict) else f"={first['input']}"
    return UserError(f"{path}{value}: {why}" if path else why, location)


def _is_branch(part: str | int) -> bool:
    """Return whether this part of a pydantic error path names a branch of a union, not a key."""
    return isinstance(part, str) and (part in discriminators() or bool(re.fullmatch(r"int|float|bool|str|.*[\[(].*", part)))
