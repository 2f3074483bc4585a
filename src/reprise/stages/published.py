"""Publish weights in data/models/<experiment>/, and record the runs that trained them.

DVC tracks data/models/, so it holds only files that every training of a config reproduces exactly on one kind of machine. Run
ids, names and durations differ between runs and are written to mlruns/pipeline/<experiment>.json.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from reprise.config import Config, TrainerConfig, check
from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.tasks import metric_names
from reprise.tracking import event_log, lineage
from reprise.tracking import run as tracking
from reprise.tracking.published_weights import (
    CONFIG,
    TRAINING,
    fingerprints_file,
    history_file,
    intervals_file,
    record_runs,
    weights_file,
)
from reprise.tracking.trained import INTERVALS, WEIGHTS, Trained
from reprise.tracking.weights import load_weights, save_weights
from reprise.training.devices import threads

FINGERPRINTS = "first_steps.json"
"""File in a run directory: the fingerprints of the weights before training and after each of the first steps."""
PER_RUN = ("run_id", "name", "train_seconds")
"""Fields of `Trained` that differ when a run is repeated."""


def read_as_trained(paths: ProjectPaths, config: Config) -> Config:
    """Return the config that trained the published weights of an experiment, set to one device, with the tracking of `config`."""
    file = paths.models(config.name) / CONFIG
    recorded = store.read_json(file)
    recorded["trainer"] |= {"strategy": "single", "devices": 1, "num_nodes": 1}
    return check({**recorded, "tracking": config.tracking.model_dump()}, str(file))


def this_machine(config: TrainerConfig) -> str:
    """Return the kind of machine (GPU or processor, threads), on which the bits of the weights depend."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else lineage.processor()
    return f"{device}, {threads(config)} threads"


def describe(one: Trained, weights: Path, machine: str) -> dict[str, Any]:
    """Return the entry of a seed in training.json: only what any training on this kind of machine reproduces."""
    repeatable = {key: value for key, value in one.model_dump().items() if key not in PER_RUN}
    return {"outcome": repeatable, "sha256": store.sha256(weights), "machine": machine}


def publish_weights(config: Config, trained: list[Trained], paths: ProjectPaths) -> None:
    """Write data/models/<experiment>/: only files that any training of this config on this kind of machine reproduces exactly."""
    with store.publish(paths.models(config.name)) as draft:
        entries, machine = [], this_machine(config.trainer)
        for one in trained:
            run_dir = paths.run_dir(one.run_id)
            weights = weights_file(draft, one.seed)
            save_weights(weights, load_weights(run_dir / WEIGHTS))
            history_file(draft, one.seed).write_text(_repeatable(run_dir / event_log.FILE))
            entries.append(describe(one, weights, machine))
            shutil.copy(run_dir / FINGERPRINTS, fingerprints_file(draft, one.seed))
            if (run_dir / INTERVALS).is_file():
                shutil.copy(run_dir / INTERVALS, intervals_file(draft, one.seed))
        store.write_json(draft / CONFIG, tracking.recorded_config(config))
        store.write_json(draft / TRAINING, entries)
    record_runs(paths, config.name, trained)


def _repeatable(file: Path) -> str:
    """Return the training and validation metrics of an event log as JSON lines, without durations, which differ between runs."""
    points = [
        {"key": key, "value": value, "step": step}
        for key, history in event_log.read_history(file).items()
        if key not in metric_names.SPEED and key.startswith(("train/", "val/"))
        for step, value in history
    ]
    return "".join(json.dumps(point) + "\n" for point in points)
