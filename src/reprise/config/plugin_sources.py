"""Find the source files of plugins without importing them. They are part of a run's identity, like the package's own code."""

import ast
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprise.config.conf_files import PACKAGE
from reprise.errors import UserError

LARGEST = 64 * 2**20
"""Maximum size in bytes of the local packages of one plugin. They are copied into every run."""
LEFT_OUT = ("__pycache__", "node_modules")
"""Folders of a package without source files. Hidden folders are skipped as well."""

INSTALLED = {"site-packages", "dist-packages"}
"""Folders that package managers install into; environment, user and system can each have one."""


@dataclass(frozen=True)
class Source:
    """One file of a plugin, or of a local module that a plugin imports."""

    name: str
    """Path relative to the import folder, with slashes: `my_package/network.py`."""
    file: Path
    is_local: bool
    """False if a package manager installed it. Then only its name and version are recorded, not a copy of the file."""

    @property
    def import_folder(self) -> Path:
        """The folder that must be on `sys.path`."""
        return self.file.parents[self.name.count("/")]


def sources(plugins: Sequence[str]) -> list[Source]:
    """Return all files of the packages named in `plugins` and of the local modules they import, sorted by name.

    A module is local if no package manager installed it. Imports are read from the syntax tree, so modules imported by a computed
    name are not found.

    Raises:
        UserError: if a plugin cannot be found, or its files are too large to copy into each run.

    """
    importlib.invalidate_caches()
    collected: dict[str, Source] = {}
    seen, pending = set[str](), [plugin.partition(".")[0] for plugin in plugins]
    named = set(pending)
    while pending:
        if (name := pending.pop()) in seen:
            continue
        seen.add(name)
        files = list(_files(name))
        if name in named and not files:
            raise UserError(f"plugins={name}: no such package", "install it, or put it next to conf/")
        files = [source for source in files if source.is_local or name in named]
        if (size := sum(source.file.stat().st_size for source in files if source.is_local)) > LARGEST:
            raise UserError(
                f"plugins={name}: {files[0].import_folder / name} holds {size / 2**20:,.0f} MiB, more than {LARGEST >> 20}",
                "its files are copied into every run: move data out of the package",
            )
        collected |= {source.name: source for source in files if source.name not in collected}
        pending += [imported for source in files if source.is_local for imported in _imports(source.file)]
    return [collected[name] for name in sorted(collected)]


def digest(plugins: Sequence[str]) -> str:
    """Return one sha256 over names and contents of all sources, or "" without plugins."""
    return digest_of(sources(plugins)) if plugins else ""


def digest_of(files: Iterable[Source]) -> str:
    """Return one sha256 over names and contents."""
    lines = (f"{source.name}\0{hashlib.sha256(source.file.read_bytes()).hexdigest()}\n" for source in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(name: str) -> Iterator[Source]:
    """Yield the files of a top-level package or module. Yield nothing if it does not exist or is built into Python."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return
    if spec is None or (spec.origin in {"built-in", "frozen"} and not spec.submodule_search_locations):
        return
    if spec.submodule_search_locations is None:
        if spec.origin and Path(spec.origin).is_file():
            file = Path(spec.origin)
            yield Source(file.name, file, _is_local(file))
        return
    for folder in map(Path, spec.submodule_search_locations):
        for parent, folders, files in os.walk(folder):
            folders[:] = sorted(one for one in folders if one not in LEFT_OUT and not one.startswith("."))
            for file in (Path(parent) / one for one in sorted(files)):
                if file.suffix != ".pyc" and not file.name.startswith(".") and file.is_file():
                    yield Source(f"{name}/{file.relative_to(folder).as_posix()}", file, _is_local(file))


def _is_local(file: Path) -> bool:
    """Return whether the file is not from a package manager, Python or reprise. Editable installs are local."""
    return not INSTALLED & set(file.parts) and not any(file.is_relative_to(folder) for folder in _own_folders())


@functools.cache
def _own_folders() -> tuple[str, str, str]:
    """Return the folders of the standard library and of reprise. Cached, because it is needed for every file of a package."""
    return sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(PACKAGE)


def _imports(file: Path) -> Iterator[str]:
    """Yield the top-level names of a module's absolute imports, without the standard library and reprise."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # importing it will fail with the reason
        return
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        yield from {top for name in names if (top := name.partition(".")[0]) not in {*sys.stdlib_module_names, "reprise"}}
