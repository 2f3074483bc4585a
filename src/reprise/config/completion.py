"""Tab completion of overrides."""

from collections.abc import Sequence
from pathlib import Path

from reprise.config.compose import leaf_keys
from reprise.config.conf_files import choices, groups
from reprise.errors import UserError


def complete_override(root: Path, words: Sequence[str], incomplete: str) -> list[str]:
    """Return the completions of `incomplete` after the overrides already typed: groups, their choices and config keys."""
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={choice}" for choice in choices(root, key) if choice.startswith(value)]
    chosen = list(words)
    if not any(word.startswith("experiment=") for word in chosen):
        chosen += [f"experiment={name}" for name in choices(root, "experiment")[:1]]
    try:
        keys = leaf_keys(root, chosen)
    except UserError:  # an error in the words already typed; running the command reports it
        keys = []
    return [f"{name}=" for name in [*groups(root), *keys] if name.startswith(incomplete)]
