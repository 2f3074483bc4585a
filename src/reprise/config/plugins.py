"""Where the packages named in `plugins` are found: the project's root, beside conf/, comes first for them, and for them alone."""

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class PluginFinder:
    """Finds the top-level packages of plugins in the project's root before anywhere else (a finder of `sys.meta_path`).

    The root is not put in front of `sys.path`: a file `random.py` beside conf/ would then replace Python's own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a plugin that lies in the root; None for all other modules."""
        if path is not None or name not in self.packages:
            return None
        return PathFinder.find_spec(name, [str(self.root)], target)


def make_importable(root: Path) -> None:
    """Let this process import what lies beside conf/, however it was started: as a console script, by DVC, torchrun or SLURM.

    The root stands last in `sys.path`, for the modules that a plugin imports from beside itself.
    """
    for finder in _finders():
        sys.meta_path.remove(finder)
    if str(root) not in sys.path:
        sys.path.append(str(root))
    sys.meta_path.insert(0, PluginFinder(root))


def look_in_root(plugins: Iterable[str]) -> None:
    """From now on, find these packages in the project's root first."""
    for finder in _finders():
        finder.packages |= {plugin.partition(".")[0] for plugin in plugins}


def _finders() -> list[PluginFinder]:
    return [finder for finder in sys.meta_path if isinstance(finder, PluginFinder)]
