"""Links at the end of a description on the dashboard: to the parent of a run, its comparison, its registered models and views."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from reprise.config.schema import TrackingConfig
from reprise.tracking import backend, charts_view, runs_table
from reprise.tracking.descriptions import GROUP, LONGEST, NOTE

START = "See also: "
"""Beginning of the last paragraph of a description."""
COMPARISON = "comparison"
"""Value of the tag `group` of a run that holds a page of comparison."""
COMPARISON_PAGE = "comparison/compare.html"
"""The artifact with the page."""
MOST_MODELS = 5
"""The most registered versions of a run that are linked."""
MOST_RENEWED = 100
"""The most runs of a comparison whose links are renewed at once; others get theirs when they are evaluated."""
PARENT_TAG = "mlflow.parentRunId"
"""The tag with which MLflow nests runs. Run directories hold the parent's local id, the store MLflow's id."""


def run_page(experiment: str, run_id: str, part: str = "") -> str:
    """Return the path of a run's page, or of a part of it, relative to the dashboard's address."""
    return f"#/experiments/{experiment}/runs/{run_id}{part}"


def with_links(client: MlflowClient, run_id: str, note: str, parent_id: str = "") -> str:
    """Return a description with the links of a run of the store in its last paragraph, in place of those that it had.

    `parent_id` is the store's id of the parent; by default that of the run's tag. There are no links if the description would
    become too long, or the store refuses what they need, such as a registry of models.
    """
    text = note.partition(f"\n\n{START}")[0]
    try:
        linked = f"{text}\n\n{START}{', '.join(_links(client, client.get_run(run_id), parent_id))}."
    except MlflowException:
        return text
    return linked if len(linked) <= LONGEST else text


def refresh(client: MlflowClient, run_id: str) -> None:
    """Renew the links of a run whose comparison or registered models changed."""
    run = client.get_run(run_id)
    note = run.data.tags.get(NOTE)
    if note and (renewed := with_links(client, run_id, note)) != note:
        client.set_tag(run_id, NOTE, renewed)


def refresh_all(folder: Path, tracking: TrackingConfig | None, run_ids: Sequence[str]) -> None:
    """Renew the links of the first runs of a list.

    Raises:
        UserError: if the store fails.

    """
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        for run_id in run_ids[:MOST_RENEWED]:
            refresh(client, run_id)


def _links(client: MlflowClient, run: Run, parent_id: str) -> list[str]:
    experiment, tags = run.info.experiment_id, run.data.tags
    links = []
    if tags.get(GROUP) == COMPARISON:
        links.append(f"[the page of the comparison]({run_page(experiment, run.info.run_id, f'/artifacts/{COMPARISON_PAGE}')})")
    if parent_id := parent_id or tags.get(PARENT_TAG, ""):
        parent = client.get_run(parent_id)
        links.append(f"[the parent run {parent.info.run_name}]({run_page(parent.info.experiment_id, parent_id)})")
    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'", max_results=MOST_MODELS):
        known = client.get_model_version(version.name, version.version)  # a search does not return aliases
        aliases = "".join(f" @{alias}" for alias in known.aliases)
        address = f"#/models/{quote(version.name, safe='')}/versions/{version.version}"
        links.append(f"[model {version.name} version {version.version}{aliases}]({address})")
    if tags.get(GROUP) != COMPARISON and (page := _comparison(client, experiment)):
        links.append(f"[the newest comparison]({page})")
    return [
        *links,
        f"[all runs, the best first]({runs_table.address(experiment)})",
        f"[charts]({charts_view.address(experiment)})",
    ]


def _comparison(client: MlflowClient, experiment: str) -> str:
    """Return the page of the newest comparison of runs of an experiment; "" if there is none."""
    condition = f"tags.`{GROUP}` = '{COMPARISON}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment], condition, max_results=1, order_by=["attributes.start_time DESC"])
    return run_page(experiment, found[0].info.run_id, f"/artifacts/{COMPARISON_PAGE}") if found else ""
