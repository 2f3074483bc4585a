"""Determinism certificates, one per training scope, stored in mlruns/certificates/ and as tags of the runs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.tracking.entries import TagsEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.run import reopen


@dataclass(frozen=True)
class Certificate:
    """Whether two repetitions of the first steps gave identical results."""

    words: str
    difference: str
    """The first step and tensor that differ, "" if none does."""
    holds_for: str
    """Processor, threads, precision and versions of the check."""

    @property
    def as_tags(self) -> dict[str, str]:
        """The tags of a run."""
        return {"certificate": self.difference or self.words, "certificate.scope": self.holds_for}


def tags(folder: Path, scope: str) -> dict[str, str]:
    """Return the determinism tags of runs of this scope."""
    file = _file(folder, scope)
    certificate = Certificate(**store.read_json(file)).as_tags if file.is_file() else {}
    return {"scope": scope, **certificate}


def issue(folder: Path, scope: str, certificate: Certificate, tracking: TrackingConfig) -> int:
    """Store a certificate and tag the existing local runs of its scope. Return their number."""
    store.write_atomically(_file(folder, scope), json.dumps(asdict(certificate), indent=2).encode())
    count = 0
    for run_dir in sorted((folder / "runs").glob("*")):
        scopes = [entry.tags.get("scope") for entry in EventLog(run_dir).entries if isinstance(entry, TagsEntry)]
        if scope in scopes:
            run = reopen(tracking, folder, run_dir.name)
            run.tag(certificate.as_tags)
            run.flush()
            count += 1
    return count


def _file(folder: Path, scope: str) -> Path:
    return folder / "certificates" / f"{scope}.json"
