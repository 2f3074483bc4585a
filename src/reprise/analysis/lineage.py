"""Lineage: everything a run depends on, from raw files to metrics, and the runs that depend on a given commit or data."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from rich.tree import Tree

from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tasks import metric_names
from reprise.tracking.descriptions import GROUP
from reprise.tracking.record import RunRecord, RunSummary, list_runs

MACHINE = ("processor", "device", "devices", "threads", "precision", "tf32")
"""Tags of what the bits of the weights depend on, apart from code, config, data and packages."""


def describe(record: RunRecord) -> dict[str, Any]:
    """Return the lineage of a run: raw files, arrays, windows, config, code, packages, machine, weights, metrics."""
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
        **_initial_weights(tags),
        "config": {
            "sha256": tags.get("sha256.config"),
            "seed": tags.get("seed"),
            **({"stack": tags["stack"]} if "stack" in tags else {}),
        },
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


def _initial_weights(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return the weights that a training started from; nothing if they were random."""
    if "sha256.init_from" not in tags:
        return {}
    return {
        "initial weights": {
            "from": tags["init_from.name"],
            "run": tags["init_from.run"] or None,
            "sha256": tags["sha256.init_from"],
        }
    }


def show(description: Mapping[str, Any], console: Console) -> None:
    """Print the lineage of `describe` as a tree."""
    run = description["run"]
    tree = Tree(Text.assemble((run["name"], "bold"), f"  {run['id']}  {run['status']}"))
    for part, facts in list(description.items())[1:]:
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


def search(paths: ProjectPaths, prefixes: Mapping[str, str]) -> list[RunSummary]:
    """Return the trainings whose tags start with the given prefixes, such as `{"git.commit": "1a2b"}`.

    The key "data" matches the hash of any input: arrays, windows, or DVC outputs.

    Raises:
        UserError: when a prefix has fewer than 4 characters.

    """
    for name, prefix in prefixes.items():
        if len(prefix) < 4:
            raise UserError(f"{name} {prefix}: too short", "give at least 4 characters")
    trainings = [run for run in list_runs(paths.store, None) if GROUP not in run.tags]
    return [run for run in trainings if all(_matches(run, name, prefix) for name, prefix in prefixes.items())]


def _matches(run: RunSummary, name: str, prefix: str) -> bool:
    if name == "data":
        inputs = ("sha256.processed", "sha256.windows", "dvc.")
        return any(value.startswith(prefix) for key, value in run.tags.items() if key.startswith(inputs))
    return run.tags.get(name, "").startswith(prefix)


def table(runs: list[RunSummary]) -> Table:
    """Return a table with a row per run. A plus behind the commit marks uncommitted changes."""
    shown = Table(Column("run", overflow="fold"), box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    for title in ("id", "status", "val", "test", "commit"):
        shown.add_column(title, no_wrap=True)
    for run in runs:
        commit = run.tags.get("git.commit", "–")[:8] + ("+" if run.tags.get("git.dirty") == "true" else "")
        shown.add_row(run.name, run.id[:8], run.status, *(_figure(run, split) for split in ("val", "test")), commit)
    return shown


def _figure(run: RunSummary, split: str) -> str:
    name = next((name for name in metric_names.MAIN if f"{split}/{name}" in run.metrics), None)
    return "–" if name is None else f"{name} {run.metrics[f'{split}/{name}']:.4f}"
