"""The audit of statistics: it recomputes them with another algorithm, and fails if they come from other rows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reprise.data import audit, store
from reprise.data.modalities.images import splitting as image_splitting
from reprise.data.modalities.series import splitting as series_splitting
from reprise.data.splits import Borders
from tests.metas import image_meta, series_meta

quick = settings(max_examples=40, deadline=None)
SERIES = hnp.arrays(np.float32, st.tuples(st.integers(6, 40), st.integers(1, 3)), elements=st.floats(-1e6, 1e6, width=32))
IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(4, 20), st.just(2), st.just(3), st.integers(1, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


def audit_images(folder: Path, images: npt.NDArray[np.uint8], train: Any, fitted_on: Any) -> bool:
    """Return whether statistics fitted on some images pass as those of the train split."""
    store.write_array(folder / "arrays" / "train" / "images.npy", images)
    store.write_array(folder / "windows" / "train.npy", np.array(train, np.int64))
    statistics = image_splitting.image_statistics(images, np.array(fitted_on, np.int64))
    meta = image_meta(shape=images.shape[1:], statistics=statistics)
    return bool(audit.statistics(folder / "windows", folder / "arrays", meta)["passed"])


def audit_series(folder: Path, values: npt.NDArray[Any], borders: Borders, fitted_on: tuple[int, int], first: int = 0) -> bool:
    store.write_array(folder / "arrays" / "values.npy", values)
    store.write_array(folder / "windows" / "train.npy", np.arange(first, borders.train, dtype=np.int64))
    fitted = series_splitting.series_statistics(values, [fitted_on])
    channels = [str(channel) for channel in range(values.shape[1])]
    statistics = {"mean": [*fitted["mean"], 0.0], "std": [*fitted["std"], 1.0], "naive_mae": fitted["naive_mae"][:1]}
    changes = {"borders": vars(borders), "statistics": statistics, "inputs": [*channels, "year_sin"]}
    meta = series_meta(channels[:1], channels).model_copy(update=changes)
    return bool(audit.statistics(folder / "windows", folder / "arrays", meta)["passed"])


@quick
@given(IMAGES)
def test_statistics_of_the_train_images_pass_and_those_of_others_fail(folder: Path, images: npt.NDArray[np.uint8]) -> None:
    train, everything = range(0, len(images), 2), range(len(images))
    assert audit_images(folder, images, train, train)
    one, other = (image_splitting.image_statistics(images, np.array(rows)) for rows in (train, everything))
    assert audit_images(folder, images, train, everything) == (one == other)


@quick
@given(SERIES, st.integers(0, 2))
def test_statistics_of_the_train_rows_pass_and_those_of_others_fail(
    folder: Path, values: npt.NDArray[np.float32], first: int
) -> None:
    borders = Borders(len(values) - 2, len(values) - 1, len(values))
    values[-3] = values[:-3].max(axis=0) + np.ptp(values[:-3], axis=0) + 1  # not constant
    assert audit_series(folder, values, borders, (first, borders.train), first)
    values[-1] = values[:-2].max(axis=0) + np.ptp(values[:-2], axis=0) + 1
    assert not audit_series(folder, values, borders, (first, len(values)), first)


def test_a_constant_channel_passes(folder: Path) -> None:
    assert audit_series(folder, np.full((1001, 2), 0.1, np.float32), Borders(900, 950, 1001), (0, 900))
    assert audit_images(folder, np.full((5, 2, 2, 1), 200, np.uint8), range(5), range(5))


@pytest.mark.parametrize("level", [0.0, 1e4, 1e6])
def test_one_additional_row_among_many_fails(folder: Path, level: float) -> None:
    """Also if the series is far from 0, where one row changes its statistics by a hundred-thousandth."""
    values = (level + np.random.default_rng(0).normal(size=(100_000, 2))).astype(np.float32)
    borders = Borders(90_000, 95_000, 100_000)
    assert audit_series(folder, values, borders, (0, 90_000))
    assert not audit_series(folder, values, borders, (0, 90_001))
    assert not audit_series(folder, values, borders, (1, 90_000))


def test_images_that_differ_in_a_single_value_pass(folder: Path) -> None:
    images = np.full((600, 10, 10, 1), 255, np.uint8)
    images[3, 0, 0, 0] = 254
    assert audit_images(folder, images, range(500), range(500))
    assert not audit_images(folder, images, range(4, 600), range(500))


def test_moments_equal_those_of_numpy_for_any_blocks(folder: Path) -> None:
    values = 1e6 + np.random.default_rng(1).normal(size=(1000, 3))
    for cuts in ([1000], [1, 999], [333, 333, 334], [1] * 1000):
        moments = audit.Moments.of(np.split(values, np.cumsum(cuts)[:-1]))
        np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-10)
