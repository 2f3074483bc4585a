"""window: split samples or windows into train, val and test, compute statistics on train, and audit the split for leakage."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from reprise.config import Config
from reprise.data import audit, rounding, splits, store
from reprise.data.modality import arrays_of
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import lineage


def run(config: Config, paths: ProjectPaths, console: Console, folder: Path | None = None) -> Path:
    """Write data/windows/<experiment>/, or `folder`, and return it: one index array per split, windows.json, audit.json.

    Raises:
        UserError: when the audit finds leakage. Nothing is left under the final name.

    """
    in_pipeline, folder = folder is None, folder or paths.windows(config.name)
    arrays = paths.processed(config.data.name)
    store.verify(arrays, f"run `reprise preprocess data={config.data.name}`")
    split = arrays_of(config.window.kind).split(config.window, arrays)
    meta = split.meta.model_copy(update={"arrays": store.digest(arrays), "made_by": made_by(config)})
    with store.publish(folder) as draft:
        for name, indices in split.indices.items():
            store.write_array(draft / f"{name}.npy", indices)
        store.write_json(draft / "windows.json", meta.model_dump())
        checks = {**split.checks, "statistics are those of the train split alone": audit.statistics(draft, arrays, meta)}
        store.write_json(draft / "audit.json", checks)
        for name, check in checks.items():
            if not check["passed"]:
                details = {key: value for key, value in check.items() if key != "passed"}
                raise UserError(f"{config.name}: the audit of the splits failed: {name}: {details}"[:600])
    if in_pipeline:
        record_code(config, paths)
    counts = ", ".join(f"{name} {len(indices):,}" for name, indices in split.indices.items())
    lines = [f"{config.name}: {counts}; {len(checks)} audits passed", *(f"{config.name}: {note}" for note in meta.notes)]
    for line in [*lines, *(f"warning: {warning}" for warning in split.warnings)]:
        console.print(f"window  {line}", highlight=False, markup=False, soft_wrap=True)
    return folder


def are_for(folder: Path, config: Config, arrays: Path) -> bool:
    """Return whether the windows in `folder` were made with these settings and arrays. The code is not compared."""
    file = folder / "windows.json"
    if not file.is_file() or not (arrays / store.MANIFEST).is_file():
        return False
    made = store.read_json(file)
    return bool(made["made_by"] == made_by(config) and made["arrays"] == store.digest(arrays))


def made_by(config: Config) -> dict[str, Any]:
    """Return the settings that windows.json records. It records no code, so a refactoring gives the same bytes."""
    return {"settings": config.window.model_dump()}


def record_code(config: Config, paths: ProjectPaths) -> None:
    """Record outside of DVC that the pipeline's windows of an experiment are those of the current code."""
    content = {"windows": store.digest(paths.windows(config.name)), "code": _code(config)}
    store.write_atomically(paths.windows_code(config.name), store.as_json(content).encode())


def folder_for(config: Config, paths: ProjectPaths) -> Path:
    """Return the folder of the windows of a run outside of the pipeline.

    It is that of the pipeline if its windows match; otherwise its name is a hash of settings, code and arrays.
    """
    arrays = paths.processed(config.data.name)
    if are_for(paths.windows(config.name), config, arrays) and _is_by_this_code(config, paths):
        return paths.windows(config.name)
    name = lineage.text_hash(json.dumps([made_by(config), _code(config), store.digest(arrays)], sort_keys=True))[:12]
    return paths.store / "windows" / f"{config.data.name}-{name}"


def _is_by_this_code(config: Config, paths: ProjectPaths) -> bool:
    file = paths.windows_code(config.name)
    expected = {"windows": store.digest(paths.windows(config.name)), "code": _code(config)}
    return file.is_file() and store.read_json(file) == expected


def _code(config: Config) -> str:
    """Return the hash of the source files that determine the windows."""
    package = Path(arrays_of(config.window.kind).__file__).parent  # type: ignore[attr-defined]
    files = [Path(module) for module in (__file__, rounding.__file__, splits.__file__)] + sorted(package.glob("*.py"))
    return lineage.text_hash(json.dumps([store.sha256(file) for file in files if file.name != "tensors.py"]))
