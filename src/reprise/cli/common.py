"""What all commands share: how they speak, the project they work in, overrides as arguments."""

import json
import os
import sys
from typing import Any

import click
from rich.console import Console

from reprise import config as configs
from reprise import distributed, terminal
from reprise.completion import Override
from reprise.stages.project_paths import ProjectPaths


class Run(click.ParamType[str]):
    """A run: the beginning of its id, its name, or a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""

    name = "run"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id of a registered model's run, and any other word as it is: commands look for it themselves."""
        if not value.startswith("models:"):
            return value
        from reprise.tracking import registry  # late: MLflow, which takes seconds to import

        paths = project()
        return registry.run_of(paths.store, configs.tracking_config(paths.root), value)


class UserPath(click.Path):
    """A path in which `~` is the home folder: a shell does not expand it in `--out=~/predictions`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, expanded."""
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111 -- leaves ~nobody as it is


WIDE = 250
"""Characters of a line of a table that goes to a file or a pipe: nothing is cut there."""
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE, markup=False, emoji=False)
"""Names of classes, files and runs are printed as they are: `[/]` and `:cat:` in them mean nothing."""
run_argument = click.argument("run", type=Run())
optional_run_argument = click.argument("run", required=False, type=Run())
overrides_argument = click.argument("overrides", nargs=-1, type=Override(), metavar="experiment=NAME [key=value ...]")


def project() -> ProjectPaths:
    """Where the files are of the project that is worked in."""
    return ProjectPaths(configs.project_root())


def say(message: str) -> None:
    """One line on stderr, said once: several processes leave it to the one that started them, or to the first."""
    if distributed.has_parent():
        distributed.tell_parent(message)
    elif distributed.is_first():
        click.echo(f"reprise: {message}", file=sys.stderr)


def suggest(*steps: tuple[str, str]) -> None:
    """Print the commands that come next, each with what it does, on stderr: not in the output of a stage of DVC."""
    if "DVC_STAGE" in os.environ or not distributed.is_first():
        return
    width = max(len(command) for command, _ in steps)
    for command, does in steps:
        click.echo(f"next  {command:<{width}}  # {does}", file=sys.stderr)


def write(text: str, end: bool = True) -> None:
    """Print a text to stdout as it is: nothing is wrapped, coloured or cut."""
    click.echo(text, file=sys.stdout, nl=end)  # named: click would write UTF-8 to a terminal that shows ASCII alone


def write_json(content: Any) -> None:
    """Print JSON to stdout, and nothing else. What the terminal cannot show is escaped, so nothing is lost."""
    write(json.dumps(content, indent=2, ensure_ascii=not terminal.shows_unicode()))
