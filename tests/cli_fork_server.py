"""Real `reprise` processes that start fast: a server process imports everything once, and forks for each command."""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

FORK_SERVER = Path(__file__).with_name("fork_server")


def user_environment() -> dict[str, str]:
    """Return the environment of a user's shell: this Python's programs first on PATH, without variables of this project."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "REPRISE_", "PYTHON"))}
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}", "COLUMNS": "200"}


@functools.cache
def scratch(source: str = "") -> Path:
    """Return the folder that the workers of this test run share, with the server's socket and the programs that use it."""
    name = f"reprise-tests-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    return Path(tempfile.gettempdir()) / (f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}" if source else name)


def programs(source: str = "") -> Path:
    """Return a folder with `python` and `reprise` that run in the server."""
    connection(source)
    return scratch(source) / "bin"


def connect(source: str = "") -> socket.socket:
    """Return a new connection to the server."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        client.connect(str(scratch(source) / "socket"))
    except OSError:
        client.close()
        raise
    return client


@functools.cache
def connection(source: str = "") -> socket.socket:
    """Return the connection that keeps the server running for this process; the first of the workers starts it.

    Args:
        source: a folder from which the server imports reprise. By default it is the installed package.

    """
    folder = scratch(source)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        try:
            client = connect(source)
        except OSError:
            start_server(folder, source)
            client = connect(source)
    atexit.register(client.close)
    return client


def start_server(folder: Path, source: str) -> None:
    path = folder / "socket"
    path.unlink(missing_ok=True)
    for name in ("python", "reprise"):
        text = f"#!{sys.executable} -IS\nimport sys\nsys.path.append({str(FORK_SERVER)!r})\nimport program\n"
        file = folder / "bin" / name
        file.write_text(f"{text}program.main({sys.executable!r}, {str(path)!r}, {source!r})\n")
        file.chmod(0o755)
    command = [sys.executable, "-P", str(FORK_SERVER / "server.py"), str(path)]  # ends when the server listens
    environment = user_environment() | ({"PYTHONPATH": source} if source else {})
    devnull = subprocess.DEVNULL
    subprocess.run(command, env=environment, stdin=devnull, stdout=devnull, check=True, start_new_session=True)


class Child:
    """A running command."""

    def __init__(self, client: socket.socket, out: Path, err: Path) -> None:
        self.client, self.pid, self.out, self.err = client, int(client.recv(64)), out, err
        self.code: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(self.pid, number)

    def wait(self) -> int:
        if self.code is None:
            with self.client:
                self.code = int(self.client.recv(64))
        return self.code

    def has_ended(self) -> bool:
        """Return whether the process has ended."""
        stat = Path(f"/proc/{self.pid}/stat")
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            return True

    @property
    def output(self) -> str:
        return self.out.read_text() + self.err.read_text()


class CliForkServer:
    """Runs commands in a project, one at a time.

    Args:
        folder: the project.
        nested: whether the processes that a command starts, such as the workers of a sweep, run in the server as well. They start
            faster then, but have the server as their parent. A new tracking database is copied: MLflow takes a second to create one.
        source: see `connection`.
        environment: variables for all commands.

    """

    def __init__(self, folder: Path, nested: bool = False, source: str = "", **environment: str) -> None:
        self.folder, self.nested, self.source = folder, nested, source
        self.environment = ({"PYTHONPATH": source} if source else {}) | environment
        self.scratch = tempfile.TemporaryDirectory()
        self.last: Child | None = None
        connection(source)

    def start(self, *arguments: str, folder: Path | None = None, **environment: str) -> Child:
        """Start `reprise *arguments`."""
        return self.start_python("-P", "-m", "reprise", *arguments, folder=folder, **environment)

    def start_python(self, *arguments: str, folder: Path | None = None, **environment: str) -> Child:
        """Start `python *arguments`, which are `[-P] -m MODULE …` or `-c CODE …`."""
        self.end_last()  # left running by a failed test
        variables = user_environment() | self.environment | environment
        if self.nested:
            variables["PATH"] = f"{programs(self.source)}{os.pathsep}{variables['PATH']}"
        python = str(programs(self.source) / "python") if self.nested else sys.executable
        request = {
            "folder": str(folder or self.folder),
            "environment": variables,
            "python": python,
            "arguments": arguments,
            "copies_database": self.nested,
        }
        out, err = (Path(self.scratch.name) / name for name in ("out", "err"))
        client = connect(self.source)
        with Path(os.devnull).open() as empty, out.open("wb") as written, err.open("wb") as errors:
            streams = [empty.fileno(), written.fileno(), errors.fileno()]
            socket.send_fds(client, [json.dumps(request).encode()], streams)
            self.last = Child(client, out, err)
        return self.last

    def run(self, *arguments: str, **environment: str) -> Child:
        """Run a command to its end, and assert that it succeeds."""
        child = self.start(*arguments, **environment)
        code = child.wait()
        assert code == 0, child.output
        return child

    def end(self) -> None:
        self.end_last()
        self.scratch.cleanup()

    def end_last(self) -> None:
        if self.last and self.last.code is None:
            self.last.kill()
            self.last.wait()
