"""The view of MLflow's table of runs that this project shares for each data set: which columns, in which order. Pure.

MLflow's table shows no metric until columns are chosen by hand. It keeps a shared view as a tag of the experiment: a JSON text,
compressed, in base64 (`mlflow.sharedViewState.<key>`; found in the pages of MLflow 3.17, which does not document it).
"""

import base64
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.tracking.descriptions import BEST, GROUP, without_scaled

KEY = "reprise"
"""The name of the view. It stays the same, so its address does while runs are added."""
TAG = f"mlflow.sharedViewState.{KEY}"
DECIDES_NOTHING = {"name", "seed", "seeds", "trainer.progress"} | {
    f"data.{key}" for key in ("title", "homepage", "citation", "licence", "mirror", "sources")
}
"""Keys that two runs of one group may differ in: the seed, and what has no influence on the weights."""
MOST, MOST_TEST = 8, 4
"""Columns of settings that differ, and of test metrics: with the selecting metric, these fit a screen 1280 pixels wide."""


@dataclass(frozen=True)
class Shown:
    """A run as the table shows it."""

    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def address(experiment_id: str) -> str:
    """Where the dashboard shows the view, below its own address."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def encoded(runs: Sequence[Shown], monitor: str, mode: str) -> str:
    """Return the value of `TAG`: the best run first by `best/<monitor>`, with the columns of these runs."""
    state = {
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
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def decoded(value: str) -> dict[str, Any]:
    """The state in a value of `TAG`."""
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(value.removeprefix("deflate;"))))
    return state


def columns(runs: Sequence[Shown], monitor: str) -> list[str]:
    """The selecting metric, test metrics, what a run cost, its seed and model, and the settings in which these runs differ."""
    return [
        _column("metrics", BEST + monitor),
        *(_column("metrics", name) for name in _test_metrics(runs, monitor)),
        *(_column("params", key) for key in ("seed", *_differing(runs))),
        *(_column("tags", key) for key in ("experiment", "model", "parameters", "train_seconds")),
    ]


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _test_metrics(runs: Sequence[Shown], monitor: str) -> list[str]:
    """The counterpart of the selecting metric first; of each of several targets, after the pooled ones."""
    first = f"test/{monitor.partition('/')[2]}"
    names = {name for run in runs for name in run.metrics if name.startswith("test/")}
    kept = {*without_scaled(names), *names.intersection([first])}
    return sorted(kept, key=lambda name: (name != first, name.count("/"), name))[:MOST_TEST]


def _differing(runs: Sequence[Shown]) -> list[str]:
    """Those first that most runs have: a setting of one network alone tells it from no other."""
    params = [run.params for run in runs if GROUP not in run.tags]
    count = Counter(key for one in params for key in one)
    differing = [key for key in count if key not in DECIDES_NOTHING and len({one.get(key) for one in params}) > 1]
    return sorted(differing, key=lambda key: (-count[key], key))[:MOST]
