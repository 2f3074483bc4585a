"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest

VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def no_tracking_address() -> Iterator[None]:
    """Remove the address that a test before left in the environment: `mlflow.set_tracking_uri` sets it for the whole process."""
    os.environ.pop(VARIABLE, None)
    yield
    os.environ.pop(VARIABLE, None)
