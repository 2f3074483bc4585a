"""Open a trained run from its run directory. The arrays it was trained on are not needed."""

import re
from dataclasses import dataclass
from pathlib import Path

from reprise.config import Config, check, tracking_config
from reprise.data import store
from reprise.data.windows import REMAKE_WINDOWS, Windows, read_meta
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import event_log, lineage, published_weights, record
from reprise.tracking import run as tracking
from reprise.tracking.trained import INTERVALS, WEIGHTS, Trained, read_trained

NOT_TRACKED = {"tracking": {"uri": None, "experiment": "", "log_model": False}}


@dataclass(frozen=True)
class TrainedRun:
    """A finished training: its config, the windows it was trained on, and its weights."""

    config: Config
    trained: Trained
    windows: Windows
    weights: Path
    """The file with the weights of the best epoch."""
    intervals: Path
    """The file with the prediction intervals. It is missing for other tasks than forecasts, and for runs of earlier versions."""
    output_folder: Path
    """The folder for predictions, explanations and exports."""
    device: str = "cpu"
    """The device of its predictor: `cpu` or `cuda`."""


def open_run(paths: ProjectPaths, name: str) -> TrainedRun:
    """Return the run with this name, or whose id starts with it, or the first seed of an experiment of the pipeline.

    A run of the tracking store without a run directory here, given by its id, is opened from data/models/ of its experiment.

    Raises:
        UserError: when there is no such run, its training did not finish, or its config or weights were modified.

    """
    if not tracking.has_run_dir(paths.store, name):
        if published_weights.is_published(paths, name):
            return _open_published(paths, name)
        if re.fullmatch(r"[0-9a-f]{32}", name) and (found := _open_stored(paths, name)):
            return found
    run_dir = paths.run_dir(tracking.find(paths.store, name))
    trained = read_trained(run_dir)
    config = check({**record.from_run_dir(run_dir).config, **NOT_TRACKED}, "the run's config")
    windows = windows_as_trained(config, trained, paths)
    lineage.warn_of_edited_plugins(config.plugins, record.from_run_dir(run_dir).tags, trained.name)
    return TrainedRun(config, trained, windows, run_dir / WEIGHTS, run_dir / INTERVALS, run_dir)


def _open_stored(paths: ProjectPaths, run_id: str) -> TrainedRun | None:
    """Open the weights that a run of the store trained, if data/models/ has them. Return None if the store has no such run."""
    from reprise.tracking import registry  # late: MLflow, which takes seconds to import

    if (found := registry.run_name_and_tags(paths.store, tracking_config(paths.root), run_id)) is None:
        return None
    name, tags = found
    experiment = tags.get("experiment", "")
    if published_weights.is_published(paths, experiment):
        for number, trained in enumerate(published_weights.read_published(paths, experiment)):
            file = published_weights.weights_file(paths.models(experiment), trained.seed)
            if store.sha256(file) == tags.get("sha256.weights"):
                return _open_published(paths, experiment, number)
    raise UserError(
        f"{name}: neither its run directory nor its weights are in this project",
        f"use the project that trained it, or bring its weights here: `dvc pull data/models/{experiment}`",
    )


def _open_published(paths: ProjectPaths, experiment: str, number: int = 0) -> TrainedRun:
    """Open weights of the pipeline. Their run need not be in this project: after `dvc pull` it is not."""
    models = paths.models(experiment)
    trained = published_weights.read_published(paths, experiment)[number]
    config = check({**store.read_json(models / published_weights.CONFIG), **NOT_TRACKED}, "the config of the training")
    return TrainedRun(
        config,
        trained,
        windows_as_trained(config, trained, paths),
        published_weights.weights_file(models, trained.seed),
        published_weights.intervals_file(models, trained.seed),
        paths.store / "pipeline" / experiment,
    )


def windows_as_trained(config: Config, trained: Trained, paths: ProjectPaths) -> Windows:
    """Return the windows that a run was trained on. The arrays need not exist.

    Raises:
        UserError: when the windows are missing or were replaced by ones with other splits, statistics or arrays. Evaluating on
            those could use samples that the run was trained on.

    """
    folder = paths.root / trained.windows
    store.manifest(folder, REMAKE_WINDOWS)
    meta = read_meta(folder)
    windows = Windows(folder, paths.processed(config.data.name), meta)
    if trained.splits:
        is_same = trained.splits == windows.digest
    else:  # a run of an older version, which recorded only the hash of the folder
        recorded = event_log.EventLog(paths.run_dir(trained.run_id)).tags.get("sha256.windows")
        is_same = recorded is None or recorded == store.digest(folder)
    if not is_same or meta.made_by["settings"] != config.window.model_dump():
        raise UserError(
            f"{folder} no longer holds the windows that {trained.name} was trained on",
            "train again, or restore its data and windows",
        )
    return windows
