"""The outcome of a training, in its run directory."""

from pathlib import Path

from reprise.data import store
from reprise.data.contracts import Contract
from reprise.errors import UserError
from reprise.tracking import groups
from reprise.tracking.run_info import OUTCOME as OUTCOME
from reprise.tracking.run_info import WEIGHTS as WEIGHTS

INTERVALS = "intervals.json"
"""File in the directory of a run that forecasts: its prediction intervals."""


class Trained(Contract):
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
    groups.check_is_training(run_dir)
    if not (run_dir / OUTCOME).is_file():
        raise UserError(
            f"run {store.read_json(run_dir / 'run.json')['name']} was not trained to its end", "start its training again"
        )
    return Trained.read(run_dir / OUTCOME, "start its training again")
