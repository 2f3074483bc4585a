"""plugins: write the hashes of the source files of a plugin, so that DVC reruns `compose` when they change."""

import json

from rich.console import Console

from reprise.config import pipeline, plugin_sources
from reprise.config.targets import check_plugins
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths


def run(name: str, paths: ProjectPaths, console: Console) -> None:
    """Write data/plugins/<name>.json: the sha256 of each source file of a plugin that conf/pipeline.yaml lists.

    Raises:
        UserError: when the plugin is not listed, is imported from another path, or imports a local module outside the listed
            paths. DVC would miss changes to it.

    """
    listed = pipeline(paths.root).plugins
    if name not in listed:
        raise UserError(f"conf/pipeline.yaml lists no plugin {name}", f"add it: plugins: {{{name}: {name}}}")
    check_plugins([name])
    sources = [source for source in plugin_sources.sources([name]) if source.is_local]
    folders = [(paths.root / path).resolve() for path in listed.values()]
    for source in sources:
        if not any(source.file.resolve().is_relative_to(folder) for folder in folders):
            raise UserError(
                f"conf/pipeline.yaml: plugin {name} uses {source.file}, which lies in none of the listed paths",
                "list the path of its package or module under plugins",
            )
    hashes = {source.name: store.sha256(source.file) for source in sources}
    store.write_atomically(paths.plugin(name), (json.dumps(hashes, indent=2) + "\n").encode())
    console.print(f"plugins  {name}: {len(hashes)} files", highlight=False, soft_wrap=True)
