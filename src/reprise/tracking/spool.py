"""What a run has to say, on disk first: one JSON line each, appended, in order. Nothing is sent from here."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from reprise.data import store
from reprise.errors import UserError

Entry = dict[str, Any]
"""One thing said: a metric's point {key, value, timestamp, step}, or {tags}, {params}, {inputs}, {file}, {model} or {status}."""

Points = list[tuple[int, float]]
"""Of a metric: (step, value)."""

FILE, MARK = "spool.jsonl", "spool.delivered"


class Spool:
    """The spool of a run's home. `spool.jsonl` holds all that was said, `spool.delivered` how many lines the store has.

    A kill may tear the last line; it was not said then, and is cut off by the next to write.
    """

    def __init__(self, home: Path) -> None:
        self.file = home / FILE
        self.mark = home / MARK
        self.entries = list(_whole_lines(self.file))
        self.points = {(entry["key"], entry["step"]): entry["value"] for entry in self.entries if "key" in entry}

    def append(self, *entries: Entry) -> None:
        """Write entries down."""
        with self.file.open("ab+") as stream:
            _cut_torn_line(stream)
            stream.write("".join(json.dumps(entry) + "\n" for entry in entries).encode())
        self.entries += entries

    def metrics(self, metrics: Mapping[str, float], step: int, again: bool = False) -> None:
        """Write down one point of each metric.

        A point that stands there already is left as it is: a resumed training comes by some steps twice. With `again`, a
        value that is another than the last one takes its place.
        """
        new = {key: value for key, value in metrics.items() if self._is_new(key, step, value, again)}
        now = int(time.time() * 1000)
        self.append(*({"key": key, "value": value, "timestamp": now, "step": step} for key, value in new.items()))
        self.points |= {(key, step): value for key, value in new.items()}

    def _is_new(self, key: str, step: int, value: float, again: bool) -> bool:
        known = self.points.get((key, step))
        return known is None or (again and known != value)

    def sync(self) -> None:
        """Bring to disk what the operating system still holds."""
        with self.file.open("a") as stream:
            os.fsync(stream.fileno())

    @property
    def delivered(self) -> int:
        """How many entries the store has."""
        return int(self.mark.read_text()) if self.mark.is_file() else 0

    @delivered.setter
    def delivered(self, count: int) -> None:
        store.write_atomically(self.mark, str(count).encode())

    @property
    def waiting(self) -> list[Entry]:
        """What the store does not have."""
        return self.entries[self.delivered :]

    @property
    def status(self) -> str:
        """How the run stands, by its last word on that."""
        return next((str(entry["status"]) for entry in reversed(self.entries) if "status" in entry), "RUNNING")

    @property
    def tags(self) -> dict[str, str]:
        """Every fact, by its last word."""
        return {key: value for entry in self.entries for key, value in entry.get("tags", {}).items()}

    @property
    def figures(self) -> dict[str, float]:
        """Metrics that have one value a run: at the best epoch (`best/val/…`), on test, of baselines."""
        return {key: value for (key, step), value in self.points.items() if step == 0}


def _whole_lines(file: Path) -> Iterator[Entry]:
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                raise UserError(f"{file}: line {number} is damaged", "delete that line") from None


def _cut_torn_line(stream: BinaryIO) -> None:
    if stream.seek(0, os.SEEK_END):
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)


def read_history(file: Path) -> dict[str, Points]:
    """Every metric's points in a spool, in the order they came."""
    points: dict[str, Points] = {}
    for entry in _whole_lines(file):
        if "key" in entry:
            points.setdefault(entry["key"], []).append((entry["step"], entry["value"]))
    return points
