"""Read what users of a logged model have, without reprise: MLflow copies this file into the model, beside `reprise_pyfunc`.

Pictures become pixels, tables of values with time stamps become windows, and rows of values become sequences. Answers become
tables. `reading` is the content of reading.json.
"""

import base64
import binascii
import importlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Reading = Mapping[str, Any]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """The last steps of a series, and the time stamps of the steps to forecast."""

    series: str
    values: Array
    """`[lookback, channel]`."""
    time: Array
    """int64 `[lookback]`, nanoseconds since 1970 (UTC)."""
    ahead: pd.DatetimeIndex
    """Local time of the steps to forecast."""
    ahead_utc: pd.DatetimeIndex


def is_user_data(data: Any) -> bool:
    """Return whether the data are a table, or contents of files or single arrays in a list, and not raw inputs."""
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], bytes | bytearray | str)
    return isinstance(data, pd.DataFrame | pd.Series) or (isinstance(data, np.ndarray) and data.dtype.kind in "OSU")


def samples(data: Any, reading: Reading, inputs: Mapping[str, Any]) -> tuple[dict[str, Array], list[int]]:
    """Return the raw inputs of pictures or sequences by name, and how many inputs each of them has: 1, or its tiles."""
    if reading["kind"] == "images":
        pictures = _pictures(data, reading["decoding"])
        return {"pixels": np.concatenate(pictures)}, [len(one) for one in pictures]
    if not isinstance(data, pd.DataFrame):
        raise ValueError("this model takes a table with a sequence a row, or an array of raw inputs")
    values, lengths = _sequences(data, inputs["values"]["shape"], "lengths" in inputs)
    return {"values": values, "lengths": lengths} if "lengths" in inputs else {"values": values}, [1] * len(values)


def classified(of_inputs: Array, counts: Sequence[int], classes: Sequence[str]) -> pd.DataFrame:
    """Return a row per sample: class, confidence, and the probability of each class in columns `p_…`, the mean of its inputs."""
    probabilities = np.stack([part.mean(0) for part in np.split(of_inputs, np.cumsum(counts)[:-1])])
    best = probabilities.argmax(1)
    columns = {
        "class": [classes[number] for number in best],
        "confidence": probabilities.max(1),
        **{f"p_{name}": probabilities[:, number] for number, name in enumerate(classes)},
    }
    return pd.DataFrame(columns)


def _pictures(data: Any, settings: Mapping[str, Any]) -> list[Array]:
    decoding = importlib.import_module("reprise_decoding")  # of models of pictures only
    limits = tuple(settings["limits"]) if settings["limits"] else None
    how = decoding.Decoding(
        tuple(settings["shape"]), settings["resize"], tuple(settings["background"]), limits, settings["overlap"]
    )
    if isinstance(data, pd.DataFrame):
        if data.shape[1] != 1:
            raise ValueError(f"the table has {data.shape[1]} columns; this model takes one column of pictures")
        data = data.iloc[:, 0]
    cells = list(data)
    if not cells:
        raise ValueError("no pictures; give at least one")
    pictures = []
    for number, cell in enumerate(cells, 1):
        try:
            pictures.append(decoding.decode(_content(cell), how).inputs)
        except ValueError as error:
            raise ValueError(f"picture {number}: {error}") from None
    return pictures


def _content(cell: Any) -> bytes:
    """Return a picture as the content of a file: of an array, of a lossless one."""
    if isinstance(cell, bytes | bytearray):
        return bytes(cell)
    if isinstance(cell, str):
        try:
            return base64.b64decode(cell.encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise ValueError("neither the content of a file nor its base64 text") from None
    array = np.asarray(cell)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        shape = list(array.shape)
        raise ValueError(f"{array.dtype} {shape}; an array is uint8 [H, W] or [H, W, 3]")
    from PIL import Image  # late: of models of pictures only

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def _sequences(data: pd.DataFrame, shape: Sequence[int], is_padded: bool) -> tuple[Array, Array]:
    """Return values float32 `[B, T, C]`, 0 after the end, and lengths. Empty cells at the end of a row end its channels."""
    steps, channels = shape
    if data.shape[1] % channels or data.shape[1] > steps * channels:
        raise ValueError(f"a row has {data.shape[1]} values; this model takes up to {steps} for each of {channels} channels")
    try:
        rows = data.to_numpy(np.float32).reshape(len(data), channels, -1).transpose(0, 2, 1)
    except (ValueError, TypeError):
        raise ValueError("the table has cells that are no numbers; leave out the column of classes") from None
    present = np.isfinite(rows).any(axis=2)
    lengths = np.where(present.any(axis=1), rows.shape[1] - present[:, ::-1].argmax(axis=1), 0)
    inside = np.arange(rows.shape[1]) < lengths[:, None]
    if not np.isfinite(rows[inside]).all() or not lengths.all():
        raise ValueError("the table has missing values inside a sequence, or a row without any")
    if not is_padded and (lengths != steps).any():
        raise ValueError(f"a sequence has {lengths.min()} time steps; this model takes {steps}")
    values = np.zeros((len(rows), steps, channels), np.float32)
    values[:, : rows.shape[1]] = np.where(inside[..., None], rows, 0)
    return values, lengths.astype(np.int64)


def windows(data: Any, reading: Reading) -> list[Window]:
    """Return the last window of each series of a table.

    Raises:
        ValueError: if a column is missing, or the time steps are not those of the training data.

    """
    if not isinstance(data, pd.DataFrame):
        raise ValueError("this model takes a table with time stamps, or a dict of raw inputs")
    if reading["unsupported"]:
        raise ValueError(f"a table does not hold {reading['unsupported']} for this model; give a dict of raw inputs")
    key, names = reading["id"], reading["channels"]
    if missing := [name for name in [*names, *([key] if key else [])] if name not in data.columns]:
        raise ValueError(f"the table has no column {missing[0]}; it needs {', '.join(names)} and the time")
    groups = data.groupby(key, sort=False) if key else [("", data)]
    return [_window(str(name), rows, _time_of(rows, reading), reading) for name, rows in groups]


def _time_of(data: pd.DataFrame, reading: Reading) -> pd.DatetimeIndex:
    """Return the time stamps of all rows, with their zone; UTC if they have none."""
    named = [name for name in reading["time"] if name in data.columns]
    dates = [name for name in data.columns if pd.api.types.is_datetime64_any_dtype(data[name])]
    if isinstance(data.index, pd.DatetimeIndex):
        found = data.index
    elif len(named or dates) == 1:
        found = pd.DatetimeIndex(pd.to_datetime(data[(named or dates)[0]]))
    else:
        raise ValueError("the table has no column of time stamps; name it as in training, or make it the index")
    return found.as_unit("ns").tz_localize(reading["timezone"] or "UTC") if found.tz is None else found.as_unit("ns")


def _window(name: str, rows: pd.DataFrame, time: pd.DatetimeIndex, reading: Reading) -> Window:
    lookback, horizon = reading["lookback"], reading["horizon"]
    if len(rows) < lookback or len(rows) < 2:
        raise ValueError(f"the table has {len(rows)} rows; this model forecasts from the last {lookback}")
    try:
        values = rows[reading["channels"]].to_numpy(np.float64)[-lookback:]
    except (ValueError, TypeError):
        raise ValueError("the table has cells that are no numbers") from None
    last = time[-max(lookback, 3) :]
    ahead = _next_steps(last, horizon, reading["frequency"])
    return Window(name, values, time[-lookback:].asi8, ahead.tz_localize(None), ahead.tz_convert("UTC").tz_localize(None))


def _next_steps(time: pd.DatetimeIndex, count: int, frequency: str) -> pd.DatetimeIndex:
    """Return the next time stamps by the frequency of the training data: in local time where the rows follow it, else in UTC."""
    try:
        offset = pd.tseries.frequencies.to_offset(frequency)
    except ValueError:  # a step that pandas has no name for: equal in UTC
        offset = None
    if offset is None:
        steps = np.diff(time.asi8)
        if (steps != steps[0]).any():
            raise ValueError(f"the time steps are not {frequency}, as in training")
        return pd.DatetimeIndex(time.asi8[-1] + steps[0] * np.arange(1, count + 1), tz="UTC").tz_convert(time.tz)
    for clock in (time.tz_localize(None), time.tz_convert("UTC").tz_localize(None)):
        if clock.equals(pd.date_range(clock[0], periods=len(clock), freq=offset, unit="ns")):
            ahead = pd.date_range(clock[-1], periods=count + 1, freq=offset, unit="ns")[1:]
            if clock.equals(time.tz_localize(None)):
                return ahead.tz_localize(time.tz, ambiguous=np.ones(count, bool), nonexistent="shift_forward")
            return ahead.tz_localize("UTC").tz_convert(time.tz)
    raise ValueError(f"the time steps are not {frequency}, as in training; rows must be in order and complete")


def stacked(found: Sequence[Window], names: Sequence[str]) -> dict[str, Array]:
    """Return the raw inputs of windows, by name."""
    parts = {"values": np.stack([one.values for one in found]), "time": np.stack([one.time for one in found])}
    return {name: parts[name] for name in names}


def forecasts(found: Sequence[Window], point: Array, bounds: Array | None, reading: Reading) -> pd.DataFrame:
    """Return a row per series, channel and step: time, forecast, the interval that `coverage` of new values fall into, and unit.

    Args:
        found: the windows.
        point: forecasts `[B, S, Y]` in units.
        bounds: quantiles `[B, S, Y, 2]` that the intervals are calibrated from; None: the forecasts.
        reading: the content of reading.json.

    """
    half_width = reading["half_width"]
    edges = np.stack([point, point], axis=-1) if bounds is None else bounds
    beyond = np.full(point.shape[1:], np.nan) if half_width is None else np.array(half_width)
    rows = [
        {
            **({"series": one.series} if reading["id"] else {}),
            "channel": channel,
            "step": step + 1,
            "time": one.ahead[step],
            "time_utc": one.ahead_utc[step],
            "forecast": float(point[number, step, target]),
            "lower": float(edges[number, step, target, 0] - beyond[step, target]),
            "upper": float(edges[number, step, target, 1] + beyond[step, target]),
            "unit": reading["units"][channel],
        }
        for number, one in enumerate(found)
        for target, channel in enumerate(reading["targets"])
        for step in range(point.shape[1])
    ]
    return pd.DataFrame(rows)
