"""Tab completion of overrides: groups, their choices, and the keys of the selected config."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprise.completion import rejoined
from reprise.config import TrainerConfig, choices, compose
from reprise.config.completion import complete_override


def test_a_group_prefix_is_completed(root: Path) -> None:
    assert complete_override(root, [], "exp") == ["experiment="]
    assert "optimizer=" in complete_override(root, [], "opti")


@pytest.mark.parametrize("group", ["experiment", "model", "trainer"])
def test_after_the_equals_sign_the_choices_are_completed(root: Path, group: str) -> None:
    assert complete_override(root, [], f"{group}=") == [f"{group}={choice}" for choice in choices(root, group)]
    assert complete_override(root, [], "experiment=dig") == ["experiment=digits_cnn"]
    assert complete_override(root, [], "optimizer.lr=") == []


def test_keys_are_those_of_the_named_experiment(root: Path) -> None:
    assert complete_override(root, ["experiment=temperature_lstm"], "model.h") == ["model.hidden="]
    assert complete_override(root, ["experiment=digits_cnn"], "model.h") == []
    assert complete_override(root, ["experiment=digits_cnn", "optimizer=sgd"], "optimizer.mom") == ["optimizer.momentum="]
    assert complete_override(root, [], "trainer.max") == ["trainer.max_epochs="]  # keys of any experiment, if none is named


def test_every_completed_key_can_be_set(root: Path) -> None:
    keys = complete_override(root, ["experiment=digits_cnn"], "trainer.")
    trainer = compose(root, ["experiment=digits_cnn"]).trainer
    values = {key: getattr(trainer, key) for key in TrainerConfig.model_fields}
    assert keys == [f"trainer.{key}=" for key in values]
    setting = [f"{key}{'null' if values[key[8:-1]] is None else values[key[8:-1]]}" for key in keys]
    assert compose(root, ["experiment=digits_cnn", *setting]).trainer == trainer


def test_groups_are_completed_after_an_invalid_override(root: Path) -> None:
    assert complete_override(root, ["experiment=nothing"], "trai") == ["trainer="]


@given(st.lists(st.from_regex(r"[a-z.]+(=[a-z0-9]+)", fullmatch=True)))
def test_words_that_bash_split_are_rejoined(words: list[str]) -> None:
    split = [part for word in words for part in (word.partition("="))]
    assert rejoined(split) == words
    assert rejoined(words) == words  # zsh and fish do not split words
