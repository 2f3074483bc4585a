"""A trained network with its pre- and post-processing: maps raw values to probabilities or to values in units."""

from typing import Any

import torch
from torch import Tensor, nn

from reprise.data.datasets import standardize
from reprise.training.tasks import Task


class Predictor(nn.Module):
    """Standardises raw values, applies the network, and post-processes its outputs.

    Maps images `uint8 [B, H, W, C]` to probabilities `[B, K]`, and series `[B, T, C]`, in their units and with calendar
    features, to forecasts `[B, S, Y]` in units. Computes the same arithmetic as `evaluate`. `dtype` is the dtype of the
    statistics: float64 for series whose values float32 cannot represent.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, task: Task, statistics: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.register_buffer("mean", torch.tensor(statistics["mean"], dtype=dtype))
        self.register_buffer("std", torch.tensor(statistics["std"], dtype=dtype))
        self.eval()

    def forward(self, raw: Tensor) -> Tensor:
        """Return predictions for raw values."""
        inputs = standardize(raw, self.mean, self.std)
        return self.task.postprocess(self.task.decode(self.network(inputs), inputs))


def description(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the description of inputs and outputs for users of the predictor. `meta` is the content of windows.json."""
    if meta["kind"] == "images":
        colours = {1: "grey", 3: "RGB"}.get(meta["input_shape"][-1], f"{meta['input_shape'][-1]} channels")
        return {"kind": "images", "classes": list(meta["classes"]), "pixels": f"{colours}, 0 to 255, channels last"}
    return {
        "kind": "series",
        "channels": list(meta["inputs"]),
        "calendar": list(meta["calendar"]),
        "lookback": meta["lookback"],
        "horizon": meta["horizon"],
        "frequency": meta["frequency"],
        "targets": list(meta["targets"]),
        "units": dict(zip(meta["targets"], meta["units"], strict=True)),
    }
