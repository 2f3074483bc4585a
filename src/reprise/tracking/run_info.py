"""run.json: the identity of a run, written once when it starts."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from reprise.data import store
from reprise.errors import UserError

FILE = "run.json"
WEIGHTS = "best.safetensors"
"""File in a run directory with the weights of the best epoch."""
OUTCOME = "trained.json"
"""File in a run directory that is written when the training has ended (`trained`)."""
NEWEST = re.compile(r"last(~(?P<back>\d+))?")
"""Stands for the newest finished training; `last~1` for the one before it."""
TRASH = "trash"
"""Folder in mlruns/ of runs that are being deleted: no other command reads them."""
CURRENT_STORE = "elsewhere"
"""Stands for the current store, in place of the unknown original store of a run from another machine."""


class RunInfo(BaseModel):
    """The content of run.json. Fields that a newer version added are ignored, as nobody writes the file again.

    A run from another machine that was evaluated here has only `run_id` and `name`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    """MLflow's id, or the token if MLflow was not reachable at the start."""
    name: str
    token: str = ""
    """The tag that finds the run in MLflow if its creation was interrupted."""
    experiment: str = ""
    """MLflow's experiment."""
    store: str | None = CURRENT_STORE
    """The address of the tracking store without a password; None for the database under mlruns/."""
    started: int = 0
    """Milliseconds since 1970."""


def exists(run_dir: Path) -> bool:
    """Return whether a folder is the run directory of a run that has started."""
    return (run_dir / FILE).is_file()


def read(run_dir: Path) -> RunInfo:
    """Return the identity of the run of a run directory.

    Raises:
        UserError: if its run.json is damaged.

    """
    file = run_dir / FILE
    try:
        return RunInfo.model_validate(store.read_json(file))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "its content"
        raise UserError(f"{file} is damaged: {where}: {problem['msg']}", f"delete {run_dir}, then train again") from None


def write(run_dir: Path, info: RunInfo) -> None:
    """Write run.json atomically."""
    store.write_atomically(run_dir / FILE, info.model_dump_json(indent=2).encode())


def run_dirs(folder: Path) -> list[Path]:
    """Return the run directories under `folder` (mlruns/), sorted by id."""
    return [file.parent for file in sorted((folder / "runs").glob(f"*/{FILE}"))]


def newest_trained(folder: Path, requested: str) -> list[Path]:
    """Return a list of the run directory that `last` or `last~N` stands for; empty for other names, or without such a run."""
    if not (found := NEWEST.fullmatch(requested)):
        return []
    back = int(found["back"] or 0)
    trained = [run_dir for run_dir in run_dirs(folder) if (run_dir / OUTCOME).is_file()]
    return sorted(trained, key=lambda run_dir: read(run_dir).started, reverse=True)[back : back + 1]
