"""Open a page in the user's browser once its server responds."""

import os
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress

START_TIMEOUT = 120.0
"""Seconds to wait for the server to start."""
POLL_SECONDS = 0.5


def has_display() -> bool:
    """Return whether a graphical browser can open here. In a container or over SSH, a text browser would take the terminal."""
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_when_ready(port: int, address: str) -> None:
    """Open a page as soon as a server listens on a local port. Return at once: a separate process waits."""
    command = [sys.executable, "-m", __name__, str(port), address]
    devnull = subprocess.DEVNULL
    subprocess.Popen(command, start_new_session=True, stdin=devnull, stdout=devnull, stderr=devnull)


def _wait_and_open(port: int, address: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            webbrowser.open(address)
            return
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    _wait_and_open(int(sys.argv[1]), sys.argv[2])
