"""A run: one training in MLflow and its run directory. It writes to the event log there; `mlflow_sync` copies that to MLflow."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from mlflow.exceptions import MlflowException

from reprise.config.compose import leaves
from reprise.config.naming import special
from reprise.config.schema import Config, TrackingConfig
from reprise.data import store
from reprise.errors import Pruned, Stopped, UserError, warn, without_login
from reprise.tracking import backend, descriptions, lineage, logged_model
from reprise.tracking.address import checked
from reprise.tracking.descriptions import BEST
from reprise.tracking.event_log import EventLog, outbox
from reprise.tracking.mlflow_sync import NOTE, MlflowSync, create
from reprise.tracking.resume import Training

if TYPE_CHECKING:  # two seconds, and only whoever logs a model has it imported anyway
    from torch import nn

PARAM_LENGTH = 6000
"""The most characters MLflow keeps of a param."""
LAST_WORDS = 1.5
"""Seconds that a stopped training has for its store: it is to be gone within ten, and its last checkpoint may take eight."""
ELSEWHERE = "elsewhere"
"""Where a run was begun that was trained on another machine: wherever runs are written down now."""


@dataclass
class Run:
    """A run that is open for writing. `id` is MLflow's, or, when it could not be reached at the start, one of our own."""

    id: str
    name: str
    run_dir: Path
    event_log: EventLog
    mlflow_sync: MlflowSync

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step: an epoch, counted from 1. Never ends a training.

        A resumed training repeats some epochs. Where its bits do not repeat, the later value counts: it belongs to the weights.
        """
        self.event_log.metrics(metrics, step, again=True)

    def log_once(self, metrics: Mapping[str, float]) -> None:
        """Metrics that have one value a run (`test/…`): what the run already says is not said again."""
        self.event_log.metrics(metrics, step=0, again=True)

    def artifacts(self, folder: Path, place: str) -> None:
        """Every file of a folder, kept in the run directory and shown under `place`."""
        shutil.copytree(folder, self.run_dir / place, dirs_exist_ok=True)
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        self.event_log.append(*({"file": f"{place}/{file}"} for file in files))

    def text(self, content: str, file: str) -> None:
        """A text as an artifact."""
        place = self.run_dir / file
        place.parent.mkdir(exist_ok=True)
        place.write_text(content, "utf-8")
        self.keep(file)

    def keep(self, file: str) -> None:
        """A file of the run directory as an artifact."""
        self.event_log.append({"file": file})

    def tag(self, tags: Mapping[str, Any]) -> None:
        """Facts about the run."""
        self.event_log.append({"tags": {key: str(value) for key, value in tags.items()}})

    def resume(self) -> None:
        """Set the status to RUNNING, and remove what an earlier process wrote of its end."""
        removed = [{"remove_tags": ["error"]}] if "error" in self.event_log.tags else []
        self.event_log.append(*removed, {"status": "RUNNING"})

    def describe(self) -> None:
        """Say in words what the run is, what it came to so far, and how it is repeated."""
        self.tag({NOTE: descriptions.of_run(self.name, self.event_log.tags, self.event_log.figures)})

    def model(
        self,
        network: "nn.Module",
        example: npt.NDArray[np.generic],
        answer: npt.NDArray[np.generic],
        metadata: Mapping[str, Any],
    ) -> None:
        """Log the model as a torch.export graph: `mlflow.pyfunc.load_model` runs it without reprise.

        Nothing in it is pickled. The batch size is free. `metadata` says what goes in and comes out; it is kept in the model.
        """
        logged_model.save(network, self.run_dir / "model", example, answer, metadata)
        self.event_log.append({"model": "model"})

    def end(self, status: str, tags: Mapping[str, str], seconds: float | None = None) -> None:
        """Say how the run ended, and deliver all that waits, within so many seconds if they are told.

        A store that is dead by now gets a warning, not an exception.
        """
        try:
            if tags:
                self.tag(tags)
            self.event_log.append({"status": status, "timestamp": now()})
        except OSError as error:  # a full disk, as like as not: it must not hide why the run ends
            warn(f"run {self.name}: its end could not be written down: {error}")
        self.flush(seconds)

    def give_up(self, when: str) -> None:
        """It ends, or had ended, as one that a sweep has given up."""
        self.tag({"pruned": when})
        self.describe()
        if self.event_log.status == "FINISHED":
            self.flush()
        else:
            self.end("KILLED", {})

    def flush(self, seconds: float | None = None) -> None:
        """Deliver all that waits."""
        if failure := self.mlflow_sync.finish(seconds):
            waits = f"{len(self.event_log.waiting)} entries of run {self.name} wait in {self.event_log.file}"
            warn(f"{waits}: {failure}; `reprise sync` delivers them")


@contextmanager
def started(
    config: Config, folder: Path, training: Training, tags: Mapping[str, Any], inputs: Mapping[str, Path], root: Path
) -> Iterator[Run]:
    """Open the run of a training: a new one with a run directory under `folder`/runs, or the unfinished one to resume.

    It ends as the block does: FINISHED, KILLED by a signal or because it was given up, or FAILED with the reason. Written at
    once: the resolved config (as params and as an artifact), commit and patch, package versions, machine, and the hashes of
    `inputs` (published folders by name). The tracking address is no part of it, nor is anything of the environment. The user's
    own error is never hidden by one of tracking.
    """
    known = training.run_id(config.seed)
    if known is None or not (folder / "runs" / known / "run.json").is_file():
        token = training.token(config.seed)
        words = (
            [f"trial{tags['trial']}"] if "trial" in tags else [] if tags.get("origin") == "pipeline" else special(root, config)
        )
        name = "-".join([config.name, *words, f"seed{config.seed}", token[:4]])
        run = open_new(config.tracking, folder, token, name, recorded(config))
        git, patch = lineage.code(root, tuple(config.plugins))
        _introduce(run, config, {**tags, **git, **_facts(config, inputs)}, inputs, patch)
        training.opened(config.seed, run.id)
    else:
        run = open_run_dir(config.tracking, folder, known)
        run.resume()
    run.mlflow_sync.start()
    with ending(run):
        yield run


@contextmanager
def ending(run: Run) -> Iterator[None]:
    """The run ends as the block does: FINISHED, KILLED by a signal or because it was given up, or FAILED with the reason."""
    try:
        yield
    except Pruned as given_up:
        run.give_up(str(given_up))
        raise
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | Stopped)
        reason = {"error": without_login(str(error)) or type(error).__name__}
        run.end("KILLED" if killed else "FAILED", reason, LAST_WORDS if killed else None)
        raise
    run.end("FINISHED", {})


def count_opening(run: Run) -> None:
    """Count one evaluation on the test split, before the split is read: nothing that fails later leaves it uncounted."""
    run.tag({"test_opened": int(run.event_log.tags.get("test_opened", 0)) + 1})


def conclude(run: Run, config: Config, facts: Mapping[str, str]) -> None:
    """What a run came to, when it is trained and when it is evaluated: its figures at the best epoch, and all of it in words.

    `facts` are tags of the task: the metric that val judges by (`monitor`), which end of it is better (`mode`), units, undefined
    metrics. The page of the data set is told too.
    """
    best = int(run.event_log.tags["best_epoch"])
    at_best = {key: value for (key, step), value in run.event_log.points.items() if step == best and key.startswith("val/")}
    run.log_once({f"{BEST}{key}": value for key, value in at_best.items()})
    run.tag({"model": model(config), **facts})
    run.describe()
    about = config.data.model_dump(include={"title", "homepage", "citation", "licence"})
    run.event_log.append({"dataset": {**about, "monitor": f"{BEST}{facts['monitor']}", "mode": facts["mode"]}})


def model(config: Config) -> str:
    """The class of the network."""
    return config.model.target.rpartition(".")[2]


def open_new(tracking: TrackingConfig, folder: Path, token: str, name: str, content: Mapping[str, Any]) -> Run:
    """A new run, in the store if that can be reached, and an empty run directory."""
    uri = backend.address(tracking, folder)
    about = {
        "name": name,
        "token": token,
        "experiment": tracking.experiment,
        "store": None if uri == backend.local_address(folder) else without_login(uri),
        "started": now(),
    }
    offline_home = folder / "runs" / token  # of a start that was interrupted while the store was away
    mlflow_id = None
    try:
        mlflow_id = create(backend.connect(uri, folder), about, folder, uri)
    except (MlflowException, UserError) as error:
        warn(f"{str(error).splitlines()[0]}; the training goes on, `reprise sync` delivers its run later")
    run_id = mlflow_id if mlflow_id and not offline_home.is_dir() else token
    run_dir = folder / "runs" / run_id
    run_dir.mkdir(parents=True, exist_ok=True)
    if mlflow_id:
        store.write_atomically(run_dir / "mlflow_id", mlflow_id.encode())
    store.write_json(run_dir / "config.json", content)
    store.write_atomically(run_dir / "run.json", json.dumps({"run_id": run_id, **about}, indent=2).encode())
    return open_run_dir(tracking, folder, run_id)


def open_run_dir(tracking: TrackingConfig | None, folder: Path, run_id: str) -> Run:
    """A run as its run directory says, to be delivered to the store it was begun in."""
    run_dir = folder / "runs" / run_id
    about = store.read_json(run_dir / "run.json")
    waiting = outbox(folder, run_id)
    waiting.parent.mkdir(exist_ok=True)
    waiting.touch()
    event_log = EventLog(run_dir)
    uri = _address(about.get("store", ELSEWHERE), tracking, folder)
    return Run(run_id, about["name"], run_dir, event_log, MlflowSync(run_dir, event_log, uri, folder))


def _address(begun_in: str | None, tracking: TrackingConfig | None, folder: Path) -> str:
    """Of the store that a run was begun in; passwords are not written down, so it is the address of now if that is the same."""
    now = backend.address(tracking, folder)
    if begun_in is None:
        return backend.local_address(folder)
    if begun_in in {ELSEWHERE, without_login(now)}:
        return now
    try:
        return checked(begun_in, "store")
    except UserError:  # no store was ever reached there
        return now


def _introduce(run: Run, config: Config, tags: Mapping[str, Any], inputs: Mapping[str, Path], patch: bytes) -> None:
    """What is known at the start. A run that was killed while it was said says it again."""
    resolved = recorded(config)
    params = {key: _param(value) for key, value in leaves(resolved)}
    for key, value in params.items():
        if len(value) > PARAM_LENGTH:
            raise UserError(f"{key} has {len(value)} characters", f"MLflow keeps at most {PARAM_LENGTH}")
    run.tag({**tags, "sha256.patch": lineage.text_hash(patch), "sha256.packages": lineage.text_hash(lineage.packages())})
    run.event_log.append({"params": params}, {"inputs": [_input(name, place, config) for name, place in inputs.items()]})
    run.text(json.dumps(resolved, indent=2, ensure_ascii=False), "lineage/config.json")
    run.text(lineage.packages(), "lineage/packages.txt")
    if patch:
        (run.run_dir / "lineage" / "uncommitted.patch").write_bytes(patch)
        run.keep("lineage/uncommitted.patch")
    run.describe()


def _facts(config: Config, inputs: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "experiment": config.name,
        "data": config.data.name,
        "model": model(config),
        "seed": config.seed,
        "sha256.config": lineage.config_hash(recorded(config)),
        "sha256.code": lineage.learning_code(tuple(config.plugins)),
        **lineage.plugin_tags(config.plugins),
        "processor": lineage.processor(),
        **lineage.versions(),
        **{f"sha256.{name}": store.digest(place) for name, place in inputs.items()},
    }


def reopen(tracking: TrackingConfig, folder: Path, run_id: str) -> Run:
    """A run that was started before, open for writing; its status stays. Its run directory is made if it was trained elsewhere.

    Raises:
        UserError: when neither this machine nor the store knows it.

    """
    run_dir = folder / "runs" / run_id
    if not (run_dir / "mlflow_id").is_file() and not (run_dir / "events.jsonl").is_file():
        uri = backend.address(tracking, folder)
        client = backend.connect(uri, folder)
        try:
            found = client.get_run(run_id)
        except MlflowException:
            raise UserError(f"the tracking store {uri} has no run {run_id}", "train again, or set tracking.uri") from None
        run_dir.mkdir(parents=True, exist_ok=True)
        if not (run_dir / "run.json").is_file():
            store.write_json(run_dir / "run.json", {"run_id": run_id, "name": found.info.run_name})
        store.write_atomically(run_dir / "mlflow_id", run_id.encode())
        EventLog(run_dir).append({"status": found.info.status, "timestamp": found.info.end_time})
        EventLog(run_dir).delivered = 1
    return open_run_dir(tracking, folder, run_id)


def find(folder: Path, wanted: str) -> str:
    """The id of the run whose id (ours or MLflow's) begins with `wanted`, or whose name it is; from the run directories.

    Raises:
        UserError: when there is none, or more than one.

    """
    run_dirs = _called(folder, wanted)
    if len(run_dirs) == 1:
        return run_dirs[0].name
    others = run_dirs or [file.parent for file in sorted((folder / "runs").glob("*/run.json"))]
    names = ", ".join(store.read_json(run_dir / "run.json")["name"] for run_dir in others[-5:])
    raise UserError(f"{len(run_dirs)} runs are called {wanted}", f"there are {names}" if names else "no run was made yet")


def has_run_dir(folder: Path, wanted: str) -> bool:
    """Whether a run of this id or name was made here."""
    return bool(_called(folder, wanted))


def _called(folder: Path, wanted: str) -> list[Path]:
    """The run directories of the runs of this id or name."""
    found = []
    for file in sorted((folder / "runs").glob("*/run.json")):
        ids = file.parent.name, _mlflow_id(file.parent)
        if store.read_json(file)["name"] == wanted or any(known.startswith(wanted) for known in ids):
            found.append(file.parent)
    return found


def _mlflow_id(run_dir: Path) -> str:
    """Of the run of this run directory, "" while the store has not heard of it."""
    file = run_dir / "mlflow_id"
    return file.read_text() if file.is_file() else ""


def recorded(config: Config) -> dict[str, Any]:
    """The config as it is written down: what decides the run. Where it is written (an address can hold a password) does not."""
    return config.model_dump(by_alias=True, exclude={"tracking", "published", "checkpoint", "resume"})


def _param(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _input(name: str, place: Path, config: Config) -> dict[str, Any]:
    source = {"homepage": config.data.homepage, "licence": config.data.licence}
    return {"name": f"{config.data.name} ({name})", "digest": store.digest(place)[:36], "source": source, "context": name}


def now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)
