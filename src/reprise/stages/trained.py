"""The outcome of a training: its record in the run directory, and the published weights in data/models/<experiment>/.

DVC tracks data/models/, so it holds only files that every training of a config reproduces exactly on one kind of machine. Run
ids, names and durations differ between runs and are written to mlruns/pipeline/<experiment>.json.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from reprise.config import Config, TrainerConfig, check
from reprise.data import store
from reprise.data.datasets import REMAKE_WINDOWS, Windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import event_log, groups, lineage
from reprise.training.checkpoint import load_weights
from reprise.training.trainer import threads

TRAINING = "training.json"
FINGERPRINTS = "first_steps.json"
"""File in a run directory: the fingerprints of the weights before training and after each of the first steps."""
PER_RUN = ("run_id", "name", "train_seconds")
"""Fields of `Trained` that differ when a run is repeated."""


@dataclass(frozen=True)
class Trained:
    """The outcome of one training, apart from its weights."""

    run_id: str
    """Empty for published weights whose run is not in this project's mlruns/."""
    name: str
    seed: int
    best_epoch: int
    epochs: int
    parameters: int
    train_seconds: float
    windows: str
    """Folder of the windows, relative to the project root."""
    splits: str = ""
    """The hash of these windows (`Windows.digest`); "" for a run of an older version."""


def read_trained(run_dir: Path) -> Trained:
    """Return the outcome of a run from its run directory.

    Raises:
        UserError: when the run did not finish, or is the parent of several runs.

    """
    groups.demand_training(run_dir)
    if not (run_dir / "trained.json").is_file():
        raise UserError(
            f"run {store.read_json(run_dir / 'run.json')['name']} was not trained to its end", "start its training again"
        )
    return Trained(**store.read_json(run_dir / "trained.json"))


def windows_of(config: Config, trained: Trained, paths: ProjectPaths) -> Windows:
    """Return the windows that a run was trained on. The arrays need not exist.

    Raises:
        UserError: when the windows are missing or were replaced by ones with other splits, statistics or arrays. Evaluating on
            those could use samples that the run was trained on.

    """
    folder = paths.root / trained.windows
    store.manifest(folder, REMAKE_WINDOWS)
    meta = store.read_json(store.check(folder, "windows.json", REMAKE_WINDOWS))
    windows = Windows(folder, paths.processed(config.data.name), meta)
    if trained.splits:
        is_same = trained.splits == windows.digest
    else:  # a run of an older version, which recorded only the hash of the folder
        recorded = event_log.EventLog(paths.run_dir(trained.run_id)).tags.get("sha256.windows")
        is_same = recorded is None or recorded == store.digest(folder)
    if not is_same or meta["made_by"]["settings"] != config.window.model_dump():
        raise UserError(
            f"{folder} holds other windows by now than {trained.name} was trained on",
            "train again, or restore its data and windows",
        )
    return windows


def load_trained(network: torch.nn.Module, weights: Path, name: str) -> None:
    """Load the weights of a run into the network that its config builds.

    Raises:
        UserError: when they do not fit, because the code of the network has changed since the run.

    """
    try:
        network.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise UserError(
            f"the weights of {name} do not fit the network that its config builds now: {lines[min(1, len(lines) - 1)]}",
            "restore the code it was trained with, plugins included",
        ) from None


def read_as_trained(paths: ProjectPaths, config: Config) -> Config:
    """Return the config that trained the published weights of an experiment, set to one device, with the tracking of `config`."""
    recorded = store.read_json(paths.models(config.name) / "config.json")
    recorded["trainer"] |= {"strategy": "single", "devices": 1, "num_nodes": 1}
    return check({**recorded, "tracking": config.tracking.model_dump()}, str(paths.models(config.name) / "config.json"))


def weights_file(models: Path, seed: int) -> Path:
    """Return the path of the published weights of a seed."""
    return models / f"seed{seed}.safetensors"


def history_file(models: Path, seed: int) -> Path:
    """Return the path of the published metrics per epoch of a seed."""
    return models / f"seed{seed}.history.jsonl"


def fingerprints_file(models: Path, seed: int) -> Path:
    """Return the path of the fingerprints of the first steps of a seed."""
    return models / f"seed{seed}.{FINGERPRINTS}"


def this_machine(config: TrainerConfig) -> str:
    """Return the kind of machine (GPU or processor, threads), on which the bits of the weights depend."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else lineage.processor()
    return f"{device}, {threads(config)} threads"


def describe(one: Trained, weights: Path, machine: str) -> dict[str, Any]:
    """Return the entry of a seed in training.json: only what any training on this kind of machine reproduces."""
    repeatable = {key: value for key, value in asdict(one).items() if key not in PER_RUN}
    return {"outcome": repeatable, "sha256": store.sha256(weights), "machine": machine}


def record_runs(paths: ProjectPaths, experiment: str, trained: Sequence[Trained]) -> None:
    """Record which runs trained the published weights, by the sha256 of the weights."""
    content = {store.sha256(weights_file(paths.models(experiment), one.seed)): asdict(one) for one in trained}
    store.write_atomically(paths.pipeline_runs(experiment), json.dumps(content, indent=2).encode())


def known_runs(paths: ProjectPaths, experiment: str, hashes: Iterable[str]) -> list[Trained]:
    """Return the runs of this project that trained the weights with these hashes."""
    runs = _recorded_runs(paths, experiment)
    return [runs[sha256] for sha256 in hashes if sha256 in runs]


def _recorded_runs(paths: ProjectPaths, experiment: str) -> dict[str, Trained]:
    file = paths.pipeline_runs(experiment)
    return {sha256: Trained(**run) for sha256, run in store.read_json(file).items()} if file.is_file() else {}


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
