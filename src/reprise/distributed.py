"""Which of several processes of one run this is, from what torchrun or SLURM said."""

import json
import os
import time
import uuid
from pathlib import Path

OURS = "reprise-"
"""How the id of a group of processes begins that `reprise` itself started."""


def launched() -> bool:
    """Whether this process is one of several that torchrun or SLURM started."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one that writes: to the console, to MLflow, to the outputs."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def new_group() -> str:
    """An id for a group of processes that this one starts."""
    return f"{OURS}{uuid.uuid4().hex}"


def has_parent() -> bool:
    """Whether another `reprise` started this one: it then says what went wrong, once for all of them."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(OURS)


def tell_parent(message: str) -> None:
    """Leave what went wrong where the parent's elastic agent looks for it."""
    report = {"message": message, "timestamp": int(time.time())}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(report))
