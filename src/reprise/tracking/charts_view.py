"""Build the shared view of charts for each data set: bars of the results, learning curves, and the settings. Pure functions.

Like the table (`runs_table`), the view is a tag of the experiment that MLflow reads. The runs beside the charts are grouped by
their parent; each chart shows single runs. The format is undocumented; it was read from the web pages of MLflow 3.17.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from reprise.tracking import runs_table
from reprise.tracking.descriptions import BEST
from reprise.tracking.runs_table import TableRow

KEY = "reprise-charts"
"""The name of the view. It is constant, so that the address stays valid as runs are added."""
TAG = runs_table.VIEW_TAG + KEY
PARENT_NAME = "parent"
"""The tag of a run with the name of its parent: the label of its group beside the charts."""
MAX_SETTINGS = 6
"""The most axes of settings of the parallel coordinates."""
MAX_BARS = 4
"""The most metrics with a bar per run."""
SECTIONS = {"results": ("Results", 2, 360), "curves": ("Learning curves", 2, 360), "settings": ("Settings", 1, 420)}
"""Title, columns and height of the charts in pixels of each section, by its id, in their order."""


def address(experiment_id: str) -> str:
    """Return the path of the view, relative to the dashboard's address."""
    query = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={KEY}"
    return f"#/experiments/{experiment_id}/runs?{query}"


def encoded(runs: Sequence[TableRow], monitor: str, mode: str) -> str:
    """Return the value of `TAG` for these runs, whose best epoch is chosen by `monitor`."""
    charts = list(_charts(runs, monitor))
    used = {chart["metricSectionId"] for chart in charts}
    state = runs_table.state(runs, monitor, mode) | {
        "compareRunCharts": charts,
        "compareRunSections": [*(_section(key, *about) for key, about in SECTIONS.items() if key in used), *_others(runs)],
        "isAccordionReordered": True,  # otherwise MLflow sorts the sections by name
        "runsHiddenMode": "SHOW_ALL",
        "autoRefreshEnabled": True,
        "hideEmptyCharts": True,
        "viewMaximized": True,
    }
    if any(PARENT_NAME in run.tags for run in runs):
        by_parent = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": PARENT_NAME}]}
        state |= {"groupBy": by_parent, "groupsExpanded": {}, "useGroupedValuesInCharts": False}
    return runs_table.compressed(state)


def _charts(runs: Sequence[TableRow], monitor: str) -> Iterator[dict[str, Any]]:
    """Yield the charts: a bar per run for the monitored metric and those of test; curves; parallel coordinates."""
    selecting = BEST + monitor
    for metric in (selecting, *runs_table.test_metrics(runs, monitor))[:MAX_BARS]:
        yield _chart("BAR", "results", metric, metricKey=metric, runsCountToCompare=20)
    metric = monitor.partition("/")[2]
    names = dict.fromkeys((f"val/{metric}", f"train/{metric}", "val/loss", "train/loss"))
    known = {name for run in runs for name in run.metrics}
    for curve in (name for name in names if name in known):
        yield _chart("LINE", "curves", curve, **_curve(curve))
    if settings := runs_table.differing(runs)[:MAX_SETTINGS]:
        lasting = [name for name in (selecting, monitor.replace("val/", "test/")) if name in known]
        axes = {"selectedParams": settings, "selectedMetrics": lasting[:1] or [selecting], "showAllRuns": True}
        yield _chart("PARALLEL", "settings", "parallel", **axes, runsCountToCompare=100)


def _curve(metric: str) -> dict[str, Any]:
    return {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
        "runsCountToCompare": 20,
    }


def _chart(kind: str, section: str, name: str, **settings: Any) -> dict[str, Any]:
    fixed = {"type": kind, "uuid": f"{section}-{name}", "metricSectionId": section, "deleted": False, "isGenerated": False}
    return fixed | settings


def _others(runs: Sequence[TableRow]) -> Iterator[dict[str, Any]]:
    """Yield closed sections for all other metrics, by the name that MLflow gives them: it adds a chart for each metric."""
    for name in sorted({name.rpartition("/")[0] for run in runs for name in run.metrics} - {""}):
        yield _section(name, name, 3, 360) | {"display": False, "isGenerated": True}


def _section(key: str, title: str, columns: int, height: int) -> dict[str, Any]:
    size = {"columns": columns, "cardHeight": height}
    return {"uuid": key, "name": title, "display": True, "isReordered": True, "deleted": False, "isGenerated": False} | size
