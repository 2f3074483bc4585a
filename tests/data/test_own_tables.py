"""The user's own table of a series: from its file to arrays and windows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from reprise.config import Config, compose
from reprise.data import store
from reprise.data.modalities.series.arrays import Meta
from reprise.data.modalities.series.defaults import resolve, season_of
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import freshness, preprocess, window
from tests.data.conftest import CONF

QUIET = Console(quiet=True)


def write_table(file: Path, rows: int = 120, frequency: str = "D", channels: int = 2, without: tuple[int, ...] = ()) -> Path:
    """Write a CSV of random walks without some rows."""
    stamps = pd.date_range("2020-01-01", periods=rows, freq=frequency)
    walks = np.random.Generator(np.random.PCG64(0)).normal(size=(rows, channels)).cumsum(0).round(2)
    frame = pd.DataFrame(walks, columns=[f"c{number}" for number in range(channels)])
    frame.insert(0, "when", stamps)
    frame.drop(index=list(without)).to_csv(file, index=False)
    return file


def config_of(file: Path, *overrides: str) -> Config:
    return compose(CONF.parent, ["experiment=forecast_csv", f"data.path={file}", *overrides])


def windows_of(paths: ProjectPaths, config: Config) -> Windows:
    preprocess.run(config.data, paths, QUIET)
    return open_windows(window.run(config, paths, QUIET), paths.processed(config.data.name))


def meta_of(windows: Windows) -> Meta:
    assert isinstance(windows.meta, Meta)
    return windows.meta


def test_all_columns_of_numbers_are_forecast_with_their_units(project: ProjectPaths, tmp_path: Path) -> None:
    windows = windows_of(project, config_of(write_table(tmp_path / "a.csv"), "data.units=kg"))
    meta = meta_of(windows)
    assert (meta.targets, meta.units, meta.frequency) == (["c0", "c1"], ["kg", "kg"], "D")
    assert (meta.season, meta.horizon, meta.lookback) == (7, 7, 24)
    assert len(windows.indices("test")) == 18 - 7 + 1  # the lookback may lie before the border


def test_a_channel_can_be_an_input_only(project: ProjectPaths, tmp_path: Path) -> None:
    meta = meta_of(windows_of(project, config_of(write_table(tmp_path / "a.csv"), "window.targets=[c1]")))
    assert (meta.inputs, meta.targets, meta.target_positions) == (["c0", "c1"], ["c1"], [1])


def test_a_target_that_the_table_lacks_is_refused(project: ProjectPaths, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"window.targets names 'c7'; data=csv has c0, c1"):
        windows_of(project, config_of(write_table(tmp_path / "a.csv"), "window.targets=[c7]"))


def test_filled_cells_are_marked_and_counted(project: ProjectPaths, tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.csv", without=(50, 110))
    windows = windows_of(project, config_of(file, "data.gaps=interpolate"))
    assert np.flatnonzero(windows.array("filled").all(axis=1)).tolist() == [50, 110]
    assert store.read_json(windows.arrays / "meta.json")["filled_cells"] == {"c0": 2, "c1": 2}
    assert "train: 2 of 120 values to forecast are filled; the loss leaves them out" in meta_of(windows).notes
    assert "test: 2 of 36 values to forecast are filled; its metrics leave them out" in meta_of(windows).notes
    assert not [note for note in meta_of(windows).notes if note.startswith("val:")]
    assert meta_of(windows).missing_targets == {"train": 2, "val": 0, "test": 2}


def test_arrays_are_stale_once_the_file_changes(project: ProjectPaths, tmp_path: Path) -> None:
    config = config_of(write_table(tmp_path / "a.csv"))
    folder = preprocess.run(config.data, project, QUIET)
    assert freshness.stale(config.data, folder, "") is None
    write_table(tmp_path / "a.csv", rows=121)
    reason = freshness.stale(config.data, folder, "")
    assert reason is not None
    assert reason.why == f"holds other rows than {tmp_path / 'a.csv'} does now"


def test_the_command_that_makes_the_arrays_again_names_the_shipped_file_and_the_changed_keys(tmp_path: Path) -> None:
    config = config_of(tmp_path / "a.csv", "data.name=mine", "data.target=[x,y]", "data.gaps=interpolate")
    command = freshness.remake_command(config.data, CONF.parent)
    assert command.startswith("reprise preprocess data=csv data.name=mine ")
    assert "'data.target=[x, y]'" in command
    assert "data.gaps=interpolate" in command


def test_a_missing_file_is_named(project: ProjectPaths, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.path=.*nothing.csv: No such file or directory; check the path"):
        preprocess.run(config_of(tmp_path / "nothing.csv").data, project, QUIET)


def test_units_of_a_column_that_is_not_there_are_refused(project: ProjectPaths, tmp_path: Path) -> None:
    config = config_of(write_table(tmp_path / "a.csv"), "+data.units={c9: kg}")
    with pytest.raises(UserError, match=r"data.units names 'c9'; a.csv has c0, c1"):
        preprocess.run(config.data, project, QUIET)


def test_a_horizon_that_does_not_fit_is_one_line(project: ProjectPaths, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the val split has 18 time steps, no room for a window of 19") as caught:
        windows_of(project, config_of(write_table(tmp_path / "a.csv"), "window.horizon=19"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frequency", "season"),
    [
        ("h", 24),
        ("30min", 48),
        ("min", 1440),
        ("7min", 1),  # a day is no whole number of steps
        ("s", 3600),
        ("200ms", 1),
        ("D", 7),
        ("2D", 1),
        ("B", 5),
        ("W-MON", 52),
        ("MS", 12),
        ("2ME", 6),
        ("BME", 12),
        ("WOM-2TUE", 12),
        ("every 3 months on day 5", 4),
        ("QS-OCT", 4),
        ("BQE-DEC", 4),
        ("YE-DEC", 1),
        ("10YS-JAN", 1),
    ],
)
def test_the_season_follows_from_the_frequency(frequency: str, season: int) -> None:
    assert season_of(frequency) == season


@pytest.mark.parametrize("frequency", ["h", "30min", "min", "s", "200ms", "D", "B", "W-SUN", "MS", "QS-JAN", "YS-JAN"])
@pytest.mark.parametrize("rows", [12, 40, 144, 1000, 100_000])
def test_default_windows_fit_every_split(frequency: str, rows: int) -> None:
    given = config_of(Path("a.csv")).window
    found = resolve(given, frequency, rows)  # type: ignore[arg-type]
    val = round(rows * 0.15)
    assert 1 <= found.horizon <= val
    assert found.lookback + found.horizon <= rows - 2 * val


def test_explicit_settings_are_kept() -> None:
    given = config_of(Path("a.csv"), "window.lookback=5", "window.horizon=4", "window.season=3").window
    found = resolve(given, "h", 10)  # type: ignore[arg-type]
    assert (found.lookback, found.horizon, found.season) == (5, 4, 3)
