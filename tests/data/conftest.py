"""A project for each test, and a real HTTP server whose behaviour a test can change."""

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from reprise.project_paths import ProjectPaths

CONF = Path(__file__).resolve().parents[2] / "conf"


class Server(ThreadingHTTPServer):
    """Serves `files` by path, and records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        """Path and `Range` of every request."""
        self.ranges = True
        self.cut: int | None = None
        """Number of bytes after which the connection breaks."""
        self.too_long = 0
        """Number of bytes by which Content-Length is too large."""
        self.sends_length = True
        self.hangs_up = False
        """Whether the connection is closed without a response."""
        self.encoding: str | None = None
        self.before_response: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path, byte_range = self.path.lstrip("/"), self.headers["Range"]
        self.server.requests.append((path, byte_range))
        self.server.before_response()
        if self.server.hangs_up:
            return
        content = self.server.files.get(path)
        if content is None:
            self.send_error(404)
            return
        start = int(byte_range.removeprefix("bytes=").removesuffix("-")) if byte_range and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.server.sends_length:
            self.send_header("Content-Length", str(len(content) - start + self.server.too_long))
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cut])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRISE_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def project(tmp_path: Path) -> ProjectPaths:
    """A project with the shipped conf/ only."""
    shutil.copytree(CONF, tmp_path / "project" / "conf")
    return ProjectPaths(tmp_path / "project")


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


def files_in(folder: Path) -> set[str]:
    """Return every file below a folder, including hidden ones."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
