"""compose: write the resolved config of every experiment of the pipeline, one file each."""

import json

from rich.console import Console

from reprise import config as configs
from reprise.config import plugin_sources
from reprise.config.pretrained import PRETRAINED, pinned
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths

HINT = "run `reprise compose`"
SOURCES = "plugin_sources"
"""An extra key in the file, on which `train` and `evaluate` depend: the hash of the source files of the plugins and, if the
experiment has them, the initial weights and frozen layers."""


def load(name: str, paths: ProjectPaths) -> configs.Config:
    """Return the config of an experiment of the pipeline, as `compose` wrote it.

    Raises:
        UserError: when the file is missing or was modified.

    """
    file = paths.config(name)
    return configs.load(store.check(file.parent, file.name, HINT) if file.is_file() else file, ignore=(SOURCES,))


def run(paths: ProjectPaths, console: Console) -> None:
    """Write data/config/<experiment>.yaml for every experiment of conf/pipeline.yaml, or for none if one is invalid."""
    pipeline = configs.pipeline(paths.root)
    listed, published = pipeline.experiments | pipeline.long, [*pipeline.datasets, *pipeline.long_datasets]
    if unknown := [name for name in pipeline.seeds if name not in listed]:
        raise UserError(f"conf/pipeline.yaml: seeds names {unknown[0]}", "name an experiment that is listed there")
    seeds = {name: [f"seeds={count}"] for name, count in pipeline.seeds.items()}
    made = {
        name: configs.compose(paths.root, [f"experiment={name}", *pipeline.overrides, *seeds.get(name, [])]) for name in listed
    }
    for name, config in made.items():
        if config.name != name:
            raise UserError(f"conf/experiment/{name}.yaml: name={config.name}", "an experiment is called as its file is")
        key, known = (
            ("folders", pipeline.folders) if not isinstance(config.data, configs.PublishedData) else ("datasets", published)
        )
        if config.data.name != listed[name] or config.data.name not in known:
            raise UserError(
                f"conf/pipeline.yaml: {name} uses data={config.data.name}", f"list it with the experiment and in {key}"
            )
    sources = {name: _plugin_sources(name, config, pipeline) for name, config in made.items()}
    with store.publish(paths.config("").parent) as draft:
        for name, config in made.items():
            text = f"{configs.render(config)}{SOURCES}: {json.dumps(sources[name])}\n"
            (draft / f"{name}.yaml").write_text(text, "utf-8")
    console.print(f"compose  {', '.join(made)}", soft_wrap=True)


def _plugin_sources(name: str, config: configs.Config, pipeline: configs.Pipeline) -> str:
    """Return the hash of the source files of an experiment's plugins, and what it starts from.

    Raises:
        UserError: when DVC would miss a change: a local plugin is not listed in conf/pipeline.yaml, or the experiment starts
            from the weights of a run.

    """
    local = {
        source.name.partition("/")[0].removesuffix(".py") for source in plugin_sources.sources(config.plugins) if source.is_local
    }
    for plugin in config.plugins:
        if (top := plugin.partition(".")[0]) in local and top not in pipeline.plugins:
            raise UserError(
                f"conf/pipeline.yaml: {name} uses plugins=[{plugin}], which is not listed there",
                f"add its path, so that DVC sees a change of it: plugins: {{{top}: {top}}}",
            )
    return " ".join([plugin_sources.digest(config.plugins), *_initial_weights(name, config)])


def _initial_weights(name: str, config: configs.Config) -> list[str]:
    if config.init_from is None:
        return []
    if config.init_from not in PRETRAINED:
        raise UserError(
            f"conf/pipeline.yaml: {name} has init_from={config.init_from}, and DVC would not notice if those weights change",
            f"train it by hand: reprise train experiment={name}; the pipeline takes {', '.join(PRETRAINED)}",
        )
    return [pinned(config.init_from), json.dumps(config.freeze)]
