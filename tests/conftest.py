"""Fixtures that apply to every test."""

import os
from collections.abc import Iterator

import hypothesis  # noqa: F401 -- before a command freezes the garbage collector, after which hypothesis warns of other packages
import pytest

VARIABLE = "MLFLOW_TRACKING_URI"
LONG_FIRST = (
    "tests/pipeline/test_repro.py",
    "tests/pipeline/test_sweep.py",
    "tests/pipeline/test_dashboard.py",
    "tests/tracking/test_groups.py",
    "tests/pipeline/",
    "tests/projects/",
    "tests/tracking/",
    "tests/sweeps/",
    "tests/serving/",
    "tests/extending/",
    "tests/config/test_shipped.py",
    "tests/training/",
)
"""Beginnings of names of files. These start first, so that no worker is left alone with a long file."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files. The order of arguments does not do this: pytest removes those within another one."""
    items.sort(
        key=lambda item: next((turn for turn, name in enumerate(LONG_FIRST) if item.nodeid.startswith(name)), len(LONG_FIRST))
    )


@pytest.fixture(autouse=True)
def no_tracking_address() -> Iterator[None]:
    """Remove the address that an earlier test left in the environment: `mlflow.set_tracking_uri` sets it for the process."""
    os.environ.pop(VARIABLE, None)
    yield
    os.environ.pop(VARIABLE, None)
