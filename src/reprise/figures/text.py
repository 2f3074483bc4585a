"""User text in figures (classes, files, channels, units): drawn literally, never parsed as a formula.

Characters without a glyph in the default font are drawn with an installed font that has one. If there is none, they are spelled
out in angle brackets: letters and symbols by their Unicode name, other characters by their code point.
"""

import functools
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby

from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

DEFAULT_FONT = "DejaVu Sans"
"""Ships with matplotlib, so a figure without unusual characters is the same on every machine."""
UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: control, format, surrogate, private use, unassigned, line and paragraph separator."""
IGNORED = frozenset({"\ufe0e", "\ufe0f"})
"""Variation selectors, which select one of two glyphs of a symbol."""
REGULAR = frozenset({400, "normal", "regular", "book"})
NOT_FOR_TEXT = r"Last ?Resort|cm[a-z]+\d|DejaVu"
"""Fonts with placeholder boxes, matplotlib's fonts with mathematical symbols at other code points, and the default font."""
OPEN, CLOSE = "⟨", "⟩"
NOTE = f"{OPEN}…{CLOSE}: no installed font has this character (fonts-noto-cjk has Chinese, Japanese and Korean)"


def literal(text: str, longest: int | None = None) -> str:
    """Return `text`, at most `longest` columns wide, with unprintable characters and those without a font spelled out.

    If the text is too long, its middle is elided. Wide (East Asian) characters count two columns.
    """
    spelled = "".join(_spell(name, list(run)) for name, run in groupby(text, key=_replacement_kind))
    if not spelled.strip():
        spelled = f"“{spelled}”"
    return spelled if longest is None else _elide(spelled, longest)


def labels(names: Sequence[str], longest: int) -> list[str]:
    """Return unique labels: the results of `literal`, with a number added to equal ones."""
    shown = [literal(name, longest) for name in names]
    if len(set(shown)) == len(shown):
        return shown
    return [
        name if shown.count(name) == 1 else f"{literal(original, longest - 4)} #{number}"
        for number, (name, original) in enumerate(zip(shown, names, strict=True), start=1)
    ]


def wrap(text: str, inches: float, size: float) -> str:
    """Wrap text of a font size in points to a width in inches."""
    columns = max(8, int(inches * 72 / (0.62 * size)))  # the mean advance of the default font, in em
    lines = []
    for line in text.split("\n"):
        narrower = columns * len(line) // max(1, width(line))
        lines += textwrap.wrap(line, max(4, narrower)) or [""]
    return "\n".join(lines)


def width(text: str) -> int:
    """Return the columns of a text: two for each wide (East Asian) character, else one."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def set_fonts(figure: Figure) -> None:
    """Set the fallback fonts of every text, and add a note if characters were spelled out."""
    texts = [text for text in _texts(figure) if text.get_text()]
    for text in texts:
        if others := _fallbacks(text.get_text()):
            text.set_fontfamily([DEFAULT_FONT, *others])
    if any(OPEN in text.get_text() for text in texts):
        figure.supxlabel(wrap(NOTE, figure.get_figwidth(), 7), fontsize=7, x=0.01, ha="left", color="#767676")


def _texts(artist: Artist) -> Iterator[Text]:
    """Yield the texts of an artist, of ticks only those with fixed labels: others are numbers, and slow to create."""
    if isinstance(artist, Text):
        yield artist
        return
    if isinstance(artist, Axis):
        fixed = isinstance(artist.get_major_locator(), FixedLocator) or isinstance(artist.get_minor_locator(), FixedLocator)
        children = artist.get_children() if fixed else [artist.label, artist.offsetText]
    elif isinstance(artist, Axes) and not artist.axison:
        children = [child for child in artist.get_children() if not isinstance(child, Axis)]
    else:
        children = artist.get_children()
    for child in children:
        yield from _texts(child)


def _replacement_kind(char: str) -> str:
    """Return how to spell a character: "none" if it is drawn as it is, "name" or "code point"."""
    if char in IGNORED or (unicodedata.category(char) not in UNPRINTABLE and _font(char) is not None):
        return "none"
    return "name" if _name(char) else "code point"


def _name(char: str) -> str:
    """Return the romanisation of a letter or the name of a symbol, in lower case, or "" if Unicode has none."""
    name = unicodedata.name(char, "")
    if match := re.search(r"(?:HIRAGANA|KATAKANA|HANGUL|DEVANAGARI)\b.*(?:LETTER|SYLLABLE)(?: SMALL)? (\w+)$", name):
        return match[1].lower()
    return name.lower() if unicodedata.category(char) in {"So", "Sm"} else ""


def _spell(kind: str, chars: list[str]) -> str:
    if kind == "none":
        return "".join(char for char in chars if char not in IGNORED)
    if kind == "name":
        letters = unicodedata.category(chars[0]).startswith("L")
        return f"{OPEN}{('' if letters else ' ').join(map(_name, chars))}{CLOSE}"
    return f"{OPEN}{' '.join(f'U+{ord(char):04X}' for char in chars)}{CLOSE}"


def _elide(text: str, longest: int) -> str:
    if width(text) <= longest:
        return text
    end = text
    while width(end) > (longest - 1) // 3:
        end = end[1:]
    begin = text
    while width(begin) > longest - 1 - width(end):
        begin = begin[:-1]
    return f"{begin}…{end}"


def _fallbacks(text: str) -> list[str]:
    """Return the fonts, other than the default one, that the characters of a text need."""
    fonts = (_font(char) for char in dict.fromkeys(text) if char.isprintable())
    return list(dict.fromkeys(font for font in fonts if font not in {None, DEFAULT_FONT}))


@functools.cache
def _font(char: str) -> str | None:
    """Return the name of the font for a character: the default one, else the first installed one with a glyph, else None."""
    if _has(font_manager.findfont(DEFAULT_FONT), char):
        return DEFAULT_FONT
    for name, file in _installed():
        if _has(file, char):
            return name
    return None


def _has(file: str, char: str) -> bool:
    return bool(_open(file).get_char_index(ord(char)))


@functools.lru_cache(maxsize=64)
def _open(file: str) -> FT2Font:
    return FT2Font(file)


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """Return name and file of every installed upright font of normal weight, including those not yet in matplotlib's cache."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in known:
            _add(file)
    fonts = {
        (entry.name, entry.fname)
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and entry.weight in REGULAR and not re.match(NOT_FOR_TEXT, entry.name)
    }
    return sorted(fonts, key=_preference)


def _add(file: str) -> None:
    try:
        font_manager.fontManager.addfont(file)
    except (OSError, RuntimeError):  # a damaged font, or a format that FreeType does not read
        return


def _preference(font: tuple[str, str]) -> tuple[bool, bool, str, str]:
    """Return a sort key: sans-serif Noto fonts first, which match the default font best, then by name for reproducibility."""
    name, file = font
    return "Noto Sans" not in name, "Sans" not in name, name, file
