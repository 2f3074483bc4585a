"""Checks of what surrounds a project: tracking store, runs, locks, mirror, sweep database and port."""

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reprise import cpus
from reprise.analysis.doctor.findings import Check
from reprise.config import TrackingConfig, tracking_config
from reprise.errors import UserError, without_login
from reprise.project_paths import ProjectPaths
from reprise.tracking import probe, resume, run_info
from reprise.tracking.address import VARIABLE, checked
from reprise.tracking.event_log import EventLog

SECONDS = 2.0
"""Seconds to wait for a server."""


def tracking(check: Check, paths: ProjectPaths) -> None:
    """Write to the tracking store and read it back."""
    config: TrackingConfig | None = None
    with suppress(UserError):  # the check of the config reports it
        config = tracking_config(paths.root)
    shown, problem = probe.probe(config, paths.store)
    check.facts.append(f"{shown}{f', from {VARIABLE}' if VARIABLE in os.environ else ''}")
    if problem:
        check.error(*problem)


def runs(check: Check, paths: ProjectPaths) -> None:
    """Check that run directories can be read, that no training was interrupted, and that all entries reached the store."""
    try:
        infos = {run_dir.name: run_info.read(run_dir) for run_dir in run_info.run_dirs(paths.store)}
        interrupted = [name for name in resume.stale_runs(paths.store) if _is_open(paths, name)]
        active = resume.active_run_ids(paths.store)
        waiting = {file.name for file in (paths.store / "outbox").glob("*")} - active - set(interrupted)
    except UserError as error:
        check.refusal("run-damaged", error)
        return
    check.facts.append(f"{len(infos)} runs, {len(active)} in progress")
    names = [infos[run_id].name for run_id in interrupted]
    if names:
        what = f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}: interrupted, and no process holds the training"
        fix = "repeat its command to resume it, or `reprise sync` marks it as FAILED"
        check.warning("run-interrupted", what, fix)
    if lost := [run_id for run_id in waiting if run_id in infos]:
        what = f"{len(lost)} runs have entries that the tracking store lacks, such as {infos[lost[0]].name}"
        check.warning("runs-unsynced", what, "reprise sync")
    if rest := list((paths.store / run_info.TRASH).glob("*")):
        what = f"{len(rest)} entries in {paths.store / run_info.TRASH}: a `reprise gc` was interrupted"
        check.warning("gc-interrupted", what, "repeat it: each `reprise gc … --yes` finishes what another began")


def _is_open(paths: ProjectPaths, run_id: str) -> bool:
    return run_info.exists(paths.run_dir(run_id)) and EventLog(paths.run_dir(run_id)).status == "RUNNING"


def locks(check: Check, paths: ProjectPaths, system: Path = cpus.SYSTEM) -> None:
    """Check that no stopped process (Ctrl-Z) holds a lock of the project. Those of dead processes are released by the system."""
    held = dict(_holders(paths.store, system))
    check.facts.append(f"{len(held)} held")
    for file, pid in held.items():
        if _state(pid, system) == "T":
            what = f"process {pid} holds {file.relative_to(paths.root)} and is stopped, so others wait for it"
            check.error("lock-held", what, f"continue it (`kill -CONT {pid}`), or end it (`kill -KILL {pid}`)")


def _holders(folder: Path, system: Path) -> Iterator[tuple[Path, int]]:
    """Yield the lock files below a folder that a process holds, with its id, from /proc/locks (proc(5)).

    The device in /proc/locks is not always that of stat (overlay file systems), so files are found by inode and open files.
    """
    files = {file.stat().st_ino: file for file in folder.rglob("*.lock")}
    for line in cpus.lines(system / "proc/locks"):
        words = line.split()  # 1: FLOCK ADVISORY WRITE 708 08:01:131 0 EOF
        if len(words) >= 6 and words[1] == "FLOCK" and words[4].isdecimal():
            file, pid = files.get(int(words[5].rpartition(":")[2])), int(words[4])
            if file and str(file.resolve()) in _open_files(pid, system):
                yield file, pid


def _open_files(pid: int, system: Path) -> set[str]:
    opened = set()
    with suppress(OSError):  # the process is gone, or belongs to somebody else
        for descriptor in (system / "proc" / str(pid) / "fd").iterdir():
            with suppress(OSError):
                opened.add(str(descriptor.readlink()))
    return opened


def _state(pid: int, system: Path) -> str:
    """Return the state of a process, `T` if it is stopped; "" if it is gone or in another container."""
    with suppress(OSError, IndexError):
        return (system / "proc" / str(pid) / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    return ""


def mirror(check: Check, environment: Mapping[str, str] = os.environ) -> None:
    """Check that the mirror of raw files and the database of sweeps, if set, are what they should be."""
    given = environment.get("REPRISE_MIRROR", "")
    check.facts.append(without_login(given) or "REPRISE_MIRROR is not set")
    if given.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(given, timeout=SECONDS).close()  # noqa: S310 -- the scheme was checked
        except urllib.error.HTTPError:  # it answers; a listing of its files is not needed
            pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            check.error("mirror-unreachable", f"REPRISE_MIRROR={given}: {reason}", "correct REPRISE_MIRROR, or unset it")
    elif given and not Path(given).expanduser().is_dir():
        check.error("mirror-missing", f"REPRISE_MIRROR={given}: no such folder", "correct REPRISE_MIRROR, or unset it")
    if storage := environment.get("REPRISE_STORAGE"):
        try:
            checked(storage, "REPRISE_STORAGE", for_runs=False)
        except UserError as error:
            check.refusal("sweep-storage", error)


def port(check: Check, number: int) -> None:
    """Check that the dashboard's port is free, or that a dashboard listens on it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
        except OSError as error:
            problem = error.strerror or str(error)
        else:
            check.facts.append(f"{number} is free")
            return
    if _is_dashboard(number):
        check.facts.append(f"a dashboard runs on {number}")
        return
    what = f"port {number}, the default of `reprise dashboard`, cannot be used: {problem}"
    check.warning("port-in-use", what, f"reprise dashboard --port {number + 1}")


def _is_dashboard(number: int) -> bool:
    """Return whether MLflow answers on a local port: its health page is the text `OK`."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/health", timeout=SECONDS) as answer:
            return bool(answer.read(3) == b"OK")
    except (OSError, ValueError):
        return False
