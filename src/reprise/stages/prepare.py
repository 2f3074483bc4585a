"""Prepare the data of a training: fetch, convert and split what is missing or out of date."""

from rich.console import Console

from reprise.config import Config
from reprise.data.windows import Windows, open_windows
from reprise.project_paths import ProjectPaths
from reprise.stages import freshness, window


def prepare(config: Config, paths: ProjectPaths, console: Console, remake: bool = True, in_pipeline: bool = False) -> Windows:
    """Return the windows for this config: those of the pipeline if they match, otherwise windows computed for it.

    Missing data is fetched. With `remake`, arrays whose sources changed are recomputed; otherwise they raise an error. With
    `in_pipeline`, DVC has just made or checked the windows of the pipeline.
    """
    arrays = freshness.arrays(config.data, paths, console, remake)
    folder = paths.windows(config.name) if in_pipeline else window.folder_for(config, paths)
    if not window.are_for(folder, config, arrays):
        window.run(config, paths, console, folder)
    return open_windows(folder, arrays)
