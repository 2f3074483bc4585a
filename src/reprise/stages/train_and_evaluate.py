"""Train, then evaluate the runs in a second process. It is forked before the training, so the libraries are imported once.

The training locks the test split in its own process only. The second process waits on a pipe for the ids of the trained runs. If
the training fails or is killed, the pipe closes without ids, and the second process exits.
"""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence

import torch

from reprise import parent_watchdog
from reprise.errors import Stopped, UserError
from reprise.tracking.trained import Trained

HANDLED = (signal.SIGTERM, signal.SIGINT)
Then = Callable[[list[Trained]], None]
"""Receives the outcomes of a training while the training can still be resumed. If it raises, the same command resumes it."""


def run(train: Callable[[Then], list[Trained]], evaluate: Callable[[Sequence[str]], None]) -> list[Trained]:
    """Call `train` here, and `evaluate` in a forked process with the ids of the trained runs. Return the outcomes of `train`.

    `train` passes the outcomes to its argument, which returns when they are evaluated. In the forked process this function
    returns no outcomes, and the caller ends like a command that has finished.

    Raises:
        SystemExit: with the exit code of the forked process if it is not 0; it has printed why.
        UserError: if a signal killed the forked process.

    """
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        os.close(writing)
        if run_ids := _wait_for_runs(reading, parent):
            evaluate(run_ids)
        return []
    os.close(reading)
    child = _Child(pid, writing)
    try:
        return train(child.evaluate)
    finally:
        child.end()


def _wait_for_runs(pipe: int, parent: int) -> list[str]:
    """Return the ids of the trained runs; none if the training failed. A signal ends this process at once and silently."""
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in HANDLED}
    parent_watchdog.end_with_parent()
    with os.fdopen(pipe) as stream:
        run_ids = stream.read().split()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return run_ids if os.getppid() == parent else []


class _Child:
    """The forked process that evaluates. Used in the process that trains."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid, self.pipe = pid, pipe
        self.has_ended = False

    def evaluate(self, trained: Sequence[Trained]) -> None:
        """Let the process evaluate the runs, and wait until it exits. Signals are forwarded to it."""
        _free_memory()
        with contextlib.suppress(BrokenPipeError):  # it was killed; its exit status is read below
            os.write(self.pipe, "\n".join(one.run_id for one in trained).encode())
        self._close()
        try:
            code = self._wait()
        except Stopped as stopped:
            os.kill(self.pid, stopped.signum)
            if not self._wait():  # it was about to end
                raise
            raise SystemExit(stopped.exit_code) from None
        if code < 0:
            killer = signal.Signals(-code).name
            raise UserError(f"the evaluation was killed by {killer}", "start the same command again: it evaluates the same runs")
        if code:
            raise SystemExit(code)

    def end(self) -> None:
        """Kill the process if it still waits for runs, which happens if the training failed."""
        self._close()
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it ended just before a signal arrived here
                os.kill(self.pid, signal.SIGKILL)
                self._wait()

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.has_ended = True
        return os.waitstatus_to_exitcode(status)

    def _close(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1


def _free_memory() -> None:
    """Free what the training held, before another process on the same machine and GPU needs as much."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
