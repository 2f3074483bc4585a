"""Import path of plugins: packages named in `plugins`, and only they, are searched in the project root first."""

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class PluginFinder:
    """A `sys.meta_path` finder that searches the project root first for top-level packages of plugins.

    The root is not prepended to `sys.path`, because a file `random.py` in it would then replace Python's own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a plugin in the root, or None for all other modules."""
        if path is not None or name not in self.packages:
            return None
        return PathFinder.find_spec(name, [str(self.root)], target)


def make_importable(root: Path) -> None:
    """Make modules in the project root importable, however the process was started: console script, DVC, torchrun or SLURM.

    The root is appended to `sys.path`, for modules next to a plugin that the plugin imports.
    """
    for finder in _finders():
        sys.meta_path.remove(finder)
    if str(root) not in sys.path:
        sys.path.append(str(root))
    sys.meta_path.insert(0, PluginFinder(root))


def look_in_root(plugins: Iterable[str]) -> None:
    """From now on, search for these packages in the project root first."""
    for finder in _finders():
        finder.packages |= {plugin.partition(".")[0] for plugin in plugins}


def _finders() -> list[PluginFinder]:
    return [finder for finder in sys.meta_path if isinstance(finder, PluginFinder)]
