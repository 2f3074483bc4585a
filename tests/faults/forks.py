"""Real `reprise` processes that start in no time: one process imports everything once, each command is a fork of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = """
import json, os, sys
import hydra, matplotlib.pyplot, mlflow, torch, torchmetrics
import mlflow.store.tracking.sqlalchemy_store
import reprise.stages.evaluate, reprise.stages.window, reprise.stages.preprocess
from reprise.__main__ import main
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.chdir(asked["folder"])
        os.environ.update(asked["environment"])
        sys.argv = ["reprise", *asked["arguments"]]
        try:
            main(asked["arguments"])
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code)  # taking an interpreter with all these modules down takes longer than the training
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Child:
    """A command that runs."""

    def __init__(self, forks: "Forks", pid: int, out: Path) -> None:
        self.forks, self.pid, self.out = forks, pid, out

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(self.pid, number)

    def wait(self) -> int:
        return int(self.forks.read())

    @property
    def said(self) -> str:
        return self.out.with_suffix(".out").read_text() + self.out.with_suffix(".err").read_text()


class Forks:
    """Commands in a project, one at a time."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "REPRISE_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=inherited | {"COLUMNS": "200"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = folder / "said"
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def start(self, *arguments: str, folder: Path | None = None, **environment: str) -> Child:
        assert self.process.stdin
        asked: dict[str, Any] = {"folder": str(folder or self.folder), "arguments": arguments, "environment": environment}
        asked |= {name: str(self.said.with_suffix(f".{name}")) for name in ("out", "err")}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Child(self, int(self.read()), self.said)

    def run(self, *arguments: str, **environment: str) -> Child:
        """A command that must succeed."""
        child = self.start(*arguments, **environment)
        code = child.wait()
        assert code == 0, child.said
        return child

    def end(self) -> None:
        with self.process as process:  # closes its pipes, and waits
            assert process.stdin
            process.stdin.close()
