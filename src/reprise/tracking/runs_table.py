"""Build the shared view of MLflow's runs table for each data set: columns and order. Pure functions.

MLflow's table shows no metrics until the user selects columns. MLflow stores a shared view as a tag of the experiment,
`mlflow.sharedViewState.<key>`: compressed JSON in base64 (undocumented; read from the web pages of MLflow 3.17).
"""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.tracking.descriptions import BEST, GROUP, without_scaled

VIEW_TAG = "mlflow.sharedViewState."
"""The tag of a view, before its name."""
KEY = "reprise"
"""The name of the view. It is constant, so that the address stays valid as runs are added."""
TAG = VIEW_TAG + KEY
DECIDES_NOTHING = {"name", "seed", "seeds", "trainer.progress"} | {
    f"data.{key}" for key in ("title", "homepage", "citation", "licence", "mirror", "sources")
}
"""Keys in which two runs of one group may differ: the seed, and settings without influence on the weights."""
MAX_SETTINGS, MAX_TEST_METRICS = 8, 4
"""Maximum number of columns for differing settings and for test metrics. With the monitored metric they fit 1280 pixels."""


@dataclass(frozen=True)
class TableRow:
    """A run in the table."""

    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def address(experiment_id: str) -> str:
    """Return the path of the view, relative to the dashboard's address."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def encoded(runs: Sequence[TableRow], monitor: str, mode: str) -> str:
    """Return the value of `TAG`: the best run first by `best/<monitor>`, with the columns of these runs."""
    return compressed(state(runs, monitor, mode))


def state(runs: Sequence[TableRow], monitor: str, mode: str) -> dict[str, Any]:
    """Return the content of the view."""
    return {
        "searchFilter": "",
        "orderByKey": _column("metrics", BEST + monitor),
        "orderByAsc": mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns(runs, monitor),
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "compareRunCharts": None,
        "compareRunSections": None,
        "groupBy": None,
        "viewMaximized": True,
        "runListHidden": False,
    }


def compressed(state: Mapping[str, Any]) -> str:
    """Return a view as the value of a tag."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def decoded(value: str) -> dict[str, Any]:
    """Return the state in a value of `TAG`."""
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(value.removeprefix("deflate;"))))
    return state


def columns(runs: Sequence[TableRow], monitor: str) -> list[str]:
    """Return the columns: monitored metric, test metrics, seed, settings in which these runs differ, model and cost."""
    return [
        _column("metrics", BEST + monitor),
        *(_column("metrics", name) for name in test_metrics(runs, monitor)),
        *(_column("params", key) for key in ("seed", *differing(runs))),
        *(_column("tags", key) for key in ("experiment", "model", "parameters", "train_seconds")),
    ]


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def test_metrics(runs: Sequence[TableRow], monitor: str) -> list[str]:
    """Return the test metrics: first the counterpart of the monitored one, then pooled metrics, then metrics per target."""
    first = f"test/{monitor.partition('/')[2]}"
    names = {name for run in runs for name in run.metrics if name.startswith("test/")}
    kept = {*without_scaled(names), *names.intersection([first])}
    return sorted(kept, key=lambda name: (name != first, name.count("/"), name))[:MAX_TEST_METRICS]


def differing(runs: Sequence[TableRow]) -> list[str]:
    """Return the settings that differ, sorted by how many runs have them: a setting that only one model has helps least."""
    params = [run.params for run in runs if GROUP not in run.tags]
    count = Counter(key for run_params in params for key in run_params)
    differing = [key for key in count if key not in DECIDES_NOTHING and len({run_params.get(key) for run_params in params}) > 1]
    return sorted(differing, key=lambda key: (-count[key], key))[:MAX_SETTINGS]
