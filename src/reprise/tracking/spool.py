"""Metrics on disk first: one JSON line each, appended; from there to MLflow in batches."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

BATCH = 1000
"""The most metrics MLflow takes in one call."""
PATIENCE = 2.0
"""Seconds between deliveries, so that short epochs do not wait for the database."""


class Spool:
    """The metrics of a run: `metrics.jsonl` holds all of them, `delivered` says how many the store has.

    A line delivered twice counts once: it carries its own time stamp, and MLflow keeps one of equal points.
    """

    def __init__(self, folder: Path, client: MlflowClient, run_id: str) -> None:
        self.file = folder / "metrics.jsonl"
        self.mark = folder / "metrics.delivered"
        self.client = client
        self.run_id = run_id
        self.last = 0.0
        self.pending: list[dict[str, Any]] = self._undelivered()

    def append(self, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics down, and hand them on when the last delivery is some time ago. Never raises for a dead store."""
        now = int(time.time() * 1000)
        lines = [{"key": key, "value": value, "timestamp": now, "step": step} for key, value in metrics.items()]
        with self.file.open("a") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
        self.pending += lines
        if time.monotonic() - self.last > PATIENCE:
            self.deliver()

    def deliver(self) -> str | None:
        """Hand on what the store does not have; None, or why that failed: what is left waits for the next call."""
        while self.pending:
            part = self.pending[:BATCH]
            points = [Metric(line["key"], line["value"], line["timestamp"], line["step"]) for line in part]
            try:
                self.client.log_batch(self.run_id, metrics=points, synchronous=True)
            except (MlflowException, OSError) as error:
                self.last = time.monotonic()
                return str(error).split("\n")[0]
            self.pending = self.pending[BATCH:]
            self.mark.write_text(str(self._delivered() + len(part)))
        self.last = time.monotonic()
        return None

    def _undelivered(self) -> list[dict[str, Any]]:
        return self._lines()[self._delivered() :]

    def _delivered(self) -> int:
        return int(self.mark.read_text()) if self.mark.is_file() else 0

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.is_file() else []


def read_history(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric's points (step, value) in a metrics.jsonl, in the order they came."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        points.setdefault(line["key"], []).append((line["step"], line["value"]))
    return points
