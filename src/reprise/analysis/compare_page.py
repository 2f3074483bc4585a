"""A comparison as one page that needs nothing but a browser; and that page as a run of its own on the dashboard."""

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
from reprise.analysis.significance import bounds
from reprise.data import store
from reprise.errors import without_login
from reprise.stages.project_paths import ProjectPaths
from reprise.tracking import groups, listing
from reprise.tracking.address import address
from reprise.tracking.descriptions import GROUP
from reprise.tracking.event_log import Points
from reprise.tracking.listing import Row

MOST_PICTURES = 24
"""In one page, a run of a group each, the best groups first."""
LARGEST_PICTURE = 1_000_000
"""Bytes; what is larger is left out."""
PICTURES = ("confusion_matrix.png", "forecast.png")
"""Of those that `evaluate` draws, what two runs are compared by."""
PAGE = "compare.html"


def write(comparison: Comparison, command: str, paths: ProjectPaths, file: Path) -> None:
    """Write the page, and keep it in a run of its own: the same one whenever the same is asked.

    `command` is what the page says it was made by.
    """
    page = render(comparison, command, paths)
    file.parent.mkdir(parents=True, exist_ok=True)
    store.write_atomically(file, page.encode())
    _keep(page, comparison, command, paths)


def render(comparison: Comparison, command: str, paths: ProjectPaths) -> str:
    """The page: data, style, script and Plotly's own, all inside."""
    content = described(comparison) | {"command": command}
    pictures = 0
    for table, said in zip(comparison.tables, content["tables"], strict=True):
        said["curve_metric"] = f"val/{table.metric.partition('/')[2]}"
        histories = _histories(table, said["curve_metric"], paths)
        for group, its in zip(table.groups, said["groups"], strict=True):
            its["curve"] = _curve([histories[row.id] for row, _ in group.runs.values()], *bounds(said["curve_metric"]))
            its["picture"] = _picture(group, paths) if pictures < MOST_PICTURES else None
            pictures += its["picture"] is not None
    parts = {name: (files("reprise.analysis") / "page" / f"compare.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    filled = {"style": parts["css"], "data": _inside_script(content), "plotly": get_plotlyjs(), "script": parts["js"]}
    head, *rest = parts["html"].split("{{")
    return head + "".join(filled[name] + text for name, _, text in (part.partition("}}") for part in rest))


def _inside_script(content: Mapping[str, Any]) -> str:
    """JSON in which nothing ends a script or begins a tag: what would is written as an escape of JSON's own."""
    text = json.dumps(content, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _histories(table: Table, metric: str, paths: ProjectPaths) -> dict[str, Points]:
    wanted = {row.id: metric for group in table.groups for row, _ in group.runs.values()}
    return listing.histories(paths.store, configs.tracking_config(paths.root), wanted)


def _curve(histories: list[Points], least: float, most: float) -> dict[str, list[float]]:
    """Of every epoch: mean over the seeds that reached it, and a standard deviation below and above, within these limits."""
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
    """The figure of the group's first run that has one on this machine."""
    for row, _ in group.runs.values():
        for name in PICTURES:
            file = _home(row, paths) / "figures" / name
            if file.is_file() and file.stat().st_size <= LARGEST_PICTURE:
                content = base64.b64encode(file.read_bytes()).decode()
                return {"run": row.name, "file": name, "source": f"data:image/png;base64,{content}"}
    return None


def _home(row: Row, paths: ProjectPaths) -> Path:
    """A run that was begun while the store was away lives under its token."""
    run_dir = paths.run_dir(row.id)
    return run_dir if run_dir.is_dir() else paths.run_dir(row.tags.get("reprise.token", row.id))


def _keep(page: str, comparison: Comparison, command: str, paths: ProjectPaths) -> None:
    """The page as an artifact of a comparison's run."""
    asked = described(comparison)
    question = {key: asked[key] for key in ("experiments", "filter", "by")} | {"metric": comparison.asked.metric}
    where = without_login(address(configs.tracking_config(paths.root), paths.store))
    token = hashlib.sha256(json.dumps(["comparison", where, question]).encode()).hexdigest()[:32]
    sets = {name.partition(" ")[0] for name in (table.data for table in comparison.tables)}
    config = configs.tracking_config(paths.root).model_copy(
        update={"experiment": sets.pop() if len(sets) == 1 else "comparisons"}
    )
    tags = {GROUP: "comparison", "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    run = groups.parent(config, paths.store, token, f"compare-{token[:4]}", question, tags)
    run.text(page, f"comparison/{PAGE}")
    run.end("FINISHED", {})
