"""Where a run comes from: the way from raw files to its metrics, and the runs that came from something."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.tracking.descriptions import GROUP
from reprise.tracking.record import Line, RunRecord, listed

SHOWN = ("accuracy", "mae", "mae_scaled", "loss")
"""The metric of a list, the first that a run has."""


def describe(record: RunRecord) -> dict[str, Any]:
    """The whole way of a run: raw files, arrays, windows, config, code, packages, machine, weights, metrics."""
    data, tags = record.config["data"], record.tags
    raw = [{"name": file["fetch"], "sha256": file["sha256"]} for file in data.get("files", [])]
    last = {key: points[-1][1] for key, points in sorted(record.metrics.items())}
    best = int(tags["best_epoch"]) if "best_epoch" in tags else None
    at_best = {key: value for key, points in record.metrics.items() for step, value in points if step == best}
    return {
        "run": {"id": record.id, "name": record.name, "status": record.status},
        "raw": {"dataset": data["name"], "from": data.get("sources", data.get("path")), "files": raw},
        "arrays": {"sha256": tags.get("sha256.processed")},
        "windows": {"sha256": tags.get("sha256.windows"), "settings": record.config["window"]},
        "config": {"sha256": tags.get("sha256.config"), "seed": tags.get("seed")},
        "code": {
            "commit": tags.get("git.commit"),
            "uncommitted": tags.get("git.dirty"),
            "patch_lines": record.patch.count(b"\n"),
            "sha256": tags.get("sha256.code"),
        },
        "packages": {key.removeprefix("version."): value for key, value in sorted(tags.items()) if key.startswith("version.")},
        "machine": {key: tags.get(key) for key in ("processor", "device", "devices", "threads", "precision")},
        "weights": {"sha256": tags.get("sha256.weights"), "best_epoch": best, "parameters": tags.get("parameters")},
        "metrics": {key: at_best.get(key, value) if key.startswith(("train/", "val/")) else value for key, value in last.items()},
    }


def show(found: Mapping[str, Any], console: Console) -> None:
    """The way as a tree."""
    tree = Tree(Text.assemble((found["run"]["name"], "bold"), f"  {found['run']['id']}  {found['run']['status']}"))
    for part, facts in list(found.items())[1:]:
        branch = tree.add(Text(part, "bold"))
        for key, value in facts.items():
            if key == "files":
                for file in value:
                    branch.add(f"{file['name']}  sha256 {file['sha256']}")
            elif isinstance(value, dict):
                branch.add(f"{key}  {', '.join(f'{name}={setting}' for name, setting in value.items())}")
            else:
                branch.add(f"{key}  {'–' if value is None else ', '.join(value) if isinstance(value, list) else value}")
    console.print(tree, highlight=False, soft_wrap=True)


def search(paths: ProjectPaths, wanted: Mapping[str, str]) -> list[Line]:
    """The trainings of the store of which each given tag begins so: `{"git.commit": "1a2b"}`; a data hash may be of any input.

    Raises:
        UserError: when a hash is too short to mean one thing.

    """
    for name, start in wanted.items():
        if len(start) < 4:
            raise UserError(f"{name} {start}: too short", "give at least 4 characters")
    trainings = [run for run in listed(paths.store, None) if GROUP not in run.tags]
    return [run for run in trainings if all(_fits(run, name, start) for name, start in wanted.items())]


def _fits(run: Line, name: str, start: str) -> bool:
    if name == "data":
        inputs = ("sha256.processed", "sha256.windows", "dvc.")
        return any(value.startswith(start) for key, value in run.tags.items() if key.startswith(inputs))
    return run.tags.get(name, "").startswith(start)


def table(runs: list[Line]) -> Table:
    """Runs, one a row; a plus says that the code was not all committed."""
    shown = Table(Column("run", overflow="fold"), box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    for title in ("id", "status", "val", "test", "commit"):
        shown.add_column(title, no_wrap=True)
    for run in runs:
        commit = run.tags.get("git.commit", "–")[:8] + ("+" if run.tags.get("git.dirty") == "true" else "")
        shown.add_row(run.name, run.id[:8], run.status, *(_figure(run, split) for split in ("val", "test")), commit)
    return shown


def _figure(run: Line, split: str) -> str:
    name = next((name for name in SHOWN if f"{split}/{name}" in run.metrics), None)
    return "–" if name is None else f"{name} {run.metrics[f'{split}/{name}']:.4f}"
