"""A process that does not outlive the one that started it."""

import os
import signal
import threading
import time

LOOK_EVERY = 0.5
"""Seconds between two looks at who the parent is."""
GRACE = 15
"""Seconds to end in: one that waits for a rank that is no more hears no signal."""


def end_with_parent() -> None:
    """From now on, stop (as by SIGTERM) when the parent dies: a stage of DVC's, or a rank, then has nobody to work for."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()
