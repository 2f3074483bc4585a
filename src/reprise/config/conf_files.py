"""The files of conf/: those of the project, then those shipped with reprise.

A project in a folder of its own holds only the files that it adds or replaces. A conf/ with config.yaml is complete, as in a
clone of reprise: the shipped files are not read.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
"""The folder of the package `reprise`."""
ROOT_CONFIG, PIPELINE = "config.yaml", "pipeline.yaml"
"""The file that every config starts from, and the lists of the DVC pipeline."""


def is_project(root: Path) -> bool:
    """Return whether a folder is the root of a project."""
    return any((root / "conf" / name).is_file() for name in (ROOT_CONFIG, PIPELINE))


def shipped() -> Path:
    """Return the folder with conf/ and dvc.yaml that the installed package holds; in a clone, the repository."""
    installed = PACKAGE / "shipped"
    return installed if installed.is_dir() else PACKAGE.parents[1]


def folders(root: Path) -> list[Path]:
    """Return the conf/ folders of a project, the first having precedence."""
    own = root / "conf"
    return [own] if (own / ROOT_CONFIG).is_file() else [own, shipped() / "conf"]


def find(root: Path, name: str) -> Path:
    """Return a file by its path in conf/, such as `data/digits.yaml`. If there is none, return the path it would have."""
    return next((folder / name for folder in folders(root) if (folder / name).is_file()), root / "conf" / name)


def choices(root: Path, group: str) -> list[str]:
    """Return the choices of a config group, sorted."""
    return sorted({file.stem for folder in folders(root) for file in (folder / group).glob("*.yaml")})


def groups(root: Path) -> list[str]:
    """Return the names of the config groups, sorted."""
    return sorted({entry.name for folder in folders(root) if folder.is_dir() for entry in folder.iterdir() if entry.is_dir()})


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield every YAML file with its path in conf/, sorted. The pipeline's lists are those of the project."""
    found: dict[str, Path] = {}
    for folder in reversed(folders(root)):
        found |= {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.yaml")}
    yield from sorted(found.items())


def copy(root: Path, target: Path) -> None:
    """Write a complete conf/ that composes as the project does."""
    for name, file in files(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / name)
