"""Lineage of a run: hashes and versions of code, packages, processor and data."""

import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.config import conf_files, plugin_sources
from reprise.data import store
from reprise.errors import UserError, warn
from reprise.tracking import repository
from reprise.tracking.repository import NoRepository

TRAINING_SOURCES = ("data", "training", "models", "tasks", "stages/seed_run.py", "stages/stack_run.py", "stages/train.py")
"""Parts of the package that determine the trained weights."""
PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "hydra-core", "mlflow", "dvc", "reprise")


@functools.cache
def code(root: Path, plugins: tuple[str, ...] = ()) -> tuple[Mapping[str, str], bytes]:
    """Return tags with the commit and whether the code differs from it, and the patch that makes the difference (b"" if clean).

    Computed once per process, because sources that are edited during a training are not the imported ones. Without a commit, a
    tag holds the reason.

    Raises:
        UserError: if git finds the commit, but cannot compute the patch.

    """
    repo = repository.find(root)
    if isinstance(repo, NoRepository):
        commit = "unknown" if repo.is_refusal else "none"
        return {"git.commit": commit, "git.dirty": "unknown", "git.reason": f"{repo.reason}; {repo.hint}"}, b""
    patch, folders = repository.patch(root, repo, plugin_sources.sources(plugins))
    tags = {"git.commit": repo.commit, "mlflow.source.git.commit": repo.commit, "git.dirty": str(bool(patch)).lower()}
    if plugins:
        tags |= {"plugins.import_folders": json.dumps(folders), "packages.local": json.dumps(_local_packages())}
    return {**tags, "git.prefix": repo.prefix}, patch


def _local_packages() -> list[str]:
    """Return the names of distributions installed from a local folder, which pip cannot get from an index."""
    installed = importlib.metadata.distributions()
    return sorted(
        {dist.metadata["Name"] for dist in installed if "dir_info" in json.loads(dist.read_text("direct_url.json") or "{}")}
    )


@functools.cache
def learning_code(plugins: tuple[str, ...] = ()) -> str:
    """Return one hash of the sources that determine the trained weights, plugins included.

    Computed once per process, as Python imports them once.
    """
    package = conf_files.PACKAGE
    files = sorted(
        file for part in TRAINING_SOURCES for file in [package / part, *(package / part).rglob("*.py")] if file.is_file()
    )
    return text_hash("".join(store.sha256(file) for file in files) + _plugin_digest(plugins))


_plugin_digest = functools.cache(plugin_sources.digest)


def record_code(root: Path, plugins: Sequence[str]) -> None:
    """Record the code before data are fetched, because sources can be edited during a long download.

    Warn if there is no commit to record, as the run will not be reproducible.
    """
    tags, _ = code(root, tuple(plugins))
    if "git.reason" in tags:
        warn(f"the code of this run is not recorded, so `reprise reproduce` cannot run it again: {tags['git.reason']}")
    learning_code(tuple(plugins))


@functools.cache
def check_plugins_unchanged(plugins: tuple[str, ...]) -> None:
    """Check, after the plugins were imported, that their sources are those that `learning_code` hashed before.

    Checked once per process: later edits are not imported.

    Raises:
        UserError: if they were edited in between, so that the imported version is unknown.

    """
    if plugins and plugin_sources.digest(plugins) != _plugin_digest(plugins):
        raise UserError(f"plugins={','.join(plugins)}: edited while they were imported", "start again")


def plugin_tags(plugins: Sequence[str]) -> dict[str, str]:
    """Return the tag with the hash of the plugins' sources, or an empty dict without plugins."""
    return {"sha256.plugins": _plugin_digest(tuple(plugins))} if plugins else {}


def warn_of_edited_plugins(plugins: Sequence[str], tags: Mapping[str, str], run: str) -> None:
    """Warn if the plugins were edited after the run was trained: other code than at training now uses its weights."""
    if plugins and tags.get("sha256.plugins", "") not in {"", _plugin_digest(tuple(plugins))}:
        warn(f"plugins={','.join(plugins)} were edited since {run} was trained: its figures come from the current code")


def config_hash(recorded: Mapping[str, Any]) -> str:
    """Return a hash of a recorded config that does not depend on the order of its keys."""
    return text_hash(json.dumps(recorded, sort_keys=True, ensure_ascii=False))


def text_hash(text: str | bytes) -> str:
    """Return the sha256 of a text, in hex."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


@functools.cache
def packages() -> str:
    """Return every installed package and its version, one `name==version` per line."""
    installed = {f"{dist.metadata['Name']}=={dist.version}" for dist in importlib.metadata.distributions()}
    return "\n".join(sorted(installed, key=str.lower)) + "\n"


@functools.cache
def versions() -> dict[str, str]:
    """Return tags with the versions of Python and of the main packages."""
    return {f"version.{name}": importlib.metadata.version(name) for name in PACKAGES} | {
        "version.python": platform.python_version()
    }


def processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
