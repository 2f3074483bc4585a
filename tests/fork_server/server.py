"""Server: imports everything once, and forks for each command. `python -P server.py SOCKET` ends when the server listens.

A client connects, sends one message, a `Request` as JSON with its standard streams, and reads the process id and then the exit code.
If the client closes the connection first, the process is killed. The server ends when its last client does.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import re
import resource
import runpy
import selectors
import shutil
import signal
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch

import reprise
from reprise.__main__ import main
from reprise.tracking import mlflow_tables

PRELOADED = [
    "IPython.display",
    "alembic.command",
    "captum.attr",
    "dvc.cli.parser",
    "dvc.repo.reproduce",
    "hydra",
    "matplotlib.pyplot",
    "mlflow.pytorch",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "networkx",
    "optuna",
    "scmrepo.git",
    "sqlalchemy.dialects.sqlite",
    "torchmetrics",
]
LARGEST_REQUEST = 2**20
Request = dict[str, Any]
"""`folder`, `environment`, `python`: the program that `sys.executable` names, `arguments` of a Python interpreter, and
`copies_database`: whether a new tracking database is a copy of an empty one."""
EMPTY = Path(sys.argv[1]).with_name("empty.db")
"""An empty tracking database."""


def preload() -> None:
    """Import what commands import, and every module of reprise."""
    modules = [module.name for module in pkgutil.walk_packages(reprise.__path__, "reprise.")]
    for name in [*PRELOADED, *modules]:
        if name not in {"reprise.__main__", "reprise.tracking.reprise_pyfunc"}:  # the latter is a module of logged models
            importlib.import_module(name)


def copy_database(file: Path, artifacts: Path) -> None:
    """Do what `mlflow_tables.create_database` does, which takes a second."""
    shutil.copy(EMPTY, file)
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", [f"{artifacts.resolve().as_uri()}/0"])


def fail(code: int, path: re.Pattern[str]) -> None:
    """Let every open for writing of a path that matches fail with this error. Audit hooks run before the file is opened."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event == "open"
            and isinstance(arguments[0], str)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            and path.search(arguments[0])
        ):
            raise OSError(code, os.strerror(code), arguments[0])

    sys.addaudithook(hook)


def run_python(arguments: list[str]) -> None:
    """Do what `python *arguments` does, for `[-P] -m MODULE …` and `-c CODE …`."""
    if safe := arguments[0] == "-P":
        arguments = arguments[1:]
    option, content, *rest = arguments
    sys.argv = [content if option == "-m" else option, *rest]
    if not safe:
        sys.path.insert(0, str(Path.cwd()) if option == "-m" else "")
    if option == "-c":
        exec(compile(content, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    elif content == "reprise":
        main(rest)
    else:
        runpy.run_module(content, run_name="__main__", alter_sys=True)


def run_request(request: Request) -> NoReturn:
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.executable = request["python"]
    if request["copies_database"]:
        mlflow_tables.create_database = copy_database
    if "FAULT" in os.environ:
        code, _, path = os.environ["FAULT"].partition(" ")
        fail(int(code), re.compile(path))
    if "LARGEST_FILE" in os.environ:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
    exit_code: Any = 0
    try:
        run_python(request["arguments"])
    except SystemExit as end:
        exit_code = end.code or 0
        if isinstance(exit_code, str):
            sys.stderr.write(f"{exit_code}\n")
            exit_code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        exit_code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # a normal exit with all these modules takes longer than most commands


class Server:
    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen(64)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.running: dict[socket.socket, tuple[int, int]] = {}  # the process id and its file descriptor, by connection
        self.clients: set[socket.socket] = set()

    def serve(self) -> None:
        while True:
            for key, _ in self.selector.select():
                key.data()
            if not self.clients:
                return

    def accept(self) -> None:
        client, _ = self.listener.accept()
        self.clients.add(client)
        self.selector.register(client, selectors.EVENT_READ, lambda: self.read(client))

    def read(self, client: socket.socket) -> None:
        message, streams, _, _ = socket.recv_fds(client, LARGEST_REQUEST, 3)
        if not message:
            self.disconnect(client)
            return
        pid = os.fork()
        if not pid:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            for one in (self.selector, self.listener, *self.clients):
                one.close()
            for _, descriptor in self.running.values():
                os.close(descriptor)
            run_request(json.loads(message))
        for stream in streams:
            os.close(stream)
        descriptor = os.pidfd_open(pid)
        self.running[client] = pid, descriptor
        self.selector.register(descriptor, selectors.EVENT_READ, lambda: self.report(client))
        self.send(client, pid)

    def report(self, client: socket.socket) -> None:
        self.send(client, self.reap(client))

    def reap(self, client: socket.socket) -> int:
        pid, descriptor = self.running.pop(client)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def disconnect(self, client: socket.socket) -> None:
        if client in self.running:
            os.kill(self.running[client][0], signal.SIGKILL)
            self.reap(client)
        self.selector.unregister(client)
        self.clients.remove(client)
        client.close()

    @staticmethod
    def send(client: socket.socket, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the client has ended; its socket reports that next
            client.send(str(number).encode())


if __name__ == "__main__":
    preload()
    mlflow_tables.create_database(EMPTY, Path("artifacts"))
    torch.set_num_threads(1)
    server = Server(sys.argv[1])
    gc.freeze()
    if os.fork():
        os._exit(0)
    server.serve()
    shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
