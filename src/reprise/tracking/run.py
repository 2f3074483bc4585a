"""A run: one training, its run directory and its counterpart in MLflow. Runs write to the event log; `mlflow_sync` syncs it."""

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
from reprise.config.naming import differences
from reprise.config.schema import Config, TrackingConfig
from reprise.data import store
from reprise.errors import Pruned, Stopped, UserError, warn, without_login
from reprise.tracking import backend, descriptions, lineage, logged_model, run_info
from reprise.tracking.address import checked
from reprise.tracking.descriptions import BEST, NOTE
from reprise.tracking.entries import (
    DatasetEntry,
    DatasetInfo,
    FileEntry,
    Input,
    InputsEntry,
    ModelEntry,
    ParamsEntry,
    StatusEntry,
    TagRemovalEntry,
    TagsEntry,
)
from reprise.tracking.event_log import EventLog, outbox
from reprise.tracking.mlflow_sync import MlflowSync, get_or_create_run
from reprise.tracking.resume import Training
from reprise.tracking.run_info import CURRENT_STORE, RunInfo

if TYPE_CHECKING:  # takes two seconds to import; callers that log a model have imported it already
    from torch import nn

PARAM_LENGTH = 6000
"""Maximum length of a param in MLflow."""
SYNC_SECONDS_WHEN_STOPPED = 1.5
"""Seconds that a stopped training may spend on syncing, after `checkpoint.grace` seconds for its last checkpoint."""


@dataclass
class Run:
    """A run that is open for writing. `id` is MLflow's, or a local token if MLflow was not reachable at the start."""

    id: str
    name: str
    run_dir: Path
    event_log: EventLog
    mlflow_sync: MlflowSync

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step, which is an epoch counted from 1. An unreachable store raises nothing.

        A resumed training repeats some epochs. If its values differ, the later one counts, as it belongs to the weights.
        """
        self.event_log.metrics(metrics, step, again=True)

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Log metrics with one value per run (`test/…`). Values that are logged already are not repeated."""
        self.event_log.metrics(metrics, step=0, again=True)

    def log_artifacts(self, folder: Path, target: str) -> None:
        """Copy a folder to `target` in the run directory and log its files as artifacts."""
        shutil.copytree(folder, self.run_dir / target, dirs_exist_ok=True)
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        self.event_log.append(*(FileEntry(f"{target}/{file}") for file in files))

    def log_text(self, content: str, file: str) -> None:
        """Log a text as an artifact."""
        path = self.run_dir / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, "utf-8")
        self.log_artifact(file)

    def log_artifact(self, file: str) -> None:
        """Log a file of the run directory as an artifact."""
        self.event_log.append(FileEntry(file))

    def tag(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        self.event_log.append(TagsEntry({key: _encodable(str(value)) for key, value in tags.items()}))

    def resume(self) -> None:
        """Set the status to RUNNING, and remove the error that an earlier process recorded."""
        removed = [TagRemovalEntry(["error"])] if "error" in self.event_log.tags else []
        self.event_log.append(*removed, StatusEntry("RUNNING"))

    def update_description(self) -> None:
        """Write the description: what the run is, its results so far, and how to repeat it."""
        self.tag({NOTE: descriptions.of_run(self.name, self.event_log.tags, self.event_log.figures)})

    def log_model(
        self,
        network: "nn.Module",
        example: Mapping[str, npt.NDArray[np.generic]],
        prediction: npt.NDArray[np.generic],
        metadata: Mapping[str, Any],
        reading: Mapping[str, Any],
        bounds: "nn.Module | None" = None,
    ) -> None:
        """Log the model as a torch.export graph: `mlflow.pyfunc.load_model` runs it without reprise.

        It contains no pickles and takes any batch size. For the arguments, see `logged_model.save`.
        """
        logged_model.save(network, self.run_dir / "model", example, prediction, metadata, reading, bounds)
        self.event_log.append(ModelEntry("model"))

    def end(self, status: str, tags: Mapping[str, str], seconds: float | None = None) -> None:
        """Record the final status and deliver all waiting entries, within `seconds` if given.

        An unreachable store causes a warning, not an exception.
        """
        try:
            if tags:
                self.tag(tags)
            self.event_log.append(StatusEntry(status, now()))
        except OSError as error:  # probably a full disk; it must not hide why the run ends
            warn(f"run {self.name}: its end could not be written down: {error}")
        self.flush(seconds)

    def mark_pruned(self, when: str) -> None:
        """Mark the run as pruned by its sweep, and end it as KILLED unless it has finished."""
        self.tag({"pruned": when})
        self.update_description()
        if self.event_log.status == "FINISHED":
            self.flush()
        else:
            self.end("KILLED", {})

    def flush(self, seconds: float | None = None) -> None:
        """Deliver all waiting entries, within `seconds` if given. Warn if some remain."""
        if failure := self.mlflow_sync.finish(seconds):
            remaining = f"{len(self.event_log.waiting)} entries of run {self.name} wait in {self.event_log.file}"
            warn(f"{remaining}: {failure}; `reprise sync` sends them")


@contextmanager
def open_training_run(
    config: Config, folder: Path, training: Training, tags: Mapping[str, Any], inputs: Mapping[str, Path], root: Path
) -> Iterator[Run]:
    """Open the run of a training: a new one with a run directory under `folder`/runs, or the unfinished one to resume.

    The block determines its final status: FINISHED, KILLED (by a signal or pruned), or FAILED with the reason. A new run records
    at once the resolved config (as params and as an artifact), commit and patch, package versions, machine, and the hashes of
    `inputs` (published folders by name). It records neither the tracking address nor environment variables. Errors of tracking
    never hide the user's own error.
    """
    known = training.run_id(config.seed)
    if known is None or not run_info.exists(folder / "runs" / known):
        token = training.token(config.seed)
        parts = (
            [f"trial{tags['trial']}"]
            if "trial" in tags
            else []
            if tags.get("origin") == "pipeline"
            else differences(root, config)
        )
        name = "-".join([config.name, *parts, f"seed{config.seed}", token[:4]])
        run = create_run(config.tracking, folder, token, name, recorded_config(config))
        git, patch = lineage.code(root, tuple(config.plugins))
        _log_start(run, config, {**tags, **git, **_facts(config, inputs)}, inputs, patch)
        training.record_run_id(config.seed, run.id)
    else:
        run = open_run_dir(config.tracking, folder, known)
        run.resume()
    run.mlflow_sync.start()
    with recording_outcome(run):
        yield run


@contextmanager
def recording_outcome(run: Run) -> Iterator[None]:
    """End the run with the block's outcome: FINISHED, KILLED (by a signal or pruned), or FAILED with the reason."""
    try:
        yield
    except Pruned as pruned:
        run.mark_pruned(str(pruned))
        raise
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | Stopped)
        reason = {"error": without_login(str(error)) or type(error).__name__}
        run.end("KILLED" if killed else "FAILED", reason, SYNC_SECONDS_WHEN_STOPPED if killed else None)
        raise
    run.end("FINISHED", {})


def count_test_evaluation(run: Run) -> None:
    """Count an evaluation on the test split. Call it before reading the split, so that failed evaluations count too."""
    run.tag({"test_opened": int(run.event_log.tags.get("test_opened", 0)) + 1})


def log_results(run: Run, config: Config, facts: Mapping[str, str], describe_dataset: bool = True) -> None:
    """Log the results of a trained or evaluated run: metrics at the best epoch, tags and description.

    `facts` are tags of the task: the monitored metric (`monitor`), its direction (`mode`), units, undefined metrics. The
    description of the data set, for which the store is searched, is updated too. For several runs, do that for the last one only.
    """
    best = int(run.event_log.tags["best_epoch"])
    at_best = {key: value for (key, step), value in run.event_log.points.items() if step == best and key.startswith("val/")}
    run.log_summary({f"{BEST}{key}": value for key, value in at_best.items()})
    run.tag({"model": model_name(config), **facts})
    run.update_description()
    if not describe_dataset:
        return
    about = config.data.model_dump(include={"title", "homepage", "citation", "licence"})
    run.event_log.append(DatasetEntry(DatasetInfo(**about, monitor=f"{BEST}{facts['monitor']}", mode=facts["mode"])))


def model_name(config: Config) -> str:
    """Return the class name of the model."""
    return config.model.target.rpartition(".")[2]


def create_run(tracking: TrackingConfig, folder: Path, token: str, name: str, content: Mapping[str, Any]) -> Run:
    """Create a run with an empty run directory, and in the store if that is reachable."""
    uri = backend.address(tracking, folder)
    shown = None if uri == backend.local_address(folder) else without_login(uri)
    info = RunInfo(run_id=token, name=name, token=token, experiment=tracking.experiment, store=shown, started=now())
    offline_run_dir = folder / "runs" / token  # of an interrupted start while the store was unreachable
    mlflow_id = None
    try:
        mlflow_id = get_or_create_run(backend.connect(uri, folder), info, folder, uri)
    except (MlflowException, UserError) as error:
        warn(f"{str(error).splitlines()[0]}; the training continues, `reprise sync` sends its run later")
    run_id = mlflow_id if mlflow_id and not offline_run_dir.is_dir() else token
    run_dir = folder / "runs" / run_id
    run_dir.mkdir(parents=True, exist_ok=True)
    if mlflow_id:
        store.write_atomically(run_dir / "mlflow_id", mlflow_id.encode())
    store.write_json(run_dir / "config.json", content)
    run_info.write(run_dir, info.model_copy(update={"run_id": run_id}))
    return open_run_dir(tracking, folder, run_id)


def open_run_dir(tracking: TrackingConfig | None, folder: Path, run_id: str) -> Run:
    """Open the run of a run directory. It syncs to the store in which it started."""
    run_dir = folder / "runs" / run_id
    info = run_info.read(run_dir)
    waiting = outbox(folder, run_id)
    waiting.parent.mkdir(exist_ok=True)
    waiting.touch()
    event_log = EventLog(run_dir)
    uri = store_address(info.store, tracking, folder)
    return Run(run_id, info.name, run_dir, event_log, MlflowSync(run_dir, event_log, uri, folder))


def store_address(original: str | None, tracking: TrackingConfig | None, folder: Path) -> str:
    """Return the address of a run's original store; the current address if it is the same store, as run.json omits passwords."""
    current = backend.address(tracking, folder)
    if original is None:
        return backend.local_address(folder)
    if original in {CURRENT_STORE, without_login(current)}:
        return current
    try:
        return checked(original, "store")
    except UserError:  # not a valid address, so no store was ever reached
        return current


def _log_start(run: Run, config: Config, tags: Mapping[str, Any], inputs: Mapping[str, Path], patch: bytes) -> None:
    """Log config, lineage and inputs. A start that was interrupted in between logs them again."""
    resolved = recorded_config(config)
    params = {key: _param(value) for key, value in leaves(resolved)}
    for key, value in params.items():
        if len(value) > PARAM_LENGTH:
            raise UserError(f"{key} has {len(value)} characters", f"MLflow keeps at most {PARAM_LENGTH}")
    run.tag({**tags, "sha256.patch": lineage.text_hash(patch), "sha256.packages": lineage.text_hash(lineage.packages())})
    run.event_log.append(ParamsEntry(params), InputsEntry([_input(name, path, config) for name, path in inputs.items()]))
    run.log_text(json.dumps(resolved, indent=2, ensure_ascii=False), "lineage/config.json")
    run.log_text(lineage.packages(), "lineage/packages.txt")
    if patch:
        (run.run_dir / "lineage" / "uncommitted.patch").write_bytes(patch)
        run.log_artifact("lineage/uncommitted.patch")
    run.update_description()


def _facts(config: Config, inputs: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "experiment": config.name,
        "data": config.data.name,
        "model": model_name(config),
        "seed": config.seed,
        "sha256.config": lineage.config_hash(recorded_config(config)),
        "sha256.code": lineage.learning_code(tuple(config.plugins)),
        **lineage.plugin_tags(config.plugins),
        "processor": lineage.processor(),
        **lineage.versions(),
        **{f"sha256.{name}": store.digest(path) for name, path in inputs.items()},
    }


def reopen(tracking: TrackingConfig, folder: Path, run_id: str) -> Run:
    """Open an earlier run for writing and keep its status. Create its run directory if it was trained elsewhere.

    Raises:
        UserError: if neither this machine nor the store has it.

    """
    run_dir = folder / "runs" / run_id
    if not (run_dir / "mlflow_id").is_file() and not (run_dir / "events.jsonl").is_file():
        uri = backend.address(tracking, folder)
        client = backend.connect(uri, folder)
        try:
            stored = client.get_run(run_id)
        except MlflowException:
            raise UserError(f"the tracking store {uri} has no run {run_id}", "train again, or set tracking.uri") from None
        run_dir.mkdir(parents=True, exist_ok=True)
        if not run_info.exists(run_dir):
            run_info.write(run_dir, RunInfo(run_id=run_id, name=stored.info.run_name))
        store.write_atomically(run_dir / "mlflow_id", run_id.encode())
        EventLog(run_dir).append(StatusEntry(stored.info.status, stored.info.end_time))
        EventLog(run_dir).delivered = 1
    return open_run_dir(tracking, folder, run_id)


def find(folder: Path, requested: str) -> str:
    """Return the id of the local run with this name or prefix of an id (local or MLflow's), or of the newest: `last`, `last~1`.

    Raises:
        UserError: if there is none, or more than one.

    """
    run_dirs = _matching_run_dirs(folder, requested)
    if len(run_dirs) == 1:
        return run_dirs[0].name
    names = ", ".join(run_info.read(run_dir).name for run_dir in (run_dirs or run_info.run_dirs(folder))[-5:])
    raise UserError(f"{len(run_dirs)} runs are called {requested}", f"there are {names}" if names else "no run was made yet")


def has_run_dir(folder: Path, requested: str) -> bool:
    """Return whether a run directory with this id or name exists."""
    return bool(_matching_run_dirs(folder, requested))


def _matching_run_dirs(folder: Path, requested: str) -> list[Path]:
    """Return the run directories of the runs with this name or prefix of an id; of `last` that of the newest."""
    matches = run_info.newest_trained(folder, requested)
    for run_dir in run_info.run_dirs(folder):
        ids = run_dir.name, _mlflow_id(run_dir)
        if run_info.read(run_dir).name == requested or any(run_id.startswith(requested) for run_id in ids):
            matches.append(run_dir)
    return matches


def _mlflow_id(run_dir: Path) -> str:
    """Return MLflow's id of the run, "" if the store does not have it yet."""
    file = run_dir / "mlflow_id"
    return file.read_text() if file.is_file() else ""


def recorded_config(config: Config) -> dict[str, Any]:
    """Return the part of the config that determines the run. The tracking address is left out, as it can hold a password."""
    return config.model_dump(by_alias=True, exclude={"tracking", "published", "checkpoint", "resume"})


def _param(value: Any) -> str:
    return _encodable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _encodable(text: str) -> str:
    """Replace bytes of file names that are not UTF-8 (lone surrogates in Python): no tracking store takes them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _input(name: str, path: Path, config: Config) -> Input:
    source = {"homepage": config.data.homepage, "licence": config.data.licence}
    return Input(f"{config.data.name} ({name})", store.digest(path)[:36], source, name)


def now() -> int:
    """Return the time in milliseconds since 1970, as in MLflow."""
    return int(time.time() * 1000)
