"""Real `reprise` processes that start fast: a server process imports everything once, and forks for each command."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import gc, json, os, re, resource, signal, sys
import hydra, matplotlib.pyplot, mlflow, torch, torchmetrics
import mlflow.store.tracking.sqlalchemy_store
import reprise.sweeps.driver, reprise.stages.evaluate, reprise.stages.window, reprise.stages.preprocess
from reprise.__main__ import main
torch.set_num_threads(1)
gc.freeze()

def fail(code, path):
    "Let every open for writing of a path that matches fail with this error. Audit hooks run before the file is opened."
    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR) and path.search(arguments[0]):
            raise OSError(code, os.strerror(code), arguments[0])
    sys.addaudithook(hook)

def run_command(request):
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["reprise", *request["arguments"]]
    if "FAULT" in os.environ:
        code, _, path = os.environ["FAULT"].partition(" ")
        fail(int(code), re.compile(path))
    if "LARGEST_FILE" in os.environ:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
    try:
        main(request["arguments"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a normal exit with all these modules takes longer than most commands

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        run_command(json.loads(line))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def user_environment() -> dict[str, str]:
    """Return the environment of a user's shell: this Python's programs first on PATH, without variables of this project."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "REPRISE_", "PYTHON"))}
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}", "COLUMNS": "200"}


class Child:
    """A running command."""

    def __init__(self, fork_server: "CliForkServer", pid: int, out: Path, err: Path) -> None:
        self.fork_server, self.pid, self.out, self.err = fork_server, pid, out, err
        self.code: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.kill(self.pid, number)

    def wait(self) -> int:
        if self.code is None:
            self.code = int(self.fork_server.read())
        return self.code

    def has_ended(self) -> bool:
        """Return whether the process has ended. Until `wait` reaps it, it is a zombie."""
        stat = Path(f"/proc/{self.pid}/stat")
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            return True

    @property
    def output(self) -> str:
        return self.out.read_text() + self.err.read_text()


_idle: list[subprocess.Popen[str]] = []
"""Server processes that have imported everything and are not in use."""


def _start_server() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=user_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@atexit.register
def _stop_servers() -> None:
    for server in _idle:
        with server as process:  # closes its pipes, and waits
            assert process.stdin
            process.stdin.close()


class CliForkServer:
    """Runs commands in a project, one at a time."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.environment = folder, environment
        self.process = _idle.pop() if _idle else _start_server()
        self.scratch = tempfile.TemporaryDirectory()
        self.last: Child | None = None

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def start(self, *arguments: str, folder: Path | None = None, **environment: str) -> Child:
        assert self.process.stdin
        self._kill_last()  # left running by a failed test
        out, err = (Path(self.scratch.name) / name for name in ("out", "err"))
        request = {
            "folder": str(folder or self.folder),
            "arguments": arguments,
            "environment": user_environment() | self.environment | environment,
            "out": str(out),
            "err": str(err),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        self.last = Child(self, int(self.read()), out, err)
        return self.last

    def run(self, *arguments: str, **environment: str) -> Child:
        """Run a command to its end, and assert that it succeeds."""
        child = self.start(*arguments, **environment)
        code = child.wait()
        assert code == 0, child.output
        return child

    def end(self) -> None:
        self._kill_last()
        _idle.append(self.process)
        self.scratch.cleanup()

    def _kill_last(self) -> None:
        if self.last and self.last.code is None:
            self.last.kill()
            self.last.wait()
