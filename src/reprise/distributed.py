"""The role of this process among the processes of a run, from the variables that torchrun or SLURM set."""

import json
import os
import time
import uuid
from pathlib import Path

GROUP_PREFIX = "reprise-"
"""Prefix of the id of a process group that `reprise` itself started."""


def launched() -> bool:
    """Return whether torchrun or SLURM started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_rank_zero() -> bool:
    """Return whether this is rank 0, the only process that writes to the console, MLflow and the outputs."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def new_group() -> str:
    """Return an id for a process group that this process starts."""
    return f"{GROUP_PREFIX}{uuid.uuid4().hex}"


def has_parent() -> bool:
    """Return whether another `reprise` process started this one. The parent then reports errors, once for all ranks."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(GROUP_PREFIX)


def tell_parent(message: str) -> None:
    """Write an error message to the file that the parent's elastic agent reads."""
    report = {"message": message, "timestamp": int(time.time())}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(report))
