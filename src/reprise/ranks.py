"""Which of several processes of one run this is, from what torchrun or SLURM said."""

import os


def launched() -> bool:
    """Whether this process is one of several that torchrun or SLURM started."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one that writes: to the console, to MLflow, to the outputs."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0
