"""What a run was made from: code, packages, processor, data."""

import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import reprise
from reprise.config import plugin_sources
from reprise.data import store
from reprise.errors import UserError, warn
from reprise.tracking import repository
from reprise.tracking.repository import NoRepository

SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C where PyYAML was built with it: a lock of a thousand lines takes the other a second."""
LEARNING = ("data", "training", "models", "stages/train.py")
"""Of the package, what decides the weights of a training."""
PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "hydra-core", "mlflow", "dvc", "reprise")


@functools.cache
def code(root: Path, plugins: tuple[str, ...] = ()) -> tuple[Mapping[str, str], bytes]:
    """Return tags with the commit and whether the code differs from it, and the patch that makes the difference (b"" if clean).

    Computed once a process: what is edited while it trains is not what it imported. Without a commit, a tag holds the reason.

    Raises:
        UserError: when git knows the commit, but cannot tell what differs from it.

    """
    found = repository.find(root)
    if isinstance(found, NoRepository):
        commit = "unknown" if found.is_refusal else "none"
        return {"git.commit": commit, "git.dirty": "unknown", "git.reason": f"{found.reason}; {found.hint}"}, b""
    patch, folders = repository.patch(root, found, plugin_sources.sources(plugins))
    tags = {"git.commit": found.commit, "mlflow.source.git.commit": found.commit, "git.dirty": str(bool(patch)).lower()}
    if plugins:
        tags |= {"plugins.import_folders": json.dumps(folders), "packages.local": json.dumps(_local_packages())}
    return {**tags, "git.prefix": found.prefix}, patch


def _local_packages() -> list[str]:
    """Return the names of distributions that were installed from a folder: pip finds them in no index."""
    installed = importlib.metadata.distributions()
    return sorted(
        {one.metadata["Name"] for one in installed if "dir_info" in json.loads(one.read_text("direct_url.json") or "{}")}
    )


@functools.cache
def learning_code(plugins: tuple[str, ...] = ()) -> str:
    """Return one hash of the sources that decide the weights of a training, plugins included.

    Computed once a process, which has imported them but once.
    """
    package = Path(reprise.__file__).parent
    files = sorted(file for part in LEARNING for file in [package / part, *(package / part).rglob("*.py")] if file.is_file())
    return text_hash("".join(store.sha256(file) for file in files) + _plugin_digest(plugins))


_plugin_digest = functools.cache(plugin_sources.digest)


def note_code(root: Path, plugins: Sequence[str]) -> None:
    """Record the code now: data that are fetched first take their time, and sources can be edited meanwhile.

    Warn if there is no commit to record: the run will not be reproducible.
    """
    tags, _ = code(root, tuple(plugins))
    if "git.reason" in tags:
        warn(f"the code of this run is not recorded, so `reprise reproduce` cannot run it again: {tags['git.reason']}")
    learning_code(tuple(plugins))


@functools.cache
def demand_noted(plugins: tuple[str, ...]) -> None:
    """Once the plugins are imported, check that their sources are still those that `learning_code` saw before.

    Once a process: what is edited later is not imported any more.

    Raises:
        UserError: when they were edited in between: nobody could say which of the two was imported.

    """
    if plugins and plugin_sources.digest(plugins) != _plugin_digest(plugins):
        raise UserError(f"plugins={','.join(plugins)}: edited while they were imported", "start again")


def plugin_tags(plugins: Sequence[str]) -> dict[str, str]:
    """Return the tag with the hash of the plugins' sources; none without plugins."""
    return {"sha256.plugins": _plugin_digest(tuple(plugins))} if plugins else {}


def warn_of_edited_plugins(plugins: Sequence[str], tags: Mapping[str, str], run: str) -> None:
    """Warn if the plugins of a run were edited since: its weights are then read by other code than they were trained with."""
    if plugins and tags.get("sha256.plugins", "") not in {"", _plugin_digest(tuple(plugins))}:
        warn(f"plugins={','.join(plugins)} were edited since {run} was trained: its figures are those of the code of now")


def config_hash(recorded: Mapping[str, Any]) -> str:
    """One hash for a recorded config, whatever the order of its keys."""
    return text_hash(json.dumps(recorded, sort_keys=True, ensure_ascii=False))


def text_hash(text: str | bytes) -> str:
    """The sha256 of a text, in hex."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


@functools.cache
def packages() -> str:
    """Every installed package and its version, as pip writes them."""
    installed = {f"{found.metadata['Name']}=={found.version}" for found in importlib.metadata.distributions()}
    return "\n".join(sorted(installed, key=str.lower)) + "\n"


@functools.cache
def versions() -> dict[str, str]:
    """Tags with the versions that matter most."""
    return {f"version.{name}": importlib.metadata.version(name) for name in PACKAGES} | {
        "version.python": platform.python_version()
    }


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def dvc_hashes(root: Path) -> dict[str, str]:
    """The md5 of every output that DVC's locks know, by its path; true in a stage that DVC runs, for it has just checked them."""
    return {out["path"]: out["md5"] for stage in _locked_stages(root).values() for out in stage.get("outs", [])}


def dvc_dependencies(root: Path, stage: str) -> dict[str, str]:
    """Return the md5 of every dependency of a stage when it last ran, by its path, from DVC's locks; empty where it never did."""
    return {dep["path"]: dep["md5"] for dep in _locked_stages(root).get(stage, {}).get("deps", [])}


def _locked_stages(root: Path) -> dict[str, Any]:
    locks = [file for file in (root / "dvc.lock", root / "long" / "dvc.lock") if file.is_file()]
    parsed = [yaml.load(file.read_text("utf-8"), SAFE_LOADER) for file in locks]  # noqa: S506 -- both are safe loaders
    return {name: stage for lock in parsed for name, stage in lock["stages"].items()}
