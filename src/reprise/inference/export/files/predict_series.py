"""Forecast series: `python predict.py FILE.csv`. Needs numpy and onnxruntime.

The file has a header with the columns of the training data. Separator, decimal mark and notation of dates are detected. The last
rows of a series are its lookback, which must be complete and in order. The forecast starts one step after the last row.
"""

import argparse
import csv
import io
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
SIGNATURE = json.loads((HERE / "signature.json").read_text("utf-8"))
TABLE = SIGNATURE["table"]
EPOCHS = {"epoch_s": 10**9, "epoch_ms": 10**6, "epoch_us": 10**3, "epoch_ns": 1}
EPOCH_DIGITS = dict(zip((10, 13, 16, 19), EPOCHS.values(), strict=True))
IN_FIGURES = re.compile(r"(\d{1,2})([./-])(\d{1,2})[./-](\d{4}),?(?:[T ]+(\S.*))?")


def forecast(session, time, values):
    """Return the forecast `[horizon, target]` after time stamps `[T]` in nanoseconds since 1970 and values `[T, channel]`."""
    lookback = SIGNATURE["lookback"]
    if len(values) < lookback:
        raise ValueError(f"{len(values)} rows, and the model reads {lookback}")
    dtype = SIGNATURE["inputs"]["values"]["dtype"]
    inputs = {"values": np.asarray(values[-lookback:], dtype)[None], "time": np.asarray(time[-lookback:], np.int64)[None]}
    known = {one.name for one in session.get_inputs()}
    (answer,) = session.run(None, {name: array for name, array in inputs.items() if name in known})
    return answer[0]


def read(content, settings=TABLE):
    """Return `(time, values)` of the lookback of each series by its name; raise ValueError if the content cannot be read."""
    each_column = settings["columns"] == "series"
    channels, key = [] if each_column else SIGNATURE["channels"], settings["id"]
    needed = [*channels, *settings["target"], *settings["time"], *([key] if key else [])]
    separator, header, rows = records(content, needed, settings["separator"])
    if not rows:
        raise ValueError("no rows below the header")
    time = time_columns(header, rows, {*channels, key}, settings["time"])
    texts = [" ".join(cells[header.index(name)].strip() for name in time) for _, cells in rows]
    parsed = parser_of(texts, settings["date_format"])
    groups = {}
    for position, (_, cells) in enumerate(rows):
        groups.setdefault(cells[header.index(key)].strip() if key else "", []).append(position)
    series = {}
    for name, positions in groups.items():
        last = positions[-SIGNATURE["lookback"] :]
        stamps = nanoseconds([texts[one] for one in last], [rows[one][0] for one in last], parsed, settings["timezone"])
        demand_steps(stamps, [rows[one][0] for one in last])
        each = settings["target"] or [one for one in header if one not in time]
        for columns in [[one] for one in each] if each_column else [channels]:
            values = numbers([rows[one] for one in last], header, columns, separator, settings["decimal"])
            series[columns[0] if each_column else name] = stamps, values
    return series


def records(content, columns, separator):
    """Return separator, header, and the number and the cells of each row below the header."""
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    best = []
    for candidate in ";\t|," if separator == "auto" else separator:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=candidate)
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
        for position, (_, cells) in enumerate(rows[:50]):
            header = [cell.strip() for cell in cells]
            if len(header) > 1 and set(columns) <= set(header):
                if wrong := next((row for row, cells in rows[position + 1 :] if len(cells) != len(header)), None):
                    raise ValueError(f"row {wrong} has other columns than the header")
                return candidate, header, rows[position + 1 :]
            best = max(best, header, key=len)
    missing = [name for name in columns if name not in best]
    raise ValueError(f"no header with the column {missing[0]!r}" if missing else "no header with two columns")


def time_columns(header, rows, others, named):
    """Return the columns of the time: as in training, or the only other one that holds dates."""
    if named:
        return named
    found = [name for name in header if name not in others and is_date(rows[0][1][header.index(name)].strip())]
    if len(found) != 1:
        raise ValueError(f"{len(found)} columns hold dates; give --time COLUMN")
    return found


def is_date(text):
    """Return whether a text is a date; a year alone is a number."""
    if text.isdigit() and len(text) < 8:
        return False
    try:
        parser_of([text], "auto")(text)
    except ValueError as error:
        return "month first" in str(error)
    return True


def parser_of(texts, date_format):
    """Return the function from a text to a `datetime`, or to nanoseconds since 1970."""
    if date_format in EPOCHS:
        return lambda text: round(float(text) * EPOCHS[date_format]) if "." in text else int(text) * EPOCHS[date_format]
    if date_format != "auto":
        return lambda text: datetime.strptime(text, date_format)
    if texts[-1].isdigit() and (unit := EPOCH_DIGITS.get(len(texts[-1]))):
        return lambda text: int(text) * unit
    parts = [found for text in texts if (found := IN_FIGURES.fullmatch(text))]
    if not parts:
        return iso
    day_first = any(one[2] == "." or int(one[1]) > 12 for one in parts)
    if not day_first and not any(int(one[3]) > 12 for one in parts):
        raise ValueError(f"{texts[-1]!r}: day or month first? give --date-format, such as %d/%m/%Y")
    return lambda text: in_figures(text, day_first)


def in_figures(text, day_first):
    """Return the time of day, month and year in figures."""
    first, _, second, year, clock = IN_FIGURES.fullmatch(text).groups()
    day, month = (first, second) if day_first else (second, first)
    return iso(f"{year}-{month:0>2}-{day:0>2}{'T' + clock if clock else ''}")


def iso(text):
    """Return the time of ISO 8601, also without a day, with slashes, or with an hour of one digit."""
    whole = re.sub(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})", r"\1-\2-\3", text)
    whole = re.sub(r"^(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)", lambda one: f"{one[1]}-{one[2]:0>2}-{one[3]:0>2}", whole)
    whole = re.sub(r"^(\d{4})(-\d{2})?$", lambda one: f"{one[1]}{one[2] or '-01'}-01", whole)
    return datetime.fromisoformat(re.sub(r"([T ])(\d):", r"\g<1>0\2:", whole))


def nanoseconds(texts, rows, parse, zone):
    """Return time stamps as nanoseconds since 1970. Without an offset, they are of `zone`, or UTC."""
    times = []
    for text, row in zip(texts, rows, strict=True):
        try:
            stamp = parse(text)
        except (ValueError, AttributeError):
            raise ValueError(f"row {row}: {text!r} is no date as in the other rows; give --date-format") from None
        if isinstance(stamp, datetime):
            aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=ZoneInfo(zone) if zone else UTC)
            if times and not stamp.tzinfo and round(aware.timestamp() * 1e6) * 1000 <= times[-1]:
                aware = aware.replace(fold=1)  # the hour that clocks repeat
            stamp = round(aware.timestamp() * 1e6) * 1000
        times.append(stamp)
    return np.array(times, np.int64)


def demand_steps(time, rows):
    """Refuse rows that are not in order and complete: their steps must be within those of the training data."""
    steps, (least, most) = np.diff(time), TABLE["steps_ns"]
    wrong = (steps < least) | (steps > most)
    if SIGNATURE["frequency"] == "B":
        days = time.astype("datetime64[ns]").astype("datetime64[D]")
        wrong |= np.busday_count(days[:-1], days[1:]) != 1
    if wrong.any():
        first = int(wrong.argmax())
        step = f"{steps[first] / 1e9:g} s after the row before, and the model reads a row every {SIGNATURE['frequency']}"
        raise ValueError(f"row {rows[first + 1]}: {step}; rows must be in order and complete")


def numbers(rows, header, columns, separator, mark):
    """Return the values `[T, column]` of rows."""
    cells = [[row[header.index(name)].strip() for name in columns] for _, row in rows]
    if mark == "auto":
        mark = decimal_mark([cell for row in cells for cell in row if "," in cell])
    table, values = (
        str.maketrans(mark, ".", ("." if mark == "," else ",") + " \u00a0\u202f'"),
        np.empty((len(rows), len(columns))),
    )
    for position, (row, _) in enumerate(rows):
        for column, name in enumerate(columns):
            text = cells[position][column]
            try:
                value = float("_" if "_" in text else text.translate(table))
            except ValueError:
                value = np.nan
            if not np.isfinite(value):
                raise ValueError(f"row {row}, column {name}: {text!r} is no number")
            values[position, column] = value
    return values


def decimal_mark(with_comma):
    """Return the decimal mark of numbers of which these have a comma."""
    if not with_comma:
        return "."
    marks = {"," if cell.rfind(",") > cell.rfind(".") else "." for cell in with_comma}
    if len(marks) > 1 or all(re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", cell) for cell in with_comma):
        raise ValueError(f"{with_comma[0]!r}: a decimal comma? give --decimal")
    return marks.pop()


def main():
    """Print a line of JSON for each series and step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="model.onnx", help="model.onnx, or model.int8.onnx if it was exported")
    parser.add_argument("--time", nargs="+", metavar="COLUMN", help="the column of the time, or those of date and time of day")
    parser.add_argument("--date-format", help="how dates are written, such as %%d/%%m/%%Y, or epoch_s, _ms, _us or _ns")
    parser.add_argument("--decimal", choices=[".", ","], help="the decimal mark")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("time", "date_format", "decimal") if getattr(arguments, name)}
    session = onnxruntime.InferenceSession(str(HERE / arguments.model))
    try:
        series = read(arguments.file.read_bytes(), TABLE | given)
        answers = {name: forecast(session, *one) for name, one in series.items()}
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"{arguments.file}: {getattr(error, 'strerror', None) or error}")
    for name, answer in answers.items():
        for step, row in enumerate(answer.tolist(), 1):
            named = {"series": name} if name else {}
            print(json.dumps({**named, "step": step, **dict(zip(SIGNATURE["targets"], row, strict=True))}))


if __name__ == "__main__":
    main()
