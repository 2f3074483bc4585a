"""From a run's event log to MLflow: in order, in batches, each entry once, whenever the store can be reached."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from reprise.data import store
from reprise.errors import UserError, without_login
from reprise.tracking import backend, descriptions, runs_table
from reprise.tracking.address import database
from reprise.tracking.descriptions import BEST
from reprise.tracking.event_log import Entry, EventLog

METRICS_A_CALL, PARAMS_A_CALL = 1000, 100
"""The most MLflow takes."""
PATIENCE = 2.0
"""Seconds between deliveries, at the least."""
SHARE = 0.01
"""Of a core, what deliveries may take: where they are dear, the next waits longer."""
LONGEST_PATIENCE = 60.0
"""Seconds between attempts when the store has failed several times."""
ANOTHER_DELIVERS = 60.0
"""Seconds to wait for another process that delivers the same run."""
VIEWED = 50
"""The best runs of a data set that decide the columns of its table; `reprise dashboard` looks at all."""
RUN_TOKEN_TAG = "reprise.token"  # noqa: S105 -- no password
"""The tag by which a run is found again whose making was interrupted."""
PARENT = "mlflow.parentRunId"
"""The tag by which MLflow shows one run under another. Homes know the parent by our id, the store by its own."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""
PAGE = "reprise.page"
"""The tag of an experiment with its page on the dashboard that shows the best runs first."""


class MlflowSync:
    """Brings the store up to date with one run's run directory: in a thread of its own while the run lives, and at its end.

    An entry that is sent twice, for a kill came before it was marked as sent, counts once: MLflow keeps one of equal points,
    params and tags, and a file takes its own place.
    """

    def __init__(self, run_dir: Path, event_log: EventLog, uri: str, folder: Path) -> None:
        self.run_dir, self.event_log, self.uri, self.folder = run_dir, event_log, uri, folder
        self.failure: str | None = None
        """Why the last attempt failed."""
        self._client: MlflowClient | None = None
        self._one_at_a_time = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="delivery", daemon=True)

    def start(self) -> None:
        """From now on, deliver now and then."""
        self._thread.start()

    def finish(self, seconds: float | None = None) -> str | None:
        """Deliver the rest, within so many seconds if they are told; None, or why that failed: what is left waits.

        A store that is dead refuses at once, but one that hangs holds a call for a minute, which a stopped training has not.
        """
        self._over.set()
        last = threading.Thread(target=self.now, name="last delivery", daemon=True)
        last.start()
        last.join(seconds)
        return f"the store did not answer within {seconds:.0f} s" if last.is_alive() else self.failure

    def now(self) -> str | None:
        """Deliver what waits; None, or why that failed."""
        with self._one_at_a_time:
            try:
                with FileLock(self.run_dir / "delivery.lock", timeout=ANOTHER_DELIVERS):
                    if self.event_log.waiting:
                        self._deliver(self._run_id())
                    self.event_log.is_synced()  # if not, entries came meanwhile: they wait in the outbox
                self.failure = None
            except Timeout:
                self.failure = "another process has been delivering it for long"
            except (MlflowException, UserError, OSError) as error:
                self._client = None
                self.failure = without_login(str(error).split("\n")[0])[:200]
        return self.failure

    def _keep_on(self) -> None:
        pause = PATIENCE
        while not self._over.wait(pause):
            began = time.thread_time()
            failure = self.now()
            pause = max(PATIENCE, (time.thread_time() - began) / SHARE) if failure is None else min(2 * pause, LONGEST_PATIENCE)

    def _run_id(self) -> str:
        """MLflow's id of this run."""
        if self._client is None:
            self._client = backend.connect(self.uri, self.folder)
        return mlflow_id(self._client, self.run_dir, self.folder, self.uri)

    def _deliver(self, run_id: str) -> None:
        done = self.event_log.delivered
        for kind, entries in _batches(self.event_log.waiting):
            self._send(run_id, kind, entries)
            done += len(entries)
            self.event_log.delivered = done

    def _send(self, run_id: str, kind: str, entries: list[Entry]) -> None:
        assert self._client is not None
        client, first = self._client, entries[0]
        match kind:
            case "key":
                points = [Metric(entry["key"], entry["value"], entry["timestamp"], entry["step"]) for entry in entries]
                client.log_batch(run_id, metrics=points, synchronous=True)
            case "tags":
                tags = [RunTag(key, self._abroad(key, value)) for key, value in first["tags"].items()]
                client.log_batch(run_id, tags=tags, synchronous=True)
            case "remove_tags":
                _remove_tags(client, run_id, first["remove_tags"])
            case "dataset":
                describe(client, client.get_run(run_id).info.experiment_id, first["dataset"])
            case "params":
                _send_params(client, run_id, [Param(key, value) for key, value in first["params"].items()])
            case "inputs":
                client.log_inputs(run_id, [_dataset(given) for given in first["inputs"]])
            case "file":
                file = Path(first["file"])
                client.log_artifact(run_id, str(self.run_dir / file), "" if file.parent == Path() else str(file.parent))
            case "model":
                self._send_model(client, run_id, self.run_dir / first["model"])
            case "status":
                _send_status(client, run_id, first)

    def _abroad(self, key: str, value: str) -> str:
        """What a tag says in the store: of a parent, MLflow's id in place of ours."""
        above = self.folder / "runs" / value
        if key != PARENT or not (above / "run.json").is_file():
            return value
        assert self._client is not None
        return mlflow_id(self._client, above, self.folder, self.uri)

    def _send_model(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        """An exported model as MLflow's own `log_model` leaves it, once."""
        run = client.get_run(run_id)
        if run.outputs and run.outputs.model_outputs:
            return
        made = client.create_logged_model(run.info.experiment_id, name=folder.name, source_run_id=run_id)
        client.log_model_artifacts(made.model_id, str(folder))
        client.finalize_logged_model(made.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])


def mlflow_id(client: MlflowClient, run_dir: Path, folder: Path, uri: str) -> str:
    """MLflow's id of the run of a run directory, which is made there if the store could not be reached before."""
    known = run_dir / "mlflow_id"
    if not known.is_file():
        with FileLock(folder / "births.lock"):  # a parent's birth is its own delivery's and its children's
            if not known.is_file():
                about = store.read_json(run_dir / "run.json")
                store.write_atomically(known, create(client, about, folder, uri).encode())
    return known.read_text()


def create(client: MlflowClient, about: dict[str, Any], folder: Path, uri: str) -> str:
    """Return the id of a run in MLflow; create it unless an interrupted start has. `about` is the content of run.json."""
    experiment = backend.experiment_id(client, about["experiment"], folder, local=database(uri) is not None)
    for found in client.search_runs([experiment], f"tags.`{RUN_TOKEN_TAG}` = '{about['token']}'"):
        return str(found.info.run_id)
    made = client.create_run(experiment, about["started"], {RUN_TOKEN_TAG: about["token"]}, about["name"])
    return str(made.info.run_id)


def describe(client: MlflowClient, experiment: str, dataset: Entry) -> None:
    """Write the description of a data set, which names the best runs so far, and the columns of its table of runs."""
    monitor, order = dataset["monitor"], "DESC" if dataset["mode"] == "max" else "ASC"
    wanted, by = f"metrics.`{monitor}` > -1e300", [f"metrics.`{monitor}` {order}"]
    runs = client.search_runs([experiment], wanted, max_results=VIEWED, order_by=by)
    best = [
        descriptions.Line(run.info.run_id, run.info.run_name, run.data.tags, run.data.metrics)
        for run in runs
        if not {descriptions.GROUP, "reproduces"} & run.data.tags.keys()
    ]
    page = runs_table.address(experiment)
    shown = [runs_table.Shown(run.data.tags, run.data.params, run.data.metrics) for run in runs]
    client.set_experiment_tag(experiment, runs_table.TAG, runs_table.encoded(shown, monitor.removeprefix(BEST), dataset["mode"]))
    client.set_experiment_tag(experiment, NOTE, descriptions.of_dataset(dataset, best, page))
    client.set_experiment_tag(experiment, PAGE, page)


def _batches(entries: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Entries in order: points by the thousand, all else one by one."""
    for kind, same in groupby(entries, key=lambda entry: next(iter(entry))):
        alike = list(same)
        size = METRICS_A_CALL if kind == "key" else 1
        for begin in range(0, len(alike), size):
            yield kind, alike[begin : begin + size]


def _send_params(client: MlflowClient, run_id: str, params: list[Param]) -> None:
    for begin in range(0, len(params), PARAMS_A_CALL):
        client.log_batch(run_id, params=params[begin : begin + PARAMS_A_CALL], synchronous=True)


def _remove_tags(client: MlflowClient, run_id: str, keys: list[str]) -> None:
    for key in keys:
        try:
            client.delete_tag(run_id, key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a kill came before it was marked as sent
                raise


def _send_status(client: MlflowClient, run_id: str, said: Entry) -> None:
    if said["status"] == "RUNNING":
        client.update_run(run_id, status="RUNNING")
    else:
        client.set_terminated(run_id, said["status"], said["timestamp"])


def _dataset(given: Entry) -> DatasetInput:
    dataset = Dataset(given["name"], given["digest"], "reprise", json.dumps(given["source"]))
    return DatasetInput(dataset, [InputTag("mlflow.data.context", given["context"])])
