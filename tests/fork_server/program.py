"""A program that takes the place of `python` and `reprise`: it lets the server run the command, and passes signals and the exit code on.

It imports only modules that load fast. Other command lines than those of `reprise` and `dvc` run in the real Python, as do those that
import reprise from another folder of PYTHONPATH.
"""

import json
import os
import signal
import socket
import sys

SERVED = {"reprise", "dvc"}


def module_of(arguments: list[str]) -> str:
    """Return MODULE of `[-P] -m MODULE …`, or an empty string."""
    options = arguments[arguments[:1] == ["-P"] :]
    return options[1] if options[:1] == ["-m"] and len(options) > 1 else ""


def run(python: str, path: str, arguments: list[str]) -> int:
    """Run `python *arguments` in the server at the socket `path`. Return the exit code; for a signal its negative number."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(path)
    request = {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "python": python,
        "arguments": arguments,
        "copies_database": True,
    }
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    socket.send_fds(client, [json.dumps(request).encode()], [0, 1, 2])
    pid = int(client.recv(64))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return int(client.recv(64))


def main(real: str, path: str, source: str) -> None:
    """Run this program's command line. `real` is Python, `path` the socket of the server, `source` the PYTHONPATH it was started with."""
    program = sys.argv[0]
    is_python = os.path.basename(program) == "python"
    arguments = sys.argv[1:] if is_python else ["-P", "-m", "reprise", *sys.argv[1:]]
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    others = [folder for folder in folders if folder != source and os.path.isdir(os.path.join(folder, "reprise"))]
    if module_of(arguments) not in SERVED or others:
        os.execv(real, [real, *arguments])
    code = run(os.path.join(os.path.dirname(program), "python"), path, arguments)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
