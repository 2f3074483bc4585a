"""Text values on the command line are taken as typed. If one cannot be parsed, the error shows how to quote it."""

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
def test_a_folder_with_any_name_can_be_given(folder: str, tmp_path: Path) -> None:
    path = str(tmp_path / folder)
    data = compose_dataset(ROOT, "image_folder", [f"data.path={path}"])
    assert getattr(data, "path", None) == path


def test_tilde_is_expanded_and_the_rest_of_the_config_is_composed() -> None:
    config = compose(ROOT, ["experiment=image_folder", "data.path=~/my, pictures", "data.title=a=b", "tracking.uri=null"])
    assert getattr(config.data, "path", None) == os.path.expanduser("~/my, pictures")  # noqa: PTH111 -- the reference
    assert config.data.title == "a=b"
    assert config.tracking.uri is None
    address = "postgresql://host/db?sslmode=require,a b"
    assert compose(ROOT, ["experiment=digits_cnn", f"tracking.uri={address}"]).tracking.uri == address


def test_quotes_and_interpolations_work_as_in_hydra() -> None:
    data = compose_dataset(ROOT, "image_folder", ["data.path='a, b'", "data.title=${data.name}"])
    assert (getattr(data, "path", None), data.title) == ("a, b", "image_folder")


@pytest.mark.parametrize("value", ["a,b=c", "x'y z", "a, {", "[1"])
def test_the_error_shows_a_quoting_that_works(value: str) -> None:
    """For a key of any type: an argument of the model."""
    word = f"model.init={value}"
    with pytest.raises(UserError) as refused:
        compose(ROOT, ["experiment=digits_cnn", word])
    message = str(refused.value)
    assert message.startswith(f"model.init={value}: the value cannot be read; if it is a text, quote it twice")
    (shown,) = shlex.split(message.partition("for Hydra: ")[2])
    assert unreadable([shown]) is None
    assert OverridesParser.create().parse_override(shown).value() == value
