"""Helpers shared by all commands: argument types, the project's paths, and output to stdout and stderr."""

import contextlib
import gc
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.console import Console

from reprise import config as configs
from reprise import distributed, terminal
from reprise.completion import Override
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths


@contextlib.contextmanager
def heavy_imports() -> Iterator[None]:
    """Import PyTorch, Lightning or MLflow without garbage collection, and exclude what they made from later collections.

    A fifth of the import is spent on collections that find next to nothing, and modules live until the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Run(click.ParamType[str]):
    """A run, given by a prefix of its id, its name, or a registered model (`NAME@ALIAS` or `models:/NAME/VERSION`).

    `last` is the newest finished training, `last~1` the one before it.
    """

    name = "run"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the run id of a registered model. Return any other value unchanged; the command looks it up."""
        if not re.fullmatch(r"models:.*|[^@/]+@[^@/]+", value):
            return value
        from reprise.tracking import registry  # late: MLflow, which takes seconds to import

        paths, model = project(), value if value.startswith("models:") else f"models:/{value}"
        return registry.run_id_of_model(paths.store, configs.tracking_config(paths.root), model)


class UserPath(click.Path):
    """A path in which `~` is expanded; the shell does not expand it in `--out=~/predictions`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path with `~` expanded."""
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111 -- leaves ~nobody as it is


WIDE = 250
"""Width of tables written to a file or a pipe, in characters: wide enough that nothing is cut off."""
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE, markup=False, emoji=False)
"""Markup and emoji are off: names of classes, files and runs may contain `[/]` or `:cat:`."""
run_argument = click.argument("run", type=Run())
optional_run_argument = click.argument("run", required=False, type=Run())
pipeline_option = click.option(
    "--pipeline", metavar="NAME", help="Used by dvc.yaml: read data/config/NAME.yaml and write under data/."
)
device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "gpu", "auto"]),
    default="cpu",
    show_default=True,
    help="Device of the network; auto: a GPU if there is one. By default the CPU: for a few inputs it has answered before a "
    "GPU has started, and its bits do not depend on whether there is one.",
)
overrides_argument = click.argument("overrides", nargs=-1, type=Override(), metavar="experiment=NAME [key=value ...]")


def project() -> ProjectPaths:
    """Return the paths of the current project."""
    return ProjectPaths(configs.project_root())


def composed(paths: ProjectPaths, pipeline: str | None, overrides: Sequence[str]) -> configs.Config:
    """Return the config of an experiment of the pipeline, or the one that the overrides compose."""
    if pipeline is None:
        return configs.compose(paths.root, overrides)
    if overrides:
        raise UserError("--pipeline takes its config from data/config/", "set keys in conf/, or omit --pipeline")
    from reprise.stages import compose

    return compose.load(pipeline, paths)


def print_message(message: str) -> None:
    """Print one line on stderr. Of several processes, only the parent (or rank 0 if there is none) prints."""
    if distributed.has_parent():
        distributed.tell_parent(message)
    elif distributed.is_rank_zero():
        click.echo(f"reprise: {message}", file=sys.stderr)


def suggest(*steps: tuple[str, str]) -> None:
    """Print suggested next commands and what they do on stderr. Print nothing in a DVC stage."""
    if "DVC_STAGE" in os.environ or not distributed.is_rank_zero():
        return
    width = max(len(command) for command, _ in steps)
    for command, does in steps:
        click.echo(f"next  {command:<{width}}  # {does}", file=sys.stderr)


def write(text: str, end: bool = True) -> None:
    """Print text to stdout unchanged: not wrapped, coloured or cut off."""
    click.echo(text, file=sys.stdout, nl=end)  # explicit file: click would write UTF-8 to an ASCII terminal


def write_json(content: Any) -> None:
    """Print JSON to stdout. Characters that the terminal cannot show are escaped."""
    write(json.dumps(content, indent=2, ensure_ascii=not terminal.shows_unicode()))
