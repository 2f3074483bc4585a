"""Delete runs from MLflow and from disk, such that a kill at any moment leaves nothing half-deleted behind.

A run directory is first moved to mlruns/trash/, which no other command reads. Then the run is deleted in MLflow, then the folder.
After a kill, `finish` continues with what the trash holds.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.tracking import backend, mlflow_tables, resume, run_info
from reprise.tracking.address import database
from reprise.tracking.entries import DatasetEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.mlflow_sync import describe_dataset
from reprise.tracking.references import LocalRun, registered
from reprise.tracking.run import store_address


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one `reprise gc` delete at a time, and no `reprise register` register a model meanwhile."""
    with FileLock(store.made(folder) / "gc.lock"), FileLock(folder / "registry.lock"):
        yield


def delete_run(run: LocalRun, folder: Path) -> None:
    """Delete a run and what it logged.

    Raises:
        UserError: if the store fails. The run is then in the trash, and `finish` deletes it.

    """
    discarded = store.made(folder / run_info.TRASH) / run.id
    run.run_dir.rename(discarded)
    _delete_in_store(run.mlflow_id, run.uri, folder)
    shutil.rmtree(discarded)


def delete_folder(path: Path, folder: Path) -> None:
    """Delete a folder that is no run: it disappears at once."""
    discarded = store.made(folder / run_info.TRASH) / f"{path.parent.name}-{path.name}"
    shutil.rmtree(discarded, ignore_errors=True)  # of a killed process
    path.rename(discarded)
    shutil.rmtree(discarded)


def interrupted(folder: Path) -> list[Path]:
    """Return what a killed `reprise gc` left in the trash."""
    return sorted((folder / run_info.TRASH).glob("*"))


def finish(folder: Path, tracking: TrackingConfig | None) -> list[str]:
    """Finish interrupted deletions. Return the ids of the runs among them.

    A run whose model was registered since is restored.
    """
    finished = []
    for entry in interrupted(folder):
        if run_info.exists(entry):
            info, id_file = run_info.read(entry), entry / "mlflow_id"
            mlflow_id = id_file.read_text("utf-8").strip() if id_file.is_file() else ""
            uri = store_address(info.store, tracking, folder)
            if mlflow_id in registered(uri, folder):
                entry.rename(folder / "runs" / entry.name)
                continue
            _delete_in_store(mlflow_id, uri, folder)
            with contextlib.suppress(resume.LockedError), resume.reserve(folder, {entry.name, info.token}) as forget:
                forget()
            finished.append(entry.name)
        shutil.rmtree(entry)
    return finished


def _delete_in_store(mlflow_id: str, uri: str, folder: Path) -> None:
    """Delete a run in MLflow. A server only marks it as deleted, and keeps its files until `mlflow gc` runs there."""
    if not mlflow_id:
        return
    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        try:
            run = client.get_run(mlflow_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return
        models = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
        if database(uri) is not None:  # files first: MLflow does not tell where those of a deleted model are
            for location in [run.info.artifact_uri, *_model_locations(client, models)]:
                _delete_artifacts(location, folder)
        for model_id in models:
            with contextlib.suppress(MlflowException):  # deleted before a kill
                client.delete_logged_model(model_id)
        if run.info.lifecycle_stage == "active":
            client.delete_run(mlflow_id)
        if database(uri) is not None:
            mlflow_tables.purge(uri, folder / "artifacts", mlflow_id, models)


def _model_locations(client: MlflowClient, models: Iterable[str]) -> Iterator[str]:
    for model_id in models:
        with contextlib.suppress(MlflowException):  # deleted before a kill
            yield client.get_logged_model(model_id).artifact_location


def _delete_artifacts(location: str, folder: Path) -> None:
    """Delete the files of a run or a model, which are in mlruns/artifacts/ID/artifacts. Files elsewhere stay."""
    path = Path(unquote(urlsplit(location).path)).resolve().parent
    root = (folder / "artifacts").resolve()
    if location.startswith(("file:", "/")) and path.is_relative_to(root) and path not in {root, root / "models"}:
        shutil.rmtree(path, ignore_errors=True)


def update_descriptions(deleted: Iterable[LocalRun], remaining: Iterable[LocalRun], folder: Path) -> None:
    """Write the descriptions of data sets again, which name the best runs."""
    datasets = {(run.uri, run.info.experiment) for run in deleted}
    for run in remaining:
        key = run.uri, run.info.experiment
        entries = [entry for entry in EventLog(run.run_dir).entries if isinstance(entry, DatasetEntry)] if key in datasets else []
        if entries:
            datasets.discard(key)
            with backend.store_errors(run.uri):
                client = backend.connect(run.uri, folder)
                if experiment := client.get_experiment_by_name(run.info.experiment):
                    describe_dataset(client, experiment.experiment_id, entries[-1].dataset)
