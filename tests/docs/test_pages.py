"""The blocks of the documentation are known to the commands and to the schema. `test_blocks_run.py` runs them."""

import shlex

import click
import pytest
import yaml

from reprise.cli import cli
from reprise.config import choices
from reprise.config.schema import Config
from tests.docs.blocks import PAGES, ROOT, blocks, commands, files

LANGUAGES = {"bash", "python", "yaml", "text"}
GROUPS = {"data", "window", "augment", "task", "model", "optimizer", "scheduler", "trainer", "experiment", "sweep"}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_has_a_language_and_every_file_a_name(page: str) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block.text
        if block.language == "yaml":
            assert files(block), f"the first line names the file:\n{block.text}"
            assert all(isinstance(yaml.safe_load(content), dict) for _, _, content in files(block))
        if block.language == "python":
            compile(block.text, page, "exec")


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_every_command_of_a_page_has_the_options_and_keys_that_it_uses(page: str) -> None:
    for line in commands(page):
        _, name, *words = shlex.split(line, comments=True)
        command = cli.commands[name]
        context = command.make_context(f"reprise {name}", list(words), resilient_parsing=False)
        for word in _overrides(context):
            key, _, value = word.partition("=")
            section = key.split(".")[0]
            assert section in {*Config.model_fields, *GROUPS, "workers", "launcher", "storage", "n_trials", "name"}, line
            if key in GROUPS and key not in {"sweep"}:
                written = [path for one in PAGES for block in blocks(one) for path, _, _ in files(block)]
                assert value in choices(ROOT, key) or f"conf/{key}/{value}.yaml" in written, line


def _overrides(context: click.Context) -> list[str]:
    words = [word for value in context.params.values() if isinstance(value, tuple) for word in value]
    return [word for word in words if isinstance(word, str) and "=" in word]
