"""Run the stages of several experiments at the same time, each experiment in a DVC process of its own.

DVC runs one stage after the other, but several of its processes may work in one project: each locks the paths of its stage while
the stage runs.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from rich.console import Console

from reprise.errors import Stopped, UserError
from reprise.tracking import dvc_stages
from reprise.tracking.dvc_stages import StagePaths

DVC = """
import sys
from reprise import parent_watchdog
parent_watchdog.end_with_parent()
from dvc.cli import main
sys.exit(main())
"""
"""Runs DVC in a process that ends with the one that started it."""


@dataclass(frozen=True)
class Plan:
    """Names of stages, in orders in which they can run."""

    shared: list[str]
    """The stages on which several final stages depend. They run first, one after the other."""
    groups: list[list[str]]
    """For each final stage: this stage, and the stages on which only it depends. The groups do not depend on each other."""


def run(root: Path, jobs: int, long: bool, lock: int, console: Console) -> int:
    """Run what is out of date in dvc.yaml, and with `long` in every dvc.yaml; return an exit code.

    The processes of DVC inherit the file descriptor `lock`. If a stage fails, groups that are running are finished, and no other
    one starts.

    Raises:
        UserError: if DVC cannot read its files.

    """
    stages = dvc_stages.read(root, long)
    plan = plan_of(stages.paths)
    processes = Processes(root, jobs, lock)
    remake = stages.any_out_of_date(plan.shared)
    if remake and (code := processes.run([plan.shared])):
        return code
    groups = [group for group in plan.groups if stages.any_out_of_date(group)]
    if not remake and not groups:
        console.print("Data and pipelines are up to date.", highlight=False)
    return processes.run(groups)


def plan_of(stages: Mapping[str, StagePaths]) -> Plan:
    """Return the order in which to run stages: a stage runs after those that write what it reads.

    Raises:
        UserError: if stages depend on each other in a cycle.

    """
    writers = {path: name for name, paths in stages.items() for path in paths.writes}
    needs = {name: _writers_of(paths.reads, writers) for name, paths in stages.items()}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise UserError(f"dvc.yaml: {' needs '.join(error.args[1])}", "let no stage read what it leads to") from error
    leads_to: dict[str, set[str]] = {name: set() for name in stages}
    for name in reversed(order):
        leads_to[name] = leads_to[name] or {name}
        for needed in needs[name]:
            leads_to[needed] |= leads_to[name]
    finals = [name for name in stages if leads_to[name] == {name}]
    return Plan(
        shared=[name for name in order if len(leads_to[name]) > 1],
        groups=[[name for name in order if leads_to[name] == {final}] for final in finals],
    )


def _writers_of(reads: Set[Path], writers: Mapping[Path, str]) -> set[str]:
    """Return the stages that write a path, a folder that holds it, or something in it."""
    around = {writers[path] for read in reads for path in (read, *read.parents) if path in writers}
    return around | {writers[path] for path in writers if not reads.isdisjoint(path.parents)}


class Processes:
    """Runs groups of stages, up to `jobs` at the same time. The processes inherit the file descriptor `lock`."""

    def __init__(self, root: Path, jobs: int, lock: int) -> None:
        self.root, self.jobs, self.lock = root, jobs, lock
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._printing = threading.Lock()

    def run(self, groups: Sequence[Sequence[str]]) -> int:
        """Run the stages of each group in order; return the first exit code that is not 0, in the order of the groups."""
        alone = self.jobs == 1 or len(groups) == 1
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                codes = list(pool.map(lambda group: self._run_group(group, alone), groups))
            except Stopped:  # leaving the pool waits for its threads, and these for DVC
                self._stopped = True
                for process in list(self._running):
                    _interrupt(process)
                raise
        return next((code for code in codes if code), 0)

    def _run_group(self, group: Sequence[str], alone: bool) -> int:
        """Run one group. Unless it runs `alone`, print its output line by line: progress bars of two processes would mix."""
        if self._stopped:
            return 0
        command = [sys.executable, "-P", "-c", DVC, "--wait-for-lock", "repro", "--single-item", *group]  # -P: see `PluginFinder`
        out, err = (None, None) if alone else (subprocess.PIPE, subprocess.STDOUT)
        with subprocess.Popen(
            command,
            cwd=self.root,
            process_group=0,
            stdout=out,
            stderr=err,
            encoding="utf-8",
            errors="replace",
            pass_fds=[self.lock],
        ) as process:
            self._running.add(process)
            if self._stopped:
                _interrupt(process)
            for line in process.stdout or ():
                with self._printing:
                    print(line, end="", flush=True)
            code = process.wait()
        self._running.discard(process)
        self._stopped = self._stopped or code != 0
        return code if code >= 0 else 128 - code


def _interrupt(process: "subprocess.Popen[str]") -> None:
    """Send SIGINT to DVC and its stage. The stage stops as after Ctrl-C, and DVC waits for it.

    They are a process group of their own. Otherwise Ctrl-C in a terminal would reach the stage twice, and the second signal would
    stop it without a checkpoint.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
