"""Tab completion of overrides."""

from collections.abc import Sequence
from pathlib import Path

from reprise.config.compose import choices, groups, leaf_keys
from reprise.errors import UserError


def complete_override(root: Path, words: Sequence[str], incomplete: str) -> list[str]:
    """What `incomplete` may become after the overrides already typed: groups, their choices, keys of the config."""
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={choice}" for choice in choices(root, key) if choice.startswith(value)]
    named = [f"{group}=" for group in groups(root)]
    try:
        chosen = (
            words
            if any(word.startswith("experiment=") for word in words)
            else [*words, f"experiment={choices(root, 'experiment')[0]}"]
        )
        keys = [f"{path}=" for path in leaf_keys(root, chosen)]
    except UserError:
        keys = []
    return [word for word in [*named, *keys] if word.startswith(incomplete)]
