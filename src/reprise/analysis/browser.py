"""Opens a page in the user's browser once its server answers."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress

ANSWERS_WITHIN = 120.0
"""Seconds that a server has to start in."""
LOOK_EVERY = 0.5


def has_display() -> bool:
    """Whether a browser with windows can open here: not in a container or over SSH, where one of text would take the terminal."""
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_when_ready(port: int, address: str) -> None:
    """Open a page as soon as a server listens on a port of this machine; returns at once, another process waits for it."""
    command = [sys.executable, "-m", __name__, str(port), address]
    nowhere = subprocess.DEVNULL
    subprocess.Popen(command, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def _wait_and_open(port: int, address: str) -> None:
    deadline = time.monotonic() + ANSWERS_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            webbrowser.open(address)
            return
        time.sleep(LOOK_EVERY)


if __name__ == "__main__":
    _wait_and_open(int(sys.argv[1]), sys.argv[2])
