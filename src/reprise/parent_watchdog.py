"""A process that does not outlive the one that started it."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY = 0.5
"""Seconds between two looks at who the parent is."""
GRACE = 28.0
"""Seconds to end in, unless `allow` says otherwise: a process that waits for a dead rank reacts to no signal."""
_grace = GRACE


def allow(seconds: float) -> None:
    """Set the seconds in which this process has to end once its parent has died."""
    global _grace
    _grace = seconds


def end_with_parent() -> None:
    """From now on, stop (as by SIGTERM) when the parent dies: a stage of DVC's, a rank, a worker: nobody waits for them."""
    parent, adopted = os.getppid(), _adopted()

    def watch() -> None:
        while os.getppid() == parent and not adopted:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _adopted() -> bool:
    """Whether the parent died before it could be asked for: init starts no stage, but as DVC or `reprise` in a container."""
    started = ""
    with suppress(OSError):  # no Linux
        started = Path("/proc/1/cmdline").read_text("utf-8", "replace")
    return os.getppid() == 1 and not {"dvc", "reprise"} & {Path(word).name for word in started.split("\0")}
