"""What a run was made from: code, packages, processor, data."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import reprise
from reprise.data import store
from reprise.errors import UserError

CODE = ("src", "conf", "dvc.yaml", "long", "pyproject.toml", "constraints.txt")
"""What decides a run; a change elsewhere does not make its code dirty."""
LEARNING = ("data", "learning", "models", "stages/train.py")
"""Of the package, what decides the weights of a training."""
PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "hydra-core", "mlflow", "dvc", "reprise")


@functools.cache
def code(root: Path) -> tuple[Mapping[str, str], bytes]:
    """Tags with the commit and whether the code differs from it, and the patch that makes the difference (b"" when clean).

    Looked at once a process: what is edited while it trains is not what it imported.

    Raises:
        UserError: when git knows the commit, but cannot say what differs from it.

    """
    head = _git(root, "rev-parse", "HEAD")
    if head.returncode:
        return {"git.commit": "none", "git.dirty": "unknown"}, b""
    commit, patch = head.stdout.decode().strip(), _patch(root)
    return {"git.commit": commit, "mlflow.source.git.commit": commit, "git.dirty": str(bool(patch)).lower()}, patch


def _patch(root: Path) -> bytes:
    """All that is not committed of `CODE`, new files too, through an index of our own: the user's stays as it is.

    By `diff-index`: what `diff` prints is the user's to set (prefixes, colours, a program of their own), and need not apply.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        present = [name for name in CODE if (root / name).exists()]
        compare = ["diff-index", "--cached", "--binary", "--no-ext-diff", "HEAD", "--", *CODE]
        for arguments in (["read-tree", "HEAD"], ["add", "-A", "--", *present], compare):
            done = _git(root, *arguments, environment=index)
            if done.returncode:
                reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"code {done.returncode}"])[-1]
                raise UserError(
                    f"what is not committed cannot be written down: git {arguments[0]}: {reason}", "mend the repository"
                )
    return done.stdout


def _git(root: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", root, *arguments], env={**os.environ, **(environment or {})}, capture_output=True)


@functools.cache
def learning_code() -> str:
    """One hash for the sources that decide the weights of a training; of a process, for it has imported them but once."""
    package = Path(reprise.__file__).parent
    files = sorted(file for part in LEARNING for file in [package / part, *(package / part).rglob("*.py")] if file.is_file())
    return hashlib.sha256("".join(store.sha256(file) for file in files).encode()).hexdigest()


def note_code(root: Path) -> None:
    """Look at the code now, just imported: data that are fetched first take their time, and sources can be edited meanwhile."""
    code(root)
    learning_code()


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
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def dvc_hashes(root: Path) -> dict[str, str]:
    """The md5 of every output that DVC's locks know, by its path; true in a stage that DVC runs, for it has just checked them."""
    locks = [file for file in (root / "dvc.lock", root / "long" / "dvc.lock") if file.is_file()]
    stages = [stage for file in locks for stage in yaml.safe_load(file.read_text())["stages"].values()]
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}
