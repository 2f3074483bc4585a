"""The published weights in data/models/<experiment>/, and the runs of this project that trained them."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.tracking.trained import Trained

CONFIG, TRAINING = "config.json", "training.json"
"""Files in data/models/<experiment>/: the config of the training, and the outcome of each seed."""


def is_published(paths: ProjectPaths, experiment: str) -> bool:
    """Return whether the pipeline has trained an experiment, here or before `dvc pull`."""
    return (paths.models(experiment) / TRAINING).is_file()


def weights_file(models: Path, seed: int) -> Path:
    """Return the path of the published weights of a seed."""
    return models / f"seed{seed}.safetensors"


def history_file(models: Path, seed: int) -> Path:
    """Return the path of the published metrics per epoch of a seed."""
    return models / f"seed{seed}.history.jsonl"


def fingerprints_file(models: Path, seed: int) -> Path:
    """Return the path of the fingerprints of the first steps of a seed."""
    return models / f"seed{seed}.first_steps.json"


def calibration_file(seed: int) -> str:
    """Return the name of the file beside the test predictions that holds what `evaluate` calibrated on val."""
    return f"seed{seed}.calibration.npy"


def intervals_file(models: Path, seed: int) -> Path:
    """Return the path of the prediction intervals of a seed. Only forecasts have one."""
    return models / f"seed{seed}.intervals.json"


def record_runs(paths: ProjectPaths, experiment: str, trained: Sequence[Trained]) -> None:
    """Record which runs trained the published weights, by the sha256 of the weights."""
    content = {store.sha256(weights_file(paths.models(experiment), one.seed)): one.model_dump() for one in trained}
    store.write_atomically(paths.pipeline_runs(experiment), json.dumps(content, indent=2).encode())


def known_runs(paths: ProjectPaths, experiment: str, hashes: Iterable[str]) -> list[Trained]:
    """Return the runs of this project that trained the weights with these hashes."""
    runs = _recorded_runs(paths, experiment)
    return [runs[sha256] for sha256 in hashes if sha256 in runs]


def _recorded_runs(paths: ProjectPaths, experiment: str) -> dict[str, Trained]:
    file = paths.pipeline_runs(experiment)
    return {sha256: Trained.model_validate(run) for sha256, run in store.read_json(file).items()} if file.is_file() else {}


def read_published(paths: ProjectPaths, experiment: str) -> list[Trained]:
    """Return the outcome of every seed of data/models/<experiment>/, with its run if mlruns/ of this project has it.

    In a fresh clone after `dvc pull` no run is known: `run_id` is empty and `train_seconds` is NaN.
    """
    models = paths.models(experiment)
    store.verify(models, f"run `dvc repro train@{experiment}`")
    runs = _recorded_runs(paths, experiment)
    entries = store.read_json(models / TRAINING)
    return [runs.get(entry["sha256"]) or _without_run(entry["outcome"], experiment) for entry in entries]


def _without_run(outcome: dict[str, Any], experiment: str) -> Trained:
    return Trained(run_id="", name=f"{experiment} seed {outcome['seed']}", train_seconds=math.nan, **outcome)
