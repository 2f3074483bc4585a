"""The device of answers: the option `--device` of `predict`, `explain` and `serve`."""

from dataclasses import replace

import torch

from reprise.errors import UserError
from reprise.inference.trained_run import TrainedRun


def on_device(run: TrainedRun, name: str) -> TrainedRun:
    """Return the run with the device `cpu`, `gpu`, or `auto`: a GPU if there is one. Answers of a GPU are computed in float32.

    Raises:
        UserError: for `gpu` if there is none.

    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return run
    if not torch.cuda.is_available():
        raise UserError("device gpu: PyTorch finds no GPU on this machine", "use cpu or auto")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as in `evaluate`
    return replace(run, device="cuda")
