"""Write a comparison as a self-contained HTML page, and log it in a run of its own on the dashboard."""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from reprise import config as configs
from reprise.analysis.compare import Comparison, Group, Table
from reprise.analysis.compare_view import described
from reprise.data import store
from reprise.errors import without_login
from reprise.project_paths import ProjectPaths
from reprise.tasks import metric_names
from reprise.tracking import groups, links, listing
from reprise.tracking.address import address
from reprise.tracking.descriptions import GROUP, NOTE
from reprise.tracking.event_log import Points
from reprise.tracking.listing import Row

MOST_PICTURES = 24
"""The most pictures in a page: one run per group, the best groups first."""
LARGEST_PICTURE = 1_000_000
"""The largest size in bytes of a picture in the page."""
PICTURES = ("confusion_matrix.png", "forecast.png")
"""Figures of a run that are shown in the page."""


def write(comparison: Comparison, command: str, paths: ProjectPaths, file: Path) -> None:
    """Write the page to `file` and log it in a run. The same query always uses the same run.

    `command` is shown on the page as the way to make it.
    """
    page = render(comparison, command, paths)
    file.parent.mkdir(parents=True, exist_ok=True)
    store.write_atomically(file, page.encode())
    _log(page, comparison, command, paths)


def render(comparison: Comparison, command: str, paths: ProjectPaths) -> str:
    """Return the HTML page, with data, style, script and Plotly inlined."""
    content = described(comparison) | {"command": command}
    pictures = 0
    for table, shown in zip(comparison.tables, content["tables"], strict=True):
        shown["curve_metric"] = f"val/{table.metric.partition('/')[2]}"
        histories = _histories(table, shown["curve_metric"], paths)
        for group, entry in zip(table.groups, shown["groups"], strict=True):
            entry["curve"] = _curve(
                [histories[row.id] for row, _ in group.runs.values()], *metric_names.bounds(shown["curve_metric"])
            )
            entry["picture"] = _picture(group, paths) if pictures < MOST_PICTURES else None
            pictures += entry["picture"] is not None
    parts = {name: (files("reprise.analysis") / "page" / f"compare.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    filled = {"style": parts["css"], "data": _inside_script(content), "plotly": get_plotlyjs(), "script": parts["js"]}
    head, *rest = parts["html"].split("{{")
    return head + "".join(filled[name] + text for name, _, text in (part.partition("}}") for part in rest))


def _inside_script(content: Mapping[str, Any]) -> str:
    """Return JSON that is safe in a script element: `<`, `>` and `&` are written as JSON escapes."""
    text = json.dumps(content, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _histories(table: Table, metric: str, paths: ProjectPaths) -> dict[str, Points]:
    metric_of = {row.id: metric for group in table.groups for row, _ in group.runs.values()}
    return listing.histories(paths.store, configs.tracking_config(paths.root), metric_of)


def _curve(histories: list[Points], least: float, most: float) -> dict[str, list[float]]:
    """Return, per epoch, the mean over the seeds that reached it, and mean ± standard deviation clipped to `least` and `most`."""
    by_epoch: dict[int, list[float]] = {}
    for points in histories:
        for epoch, value in points:
            by_epoch.setdefault(epoch, []).append(value)
    curve: dict[str, list[float]] = {"epochs": [], "mean": [], "low": [], "high": []}
    for epoch, values in sorted(by_epoch.items()):
        mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
        for part, number in zip(curve, (epoch, mean, max(least, mean - spread), min(most, mean + spread)), strict=True):
            curve[part].append(float(f"{number:.6g}"))
    return curve


def _picture(group: Group, paths: ProjectPaths) -> dict[str, str] | None:
    """Return the figure of the first run of a group that has one on this machine."""
    for row, _ in group.runs.values():
        for name in PICTURES:
            file = _run_dir(row, paths) / "figures" / name
            if file.is_file() and file.stat().st_size <= LARGEST_PICTURE:
                content = base64.b64encode(file.read_bytes()).decode()
                return {"run": row.name, "file": name, "source": f"data:image/png;base64,{content}"}
    return None


def _run_dir(row: Row, paths: ProjectPaths) -> Path:
    """Return the run directory. That of a run started while the tracking server was down is named by the run's token."""
    run_dir = paths.run_dir(row.id)
    return run_dir if run_dir.is_dir() else paths.run_dir(row.tags.get("reprise.token", row.id))


def _log(page: str, comparison: Comparison, command: str, paths: ProjectPaths) -> None:
    """Log the page as an artifact of the run of this comparison."""
    content = described(comparison)
    query = {key: content[key] for key in ("experiments", "filter", "by")} | {"metric": comparison.query.metric}
    uri = without_login(address(configs.tracking_config(paths.root), paths.store))
    token = hashlib.sha256(json.dumps(["comparison", uri, query]).encode()).hexdigest()[:32]
    datasets = {name.partition(" ")[0] for name in (table.data for table in comparison.tables)}
    config = configs.tracking_config(paths.root).model_copy(
        update={"experiment": datasets.pop() if len(datasets) == 1 else "comparisons"}
    )
    note = f"A comparison of {len(content['tables'])} data sets" if len(content["tables"]) > 1 else "A comparison"
    tags = {
        GROUP: links.COMPARISON,
        "mlflow.source.name": command,
        "mlflow.source.type": "LOCAL",
        NOTE: f"{note}.\n\n```\n{command}    # makes it again\n```",
    }
    with groups.open_parent(config, paths.store, token, f"compare-{token[:4]}", query, tags) as run:
        run.log_text(page, links.COMPARISON_PAGE)
    compared = [row.id for table in comparison.tables for group in table.groups for row, _ in group.runs.values()]
    links.refresh_all(paths.store, configs.tracking_config(paths.root), compared)
