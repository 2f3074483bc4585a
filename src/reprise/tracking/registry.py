"""MLflow's model registry: look up and set the version behind an alias."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError
from reprise.tracking import backend, links


@dataclass(frozen=True)
class AliasedVersion:
    """The model version with an alias, and its run."""

    version: str
    run_id: str


def version_with_alias(folder: Path, tracking: TrackingConfig | None, name: str, alias: str) -> AliasedVersion | None:
    """Return the version with an alias of a registered model, or None."""
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri):
        try:
            version = backend.connect(uri, folder).get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            return None
    return AliasedVersion(str(version.version), str(version.run_id))


def run_id_of_model(folder: Path, tracking: TrackingConfig | None, model: str) -> str:
    """Return the id of the run behind a registered model, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UserError: if there is no such model, alias or version; its message names those that exist.

    """
    match = re.fullmatch(r"models:/(?P<name>[^@/]+)(@(?P<alias>[^/]+)|/(?P<version>\d+))", model)
    if not match:
        raise UserError(f"{model}: not of the form models:/NAME@ALIAS or models:/NAME/VERSION")
    name, uri = match["name"], backend.address(tracking, folder)
    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        try:
            if match["alias"]:
                return str(client.get_model_version_by_alias(name, match["alias"]).run_id)
            return str(client.get_model_version(name, match["version"]).run_id)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
        models = client.search_registered_models()
    known = [f"models:/{entry.name}@{alias}" for entry in models for alias in sorted(entry.aliases)]
    raise UserError(
        f"{model}: not registered", f"there are {', '.join(known)}" if known else "`reprise register RUN` registers one"
    )


def run_name_and_tags(folder: Path, tracking: TrackingConfig | None, run_id: str) -> tuple[str, dict[str, str]] | None:
    """Return name and tags of a run of the store, or None if the store has no run with this id."""
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri):
        try:
            run = backend.connect(uri, folder).get_run(run_id)
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            return None
    return str(run.info.run_name), dict(run.data.tags)


def register(
    folder: Path, tracking: TrackingConfig | None, run_id: str, name: str, alias: str, tags: Mapping[str, str], note: str
) -> str:
    """Set an alias on a run's model, after registering the model if needed. Return the version.

    Raises:
        UserError: if the run logged no model.

    """
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri), FileLock(folder / "registry.lock"):
        client = backend.connect(uri, folder)
        run = client.get_run(run_id)
        version = _version(client, run, name, note)
        for key, value in tags.items():
            client.set_model_version_tag(name, version.version, key, value)
        client.set_registered_model_alias(name, alias, version.version)
        links.refresh(client, run_id)
    return str(version.version)


def _version(client: MlflowClient, run: Run, name: str, note: str) -> ModelVersion:
    models = run.outputs.model_outputs if run.outputs else []
    if not models:
        raise UserError(f"run {run.info.run_name} has logged no model", "train it with tracking.log_model=true")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.run_id == run.info.run_id:
            return known
    model = client.get_logged_model(models[0].model_id)  # by its path: MLflow would search another store for `models:/…`
    return client.create_model_version(name, model.artifact_location, run.info.run_id, description=note, model_id=model.model_id)
