"""Sync a run's event log to MLflow: in order, in batches, each entry once, whenever the store is reachable."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from reprise.data import store
from reprise.errors import UserError, without_login
from reprise.tracking import backend, charts_view, descriptions, links, run_info, runs_table
from reprise.tracking.address import database
from reprise.tracking.charts_view import PARENT_NAME
from reprise.tracking.descriptions import BEST, NOTE
from reprise.tracking.entries import (
    DatasetEntry,
    DatasetInfo,
    Entry,
    FileEntry,
    Input,
    InputsEntry,
    MetricEntry,
    ModelEntry,
    ParamsEntry,
    StatusEntry,
    TagRemovalEntry,
    TagsEntry,
)
from reprise.tracking.event_log import EventLog
from reprise.tracking.links import PARENT_TAG
from reprise.tracking.run_info import RunInfo

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100
"""MLflow's limits per request."""
MIN_PAUSE = 2.0
"""Minimum seconds between two deliveries."""
CPU_SHARE = 0.01
"""Share of one core that deliveries may use: after a slow delivery the next one waits longer."""
MAX_PAUSE = 60.0
"""Maximum seconds between attempts while the store fails."""
LOCK_TIMEOUT = 60.0
"""Seconds to wait while another process delivers the same run."""
TABLE_RUNS = 50
"""Number of best runs of a data set that determine the columns of its table; `reprise dashboard` uses all runs."""
RUN_TOKEN_TAG = "reprise.token"  # noqa: S105 -- not a password
"""The tag that identifies a run whose creation was interrupted."""
PAGE = "reprise.page"
"""The tag of an experiment with its page on the dashboard that shows the best runs first."""


class MlflowSync:
    """Syncs one run directory to the store: in a background thread during the run, and once at its end.

    A kill between sending an entry and marking it as sent makes it sent twice. This does no harm: MLflow keeps one of equal
    points, params and tags, and a file replaces itself.
    """

    def __init__(self, run_dir: Path, event_log: EventLog, uri: str, folder: Path) -> None:
        self.run_dir, self.event_log, self.uri, self.folder = run_dir, event_log, uri, folder
        self.failure: str | None = None
        """Why the last attempt failed."""
        self._client: MlflowClient | None = None
        self._thread_lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._deliver_periodically, name="delivery", daemon=True)

    def start(self) -> None:
        """Start the background thread that delivers periodically."""
        self._thread.start()

    def finish(self, seconds: float | None = None) -> str | None:
        """Deliver the rest, within `seconds` if given. Return None, or the reason why entries still wait.

        The limit exists because a store that hangs blocks a request for a minute, longer than a stopped training may take.
        """
        self._over.set()
        last = threading.Thread(target=self.now, name="last delivery", daemon=True)
        last.start()
        last.join(seconds)
        return f"the store did not answer within {seconds:.0f} s" if last.is_alive() else self.failure

    def now(self) -> str | None:
        """Deliver the waiting entries. Return None, or the reason of the failure."""
        with self._thread_lock:
            try:
                with FileLock(self.run_dir / "delivery.lock", timeout=LOCK_TIMEOUT):
                    if self.event_log.waiting:
                        self._deliver(self._run_id())
                    self.event_log.is_synced()  # removes the outbox file, unless new entries arrived meanwhile
                self.failure = None
            except Timeout:
                self.failure = "another process is still sending it"
            except (MlflowException, UserError, OSError) as error:
                self._client = None
                self.failure = without_login(str(error).split("\n")[0])[:200]
        return self.failure

    def _deliver_periodically(self) -> None:
        pause = MIN_PAUSE
        while not self._over.wait(pause):
            began = time.thread_time()
            failure = self.now()
            pause = max(MIN_PAUSE, (time.thread_time() - began) / CPU_SHARE) if failure is None else min(2 * pause, MAX_PAUSE)

    def _run_id(self) -> str:
        """Return MLflow's id of this run."""
        if self._client is None:
            self._client = backend.connect(self.uri, self.folder)
        return mlflow_id(self._client, self.run_dir, self.folder, self.uri)

    def _deliver(self, run_id: str) -> None:
        done = self.event_log.delivered
        for entries in _batches(self.event_log.waiting):
            self._send(run_id, entries)
            done += len(entries)
            self.event_log.delivered = done

    def _send(self, run_id: str, entries: Sequence[Entry]) -> None:
        """Send entries of one kind: several metrics, or one entry of another kind."""
        assert self._client is not None
        client = self._client
        match entries[0]:
            case MetricEntry():
                points = [
                    Metric(entry.key, entry.value, entry.timestamp, entry.step)
                    for entry in entries
                    if isinstance(entry, MetricEntry)
                ]
                client.log_batch(run_id, metrics=points, synchronous=True)
            case TagsEntry(tags):
                self._send_tags(client, run_id, tags)
            case TagRemovalEntry(keys):
                _remove_tags(client, run_id, keys)
            case DatasetEntry(dataset):
                describe_dataset(client, client.get_run(run_id).info.experiment_id, dataset)
            case ParamsEntry(params):
                _send_params(client, run_id, [Param(key, value) for key, value in params.items()])
            case InputsEntry(inputs):
                client.log_inputs(run_id, [_dataset(one) for one in inputs])
            case FileEntry(file):
                folder = str(Path(file).parent)
                client.log_artifact(run_id, str(self.run_dir / file), "" if folder == "." else folder)
            case ModelEntry(folder):
                self._send_model(client, run_id, self.run_dir / folder)
            case StatusEntry() as entry:
                _send_status(client, run_id, entry)

    def _store_value(self, key: str, value: str) -> str:
        """Return the value of a tag in the store: MLflow's id in place of the local one for a parent, else the same."""
        parent_dir = self.folder / "runs" / value
        if key != PARENT_TAG or not run_info.exists(parent_dir):
            return value
        assert self._client is not None
        return mlflow_id(self._client, parent_dir, self.folder, self.uri)

    def _send_tags(self, client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
        values = {key: self._store_value(key, value) for key, value in tags.items()} | self._parent_name(tags)
        if NOTE in values:
            values[NOTE] = links.with_links(client, run_id, values[NOTE], values.get(PARENT_TAG, ""))
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in values.items()], synchronous=True)

    def _parent_name(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tag with the name of the parent, by which the dashboard groups runs, if these tags name a parent."""
        parent_dir = self.folder / "runs" / tags.get(PARENT_TAG, "")
        return {PARENT_NAME: run_info.read(parent_dir).name} if PARENT_TAG in tags and run_info.exists(parent_dir) else {}

    def _send_model(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        """Log an exported model once, as MLflow's own `log_model` does."""
        run = client.get_run(run_id)
        if run.outputs and run.outputs.model_outputs:
            return
        model = client.create_logged_model(run.info.experiment_id, name=folder.name, source_run_id=run_id)
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])


def mlflow_id(client: MlflowClient, run_dir: Path, folder: Path, uri: str) -> str:
    """Return MLflow's id of a run directory. Create the run in MLflow if the store was not reachable before."""
    file = run_dir / "mlflow_id"
    if not file.is_file():
        with FileLock(folder / "mlflow_ids.lock"):  # both the parent's and its children's delivery may create the parent
            if not file.is_file():
                store.write_atomically(file, get_or_create_run(client, run_info.read(run_dir), folder, uri).encode())
    return file.read_text()


def get_or_create_run(client: MlflowClient, info: RunInfo, folder: Path, uri: str) -> str:
    """Return the id of a run in MLflow; create it unless an interrupted start already did."""
    experiment = backend.get_or_create_experiment(client, info.experiment, folder, local=database(uri) is not None)
    for run in client.search_runs([experiment], f"tags.`{RUN_TOKEN_TAG}` = '{info.token}'"):
        return str(run.info.run_id)
    run = client.create_run(experiment, info.started, {RUN_TOKEN_TAG: info.token}, info.name)
    return str(run.info.run_id)


def describe_dataset(client: MlflowClient, experiment: str, dataset: DatasetInfo) -> None:
    """Write the description of a data set, which names the best runs so far, and the columns of its table of runs."""
    monitor, order = dataset.monitor, "DESC" if dataset.mode == "max" else "ASC"
    condition, order_by = f"metrics.`{monitor}` > -1e300", [f"metrics.`{monitor}` {order}"]
    runs = client.search_runs([experiment], condition, max_results=TABLE_RUNS, order_by=order_by)
    best = [
        descriptions.DescribedRun(run.info.run_id, run.info.run_name, run.data.tags, run.data.metrics)
        for run in runs
        if not {descriptions.GROUP, "reproduces"} & run.data.tags.keys()
    ]
    page = runs_table.address(experiment)
    shown = [runs_table.TableRow(run.data.tags, run.data.params, run.data.metrics) for run in runs]
    client.set_experiment_tag(experiment, runs_table.TAG, runs_table.encoded(shown, monitor.removeprefix(BEST), dataset.mode))
    charts = charts_view.encoded(shown, monitor.removeprefix(BEST), dataset.mode)
    client.set_experiment_tag(experiment, charts_view.TAG, charts)
    note = descriptions.of_dataset(dataset, best, page, charts_view.address(experiment))
    client.set_experiment_tag(experiment, NOTE, note)
    client.set_experiment_tag(experiment, PAGE, page)


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield entries in order: metrics by the thousand, all others one by one."""
    for kind, same in groupby(entries, key=type):
        alike = list(same)
        size = METRICS_PER_CALL if kind is MetricEntry else 1
        for begin in range(0, len(alike), size):
            yield alike[begin : begin + size]


def _send_params(client: MlflowClient, run_id: str, params: list[Param]) -> None:
    for begin in range(0, len(params), PARAMS_PER_CALL):
        client.log_batch(run_id, params=params[begin : begin + PARAMS_PER_CALL], synchronous=True)


def _remove_tags(client: MlflowClient, run_id: str, keys: list[str]) -> None:
    for key in keys:
        try:
            client.delete_tag(run_id, key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # already removed: a kill came before it was marked as sent
                raise


def _send_status(client: MlflowClient, run_id: str, entry: StatusEntry) -> None:
    if entry.status == "RUNNING":
        client.update_run(run_id, status="RUNNING")
    else:
        client.set_terminated(run_id, entry.status, entry.timestamp)


def _dataset(entry: Input) -> DatasetInput:
    dataset = Dataset(entry.name, entry.digest, "reprise", json.dumps(entry.source))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", entry.context)])
