"""Launchers of sweep workers: local processes, tasks of a Ray cluster, or SLURM jobs."""

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
"""The environment variable with the sweep database, used without `storage=`. Others can read passwords on a command line."""
FORWARDED_VARIABLES = ("REPRISE_", "MLFLOW_", "OMP_", "GOMP_", "PYTHON", "AWS_", "AZURE_", "GOOGLE_")
"""Prefixes of the environment variables that are passed to workers on other machines."""


@dataclass(frozen=True)
class LaunchRequest:
    """Where and with how many workers a sweep runs. Does not influence what it searches."""

    workers: int | None = None
    storage: str | None = None
    launcher: str = "local"
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the launcher, as its library names them."""


def parse_request(arguments: Sequence[str]) -> tuple[LaunchRequest, list[str]]:
    """Parse `workers=`, `storage=`, `launcher=` and `launcher.KEY=`. Return the request and the remaining arguments.

    Raises:
        UserError: if the launcher is unknown or the number of workers is invalid.

    """
    own: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    rest = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in {"workers", "storage", "launcher"}:
            own[key] = value
        elif equals and key.startswith("launcher."):
            settings[key.removeprefix("launcher.")] = yaml.safe_load(value)
        else:
            rest.append(argument)
    workers = own.pop("workers", None)
    if workers is not None and not (workers.isdecimal() and int(workers)):
        raise UserError(f"workers={workers}", "say how many train at the same time: workers=2")
    if own.get("launcher", "local") not in LAUNCHERS:
        raise UserError(f"launcher={own['launcher']}: there is none", nearest(own["launcher"], list(LAUNCHERS)))
    storage = own.pop("storage", os.environ.get(STORAGE))
    return LaunchRequest(workers and int(workers), storage, **own, settings=settings), rest


class Worker(Protocol):
    """A started worker."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""

    def kill(self) -> None:
        """Wait for its end as long as a stopped training may take, then kill it."""


class Launcher(Protocol):
    """Starts workers."""

    def default_workers(self) -> int:
        """Return the default number of parallel workers."""

    def start(self, command: Sequence[str], root: Path, log: Path, index: int, workers: int) -> Worker:
        """Start `command` in the folder `root` as worker `index` of `workers`. Its output goes to `log`."""

    def close(self) -> None:
        """Release resources. Call it after all workers have ended."""


class Local:
    """Starts processes on this machine. They share the available CPUs; on a machine with GPUs, each gets one GPU."""

    def __init__(self, settings: dict[str, Any], folder: Path, patience: float) -> None:
        self.patience = patience
        if settings:
            raise UserError(f"launcher.{next(iter(settings))}: launcher=local has no settings", "use launcher=ray or slurm")

    def default_workers(self) -> int:
        """Return the number of GPUs, or of available CPUs without GPUs."""
        return len(_gpus()) or cpus.available()

    def start(self, command: Sequence[str], root: Path, log: Path, index: int, workers: int) -> "LocalWorker":
        """Start a process."""
        environment = os.environ | {"OMP_NUM_THREADS": str(cpus.per_process(workers))}
        if gpus := _gpus():
            environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
        with log.open("ab") as file:
            return LocalWorker(subprocess.Popen(command, cwd=root, env=environment, stdout=file, stderr=file), self.patience)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass
class LocalWorker:
    """A process on this machine."""

    process: subprocess.Popen[bytes]
    patience: float
    """Seconds it may take to end after `stop`."""

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def kill(self) -> None:
        """Wait up to `patience` seconds, then send SIGKILL."""
        try:
            self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    import torch  # late: the command line is parsed before heavy imports

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def run_worker(command: Sequence[str], root: Path, log: Path, environment: dict[str, str], patience: float) -> int:
    """Run a worker process on a remote machine and return its exit code. If interrupted, stop the process."""
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=root, env=os.environ | environment, stdout=file, stderr=file)
    worker = LocalWorker(process, patience)
    try:
        return process.wait()
    finally:
        worker.stop()
        worker.kill()


class Ray:
    """Starts tasks on a Ray cluster (default: a local one). Settings: `address`, and task options (num_cpus, num_gpus, …)."""

    def __init__(self, settings: dict[str, Any], folder: Path, patience: float) -> None:
        self.patience = patience
        self.ray = _library("ray")
        self.options = {"num_cpus": 1, "num_gpus": 1 if _gpus() else 0, **settings}
        cluster = self.options.pop("address", None) or "local"
        try:
            self.ray.init(cluster, include_dashboard=False, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
            forwarded = {key: value for key, value in os.environ.items() if key.startswith(FORWARDED_VARIABLES)}
            threads = {"OMP_NUM_THREADS": str(max(1, int(self.options["num_cpus"])))}
            self.task = self.ray.remote(max_retries=0, **self.options)(run_worker)
        except (ConnectionError, ValueError, TypeError) as error:
            raise UserError(f"launcher=ray: {_first_line(error)}", "see ray.init and ray.remote for what can be set") from None
        self.environment = forwarded | threads

    def default_workers(self) -> int:
        """Return the number of tasks that fit on the cluster."""
        resources = self.ray.cluster_resources()
        limits = [
            resources.get(name, 0) // self.options[key]
            for name, key in (("CPU", "num_cpus"), ("GPU", "num_gpus"))
            if self.options[key]
        ]
        return max(1, int(min(limits)))

    def start(self, command: Sequence[str], root: Path, log: Path, index: int, workers: int) -> "RayWorker":
        """Start a task."""
        return RayWorker(self.ray, self.task.remote(command, root, log, self.environment, self.patience), self.patience)

    def close(self) -> None:
        """Disconnect from the cluster; stop it if this process started it."""
        self.ray.shutdown()


@dataclass
class RayWorker:
    """A Ray task that runs a worker process."""

    ray: Any
    task: Any
    patience: float

    def poll(self) -> int | None:
        """Return the exit code of the worker process, None while it runs, or -1 if Ray lost the task."""
        ended, _ = self.ray.wait([self.task], timeout=0)
        if not ended:
            return None
        try:
            return int(self.ray.get(self.task))
        except self.ray.exceptions.RayError:
            return -1

    def stop(self) -> None:
        """Interrupt the task."""
        self.ray.cancel(self.task, force=False)

    def kill(self) -> None:
        """Wait up to `patience` seconds, then kill the task's process."""
        ended, _ = self.ray.wait([self.task], timeout=self.patience)
        if not ended:
            self.ray.cancel(self.task, force=True)


class Slurm:
    """Submits SLURM jobs with submitit. Settings: `cluster` (slurm, local), and those of AutoExecutor (slurm_partition, …)."""

    def __init__(self, settings: dict[str, Any], folder: Path, patience: float) -> None:
        self.patience = patience
        submitit = _library("submitit")
        options = {"timeout_min": 24 * 60, "cpus_per_task": 1, "name": "reprise", **settings}
        try:
            self.executor = submitit.AutoExecutor(folder / "jobs", cluster=options.pop("cluster", "slurm"))
            self.executor.update_parameters(**options)
        except (RuntimeError, ValueError, TypeError, NameError) as error:
            raise UserError(f"launcher=slurm: {_first_line(error)}", "see submitit.AutoExecutor for what can be set") from None
        self.environment = {"OMP_NUM_THREADS": str(options["cpus_per_task"])}

    def default_workers(self) -> int:
        """Raise `UserError`: the user must choose the number of jobs."""
        raise UserError("launcher=slurm: how many jobs?", "say workers=8")

    def start(self, command: Sequence[str], root: Path, log: Path, index: int, workers: int) -> "SlurmWorker":
        """Submit a job. SLURM passes on the environment of this process, so no file has to hold it."""
        return SlurmWorker(self.executor.submit(run_worker, command, root, log, self.environment, self.patience))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass
class SlurmWorker:
    """A SLURM job that runs a worker process."""

    job: Any

    def poll(self) -> int | None:
        """Return the exit code of the worker process, None while it runs, or -1 if the job failed or was ended from outside."""
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except Exception:  # an error of submitit, or any error raised in the job
            return -1

    def stop(self) -> None:
        """Cancel the job with scancel."""
        self.job.cancel(check=False)

    def kill(self) -> None:
        """Do nothing: SLURM kills cancelled jobs."""


LAUNCHERS: dict[str, type[Local] | type[Ray] | type[Slurm]] = {"local": Local, "ray": Ray, "slurm": Slurm}


def make_launcher(request: LaunchRequest, folder: Path, patience: float) -> Launcher:
    """Return the launcher of a sweep. It keeps its files under `folder` and waits `patience` seconds for a stopped worker."""
    if request.storage:
        os.environ[STORAGE] = request.storage
    return LAUNCHERS[request.launcher](request.settings, folder, patience)


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        extra = {"ray": "ray", "submitit": "slurm"}[name]
        raise UserError(f"launcher={extra} needs {name}", f"pip install 'reprise[{extra}]'") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
