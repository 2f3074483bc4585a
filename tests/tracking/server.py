"""A real MLflow server on loopback that tests can stop and restart."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def is_healthy(address: str) -> bool:
    """Return whether an MLflow server responds at the address: one request, without MLflow's retries."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:  # nothing listens yet
        return False


class Server:
    """An MLflow server with database and artifacts in `folder`. The port stays the same after a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it responds."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # eight processes for language models
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not is_healthy(self.address):
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)

    def pause(self) -> None:
        """Suspend the server: it accepts connections, but does not respond."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def unpause(self) -> None:
        """Continue after `pause`."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the server with a signal."""
        if self.process is not None:
            os.killpg(self.process.pid, number)
            self.process.wait(timeout=30)
            self.process = None
