"""Calendar features against pandas, over all timestamps that nanoseconds hold, and as part of an exported graph."""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.modalities.series.calendar import Calendar
from reprise.data.modalities.series.tensors import StandardizeWithCalendar

FEATURES = ["minute", "hour", "weekday", "day", "month", "year"]
STAMPS = st.integers(pd.Timestamp("1678-01-01").value, pd.Timestamp("2261-12-31 23:59:59.999999999").value)
Shares = npt.NDArray[np.float64]


def shares_by_pandas(time: npt.NDArray[np.int64]) -> dict[str, Shares]:
    """The elapsed share of each period but the year."""
    stamps = pd.DatetimeIndex(time.view("datetime64[ns]"))
    seconds = (stamps - stamps.floor("h")) / pd.Timedelta(seconds=1)
    shares = {
        "minute": seconds / 3600,
        "hour": (stamps.hour * 3600 + seconds) / 86_400,
        "weekday": stamps.day_of_week / 7,
        "day": (stamps.day - 1) / stamps.days_in_month,
        "month": (stamps.month - 1) / 12,
    }
    return {name: np.asarray(share, np.float64) for name, share in shares.items()}


@settings(max_examples=200, deadline=None)
@given(st.lists(STAMPS, min_size=1, max_size=20))
def test_features_agree_with_pandas(stamps: list[int]) -> None:
    time = np.array(stamps)
    found = Calendar(FEATURES)(torch.from_numpy(time)).numpy()
    for number, share in enumerate(shares_by_pandas(time).values()):
        expected = np.stack([np.sin(2 * math.pi * share), np.cos(2 * math.pi * share)], axis=-1)
        np.testing.assert_allclose(found[:, 2 * number : 2 * number + 2], expected, atol=1e-6)


def test_the_first_and_last_nanosecond_of_each_month_of_six_centuries_are_in_it() -> None:
    firsts = pd.date_range("1678-01-01", "2261-12-01", freq="MS", unit="ns").to_numpy().astype(np.int64)
    time = np.concatenate([firsts, firsts[1:] - 1])
    found = Calendar(["day", "month"])(torch.from_numpy(time)).numpy()
    expected = [
        part(2 * math.pi * share) for share in map(shares_by_pandas(time).get, ("day", "month")) for part in (np.sin, np.cos)
    ]
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), atol=1e-6)


@pytest.mark.parametrize("features", [FEATURES, ["year"], []])
def test_an_exported_transform_gives_the_same_bits(features: list[str]) -> None:
    transform = StandardizeWithCalendar(torch.zeros(2), torch.ones(2), features)
    time = torch.from_numpy(pd.date_range("1999-12-25", periods=60, freq="37h", unit="ns").to_numpy().astype(np.int64)).view(
        3, 20
    )
    values = torch.randn(3, 20, 2)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(transform, (values, time), dynamic_shapes=({0: batch}, {0: batch}))
    for rows in (3, 1):
        expected = transform(values[:rows], time[:rows])
        assert expected.shape == (rows, 20, 2 + 2 * len(features))
        assert torch.equal(program.module()(values[:rows], time[:rows]), expected)


def test_a_transform_has_no_weights_beside_its_statistics() -> None:
    assert StandardizeWithCalendar(torch.zeros(2), torch.ones(2), FEATURES).state_dict().keys() == {"mean", "std"}
