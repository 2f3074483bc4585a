"""window: split samples or windows into train, val and test, compute statistics on train, and audit the split for leakage."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

import reprise
from reprise.config import Config
from reprise.config.modalities.images import ImageWindow
from reprise.config.modalities.series import SeriesWindow
from reprise.data import audit, rounding, splits, store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import dvc_files, lineage


def run(config: Config, paths: ProjectPaths, console: Console, folder: Path | None = None) -> Path:
    """Write data/windows/<experiment>/, or `folder`, and return it: one index array per split, windows.json, audit.json.

    Raises:
        UserError: when the audit finds leakage. Nothing is left under the final name.

    """
    folder = folder or paths.windows(config.name)
    arrays = paths.processed(config.data.name)
    store.verify(arrays, f"run `reprise preprocess data={config.data.name}`")
    with store.publish(folder) as draft:
        meta, settings = store.read_json(arrays / "meta.json"), config.window
        made = _images(settings, arrays, meta) if isinstance(settings, ImageWindow) else _series(settings, arrays, meta)
        parts, description, checks = made
        for split, chosen in parts.items():
            store.write_array(draft / f"{split}.npy", chosen)
        description |= {"arrays": store.digest(arrays), "made_by": made_by(config)}
        store.write_json(draft / "windows.json", description)
        checks |= {"statistics are those of the train split alone": audit.statistics(draft, arrays)}
        store.write_json(draft / "audit.json", checks)
        for name, check in checks.items():
            if not check["passed"]:
                details = {key: value for key, value in check.items() if key != "passed"}
                raise UserError(f"{config.name}: the audit of the splits failed: {name}: {details}"[:600])
    counts = ", ".join(f"{split} {len(chosen):,}" for split, chosen in parts.items())
    console.print(f"window  {config.name}: {counts}; {len(checks)} audits passed", highlight=False, soft_wrap=True)
    for note in description.get("notes", []):
        console.print(f"window  {config.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    if description["kind"] == "images":
        _warn_of_few(parts, description, arrays, console)
    return folder


def _warn_of_few(parts: dict[str, splits.Indices], description: dict[str, Any], arrays: Path, console: Console) -> None:
    """Warn of classes with too few images in a split for meaningful metrics."""
    for split, chosen in parts.items():
        labels = store.open_array(arrays / description["parts"][split] / "labels.npy")
        few = splits.few_of_a_class(np.asarray(labels)[chosen], description["classes"])
        if few:
            listed = ", ".join(f"{name} ({number})" for name, number in few[:10]) + (" and others" if len(few) > 10 else "")
            text = f"window  warning: {split} has fewer than {splits.FEW} images of {listed}: its metrics say little about them"
            console.print(text, highlight=False, markup=False, soft_wrap=True)


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


def is_by_this_code(paths: ProjectPaths, experiment: str) -> bool:
    """Return whether the pipeline's windows of an experiment were made by the current code, according to dvc.lock."""
    locked = dvc_files.dependency_hashes(paths.root, f"window@{experiment}")
    package = Path(reprise.__file__).parent
    return all(
        locked.get(f"src/reprise/{Path(file).relative_to(package)}") == hashlib.md5(Path(file).read_bytes()).hexdigest()  # noqa: S324
        for file in CODE
    )


def folder_for(config: Config, paths: ProjectPaths) -> Path:
    """Return the folder of the windows of a run outside of the pipeline.

    It is that of the pipeline if its windows match; otherwise its name is a hash of settings, code and arrays.
    """
    arrays = paths.processed(config.data.name)
    if are_for(paths.windows(config.name), config, arrays) and is_by_this_code(paths, config.name):
        return paths.windows(config.name)
    inputs = [made_by(config), [store.sha256(Path(file)) for file in CODE], store.digest(arrays)]
    name = lineage.text_hash(json.dumps(inputs, sort_keys=True))[:12]
    return paths.store / "windows" / f"{config.data.name}-{name}"


CODE = (__file__, rounding.__file__, splits.__file__)
"""The source files that determine the windows."""

Made = tuple[dict[str, splits.Indices], dict[str, Any], dict[str, Any]]
"""Index arrays, the content of windows.json, and the audit."""


def _images(window: ImageWindow, arrays: Path, meta: dict[str, Any]) -> Made:
    images, labels = (store.open_array(arrays / "train" / f"{name}.npy") for name in ("images", "labels"))
    published = (arrays / "test").is_dir()
    if published == (window.test_size is not None):
        why = "its publisher names a test set" if published else "its publisher names no test set"
        raise UserError(
            f"window.test_size={window.test_size} with data={meta['name']}: {why}",
            f"set it to {'null' if published else 'a count, or a share below 1'}",
        )
    tests = store.open_array(arrays / "test" / "images.npy") if published else images[:0]
    groups = splits.identical_images(np.concatenate([images, tests]))
    labels = np.asarray(labels)
    sizes = [splits.count(window.val_size, len(labels)), splits.count(window.test_size, len(labels))]
    val, test, train = splits.stratified_split(labels, sizes, window.seed, groups[: len(labels)])
    if published:
        test = np.arange(len(tests), dtype=np.int64)
    train = splits.limit_stratified(train, labels, window.limit, window.seed)
    parts = {"train": train, "val": val, "test": test}
    if empty := [split for split, chosen in parts.items() if not len(chosen)]:
        raise UserError(f"the {empty[0]} split is left without an image", "change window.val_size or window.test_size")
    statistics = splits.image_statistics(images, train)
    description = {
        "kind": "images",
        "input_shape": list(images.shape[1:]),
        "classes": meta["classes"],
        "parts": {"train": "train", "val": "train", "test": "test" if published else "train"},
        "statistics": statistics,
    }
    everywhere = parts | ({"test": test + len(images)} if published else {})  # numbered as in `groups`
    checks = splits.audit_images(everywhere, groups, meta["known_duplicates"])
    return parts, description, checks


def _series(window: SeriesWindow, arrays: Path, meta: dict[str, Any]) -> Made:
    values = store.open_array(arrays / "values.npy")
    names = [channel["name"] for channel in meta["channels"]]
    inputs = window.inputs or names
    if missing := [target for target in window.targets if target not in inputs]:
        raise UserError(
            f"window.targets={missing[0]}: not among window.inputs",
            "a forecast starts from the past of its own channel",
        )
    borders = splits.time_borders(len(values), window.val_size, window.test_size)
    size = window.lookback + window.horizon
    stride = {"train": window.stride, "val": 1, "test": 1}  # evaluate on every window
    parts = {split: splits.window_starts(borders.span(split), size, stride[split]) for split in splits.SPLITS}
    if empty := [split for split, starts in parts.items() if not len(starts)]:
        raise _too_short(empty[0], borders, window)
    if window.limit:
        parts["train"] = parts["train"][-window.limit :]
    first = int(parts["train"][0])
    columns = [names.index(name) for name in inputs]
    fitted = splits.series_statistics(values[:, columns], (first, borders.train))
    _check_targets_vary(window, names, values)
    checks = splits.audit_series(parts, borders, size)
    extra = 2 * len(window.calendar)  # sine and cosine are already bounded by 1: not normalised
    targets = [inputs.index(name) for name in window.targets]
    description = {
        "kind": "series",
        "input_shape": [window.lookback, len(inputs) + extra],
        "lookback": window.lookback,
        "horizon": window.horizon,
        "borders": {"train": borders.train, "val": borders.val, "test": borders.test},
        "inputs": inputs + [f"{feature}_{part}" for feature in window.calendar for part in ("sin", "cos")],
        "input_columns": columns,
        "calendar": window.calendar,
        "targets": window.targets,
        "target_positions": targets,
        "target_columns": [names.index(name) for name in window.targets],
        "units": [meta["channels"][names.index(name)]["unit"] for name in window.targets],
        "season": window.season,
        "frequency": meta["frequency"],
        "dtype": str(values.dtype),
        "notes": _notes(window, values[:, columns], inputs, fitted, int(parts["test"][0]) + window.lookback),
        "statistics": {
            "mean": fitted["mean"] + [0.0] * extra,
            "std": fitted["std"] + [1.0] * extra,
            "naive_mae": [fitted["naive_mae"][position] for position in targets],
        },
    }
    return parts, description, checks


def _too_short(split: str, borders: splits.Borders, window: SeriesWindow) -> UserError:
    """Return the error for a split that is shorter than one window. It names the settings to change."""
    start, stop = borders.span(split)
    size = window.lookback + window.horizon
    too_long = [key for key in ("horizon", "lookback") if getattr(window, key) >= stop - start]
    larger = "make window.val_size or window.test_size smaller" if split == "train" else f"window.{split}_size larger"
    return UserError(
        f"the {split} split has {stop - start} time steps, no room for a window of {size}: "
        f"window.lookback={window.lookback} and window.horizon={window.horizon}",
        f"make window.{too_long[0] if too_long else 'lookback or window.horizon'} smaller, or {larger}",
    )


def _notes(
    window: SeriesWindow,
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    names: list[str],
    fitted: dict[str, list[float]],
    first_forecast: int,
) -> list[str]:
    """Return notes on lost precision and on metrics and forecasts that are left out.

    `values` are the input channels, `first_forecast` is the row of the first forecast in test.
    """
    mean, std = (np.array(fitted[key]) for key in ("mean", "std"))
    scaled = (values.astype(np.float64) - mean) / std
    as_input = scaled.astype(np.float32).astype(np.float64)
    lost = [
        name
        for column, name in enumerate(names)
        if rounding.rounding_share(scaled[:, column], as_input[:, column]) > rounding.LOST
    ]
    notes = [
        f"{name}: its steps are small beside its range, and float32, the precision of the inputs, loses a tenth of them or more; "
        "forecast its differences or its logarithm"
        for name in lost
    ]
    notes += [
        f"window.targets={target}: constant in the training split, so nothing of it can be learned; its mase and its "
        "scaled errors are undefined and left out"
        for target in window.targets
        if fitted["naive_mae"][names.index(target)] == 0
    ]
    if first_forecast < window.season:
        reach = f"the series reaches back {first_forecast} steps from test"
        notes.append(f"window.season={window.season}: {reach}, so the seasonal-naive forecast is left out")
    return notes


def _check_targets_vary(window: SeriesWindow, names: list[str], values: npt.NDArray[Any]) -> None:
    """Check that no target has the same value at every time step.

    Raises:
        UserError: when one has. It names the target.

    """
    for target in window.targets:
        series = values[:, names.index(target)]
        if series.min() == series.max():
            raise UserError(f"window.targets={target}: all its values are {series[0]:g}", "name a channel that varies")
