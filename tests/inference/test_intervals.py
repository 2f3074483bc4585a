"""The intervals of a run."""

from pathlib import Path

import pytest

from reprise.errors import UserError
from reprise.inference import intervals
from reprise.inference.intervals import Intervals


def test_intervals_are_read_back_as_written(tmp_path: Path) -> None:
    written = Intervals(windows=9, half_widths={"80": [[0.1, 2.0]]})
    file = tmp_path / "intervals.json"
    intervals.write(written, file)
    found = intervals.read(file)
    assert found == written
    assert found is not None
    assert found.half_width(0.95) is None


def test_a_run_without_intervals_has_none_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "intervals.json"
    assert intervals.read(file) is None
    file.write_text('{"windows": 3}')
    with pytest.raises(UserError, match=r"intervals.json is not what this version reads: half_widths"):
        intervals.read(file)
