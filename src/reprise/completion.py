"""Tab completion of `key=value` on the command line."""

from collections.abc import Iterable

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from reprise.config import project_root
from reprise.config.completion import complete_override
from reprise.errors import UserError


class Override(click.ParamType[str]):
    """`key=value`, completed from conf/."""

    name = "key=value"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Keys and choices that begin as typed."""
        *words, last = [*rejoined(ctx.params.get(str(param.name)) or ()), ""]
        if words and (words[-1].endswith("=") or "=" not in words[-1]):  # bash wants what follows the "=" alone
            last = words.pop().removesuffix("=") + "="
        try:
            found = complete_override(project_root(), words, last + incomplete)
        except UserError:  # outside a project
            return []
        return [CompletionItem(word.removeprefix(last)) for word in found]


def rejoined(words: Iterable[str]) -> list[str]:
    """`key`, `=`, `value` as the one word that they were before bash split it."""
    whole: list[str] = []
    for word in words:
        if whole and (word == "=" or whole[-1].endswith("=")):
            whole[-1] += word
        else:
            whole.append(word)
    return whole


@add_completion_class
class Bash(BashComplete):
    """Click's, without a space after `key=`."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace"
    )
