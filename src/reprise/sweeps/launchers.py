"""Where the workers of a sweep run: as processes of this machine, as tasks of a Ray cluster, as jobs of SLURM."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from reprise import cpus
from reprise.config.targets import nearest
from reprise.errors import UserError

STORAGE = "REPRISE_STORAGE"
"""The database of sweeps where `storage=` does not say it. On a command line everybody can read a password."""
HANDED_ON = ("REPRISE_", "MLFLOW_", "OMP_", "GOMP_", "PYTHON", "AWS_", "AZURE_", "GOOGLE_")
"""Of the environment, what a worker on another machine has need of."""


@dataclass(frozen=True)
class LaunchRequest:
    """On what a sweep is computed: not what it searches."""

    workers: int | None = None
    storage: str | None = None
    launcher: str = "local"
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the launcher, in its library's own words."""


def asked(words: Sequence[str]) -> tuple[LaunchRequest, list[str]]:
    """What `workers=`, `storage=`, `launcher=` and `launcher.KEY=` say, and the other words.

    Raises:
        UserError: for a launcher that there is not, or a number of workers that is none.

    """
    own: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in {"workers", "storage", "launcher"}:
            own[key] = value
        elif equals and key.startswith("launcher."):
            settings[key.removeprefix("launcher.")] = yaml.safe_load(value)
        else:
            rest.append(word)
    workers = own.pop("workers", None)
    if workers is not None and not (workers.isdecimal() and int(workers)):
        raise UserError(f"workers={workers}", "say how many train at the same time: workers=2")
    if own.get("launcher", "local") not in LAUNCHERS:
        raise UserError(f"launcher={own['launcher']}: there is none", nearest(own["launcher"], list(LAUNCHERS)))
    storage = own.pop("storage", os.environ.get(STORAGE))
    return LaunchRequest(workers and int(workers), storage, **own, settings=settings), rest


class Worker(Protocol):
    """One that was started."""

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""

    def kill(self) -> None:
        """Wait until it has, but no longer than a stopped training takes; then end it."""


class Launcher(Protocol):
    """Starts workers."""

    def room(self) -> int:
        """Workers at the same time, where nobody says how many."""

    def start(self, command: Sequence[str], root: Path, log: Path, place: int, workers: int) -> Worker:
        """A worker: `command`, in the folder `root`, as number `place` of `workers`; what it says goes to `log`."""

    def close(self) -> None:
        """All workers have ended."""


class Local:
    """Processes of this machine. They share the CPUs that may be used; where there are GPUs, each has one."""

    def __init__(self, settings: dict[str, Any], folder: Path, patience: float) -> None:
        self.patience = patience
        if settings:
            raise UserError(f"launcher.{next(iter(settings))}: launcher=local has no settings", "take launcher=ray or slurm")

    def room(self) -> int:
        """One for each GPU, or CPU that may be used."""
        return len(_gpus()) or cpus.available()

    def start(self, command: Sequence[str], root: Path, log: Path, place: int, workers: int) -> "LocalWorker":
        """A process."""
        environment = os.environ | {"OMP_NUM_THREADS": str(cpus.per_process(workers))}
        if gpus := _gpus():
            environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
        with log.open("ab") as file:
            return LocalWorker(subprocess.Popen(command, cwd=root, env=environment, stdout=file, stderr=file), self.patience)

    def close(self) -> None:
        """Nothing is left."""


@dataclass
class LocalWorker:
    """A process."""

    process: subprocess.Popen[bytes]
    patience: float
    """Seconds it may take to end once it was stopped."""

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        return self.process.poll()

    def stop(self) -> None:
        """SIGTERM."""
        self.process.terminate()

    def kill(self) -> None:
        """Wait, then SIGKILL."""
        try:
            self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _gpus() -> list[str]:
    """Those this process may use, as CUDA_VISIBLE_DEVICES writes them."""
    import torch  # late: the words are looked at before anything heavy is imported

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def hold(command: Sequence[str], root: Path, log: Path, environment: dict[str, str], patience: float) -> int:
    """Run a worker to its end, on the machine where it was sent; its exit code. Stopped, it stops the worker."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=root, env=os.environ | environment, stdout=file, stderr=file)
    worker = LocalWorker(process, patience)
    try:
        return process.wait()
    finally:
        worker.stop()
        worker.kill()


class Ray:
    """Tasks of a Ray cluster, else of one on this machine. Settings: `address`, and those of a task (num_cpus, num_gpus, …)."""

    def __init__(self, settings: dict[str, Any], folder: Path, patience: float) -> None:
        self.patience = patience
        self.ray = _library("ray")
        self.options = {"num_cpus": 1, "num_gpus": 1 if _gpus() else 0, **settings}
        where = self.options.pop("address", None) or "local"
        try:
            self.ray.init(where, include_dashboard=False, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
            handed = {key: value for key, value in os.environ.items() if key.startswith(HANDED_ON)}
            threads = {"OMP_NUM_THREADS": str(max(1, int(self.options["num_cpus"])))}
            self.task = self.ray.remote(max_retries=0, **self.options)(hold)
        except (ConnectionError, ValueError, TypeError) as error:
            raise UserError(f"launcher=ray: {_first_line(error)}", "see ray.init and ray.remote for what can be set") from None
        self.environment = handed | threads

    def room(self) -> int:
        """As many as the cluster can hold."""
        there = self.ray.cluster_resources()
        rooms = [
            there.get(name, 0) // self.options[key]
            for name, key in (("CPU", "num_cpus"), ("GPU", "num_gpus"))
            if self.options[key]
        ]
        return max(1, int(min(rooms)))

    def start(self, command: Sequence[str], root: Path, log: Path, place: int, workers: int) -> "RayWorker":
        """A task."""
        return RayWorker(self.ray, self.task.remote(command, root, log, self.environment, self.patience), self.patience)

    def close(self) -> None:
        """Leave the cluster, or end it if it is ours."""
        self.ray.shutdown()


@dataclass
class RayWorker:
    """A task."""

    ray: Any
    task: Any
    patience: float

    def poll(self) -> int | None:
        """The exit code of the worker's process; -1 when the task died with its machine."""
        ended, _ = self.ray.wait([self.task], timeout=0)
        if not ended:
            return None
        try:
            return int(self.ray.get(self.task))
        except self.ray.exceptions.RayError:
            return -1

    def stop(self) -> None:
        """An interrupt in the task."""
        self.ray.cancel(self.task, force=False)

    def kill(self) -> None:
        """Wait, then end its process."""
        ended, _ = self.ray.wait([self.task], timeout=self.patience)
        if not ended:
            self.ray.cancel(self.task, force=True)


class Slurm:
    """Jobs of SLURM, sent by submitit. Settings: `cluster` (slurm, local), and those of AutoExecutor (slurm_partition, …)."""

    def __init__(self, settings: dict[str, Any], folder: Path, patience: float) -> None:
        self.patience = patience
        submitit = _library("submitit")
        asked = {"timeout_min": 24 * 60, "cpus_per_task": 1, "name": "reprise", **settings}
        try:
            self.executor = submitit.AutoExecutor(folder / "jobs", cluster=asked.pop("cluster", "slurm"))
            self.executor.update_parameters(**asked)
        except (RuntimeError, ValueError, TypeError, NameError) as error:
            raise UserError(f"launcher=slurm: {_first_line(error)}", "see submitit.AutoExecutor for what can be set") from None
        self.environment = {"OMP_NUM_THREADS": str(asked["cpus_per_task"])}

    def room(self) -> int:
        """Nobody but the user knows."""
        raise UserError("launcher=slurm: how many jobs?", "say workers=8")

    def start(self, command: Sequence[str], root: Path, log: Path, place: int, workers: int) -> "SlurmWorker":
        """A job. It has the environment of the one that sends it, as SLURM's jobs do: nothing of it is written down."""
        return SlurmWorker(self.executor.submit(hold, command, root, log, self.environment, self.patience))

    def close(self) -> None:
        """Nothing is left."""


@dataclass
class SlurmWorker:
    """A job."""

    job: Any

    def poll(self) -> int | None:
        """The exit code of the worker's process; -1 when the job was ended from outside."""
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except Exception:  # submitit's own, or what the job's process died of
            return -1

    def stop(self) -> None:
        """By scancel."""
        self.job.cancel(check=False)

    def kill(self) -> None:
        """SLURM does."""


LAUNCHERS: dict[str, type[Local] | type[Ray] | type[Slurm]] = {"local": Local, "ray": Ray, "slurm": Slurm}


def make(wanted: LaunchRequest, folder: Path, patience: float) -> Launcher:
    """Return the launcher of a sweep. It keeps its files under `folder`, and waits `patience` seconds for a stopped worker."""
    if wanted.storage:
        os.environ[STORAGE] = wanted.storage
    return LAUNCHERS[wanted.launcher](wanted.settings, folder, patience)


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        extra = {"ray": "ray", "submitit": "slurm"}[name]
        raise UserError(f"launcher={extra} needs {name}", f"pip install 'reprise[{extra}]'") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
