"""Open a trained run from its run directory. The arrays it was trained on are not needed."""

from dataclasses import dataclass
from pathlib import Path

from reprise.config import Config, check
from reprise.data import store
from reprise.data.windows import REMAKE_WINDOWS, Windows, read_meta
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import event_log, lineage, record
from reprise.tracking import run as tracking
from reprise.tracking.trained import WEIGHTS, Trained, read_trained


@dataclass(frozen=True)
class TrainedRun:
    """A finished training: its config, the windows it was trained on, and its weights."""

    config: Config
    trained: Trained
    windows: Windows
    run_dir: Path

    @property
    def weights(self) -> Path:
        """The file with the weights of the best epoch."""
        return self.run_dir / WEIGHTS


def open_run(paths: ProjectPaths, name: str) -> TrainedRun:
    """Return the run with this name, or whose id starts with it.

    Raises:
        UserError: when there is no such run, its training did not finish, or its config or weights were modified.

    """
    run_id = tracking.find(paths.store, name)
    run_dir = paths.run_dir(run_id)
    trained = read_trained(run_dir)
    tracked = {"tracking": {"uri": None, "experiment": "", "log_model": False}}  # nothing is logged
    config = check({**record.from_run_dir(run_dir).config, **tracked}, "the run's config")
    windows = windows_as_trained(config, trained, paths)
    lineage.warn_of_edited_plugins(config.plugins, record.from_run_dir(run_dir).tags, trained.name)
    return TrainedRun(config, trained, windows, run_dir)


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
