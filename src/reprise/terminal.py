"""Make stdout and stderr replace characters that their encoding lacks, instead of raising UnicodeEncodeError."""

import codecs
import contextlib
import io
import sys
import unicodedata
from typing import Any

HANDLER = "reprise.replace"
"""Name of the error handler for `str.encode(errors=…)`."""
ASCII_SPELLINGS = {
    "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "←": "<-", "×": "x", "·": ".", "•": "*", "±": "+-", "≤": "<=",
    "≥": ">=", "“": '"', "”": '"', "„": '"', "’": "'", "‘": "'", "✓": "+", "†": "+", "°": "deg", "µ": "u", "μ": "u",
    "─": "-", "━": "-", "│": "|", "┃": "|", "├": "+", "└": "+", "┌": "+", "┐": "+", "┘": "+", "┤": "+", "┬": "+",
    "┴": "+", "┼": "+", "█": "#", "▏": "|", "╸": "-", "╺": "-",
}  # fmt: skip
"""ASCII for the characters that `reprise` itself prints."""


def protect() -> None:
    """Make stdout and stderr replace characters that their encoding lacks. UTF-8 terminals are not affected."""
    codecs.register_error(HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):  # the stream is closed
                stream.reconfigure(errors=HANDLER)


def shows_unicode() -> bool:
    """Return whether stdout can show every character."""
    try:
        return codecs.lookup(getattr(sys.stdout, "encoding", None) or "ascii").name.startswith("utf")
    except LookupError:
        return False


def _replace(error: UnicodeError) -> Any:
    """Return an ASCII replacement: a spelling, the letter without its accents, or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    if character in ASCII_SPELLINGS:
        return ASCII_SPELLINGS[character]
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return letters if letters.isprintable() and letters else "?"
