"""A real MLflow server on loopback that can die and come back."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
from mlflow import MlflowClient


class Server:
    """Keeps its database and artifacts in `folder`, and its port from one life to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Come to life; returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(240):
            try:
                MlflowClient(self.address).search_experiments(max_results=1)
            except mlflow.exceptions.MlflowException:
                time.sleep(0.25)
            else:
                return
        raise AssertionError("the server does not answer")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Die."""
        if self.process is not None:
            os.killpg(self.process.pid, number)
            self.process.wait(timeout=30)
            self.process = None
