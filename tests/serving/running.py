"""A server in a thread of this process, on loopback, and requests to it."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.project_paths import ProjectPaths
from reprise.serving.app import build
from reprise.serving.limits import Limits
from reprise.serving.metrics import Metrics
from reprise.serving.model import ModelHolder, load
from reprise.serving.requests import names_of_host
from reprise.serving.server import bind, http_server

LIMITS = Limits(body=2**20, batch=8, pixels=1_000_000, cells=100_000, seconds=1.0)
TOLERANCE = 1e-5
"""Of probabilities, or of forecasts in standard deviations of the training split."""
Answer = tuple[int, Any]
"""Status, and JSON or text."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    port: int
    holder: ModelHolder
    metrics: Metrics

    def ask(
        self, path: str, body: bytes | None = None, kind: str | None = None, method: str | None = None, **more: str
    ) -> Answer:
        """Send a request; see `ask`."""
        return ask(self.port, path, body, kind, method, **more)

    def predict(self, body: bytes, kind: str) -> list[dict[str, Any]]:
        """Return the predictions for a body."""
        status, answer = self.ask("/predict", body, kind)
        assert status == 200, answer
        rows: list[dict[str, Any]] = answer["predictions"]
        return rows

    def raw(self, *parts: bytes, pause: float = 0.0, close: bool = False) -> int | None:
        """Send bytes, and return the status of the answer, None if there is none. With `close`, do not wait for it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            if close:
                return None
            with contextlib.suppress(ConnectionResetError):
                first = connection.makefile("rb").readline().split()
                return int(first[1]) if len(first) > 1 else None
        return None


def ask(
    port: int, path: str, body: bytes | None = None, kind: str | None = None, method: str | None = None, **more: str
) -> Answer:
    """Send a request with a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {**({"Content-Type": kind} if kind else {}), **more}
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        response = connection.getresponse()
        return response.status, parsed(response.read(), response.headers)
    finally:
        connection.close()


def parsed(content: bytes, headers: Mapping[str, str]) -> Any:
    return json.loads(content) if content and headers.get("content-type", "").startswith("application/json") else content.decode()


@contextlib.contextmanager
def serving(project: Path, name: str, limits: Limits = LIMITS) -> Iterator[Running]:
    """Serve a run while the block lasts."""
    holder, metrics = ModelHolder(load(ProjectPaths(project), name, limits)), Metrics()
    server = http_server(build(holder, metrics, limits, names_of_host("127.0.0.1")), limits)
    with bind("127.0.0.1", 0) as listening:
        listening.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Running(listening.getsockname()[1], holder, metrics)
        finally:
            server.should_exit = True
            thread.join()
