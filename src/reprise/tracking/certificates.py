"""Certificates of determinism: by the scope of a training, under mlruns/certificates/, and as tags of its runs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.tracking.event_log import EventLog
from reprise.tracking.run import reopen


@dataclass(frozen=True)
class Certificate:
    """Whether the first steps came out twice the same."""

    words: str
    difference: str
    """The first step and tensor that differ, "" where none does."""
    holds_for: str
    """Processor, threads, precision and versions with which it was found."""

    @property
    def as_tags(self) -> dict[str, str]:
        """As a run says it."""
        return {"certificate": self.difference or self.words, "certificate.scope": self.holds_for}


def tags(folder: Path, scope: str) -> dict[str, str]:
    """What a run of this scope says of its determinism."""
    file = _file(folder, scope)
    found = Certificate(**store.read_json(file)).as_tags if file.is_file() else {}
    return {"scope": scope, **found}


def issue(folder: Path, scope: str, certificate: Certificate, tracking: TrackingConfig) -> int:
    """Keep a certificate, and tag the runs of its scope that are here already; how many."""
    store.write_atomically(_file(folder, scope), json.dumps(asdict(certificate), indent=2).encode())
    count = 0
    for run_dir in sorted((folder / "runs").glob("*")):
        said = [entry["tags"].get("scope") for entry in EventLog(run_dir).entries if "tags" in entry]
        if scope in said:
            run = reopen(tracking, folder, run_dir.name)
            run.tag(certificate.as_tags)
            run.flush()
            count += 1
    return count


def _file(folder: Path, scope: str) -> Path:
    return folder / "certificates" / f"{scope}.json"
