"""Folds of a rolling-origin evaluation: test blocks, growing train splits, and the mean over folds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.splits import Borders, fold_borders
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking.groups import _means
from tests.data.test_own_tables import config_of, meta_of, windows_of, write_table


@settings(max_examples=100, deadline=None)
@given(train=st.integers(1, 50), val=st.integers(1, 20), test=st.integers(1, 60), folds=st.integers(2, 7))
def test_the_blocks_of_all_folds_are_test_and_each_is_preceded_by_val_and_train(
    train: int, val: int, test: int, folds: int
) -> None:
    usual = Borders(train, train + val, train + val + test)
    borders = [fold_borders(usual, folds, fold) for fold in range(folds)]
    tested = [row for one in borders for row in range(*one.span("test"))]
    assert tested == list(range(usual.val, usual.test))  # each row of test once, in order
    lengths = [one.test - one.val for one in borders]
    assert max(lengths) - min(lengths) <= 1
    assert all(one.val - one.train == val for one in borders)
    assert [one.train for one in borders] == sorted(one.train for one in borders)
    assert borders[0].train == train


def test_a_fold_trains_on_the_rows_before_its_block_alone(project: ProjectPaths, tmp_path: Path) -> None:
    settings_ = ("window.lookback=3", "window.horizon=2", "window.val_size=10", "window.test_size=30", "window.folds=3")
    file = write_table(tmp_path / "a.csv", rows=100)
    tested: list[int] = []
    for fold in range(3):
        windows = windows_of(project, config_of(file, *settings_, f"window.fold={fold}"))
        meta = meta_of(windows)
        end = 70 + 10 * fold
        assert meta.borders == {"train": end - 10, "val": end, "test": end + 10}
        train = np.array(windows.array("values"))[: end - 10].astype(np.float64)
        assert meta.statistics["mean"] == pytest.approx(train.mean(0).tolist())
        assert f"window.fold={fold}: tests on block {fold + 1} of 3 of test, and trains on rows before it" in meta.notes
        tested += (windows.indices("test") + 3).tolist()
    assert tested == [*range(70, 79), *range(80, 89), *range(90, 99)]  # no target crosses from one block into the next


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["window.folds=3"], r"window.folds=3: no fold is named; set window.fold, from 0 to 2"),
        (["window.folds=3", "window.fold=3"], r"fold=3: should be below folds=3, from 0"),
        (["window.fold=0"], r"fold=0: should be below folds=None"),
        (["window.folds=20", "window.fold=0", "window.horizon=2"], r"the test split has 0 time steps.*window.folds smaller"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(project: ProjectPaths, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        windows_of(project, config_of(write_table(tmp_path / "a.csv"), *overrides))


def test_metrics_are_means_over_folds_with_their_standard_deviation() -> None:
    folds = [{"test/mae": 1.0, "test_std/mae": 0.5}, {"test/mae": 2.0, "test_std/mae": 0.1}, {"test/mae": 6.0}]
    assert _means(folds) == {"test/mae": 3.0, "test_std/mae": pytest.approx(7**0.5)}
    assert _means(folds[:1]) == {"test/mae": 1.0}
