"""User text in figures (classes, files, channels, units) is drawn literally."""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from reprise.figures import classification, comparison, forecasting, network, style, text, training

UNUSUAL_NAMES = [
    r"$\frac$",
    "US$ and CA$",
    "_nolegend_",
    r"a_b^c\d{e}%f&g#h~i",
    "[/red] [bold]",
    "猫ねこ한글🐈",
    "two\nlines\tand \x00\x1b[31m",
    "\ud800 lone surrogate",
    " ",
    "a class name that is far too long to be drawn along any axis of a figure, number 1",
    "a class name that is far too long to be drawn along any axis of a figure, number 2",
]
LINES = st.lists(st.text(min_size=1, max_size=40), min_size=2, max_size=6, unique=True)
RNG = np.random.default_rng(0)


def figures(names: Sequence[str]) -> Iterator[Figure]:
    """Yield every figure that shows user text, with these names as classes, files, channels, units and titles."""
    count, title = len(names), f"run: {text.literal(names[0])}"
    images = RNG.integers(0, 256, (count, 4, 4, 1), np.uint8)
    probabilities, share = RNG.dirichlet(np.ones(count), count), list(np.linspace(0, 1, count))
    maps = RNG.random((count, 4, 4, 3), np.float32)
    time = np.datetime64("2020-01-01", "ns") + (np.arange(6)[:, None] + np.arange(2)) * np.timedelta64(30, "m")
    values = RNG.normal(size=(6, 2))
    history = {f"{split}/{name}": [(1, 0.5)] for split in ("train", "val") for name in ("loss", names[0])}
    yield classification.samples(images, np.arange(count), names, title)
    yield classification.predictions(images, np.arange(count), probabilities, names, title)
    yield classification.file_predictions(images, probabilities, names, names, title)
    yield classification.confusion_matrix(np.eye(count, dtype=np.int64), names, title)
    yield classification.scores(share, share, share, names, title)
    yield network.feature_maps(images, names, maps, title)
    yield training.curves(history, names[0], 1, title)
    yield comparison.ablation(names, share, share, names[0], 3)
    yield forecasting.forecast(time, values, values, values, names[0], names[1], title)
    yield forecasting.residuals(time, values, values, names[1], title)
    yield forecasting.error_by_step({"forecast": values[0]}, names[1], title)


@example(UNUSUAL_NAMES)
@given(LINES)
@settings(max_examples=2, deadline=None)
def test_no_user_text_is_parsed_and_every_character_is_drawn_or_spelled_out(names: list[str]) -> None:
    """A missing glyph or a malformed formula would be a warning or an exception, and both fail the test."""
    for figure in figures(names):
        with plt.style.context(style.LITERAL):
            text.set_fonts(figure)
            figure.draw_without_rendering()
        assert not any(one.get_parse_math() for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text())
        plt.close(figure)


@given(LINES)
@settings(deadline=None)
def test_shortened_labels_are_distinct(names: list[str]) -> None:
    shown = text.labels(names, 12)
    assert len(set(shown)) == len(names)
    assert all(text.width(one) <= 12 for one in shown)
    assert not any(unicodedata.category(char) in text.UNPRINTABLE for one in shown for char in one)


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Cf"]), min_size=1).filter(str.strip))
def test_text_that_the_font_supports_is_unchanged(name: str) -> None:
    assert text.literal(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", "a⟨U+000A⟩b"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u202eabc", "⟨U+202E⟩abc"),
        ("   ", "“   ”"),
        ("☺\ufe0f", "☺"),
    ],
)
def test_characters_that_cannot_be_drawn_are_spelled_out(name: str, shown: str) -> None:
    assert text.literal(name) == shown


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate a machine that has only matplotlib's default font."""
    text._font.cache_clear()
    monkeypatch.setattr(text, "_installed", list)
    yield
    text._font.cache_clear()


@pytest.mark.usefixtures("without_fonts")
def test_without_a_font_characters_are_spelled_out_and_a_note_explains_it(tmp_path: Path) -> None:
    assert text.literal("猫 ねこ 한글 🐈") == "⟨U+732B⟩ ⟨neko⟩ ⟨hangeul⟩ ⟨cat⟩"
    figure = classification.confusion_matrix(np.eye(2, dtype=np.int64), ["猫", "犬"], "a run")
    style.save(figure, tmp_path / "figure.png")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["⟨U+732B⟩", "⟨U+72AC⟩"]
    assert "no installed font" in figure.get_supxlabel().replace("\n", " ")


def test_an_installed_font_that_has_the_characters_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "Cats.ttf"
    pen = TTGlyphPen(None)
    for number, point in enumerate([(0, 0), (0, 900), (900, 900), (900, 0)]):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    box, builder = pen.glyph(), FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": box, "cat": box})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(file)
    known = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file)])
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    for cached in (text._font, text._installed):
        cached.cache_clear()
    try:
        assert text.literal("猫x") == "猫x"
        figure = classification.confusion_matrix(np.eye(2, dtype=np.int64), ["猫x", "dog"], "a run")
        style.save(figure, tmp_path / "figure.png")  # a glyph that is missing would be a warning
        assert figure.axes[0].get_yticklabels()[0].get_fontfamily() == [text.DEFAULT_FONT, "Cats"]
    finally:
        for cached in (text._font, text._installed):
            cached.cache_clear()
