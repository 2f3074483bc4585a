"""Composition: conf/ and overrides in, one checked `Config` out. The only place that knows conf/."""

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from reprise.config.choices import replacing
from reprise.config.schema import Alone, Config, DataConfig, Pipeline, Surroundings, TrackingConfig
from reprise.config.targets import HYDRA_WORDS, check_allowed, check_plugins, nearest
from reprise.config.texts import quoted, unreadable
from reprise.config.validation import explosion, refuse_depth, refuse_file, refuse_files, refuse_overrides, refuse_pointers
from reprise.errors import UserError, without_login

MISSING = "???"
"""What conf/ says where a value has to be given."""
BUILT = ("task.", "model.", "optimizer.", "scheduler.")
"""Sections that name something to build: arguments that conf/ leaves at their defaults can be added to them."""
Model = TypeVar("Model", bound=BaseModel)


def project_root() -> Path:
    """The nearest folder, from here upwards, that holds conf/config.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "conf" / "config.yaml").is_file():
            return folder
    raise UserError(f"no conf/config.yaml in {here} or above it", "run reprise inside a clone of the project")


def pipeline(root: Path) -> Pipeline:
    """conf/pipeline.yaml."""
    file = root / "conf" / "pipeline.yaml"
    refuse_files(root / "conf")
    return validated(Pipeline, read_yaml(file), file)


def compose(root: Path, overrides: Sequence[str]) -> Config:
    """The config that conf/ and Hydra overrides (`experiment=NAME`, `optimizer.lr=0.01`, …) make.

    Raises:
        UserError: for an unknown key or choice (naming the nearest), a wrong type, or a value out of range.

    """
    return check(composed_tree(root, overrides))


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a `--multirun`: every combination of `a=1,2`, `range(…)` and `choice(…)`, the last fastest.

    Raises:
        UserError: for a sweep that has no end (`interval(…)`).

    """
    refuse_overrides(overrides)
    return [list(job) for job in itertools.product(*map(variants, overrides))]


def variants(word: str) -> list[str]:
    """An override that gives its key several values, as one for each; any other as it is.

    Raises:
        UserError: when they have no end (`interval(…)`).

    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # late: as in composed_tree
    from hydra.errors import HydraException

    with suppress(HydraException, RecursionError):  # `compose` says what is wrong with the word
        parsed = OverridesParser.create().parse_override(word)
        if parsed.is_sweep_override():
            if not parsed.is_discrete_sweep():
                raise UserError(f"{word}: has no end", "`reprise sweep` searches intervals")
            return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
    return [word]


def surroundings(root: Path, overrides: Sequence[str]) -> Surroundings:
    """The trainer and tracking of a config that need not be whole otherwise."""
    tree = composed_tree(root, overrides)
    return validated(Surroundings, {key: tree[key] for key in Surroundings.model_fields})


def compose_dataset(root: Path, name: str, overrides: Sequence[str] = ()) -> DataConfig:
    """The data set that `conf/data/NAME.yaml` and overrides of its keys (`data.path=…`) describe."""
    file = root / "conf" / "data" / f"{name}.yaml"
    if name not in choices(root, "data"):
        raise UserError(f"no data set named {name}", nearest(name, choices(root, "data")))
    tree = {"data": read_yaml(file)}
    builds_on_another = isinstance(tree["data"], dict) and "defaults" in tree["data"]
    if builds_on_another:
        tree = composed_tree(root, [], f"data/{name}", suggest=False)
    known = [path for path, _ in leaves(tree)]
    for key in (item.partition("=")[0] for item in overrides):
        if key not in known:
            raise UserError(f"{key}: no such key", _nearest_key(key, known))
    if overrides:
        tree = composed_tree(root, overrides, f"data/{name}", suggest=False)
    alone = validated(Alone, tree, "" if overrides or builds_on_another else file)
    _demand_whole(alone)
    return alone.data


def tracking_config(root: Path) -> TrackingConfig:
    """Where runs are written down by default: conf/tracking/local.yaml."""
    uri = read_yaml(root / "conf" / "tracking" / "local.yaml").get("uri")
    return TrackingConfig(uri=uri, experiment="", log_model=False)


def load(file: Path, beside: Sequence[str] = ()) -> Config:
    """Return a config that `compose` wrote; the keys `beside` are no part of it."""
    if not file.is_file():
        raise UserError(f"no {file}", "run `reprise compose` first, or `dvc repro` for everything")
    tree = read_yaml(file)
    return check({key: value for key, value in tree.items() if key not in beside} if isinstance(tree, dict) else tree, file)


def load_recorded(file: Path, root: Path) -> Config:
    """A config that a run recorded, to be trained anew; runs are written down where they are by default."""
    tree = read_yaml(file)
    tracking = tracking_config(root).model_dump() | {"experiment": tree["data"]["name"], "log_model": True}
    return check({**tree, "tracking": tracking, "resume": False}, file)


def render(config: BaseModel, escape: bool = False) -> str:
    """Return the config as YAML, with `escape` in ASCII alone. `load` reads it back to an equal one.

    A login in the tracking address is not kept.
    """
    tree = config.model_dump(by_alias=True)
    if uri := tree.get("tracking", {}).get("uri"):
        tree["tracking"]["uri"] = without_login(uri)
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=not escape, width=1000)


class _Dumper(yaml.SafeDumper):
    """PyYAML writes Unicode's line breaks so that it reads them as spaces, unless they stand in double quotes."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        quote = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, quote)


_Dumper.add_representer(str, _Dumper.represent_str)


def check(tree: Any, where: Path | str = "") -> Config:
    """The tree as a `Config`: types, ranges, cross-checks and the allowlist of `_target_`; `where` it stands, for complaints."""
    refuse_depth(tree, where)
    config = validated(Config, tree, where)
    _demand_whole(config)
    check_plugins(config.plugins)
    for path, value in leaves(config.model_dump(by_alias=True)):
        if "_target_" in path.split("."):
            check_allowed(value, config.plugins, path)
        elif words := HYDRA_WORDS & set(path.split(".")):
            raise UserError(f"{path}: no such key", f"an argument has a name of its own, and {words.pop()} is a word of Hydra's")
    return config


def validated(model: type[Model], tree: Any, where: Path | str = "") -> Model:
    """The tree as a model, or the first complaint; `where` it stands."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _complaint(error, tree, where, list(model.model_fields)) from None


def _demand_whole(config: BaseModel) -> None:
    for path, value in leaves(config.model_dump(by_alias=True)):
        if value == MISSING:
            raise UserError(f"{path}: is missing", f"set {path}=…")


def choices(root: Path, group: str) -> list[str]:
    """The files a config group offers."""
    return sorted(file.stem for file in (root / "conf" / group).glob("*.yaml"))


def groups(root: Path) -> list[str]:
    """The config groups."""
    return sorted(folder.name for folder in (root / "conf").iterdir() if folder.is_dir())


def leaf_keys(root: Path, overrides: Sequence[str]) -> list[str]:
    """The dotted path of every leaf of the config that the group choices among the overrides make."""
    chosen = [item for item in overrides if item.split("=", 1)[0] in groups(root)]
    return [path for path, _ in leaves(composed_tree(root, chosen, suggest=False))]


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


def composed_tree(root: Path, overrides: Sequence[str], file: str = "config", suggest: bool = True) -> dict[str, Any]:
    """Return what Hydra makes of conf/ and overrides, not checked yet; values that have to be given may be missing (`???`).

    Raises:
        UserError: naming the override that cannot be taken.

    """
    # Imported here: a stage that reads a composed file need not wait for Hydra.
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    refuse_overrides(overrides)
    if wrong := _unknown_choice(root, overrides):
        raise wrong
    refuse_files(root / "conf")
    try:
        with replacing(root / "conf", overrides) as conf, initialize_config_dir(str(conf), version_base="1.3"):
            tree = hydra_compose(file, overrides=quoted(overrides))
        refuse_pointers(OmegaConf.to_container(tree, resolve=False))
        return OmegaConf.to_container(tree, resolve=True)  # type: ignore[return-value]
    except RecursionError:
        raise UserError("the config is nested too deeply") from None
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        explained = _explain(root, overrides) if suggest else None
        place = getattr(error, "override", None) or getattr(error, "full_key", None)
        said = str(error) if isinstance(error, yaml.YAMLError) else str(error).split("\n")[0]
        raise explained or UserError(
            _without_address(f"{place}: {said}" if place and place not in said else said, overrides)
        ) from None


def _without_address(text: str, overrides: Sequence[str]) -> str:
    """A complaint that does not repeat where runs are written down: an address can hold a password."""
    for key, _, value in (item.partition("=") for item in overrides):
        if value and key.lstrip("+~").startswith("tracking"):
            text = text.replace(value, "…")
    return text


def _explain(root: Path, overrides: Sequence[str]) -> UserError | None:
    """The override that Hydra could not take, with the nearest name that it could."""
    named = groups(root)
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
        if key not in named and not any(path == key or path.startswith(f"{key}.") for path in known):
            add = f"; to add an argument: +{item}" if key.startswith(BUILT) and not item.startswith(("+", "~")) else ""
            return UserError(f"{key}: no such key", _nearest_key(key, [*known, *named]) + add)
    return None


def _unknown_choice(root: Path, overrides: Sequence[str]) -> UserError | None:
    """The group of an override that has no such file. Hydra itself would take `../` for one."""
    for item in overrides:
        key, equals, value = item.lstrip("+~").partition("=")
        value = value.strip("'\" ")
        if equals and key in groups(root) and value not in choices(root, key):
            return UserError(f"{key}={value}: no conf/{key}/{value}.yaml", nearest(value, choices(root, key)))
    return None


def read_yaml(file: Path) -> Any:
    """The YAML in a file of conf/, or in one that `compose` wrote."""
    try:
        text = file.read_text("utf-8")
        refuse_file(file, explosion(text))
        return yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"no {file}") from None
    except (yaml.YAMLError, ValueError) as error:  # of the encoding too, or of a date
        raise UserError(f"{file}: {error}") from None


def _nearest_key(key: str, known: Iterable[str]) -> str:
    """The key whose path, or last part, is most like the one given: `epochs` finds `trainer.max_epochs`."""

    def likeness(path: str) -> float:
        return max(difflib.SequenceMatcher(None, name, key).ratio() for name in (path, path.rpartition(".")[2]))

    paths = [path.split(".") for path in known]
    likest = max(sorted({".".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}), key=likeness)
    return f"the nearest is {likest}" if likeness(likest) > 0.6 else "`reprise compose experiment=NAME` prints them all"


def _complaint(error: ValidationError, tree: Any, where: Path | str, sections: list[str]) -> UserError:
    """The first complaint of pydantic as `key=value: why`. A union complains once for each of its types: all are said."""
    details = error.errors(include_url=False)
    paths = [".".join(str(part) for part in detail["loc"] if not _is_branch(part)) for detail in details]
    first, path = details[0], paths[0]
    stands = f"it stands in {where}" if where else ""
    if first["type"] == "extra_forbidden":
        known = [name for name, _ in leaves(tree) if name != path and not name.startswith(f"{path}.")] + sections
        return UserError(f"{path}: no such key", "; ".join(filter(None, [_nearest_key(path, known), stands])))
    if first["type"] == "missing" or first["input"] == MISSING:
        return UserError(f"{path}: is missing", stands or f"set {path}=…")
    same = [detail["msg"] for detail, other in zip(details, paths, strict=True) if other == path]
    why = " or ".join(dict.fromkeys(re.sub(r"^(Value error, |Input |String |List )", "", message) for message in same))
    why = why.replace(" or should be ", " or ")
    value = "" if isinstance(first["input"], dict) else f"={first['input']}"
    return UserError(f"{path}{value}: {why}" if path else why, stands)


def _is_branch(part: str | int) -> bool:
    """Whether pydantic put this into the path to name a branch of a union, not a key."""
    kinds = r"images|series|idx|csv_images|image_folder|int|float|bool|str|.*[\[(].*"
    return isinstance(part, str) and bool(re.fullmatch(kinds, part))
