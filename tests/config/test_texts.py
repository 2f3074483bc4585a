"""A text on the command line arrives as it was typed; of what cannot be read, the quotes are shown with which it can."""

import os.path
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reprise.config import compose, compose_dataset
from reprise.config.texts import quote, quoted, unreadable
from reprise.errors import UserError
from tests.config.conftest import ROOT

typed = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)
tricky = st.text("ab=, ~'\"[]{}()\\$:%?#&+é猫", min_size=1)


@given(typed | tricky)
@example("\\'")
@example("a\\")
def test_a_quoted_text_is_read_back_by_hydra(text: str) -> None:
    for mark in "'\"":
        assert OverridesParser.create().parse_override(f"data.path={quote(text, mark)}").value() == text


@given(tricky | typed)
@example("null")
@example("12")
@example("a,b=c")
def test_a_path_is_taken_as_typed(text: str) -> None:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    assume("${" not in text and not is_quoted)
    (word,) = quoted([f"data.path={text}"])
    assert OverridesParser.create().parse_override(word).value() == text


@pytest.mark.parametrize(
    "folder", ["a b", "a,b", "a=b", "[a]", "{a}", "it's", 'say "a"', "café 猫", "1", "null", "a\\", "50%", "#1", "a:b", "(a)"]
)
def test_a_folder_of_any_name_can_be_named(folder: str, tmp_path: Path) -> None:
    path = str(tmp_path / folder)
    data = compose_dataset(ROOT, "image_folder", [f"data.path={path}"])
    assert getattr(data, "path", None) == path


def test_the_rest_of_the_config_is_composed_too_and_a_home_is_expanded() -> None:
    config = compose(ROOT, ["experiment=image_folder", "data.path=~/my, pictures", "data.title=a=b", "tracking.uri=null"])
    assert getattr(config.data, "path", None) == os.path.expanduser("~/my, pictures")  # noqa: PTH111 -- the reference
    assert config.data.title == "a=b"
    assert config.tracking.uri is None
    address = "postgresql://host/db?sslmode=require,a b"
    assert compose(ROOT, ["experiment=digits_cnn", f"tracking.uri={address}"]).tracking.uri == address


def test_quotes_and_references_mean_what_they_mean_to_hydra() -> None:
    data = compose_dataset(ROOT, "image_folder", ["data.path='a, b'", "data.title=${data.name}"])
    assert (getattr(data, "path", None), data.title) == ("a, b", "image_folder")


@pytest.mark.parametrize("value", ["a,b=c", "x'y z", "a, {", "[1"])
def test_the_quoting_that_works_is_shown(value: str) -> None:
    """Of a key that may hold anything, an argument of the model."""
    word = f"model.init={value}"
    with pytest.raises(UserError) as refused:
        compose(ROOT, ["experiment=digits_cnn", word])
    said = str(refused.value)
    assert said.startswith(f"model.init={value}: the value cannot be read; if it is a text, quote it twice")
    (shown,) = shlex.split(said.partition("for Hydra: ")[2])
    assert unreadable([shown]) is None
    assert OverridesParser.create().parse_override(shown).value() == value
