"""The event log of a run: an append-only JSON Lines file. `mlflow_sync` sends it to MLflow."""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from reprise.data import store
from reprise.tracking.entries import Entry, MetricEntry, StatusEntry, TagRemovalEntry, TagsEntry, from_lines, to_lines

Points = list[tuple[int, float]]
"""The (step, value) pairs of a metric."""

FILE, MARK, LOCK = "events.jsonl", "events.synced", "events.lock"


class EventLog:
    """The event log in a run directory. `events.jsonl` holds all entries, `events.synced` the number that the store has.

    Several processes may write to one log (`evaluate`, `sync`, `certify`). Each takes a lock and reads the entries of the others
    before it appends. A kill may leave an incomplete last line; readers ignore it, and the next writer truncates it. The file
    `outbox` exists while the store lacks an entry, or may lack one soon.
    """

    def __init__(self, run_dir: Path) -> None:
        self.file, self.mark, self.lock = run_dir / FILE, run_dir / MARK, run_dir / LOCK
        self.outbox = outbox(run_dir.parent.parent, run_dir.name)
        self.entries: list[Entry] = []
        self.points: dict[tuple[str, int], float] = {}
        self._size = 0  # bytes of the file that `entries` holds
        self._thread_lock = threading.RLock()
        self.refresh()

    def refresh(self) -> None:
        """Read the entries that other processes have appended."""
        with self._thread_lock:
            if self.file.is_file():
                with self.file.open("rb") as stream:
                    self._read_more(stream)

    def _read_more(self, stream: BinaryIO) -> None:
        stream.seek(self._size)
        new = stream.read()
        new = new[: new.rfind(b"\n") + 1]
        self._take(from_lines(self.file, new.splitlines(), len(self.entries)), len(new))

    def _take(self, entries: list[Entry], size: int) -> None:
        self.entries += entries
        self.points |= {(entry.key, entry.step): entry.value for entry in entries if isinstance(entry, MetricEntry)}
        self._size += size

    def append(self, *entries: Entry) -> None:
        """Append entries, after those of other processes."""
        if not entries:
            return
        content = to_lines(entries)
        with self._thread_lock, FileLock(self.lock):
            self.outbox.parent.mkdir(exist_ok=True)
            self.outbox.touch()
            with self.file.open("ab+") as stream:
                self._read_more(stream)
                if stream.tell() > self._size:  # an incomplete line
                    stream.truncate(self._size)
                stream.write(content)
            self._take(list(entries), len(content))

    def is_synced(self) -> bool:
        """Return whether the store has all entries. If the run has ended too, remove its outbox file under the same lock."""
        with self._thread_lock, FileLock(self.lock):
            if self.waiting:
                return False
            if self.status != "RUNNING":
                self.outbox.unlink(missing_ok=True)
            return True

    def metrics(self, metrics: Mapping[str, float], step: int, again: bool = False) -> None:
        """Append one point of each metric.

        A point that the log already holds stays as it is: a resumed training repeats some steps. With `again`, a different value
        replaces it.
        """
        new = {key: value for key, value in metrics.items() if self._is_new(key, step, value, again)}
        now = int(time.time() * 1000)
        self.append(*(MetricEntry(key, value, step, now) for key, value in new.items()))

    def _is_new(self, key: str, step: int, value: float, again: bool) -> bool:
        known = self.points.get((key, step))
        return known is None or (again and known != value)

    def fsync(self) -> None:
        """Flush the file from the operating system's cache to disk."""
        with self.file.open("a") as stream:
            os.fsync(stream.fileno())

    @property
    def delivered(self) -> int:
        """Number of entries that the store has."""
        return int(self.mark.read_text()) if self.mark.is_file() else 0

    @delivered.setter
    def delivered(self, count: int) -> None:
        store.write_atomically(self.mark, str(count).encode())

    @property
    def waiting(self) -> list[Entry]:
        """Entries that the store does not have yet."""
        self.refresh()
        return self.entries[self.delivered :]

    @property
    def status(self) -> str:
        """The last status."""
        return next((entry.status for entry in reversed(self.entries) if isinstance(entry, StatusEntry)), "RUNNING")

    @property
    def tags(self) -> dict[str, str]:
        """All tags, each with its last value."""
        tags: dict[str, str] = {}
        for entry in self.entries:
            if isinstance(entry, TagsEntry):
                tags |= entry.tags
            elif isinstance(entry, TagRemovalEntry):
                tags = {key: value for key, value in tags.items() if key not in entry.remove_tags}
        return tags

    @property
    def figures(self) -> dict[str, float]:
        """Metrics with one value per run: at the best epoch (`best/val/…`), on test, of baselines."""
        return {key: value for (key, step), value in self.points.items() if step == 0}


def outbox(folder: Path, run_id: str) -> Path:
    """Return the file under `folder` (mlruns/) that exists while the store lacks an entry of a run."""
    return folder / "outbox" / run_id


def read_history(file: Path) -> dict[str, Points]:
    """Return the points of every metric in an event log, in order; for a step that was logged twice, the later value."""
    content = file.read_bytes() if file.is_file() else b""
    points: dict[str, dict[int, float]] = {}
    for entry in from_lines(file, content[: content.rfind(b"\n") + 1].splitlines(), 0):
        if isinstance(entry, MetricEntry):
            points.setdefault(entry.key, {})[entry.step] = entry.value
    return {key: list(history.items()) for key, history in points.items()}
