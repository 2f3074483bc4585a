"""Output streams that never fail on a character which their encoding lacks: such a character is replaced."""

import codecs
import contextlib
import io
import sys
import unicodedata
from typing import Any

HANDLER = "reprise.replace"
"""The name of the error handler, as `str.encode(errors=…)` takes it."""
SPELLED = {
    "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "←": "<-", "×": "x", "·": ".", "•": "*", "±": "+-", "≤": "<=",
    "≥": ">=", "“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "✓": "+", "†": "+", "°": "deg", "µ": "u", "μ": "u",
    "─": "-", "━": "-", "│": "|", "┃": "|", "├": "+", "└": "+", "┌": "+", "┐": "+", "┘": "+", "┤": "+", "┬": "+",
    "┴": "+", "┼": "+", "█": "#", "▏": "|", "╸": "-", "╺": "-",
}  # fmt: skip
"""ASCII for the characters that `reprise` itself prints."""


def protect() -> None:
    """Make stdout and stderr replace what their encoding lacks. A terminal of UTF-8 is left with every character."""
    codecs.register_error(HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):  # a stream that is closed already
                stream.reconfigure(errors=HANDLER)


def shows_unicode() -> bool:
    """Return whether stdout can show every character."""
    try:
        return codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name.startswith("utf")
    except LookupError:
        return False


def _replace(error: UnicodeError) -> Any:
    """Return ASCII in place of what cannot be encoded: a spelling, the letter without its accents, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    if character in SPELLED:
        return SPELLED[character]
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return letters if letters.isprintable() and letters else "?"
