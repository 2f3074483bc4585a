"""Find the weights that a training starts from, and check that they have not seen its test samples."""

import shutil

import numpy as np
from rich.console import Console

from reprise.config import Config
from reprise.config.pretrained import PINNED, PRETRAINED
from reprise.data import store
from reprise.data.windows import Windows
from reprise.errors import UserError, warn
from reprise.inference.trained_run import TrainedRun, open_run
from reprise.project_paths import ProjectPaths
from reprise.stages import download
from reprise.tracking import lineage
from reprise.tracking.run import Run
from reprise.tracking.weights import read_hashed
from reprise.training.initial import InitialWeights, Source

KEPT = "initial"
"""Folder in mlruns/ that initial weights are searched in first: `reproduce` puts those of the run there."""
RECORD, WEIGHTS, PUBLISHED = "initial.json", "initial.safetensors", "initial.pth"
"""Files of the initial weights of a run, in lineage/ of its run directory: where they come from, and a copy of the file."""


def find(config: Config, windows: Windows, paths: ProjectPaths, console: Console) -> tuple[Config, InitialWeights | None]:
    """Return the initial weights, and the config with their hash in `init_from`. A published file is downloaded.

    Raises:
        UserError: when there are none of this name, or they have another hash than `init_from` states; when they were trained on
            test samples of `windows`.

    """
    if config.init_from is None:
        return config, None
    name, _, sha256 = config.init_from.partition(PINNED)
    kept = paths.store / KEPT
    if sha256 and (kept / RECORD).is_file():
        source = Source.read(kept / RECORD, "restore the run")
        found = InitialWeights(source, kept / file_name(source))
    elif name in PRETRAINED:
        found = _published(name, paths, console)
    else:
        found = _of_run(name, windows, paths)
    source = found.source
    if sha256 not in {"", source.sha256}:
        raise UserError(
            f"init_from={name}: its weights are others now (sha256 {source.sha256[:12]}…, not {sha256[:12]}…)",
            f"omit {PINNED}… to start from the present ones",
        )
    return config.model_copy(update={"init_from": f"{source.name}{PINNED}{source.sha256}"}), found


def record(initial: InitialWeights, run: Run) -> None:
    """Keep a copy of the initial weights and their origin in the lineage of a run."""
    folder = store.made(run.run_dir / "lineage")
    name = file_name(initial.source)
    shutil.copyfile(initial.file, folder / name)
    store.write_json(folder / RECORD, initial.source.model_dump())
    run.log_artifact(f"lineage/{RECORD}")
    run.log_artifact(f"lineage/{name}")


def tags(initial: InitialWeights | None) -> dict[str, str]:
    """Return tags with the origin of the initial weights."""
    if initial is None:
        return {}
    source = initial.source
    seen = {"init_from.val_overlap": str(source.val_overlap)} if source.val_overlap else {}
    return {"init_from.name": source.name, "init_from.run": source.run_id, "sha256.init_from": source.sha256, **seen}


def file_name(source: Source) -> str:
    """Return the name of the copy of the weights in the lineage of a run."""
    return PUBLISHED if source.is_published else WEIGHTS


def _published(name: str, paths: ProjectPaths, console: Console) -> InitialWeights:
    data = PRETRAINED[name]
    try:
        folder = download.run(data, paths, console)
    except UserError as error:
        raise UserError(f"init_from={name}: {error}", "or omit it, to train from random weights") from None
    [file] = data.files
    return InitialWeights(Source(name=name, sha256=file.sha256, labels=[], is_published=True), folder / file.name)


def _of_run(name: str, windows: Windows, paths: ProjectPaths) -> InitialWeights:
    try:
        run = open_run(paths, name)
    except UserError as error:
        raise UserError(f"init_from={name}: {error}") from None
    content = read_hashed(run.weights, "weights", "train it again")
    is_run = run.weights.is_relative_to(paths.store / "runs")
    source = Source(
        name=run.trained.name if is_run else name,
        sha256=lineage.text_hash(content),
        labels=run.windows.meta.labels(),
        run_id=run.trained.run_id,
        val_overlap=_check_overlap(name, run, windows, paths),
    )
    return InitialWeights(source, run.weights)


def _check_overlap(name: str, run: TrainedRun, windows: Windows, paths: ProjectPaths) -> int:
    """Return the number of samples of val that a run was trained on, or the weights it started from, back to the first.

    Raises:
        UserError: when one of them was trained on samples of test, or selected its epoch by them; when that cannot be known.

    """
    val, test = _overlap(run, windows, name)
    if test:
        raise UserError(
            f"init_from={name}: {run.trained.name} was trained on {test:,} samples that are in the test split here",
            "split the data as it did, or start from a run on other data",
        )
    if val:
        warn(f"init_from={name}: {run.trained.name} was trained on {val:,} samples of val here, so metrics of val are optimistic")
    earlier = (run.config.init_from or "").partition(PINNED)[0]
    if not earlier or earlier in PRETRAINED:
        return val
    try:
        before = open_run(paths, earlier)
    except UserError as error:
        raise UserError(f"init_from={name}: it started from {earlier}, whose training samples are not known: {error}") from None
    return max(val, _check_overlap(name, before, windows, paths))


def _overlap(run: TrainedRun, windows: Windows, name: str) -> tuple[int, int]:
    """Return how many samples (rows of a series) of val and test here a run learned from. Its val split selected its epoch."""
    theirs = run.windows
    if theirs.meta.arrays != windows.meta.arrays:
        if run.config.data.name == windows.arrays.name:
            raise UserError(
                f"init_from={name}: data/processed/{windows.arrays.name} has changed since, so the test split may hold samples "
                f"that {run.trained.name} was trained on",
                "train it again on the present data",
            )
        return 0, 0
    rows, own_rows = theirs.meta.learning_rows(), windows.meta.learning_rows()
    if rows:
        shared = [(rows[one], own_rows[one]) for one in rows if one in own_rows]
        return (sum(max(0, a[0] - b[0]) for a, b in shared), sum(max(0, a[1] - b[1]) for a, b in shared))
    return _shared(theirs, ["train"], windows, "val"), _shared(theirs, ["train", "val"], windows, "test")


def _shared(theirs: Windows, splits: list[str], windows: Windows, split: str) -> int:
    """Return the number of samples of a split that are in splits of other windows of the same arrays."""
    folder = windows.meta.array_folder(split)
    seen = [theirs.indices(one) for one in splits if theirs.meta.array_folder(one) == folder]
    return int(np.isin(windows.indices(split), np.concatenate(seen)).sum()) if seen else 0
