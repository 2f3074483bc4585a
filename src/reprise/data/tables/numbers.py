"""Parse text to numbers: decimal point or comma, thousands separators, markers of missing values, precision.

Columns are Arrow arrays of trimmed strings. The decimal mark is one for the whole file.
"""

import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import rounding
from reprise.data.tables.arrow import pa, pc
from reprise.data.tables.cells import Cells
from reprise.errors import UserError

MISSING = r"(?i)^(?:|na|n/a|#n/a|nan|null|none|nil|-|--|\?|\.)$"
"""Cells without a value."""
SPACES = " \u00a0\u202f\u2009'’"
"""Thousands separators that are no decimal mark in any convention."""
SAMPLE = 10_000
"""Rows from which the content of a column and the decimal mark are detected. If a mark shows in them, later cells of another
convention are no numbers."""
_SIGN, _EXPONENT = "[+-]?", "(?:[eE][+-]?[0-9]+)?"


@dataclass(frozen=True)
class Numbers:
    """A column of numbers. `values` float64 [row] is NaN where a cell is `missing` or `text`, both bool [row].

    A number too large for float64 is infinite: `demand_precision` refuses it.
    """

    values: npt.NDArray[np.float64]
    missing: npt.NDArray[np.bool_]
    text: npt.NDArray[np.bool_]
    """Cells that are neither a number nor missing, including infinite values."""


def is_number_like(array: Any) -> bool:
    """Return whether a column holds numbers: at least half of its cells that are not missing, and at least one."""
    if not pa.types.is_string(array.type):
        return bool(pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type))
    array = array.slice(0, SAMPLE)
    present = pc.sum(pc.invert(pc.match_substring_regex(array, MISSING))).as_py() or 0
    numbers = pc.sum(pc.match_substring_regex(array, rf"^[+\-−]?[0-9.,][0-9.,{SPACES}]*{_EXPONENT}$")).as_py() or 0
    return bool(numbers) and 2 * numbers >= present


def detect_decimal(cells: Cells, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Return the decimal mark of the file, `.` or `,`, and notes.

    A cell shows it if the mark is not followed by exactly three digits (1,5), or if both marks occur (1.234,5). If no cell does,
    a point is the decimal mark of columns separated by commas.

    Raises:
        UserError: if every cell with a mark may be a thousand or a decimal (1,234), or if cells contradict each other.

    """
    texts = {column: cells.columns[column] for column in columns if pa.types.is_string(cells.columns[column].type)}
    shown, unclear = _evidence({column: array.slice(0, SAMPLE) for column, array in texts.items()})
    if not shown:
        shown, unclear = _evidence(texts)
    if len(shown) == 2:
        raise _contradiction(cells, texts, shown)
    if shown:
        mark = next(iter(shown))
        return mark, ["Numbers have a decimal comma."] if mark == "," else []
    if unclear is None:
        return ".", []
    column, position = unclear
    if cells.separator in {",", None} and "," not in cells.text(position, column):
        example = f"row {cells.row(position)}, column {column}: {cells.text(position, column)}"
        return ".", [f"Points in numbers are read as decimal points ({example})."]
    what = "may be a thousand or a decimal fraction, and no other cell shows which"
    raise cells.error(position, column, what, "set data.decimal to . or ,")


def _evidence(texts: dict[str, Any]) -> tuple[dict[str, tuple[str, int]], tuple[str, int] | None]:
    """Return the first cell that shows each mark, and the first cell that may be a thousand or a decimal.

    A column with numbers such as 1234 has no thousands separators, so its marks are decimal marks.
    """
    shown: dict[str, tuple[str, int]] = {}
    unclear: tuple[str, int] | None = None
    for column, array in texts.items():
        for mark, other in (".,", ",."):
            if not pc.any(pc.match_substring(array, mark)).as_py():
                continue
            if mark not in shown and (position := _first(array, _shows(mark, other))) is not None:
                shown[mark] = column, position
            position = _first(array, rf"^{_SIGN}[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}$")
            if position is not None and _first(array, rf"^{_SIGN}[1-9][0-9]{{3,}}$") is not None:
                shown.setdefault(mark, (column, position))
            elif position is not None:
                unclear = unclear or (column, position)
    return shown, unclear


def _shows(mark: str, other: str) -> str:
    """Return the pattern of numbers that can be read in one way only, with `mark` as the decimal mark."""
    m, o = f"[{mark}]", f"[{other}]"
    whole = f"(?:[0-9]+|[1-9][0-9]{{0,2}}(?:[{SPACES}][0-9]{{3}})+)"
    fraction = f"{whole}?{m}(?:[0-9]{{1,2}}|[0-9]{{4,}})"
    long_or_zero = f"(?:[0-9]{{4,}}|0[0-9]*|){m}[0-9]{{3}}"
    spaced = f"[1-9][0-9]{{0,2}}(?:[{SPACES}][0-9]{{3}})+{m}[0-9]{{3}}"
    scientific = f"[0-9]*{m}[0-9]*[eE][+-]?[0-9]+"
    both = f"[0-9]{{1,3}}(?:{o}[0-9]{{3}})+{m}[0-9]*"
    groups = f"[0-9]{{1,3}}(?:{o}[0-9]{{3}}){{2,}}"
    return f"^{_SIGN}(?:(?:{fraction}|{long_or_zero}|{spaced}){_EXPONENT}|{scientific}|{both}|{groups})$"


def _first(array: Any, pattern: str) -> int | None:
    position = pc.index(pc.match_substring_regex(array, pattern), True).as_py()
    return None if position < 0 else int(position)


def _contradiction(cells: Cells, texts: dict[str, Any], shown: dict[str, tuple[str, int]]) -> UserError:
    """Return the error that names the first cell of the rarer convention."""
    counts = {
        mark: sum(pc.sum(pc.match_substring_regex(array, _shows(mark, other))).as_py() or 0 for array in texts.values())
        for mark, other in (".,", ",.")
    }
    rare, usual = sorted(shown, key=lambda mark: counts[mark])
    names = {".": "a decimal point", ",": "a decimal comma"}
    column, position = shown[rare]
    example_column, example = shown[usual]
    what = f"has {names[rare]}, where row {cells.row(example)} has {names[usual]} ({cells.text(example, example_column)})"
    return cells.error(position, column, what, "write all numbers alike, or set data.decimal and data.text_cells")


def parse_numbers(array: Any, decimal_mark: str, flags: bool = False) -> Numbers:
    """Return the numbers of a column. With `flags`, true and yes are 1, false and no are 0.

    Thousands separators (the other mark, spaces, apostrophes) count only between groups of three digits.
    """
    if not pa.types.is_string(array.type):
        return _typed(array)
    plain = array if decimal_mark == "." else pc.replace_substring(array, ",", ".")
    if decimal_mark == "." or not pc.any(pc.match_substring(array, ".")).as_py():
        try:
            values = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:  # a cell needs more care
            values = np.array([np.nan])
        if np.isfinite(values).all():
            clean = np.zeros(len(values), bool)
            return Numbers(values, clean, clean)
    missing = pc.match_substring_regex(array, MISSING)
    array = pc.replace_substring(array, "−", "-")
    if flags:
        array = pc.replace_substring_regex(array, r"(?i)^(?:true|yes)$", "1")
        array = pc.replace_substring_regex(array, r"(?i)^(?:false|no)$", "0")
    valid = pc.match_substring_regex(array, _number(decimal_mark))
    array = pc.replace_substring_regex(array, f"[{'.' if decimal_mark == ',' else ','}{SPACES}]", "")
    array = pc.replace_substring(array, decimal_mark, ".")
    values = pc.cast(pc.if_else(valid, array, pa.scalar(None, pa.string())), pa.float64()).to_numpy(zero_copy_only=False)
    absent = missing.to_numpy(zero_copy_only=False)
    return Numbers(values, absent, np.isnan(values) & ~absent)


def _number(mark: str) -> str:
    separators = [r"\." if mark == "," else ",", *SPACES]
    grouped = "|".join(f"[0-9]{{1,3}}(?:{one}[0-9]{{3}})+" for one in separators)
    return f"^{_SIGN}(?:(?:[0-9]+|{grouped})(?:[{mark}][0-9]*)?|[{mark}][0-9]+){_EXPONENT}$"


def _typed(array: Any) -> Numbers:
    try:
        values = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = np.full(len(array), np.nan)
        return Numbers(values, array.is_null().to_numpy(zero_copy_only=False), array.is_valid().to_numpy(zero_copy_only=False))
    infinite = np.isinf(values)
    return Numbers(np.where(infinite, np.nan, values), np.isnan(values), infinite)


def demand_precision(cells: Cells, column: str, numbers: Numbers, decimal_mark: str) -> None:
    """Raise UserError if a number is out of the range of float32, or if float64 loses differences of the column."""
    with np.errstate(over="ignore"):
        too_large = np.isinf(numbers.values.astype(np.float32))
    if too_large.any():
        position = int(too_large.argmax())
        raise cells.error(position, column, "is out of the range of float32", "numbers may be up to 3.4e38 in size")
    array, present = cells.columns[column], np.isfinite(numbers.values)
    whole = pa.types.is_integer(array.type)
    if whole and not (np.abs(numbers.values[present]) > 2.0**53).any():
        return
    if pa.types.is_floating(array.type) or not (whole or pa.types.is_decimal(array.type) or pa.types.is_string(array.type)):
        return
    if pa.types.is_string(array.type):
        present &= pc.match_substring_regex(array, "(?:[0-9][.,]?){16}").to_numpy(zero_copy_only=False)
    values = numbers.values[present]
    if len(values) < 2:
        return
    texts = array.filter(pa.array(present))
    if pc.count_distinct(texts).as_py() == len(np.unique(values)) and not rounding.is_near_resolution(values):
        return
    if _loses_differences(texts, values, decimal_mark):
        what = "and all other values differ only after the 15 digits that float64 holds"
        raise cells.error(int(np.flatnonzero(present)[0]), column, what, "subtract a constant from the column")


def _loses_differences(texts: Any, values: npt.NDArray[np.float64], decimal_mark: str) -> bool:
    other = "." if decimal_mark == "," else ","
    table = str.maketrans(decimal_mark, ".", other + SPACES)
    with decimal.localcontext(prec=100):
        exact = [decimal.Decimal(str(text).translate(table) if isinstance(text, str) else text) for text in texts.to_pylist()]
        rounded = [decimal.Decimal(value) for value in values.tolist()]
        relative = [np.array([float(one - exact[0]) for one in column]) for column in (exact, rounded)]
    return rounding.rounding_share(*relative) > rounding.LOST
