"""Trained networks, as for the tests of training."""

from tests.training.conftest import learn

__all__ = ["learn"]
