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
        """Return the keys and choices that start with the typed text."""
        *words, last = [*rejoined(ctx.params.get(str(param.name)) or ()), ""]
        if words and (words[-1].endswith("=") or "=" not in words[-1]):  # bash expects only the part after "="
            last = words.pop().removesuffix("=") + "="
        try:
            candidates = complete_override(project_root(), words, last + incomplete)
        except UserError:  # outside a project
            return []
        return [CompletionItem(word.removeprefix(last)) for word in candidates]


def rejoined(words: Iterable[str]) -> list[str]:
    """Return the words with `key`, `=`, `value` joined again; bash splits words at `=`."""
    whole: list[str] = []
    for word in words:
        if whole and (word == "=" or whole[-1].endswith("=")):
            whole[-1] += word
        else:
            whole.append(word)
    return whole


@add_completion_class
class Bash(BashComplete):
    """Click's bash completion without a space after `key=`."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace"
    )
