"""What the figures and tables of an evaluated run are made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reprise.data.windows import Windows
from reprise.figures.training import Points


@dataclass(frozen=True)
class Evaluated:
    """An evaluated run: what its figures and tables are made from."""

    name: str
    best_epoch: int
    history: Points
    windows: Windows
    metrics: Mapping[str, float]
    """Metrics of the test split."""
    predictions: Any
    """What `Task.kept` returned for the test split."""
