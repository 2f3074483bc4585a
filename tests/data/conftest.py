"""A project of its own, and a real HTTP server whose manners a test can choose."""

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
    """Publishes `files` by path, and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        """Path and `Range` of every request."""
        self.ranges = True
        self.cut: int | None = None
        """The connection breaks after so many bytes of an answer."""
        self.too_long = 0
        """Bytes by which the promised length is wrong."""
        self.says_length = True
        self.hangs_up = False
        """Whether the connection ends before any answer."""
        self.encoding: str | None = None
        self.before_answer: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path, wanted = self.path.lstrip("/"), self.headers["Range"]
        self.server.asked.append((path, wanted))
        self.server.before_answer()
        if self.server.hangs_up:
            return
        content = self.server.files.get(path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.server.says_length:
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
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRISE_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def project(tmp_path: Path) -> ProjectPaths:
    """A project that has the shipped conf/ and nothing else."""
    shutil.copytree(CONF, tmp_path / "project" / "conf")
    return ProjectPaths(tmp_path / "project")


@pytest.fixture
def console() -> Console:
    return Console(quiet=True)


def left_in(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
