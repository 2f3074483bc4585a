"""Stop this process when its parent process dies."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

POLL_SECONDS = 0.5
"""Seconds between two checks of the parent process id."""
GRACE = 28.0
"""Seconds between SIGTERM and SIGKILL, unless `allow` changes them. A process that waits for a dead rank ignores SIGTERM."""
_grace = GRACE


def allow(seconds: float) -> None:
    """Set the seconds in which this process has to exit after its parent died."""
    global _grace
    _grace = seconds


def end_with_parent() -> None:
    """From now on, send SIGTERM to this process when its parent dies. For DVC stages, ranks and sweep workers."""
    parent, orphaned = os.getppid(), _is_orphan()

    def watch() -> None:
        while os.getppid() == parent and not orphaned:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _is_orphan() -> bool:
    """Return whether the parent died before this check: the parent is init, and init is not DVC or `reprise` (container)."""
    init_command = ""
    with suppress(OSError):  # not on Linux
        init_command = Path("/proc/1/cmdline").read_text("utf-8", "replace")
    return os.getppid() == 1 and not {"dvc", "reprise"} & {Path(word).name for word in init_command.split("\0")}
