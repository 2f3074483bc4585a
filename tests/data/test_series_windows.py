"""Splits of a series by share, rows or dates: each window is there once, targets stay in their split, statistics are of train."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reprise.config import Config, compose
from reprise.config.modalities.series import SeriesWindow
from reprise.data import store
from reprise.data.modalities.series import arrays, splitting
from reprise.data.modality import Split
from reprise.data.splits import SPLITS, Borders
from reprise.errors import UserError
from tests.data.conftest import CONF

STAMPS = pd.date_range("2001-01-01", periods=400, freq="h", unit="ns")
quick = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(CONF.parent, ["experiment=temperature_lstm"])


def window_of(config: Config, **changes: Any) -> SeriesWindow:
    channels = {"inputs": None, "targets": None, "calendar": []}
    given = {**channels, "season": 2, "lookback": 3, "horizon": 2, "lookback_crosses": False, **changes}
    return SeriesWindow.model_validate(config.window.model_dump() | given)


def split_of(window: SeriesWindow, values: npt.NDArray[np.float32]) -> Split:
    """Split a series of hourly values with the channels a and b."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store.write_array(folder / "values.npy", values)
        store.write_array(folder / "time.npy", STAMPS[: len(values)].to_numpy().astype(np.int64))
        channels = [{"name": channel, "unit": ""} for channel in "ab"]
        store.write_json(folder / "meta.json", {"kind": "series", "name": "x", "channels": channels, "frequency": "h"})
        return arrays.split(window, folder)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of a split of at most 200 rows into windows of at most 12 steps, by share, rows or dates."""
    length = draw(st.integers(20, 200))
    train, val, test = sorted(draw(st.lists(st.integers(1, length), min_size=3, max_size=3, unique=True)))
    settings: dict[str, Any] = {
        "lookback": draw(st.integers(1, 8)),
        "horizon": draw(st.integers(1, 4)),
        "stride": draw(st.integers(1, 3)),
        "lookback_crosses": draw(st.booleans()),
    }
    by = draw(st.sampled_from(["sizes", "rows", "dates", "rows to the end"]))
    if by == "sizes":
        settings |= {"val_size": val - train, "test_size": length - val}
        test = length
    elif by == "dates":
        settings["borders"] = {split: str(STAMPS[row]) for split, row in zip(SPLITS, (train, val, test), strict=True)}
    else:
        settings["borders"] = {"train": train, "val": val, "test": test if by == "rows" else None}
        test = test if by == "rows" else length
    assume(val < test)
    return {"length": length, "borders": Borders(train, val, test), "settings": settings}


def expected_starts(borders: Borders, settings: dict[str, Any], split: str) -> list[int]:
    """Every first row of a window, by definition: each row is tried."""
    lookback, horizon = settings["lookback"], settings["horizon"]
    first, stop = borders.span(split)
    crosses, stride = (settings["lookback_crosses"], 1) if split != "train" else (False, settings["stride"])
    fits = [
        start
        for start in range(borders.test)
        if first <= start + lookback and start + lookback + horizon <= stop and (crosses or first <= start)
    ]
    return fits[::stride]


@quick
@given(windows())
def test_each_window_whose_targets_lie_in_a_split_is_there_once(config: Config, drawn: dict[str, Any]) -> None:
    window, borders = window_of(config, **drawn["settings"]), drawn["borders"]
    expected = {split: expected_starts(borders, drawn["settings"], split) for split in SPLITS}
    values = np.random.default_rng(0).normal(size=(drawn["length"], 2)).astype(np.float32)
    if not all(expected.values()):
        with pytest.raises(UserError, match="no room for a window"):
            split_of(window, values)
        return
    found = split_of(window, values)
    assert {split: starts.tolist() for split, starts in found.indices.items()} == expected
    assert found.meta.model_dump()["borders"] == vars(borders)
    assert all(check["passed"] for check in found.checks.values())
    rule = "no target crosses a split border" if window.lookback_crosses else "no window crosses a split border"
    assert rule in found.checks


@quick
@given(windows())
def test_targets_of_a_split_lie_between_its_borders_and_targets_of_no_other(config: Config, drawn: dict[str, Any]) -> None:
    assume(all(expected_starts(drawn["borders"], drawn["settings"], split) for split in SPLITS))
    window = window_of(config, **drawn["settings"])
    found = split_of(window, np.random.default_rng(0).normal(size=(drawn["length"], 2)).astype(np.float32))
    owner: dict[int, str] = {}
    for split, starts in found.indices.items():
        first, stop = drawn["borders"].span(split)
        steps = (starts[:, None] + window.lookback + np.arange(window.horizon)).ravel()
        assert first <= steps.min() <= steps.max() < stop
        assert all(owner.setdefault(step, split) == split for step in steps.tolist())


@quick
@given(windows(), st.integers(0, 2**31))
def test_statistics_do_not_change_with_the_rows_of_val_and_test(config: Config, drawn: dict[str, Any], seed: int) -> None:
    assume(all(expected_starts(drawn["borders"], drawn["settings"], split) for split in SPLITS))
    window, random = window_of(config, **drawn["settings"]), np.random.default_rng(seed)
    values = random.normal(size=(drawn["length"], 2)).astype(np.float32)
    before = split_of(window, values).meta.statistics
    values[drawn["borders"].train :] = 100 * random.normal(size=values[drawn["borders"].train :].shape)
    assert split_of(window, values).meta.statistics == before


@pytest.mark.parametrize(("horizon", "count"), [(96, 2785), (192, 2689), (336, 2545), (720, 2161)])
def test_the_published_borders_of_etth1_give_the_published_number_of_test_windows(horizon: int, count: int) -> None:
    borders = Borders(8640, 11_520, 14_400)
    start, stop = borders.span("test", 336)
    assert stop - start - 336 - horizon + 1 == count


def test_targets_are_all_inputs_by_default(config: Config) -> None:
    values = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    for inputs, expected in ((None, ["a", "b"]), (["b"], ["b"])):
        meta = split_of(window_of(config, inputs=inputs), values).meta.model_dump()
        assert (meta["inputs"], meta["targets"]) == (expected, expected)


def test_a_date_is_the_first_that_is_not_in_the_split_and_is_in_utc(config: Config) -> None:
    values = np.random.default_rng(0).normal(size=(72, 2)).astype(np.float32)
    for train in ("2001-01-02", "2001-01-01 23:30", "2001-01-02T02:00:00+02:00"):
        borders = {"train": train, "val": "2001-01-03", "test": "2001-01-04"}
        meta = split_of(window_of(config, borders=borders), values).meta.model_dump()
        assert meta["borders"] == {"train": 24, "val": 48, "test": 72}


@pytest.mark.parametrize(
    ("borders", "message"),
    [
        (
            {"train": 20, "val": 20, "test": 50},
            "window.borders: train ends after 20 rows, val ends after 20 rows, .* after the one",
        ),
        ({"train": "1999-01-01", "val": 20}, "window.borders: train ends after 0 rows, .* train after the first row"),
        ({"train": 20, "val": 40, "test": 61}, "window.borders.test=61: the series has 60 rows, the last at 2001-01-03T11:00:00"),
        ({"train": 20, "val": 40, "test": "2001-01-03 13:00"}, "window.borders.test=2001-01-03 13:00: the series has 60 rows"),
        ({"train": 4, "val": 40}, "train split has 4 .* make window.lookback or .* smaller, or window.borders.train later"),
        ({"train": 20, "val": 22}, "the val split has 2 time steps, .* window of 5: .*, or window.borders.val later"),
    ],
)
def test_borders_that_leave_a_split_without_a_window_are_refused(config: Config, borders: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_of(window_of(config, borders=borders), np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32))


def test_a_horizon_longer_than_a_split_is_refused_where_the_lookback_may_cross(config: Config) -> None:
    values = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    window = window_of(config, borders={"train": 30, "val": 35}, horizon=6, lookback_crosses=True)
    message = "the val split has 5 time steps, no room for a window of 6: .* make window.horizon smaller, or window.borders.val"
    with pytest.raises(UserError, match=message):
        split_of(window, values)


@pytest.mark.parametrize("border", [0, -1, True, 0.5, "yesterday", "2001-13-01", ""])
def test_a_border_that_is_neither_rows_nor_a_date_is_refused(config: Config, border: Any) -> None:
    with pytest.raises(ValidationError, match="should be a count of rows, or a date such as"):
        window_of(config, borders={"train": border, "val": 20})


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_target_moved_over_a_border_fails_the_audit_and_is_named(split: str, by: int) -> None:
    borders, lookback, horizon = Borders(30, 45, 60), 4, 2
    parts = {name: np.arange(*borders.span(name, lookback))[: 1 - lookback - horizon] for name in SPLITS}
    rule = "no target crosses a split border"
    valid = splitting.audit_series(parts, borders, lookback + horizon, lookback)[rule]
    reaching = {"train": 0, "val": lookback, "test": lookback}
    assert valid["passed"]
    assert valid["windows whose lookback reaches back over a border"] == reaching
    moved = parts[split] + by
    audit = splitting.audit_series(parts | {split: moved}, borders, lookback + horizon, lookback)[rule]
    assert not audit["passed"]
    assert audit["crossing"] == {name: [moved[0 if by < 0 else -1]] if name == split else [] for name in SPLITS}
