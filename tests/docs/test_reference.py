"""The pages made from code list everything that there is."""

import typing
from collections.abc import Iterator

import click
import pytest
from docs.generate import cli_reference, config_reference

from reprise.cli import cli
from reprise.config.schema import Config, Pipeline
from reprise.config.sections import Section
from reprise.config.sweep import Sweep


def test_the_reference_of_the_command_line_lists_every_command_and_option() -> None:
    page = cli_reference.page()
    for name, command in cli.commands.items():
        assert f"\n## reprise {name}\n" in page
        section = cli_reference.section(name, command)
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                row = next(line for line in section.splitlines() if line.startswith("| ") and option.opts[0] in line)
                assert option.help
                assert option.help[:20].replace("<", "&lt;") in row


def sections(annotation: object) -> Iterator[type[Section]]:
    """Yield the sections that a type is made of, and theirs."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
            for extra in field.metadata:
                yield from sections(getattr(extra, "annotation", None))
    for part in typing.get_args(annotation):
        yield from sections(part)


@pytest.fixture(scope="module")
def config_page() -> str:
    return config_reference.page()


SECTIONS = sorted({one for root in (Config, Pipeline, Sweep) for one in sections(root)}, key=lambda one: one.__name__)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_the_reference_of_the_config_explains_every_key_of_the_schema(section: type[Section], config_page: str) -> None:
    parts = [
        part for part in (*config_reference.PARTS, *config_reference.SWEEP, config_reference.PIPELINE) if part.section is section
    ]
    assert parts, f"{section.__name__} has no table in docs/generate/config_reference.py"
    for part in parts:
        rows = {key.removeprefix(part.prefix): (kind, meaning) for key, kind, _, meaning in config_reference.rows(part)}
        assert rows.keys() == {field.alias or name for name, field in section.model_fields.items()}
        assert all(kind and len(meaning) > 5 for kind, meaning in rows.values()), rows
        assert config_reference.table_of(part) in config_page


def test_the_reference_of_the_config_explains_every_argument_of_a_group(config_page: str) -> None:
    files = [file for group in config_reference.GROUPS for file in (config_reference.CONF / group).glob("*.yaml")]
    assert len(files) > 20
    for file in files:
        assert config_reference.choice(file) in config_page
        assert all(meaning for _, _, _, meaning in config_reference.arguments_of(file)), file
