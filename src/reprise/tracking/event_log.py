"""The event log of a run: one JSON line an entry, appended, in order. Nothing is sent from here."""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from reprise.data import store
from reprise.errors import UserError

Entry = dict[str, Any]
"""One thing said: a metric's point {key, value, timestamp, step}, or {tags}, {remove_tags}, {params}, {inputs}, {file}, {model}
or {status}."""

Points = list[tuple[int, float]]
"""Of a metric: (step, value)."""

FILE, MARK, LOCK = "events.jsonl", "events.synced", "event log.lock"


class EventLog:
    """The event log in a run's folder. `events.jsonl` holds all entries, `events.synced` how many of them the store has.

    Several processes may write to one log (`evaluate`, `sync`, `certify`): each reads what the others have appended before it
    writes, under a lock. A kill may tear the last line; it counts as not written, and the next writer cuts it off. `outbox` is a
    file that exists while the store lacks an entry, or may lack one soon.
    """

    def __init__(self, run_dir: Path) -> None:
        self.file, self.mark, self.lock = run_dir / FILE, run_dir / MARK, run_dir / LOCK
        self.outbox = outbox(run_dir.parent.parent, run_dir.name)
        self.entries: list[Entry] = []
        self.points: dict[tuple[str, int], float] = {}
        self._size = 0  # bytes of the file that `entries` holds
        self._one_at_a_time = threading.RLock()
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have appended."""
        with self._one_at_a_time:
            if self.file.is_file():
                with self.file.open("rb") as stream:
                    self._read_more(stream)

    def _read_more(self, stream: BinaryIO) -> None:
        stream.seek(self._size)
        new = stream.read()
        new = new[: new.rfind(b"\n") + 1]
        self._take(list(_parsed(self.file, new.splitlines(), len(self.entries))), len(new))

    def _take(self, entries: list[Entry], size: int) -> None:
        self.entries += entries
        self.points |= {(entry["key"], entry["step"]): entry["value"] for entry in entries if "key" in entry}
        self._size += size

    def append(self, *entries: Entry) -> None:
        """Append entries, after those of other processes."""
        if not entries:
            return
        content = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        with self._one_at_a_time, FileLock(self.lock):
            self.outbox.parent.mkdir(exist_ok=True)
            self.outbox.touch()
            with self.file.open("ab+") as stream:
                self._read_more(stream)
                if stream.tell() > self._size:  # a torn line
                    stream.truncate(self._size)
                stream.write(content)
            self._take(list(entries), len(content))

    def is_settled(self) -> bool:
        """Whether the store has all entries. If the run has ended too, it leaves the outbox; no entry can come in between."""
        with self._one_at_a_time, FileLock(self.lock):
            if self.waiting:
                return False
            if self.status != "RUNNING":
                self.outbox.unlink(missing_ok=True)
            return True

    def metrics(self, metrics: Mapping[str, float], step: int, again: bool = False) -> None:
        """Append one point of each metric.

        A point that the log holds already is left as it is: a resumed training passes some steps twice. With `again`, a value
        that differs from the last one replaces it.
        """
        new = {key: value for key, value in metrics.items() if self._is_new(key, step, value, again)}
        now = int(time.time() * 1000)
        self.append(*({"key": key, "value": value, "timestamp": now, "step": step} for key, value in new.items()))

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
        self.refresh()
        return self.entries[self.delivered :]

    @property
    def status(self) -> str:
        """The last status."""
        return next((str(entry["status"]) for entry in reversed(self.entries) if "status" in entry), "RUNNING")

    @property
    def tags(self) -> dict[str, str]:
        """Every tag, with its last value."""
        found: dict[str, str] = {}
        for entry in self.entries:
            found |= entry.get("tags", {})
            for key in entry.get("remove_tags", ()):
                found.pop(key, None)
        return found

    @property
    def figures(self) -> dict[str, float]:
        """Metrics that have one value a run: at the best epoch (`best/val/…`), on test, of baselines."""
        return {key: value for (key, step), value in self.points.items() if step == 0}


def outbox(folder: Path, run_id: str) -> Path:
    """A file that exists while the store lacks an entry of a run, under `folder` (mlruns/)."""
    return folder / "outbox" / run_id


def _whole_lines(file: Path) -> Iterator[Entry]:
    content = file.read_bytes() if file.is_file() else b""
    yield from _parsed(file, content[: content.rfind(b"\n") + 1].splitlines(), 0)


def _parsed(file: Path, lines: Sequence[bytes], before: int) -> Iterator[Entry]:
    for number, line in enumerate(lines, before + 1):
        try:
            yield json.loads(line)
        except ValueError:
            raise UserError(f"{file}: line {number} is damaged", "delete that line") from None


def read_history(file: Path) -> dict[str, Points]:
    """Every metric's points in a event log, in the order they came; of a step that was logged twice, the later value."""
    points: dict[str, dict[int, float]] = {}
    for entry in _whole_lines(file):
        if "key" in entry:
            points.setdefault(entry["key"], {})[entry["step"]] = entry["value"]
    return {key: list(history.items()) for key, history in points.items()}
