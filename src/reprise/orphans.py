"""A process that does not outlive the one that started it."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY = 0.5
"""Seconds between two looks at who the parent is."""
GRACE = 15
"""Seconds to end in: one that waits for a rank that is no more hears no signal."""


def end_with_parent() -> None:
    """From now on, stop (as by SIGTERM) when the parent dies: a stage of DVC's, a rank, a worker: nobody waits for them."""
    parent, adopted = os.getppid(), _adopted()

    def watch() -> None:
        while os.getppid() == parent and not adopted:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _adopted() -> bool:
    """Whether the parent died before it could be asked for: init starts no stage, but as DVC or `reprise` in a container."""
    started = ""
    with suppress(OSError):  # no Linux
        started = Path("/proc/1/cmdline").read_text("utf-8", "replace")
    return os.getppid() == 1 and not {"dvc", "reprise"} & {Path(word).name for word in started.split("\0")}
