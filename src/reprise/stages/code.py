"""code: write the hash of the installed code of each stage, so that DVC reruns a stage when an upgrade changes its code."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from reprise.config import conf_files
from reprise.data import store
from reprise.project_paths import ProjectPaths

SOURCE = "src/reprise/"
"""How the shipped dvc.yaml names the files of the package."""


def run(paths: ProjectPaths, console: Console) -> None:
    """Write data/code.json: for each stage of the shipped dvc.yaml, the hash of the files of reprise that it depends on."""
    hashes = {stage: _hash(stage, dependencies(entry)) for stage, entry in shipped_stages().items()}
    store.write_atomically(paths.code, store.as_json(hashes).encode())
    console.print(f"code  {len(hashes)} stages", highlight=False)


def shipped_stages() -> dict[str, dict[str, Any]]:
    """Return the stages of the shipped dvc.yaml."""
    stages: dict[str, dict[str, Any]] = yaml.safe_load((conf_files.shipped() / "dvc.yaml").read_text("utf-8"))["stages"]
    return stages


def dependencies(entry: dict[str, Any]) -> list[str]:
    """Return the files and folders of the package that a stage depends on, relative to the package."""
    return [path.removeprefix(SOURCE) for path in entry.get("do", entry).get("deps", []) if path.startswith(SOURCE)]


def _hash(stage: str, names: list[str]) -> str:
    files = {name: path for name in names for name, path in _files(name)}
    if stage == "compose":  # it reads the shipped conf/ too
        files |= {
            f"conf/{path.relative_to(conf)}": path for conf in [conf_files.shipped() / "conf"] for path in conf.rglob("*.yaml")
        }
    lines = (f"{name} {store.sha256(path)}\n" for name, path in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(name: str) -> Iterator[tuple[str, Path]]:
    path = conf_files.PACKAGE / name
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(conf_files.PACKAGE).as_posix(), file
