"""Fixtures that apply to every test."""

import os
from collections.abc import Iterator

import hypothesis  # noqa: F401 -- before a command freezes the garbage collector, after which hypothesis warns of other packages
import pytest

VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def no_tracking_address() -> Iterator[None]:
    """Remove the address that an earlier test left in the environment: `mlflow.set_tracking_uri` sets it for the process."""
    os.environ.pop(VARIABLE, None)
    yield
    os.environ.pop(VARIABLE, None)
