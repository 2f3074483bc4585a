"""What all commands share: how they speak, the project they work in, overrides as arguments."""

import json
import sys
from typing import Any

import click
from rich.console import Console

from reprise import config as configs
from reprise import ranks, terminal
from reprise.completion import Override
from reprise.stages.places import Places

console = Console(markup=False, emoji=False)
"""Names of classes, files and runs are printed as they are: `[/]` and `:cat:` in them mean nothing."""
overrides_argument = click.argument("overrides", nargs=-1, type=Override(), metavar="experiment=NAME [key=value ...]")


def project() -> Places:
    """Where the files are of the project that is worked in."""
    return Places(configs.project_root())


def say(message: str) -> None:
    """One line on stderr, said once: several processes leave it to the one that started them, or to the first."""
    if ranks.has_parent():
        ranks.tell_parent(message)
    elif ranks.is_first():
        click.echo(f"reprise: {message}", file=sys.stderr)


def write(text: str, end: bool = True) -> None:
    """Print a text to stdout as it is: nothing is wrapped, coloured or cut."""
    click.echo(text, file=sys.stdout, nl=end)  # named: click would write UTF-8 to a terminal that shows ASCII alone


def write_json(content: Any) -> None:
    """Print JSON to stdout, and nothing else. What the terminal cannot show is escaped, so nothing is lost."""
    write(json.dumps(content, indent=2, ensure_ascii=not terminal.shows_unicode()))
