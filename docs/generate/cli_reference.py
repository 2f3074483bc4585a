"""The reference of the command line, made from the commands themselves."""

import inspect
import re
from collections.abc import Iterator

import click

from reprise.cli import cli

INTRODUCTION = """# Command line

Made from the commands when this site is built. `reprise COMMAND --help` prints the same text. Any config key is set as
`key=value`; the [reference of the config](config.md) lists the keys.
"""


def page() -> str:
    """Return the page: usage, description and options of every command."""
    sections = (section(name, command) for name, command in cli.commands.items())
    return "\n".join([INTRODUCTION, *sections, "## All commands\n", *paragraphs(cli.help or "")])


def section(name: str, command: click.Command) -> str:
    """Return the section of one command."""
    context = click.Context(command, parent=click.Context(cli, info_name="reprise", **cli.context_settings), info_name=name)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## reprise {name}\n", f"```text\n{usage}\n```\n", *paragraphs(command.help or "")]
    rows = [row(option, context) for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if rows:
        parts.append("| option | meaning |\n| --- | --- |\n" + "".join(rows))
    return "\n".join(parts)


def row(option: click.Option, context: click.Context) -> str:
    """Return the row of an option in the table of its command."""
    record = option.get_help_record(context)
    assert record
    spelling, meaning = record
    return f"| `{spelling}` | {escaped(meaning)} |\n"


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those marked as preformatted become blocks."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield f"```text\n{paragraph.removeprefix(chr(8)).strip(chr(10))}\n```\n"
        else:
            yield f"{escaped(paragraph)}\n"


def escaped(text: str) -> str:
    """Return text whose words in angle brackets are not taken for HTML, and that may stand in a table."""
    parts = re.split(r"(`[^`]+`)", text)
    kept = [part if part.startswith("`") else part.replace("<", "&lt;").replace("*", r"\*") for part in parts]
    return "".join(kept).replace("|", r"\|")
