"""A trained network with everything it needs to answer: raw values in, probabilities or values in units out."""

from typing import Any

import torch
from torch import Tensor, nn

from reprise.data.datasets import standardize
from reprise.training.tasks import Task


class Predictor(nn.Module):
    """Normalising, network and task in one module, so that preprocessing travels with the model.

    Images `uint8 [B, H, W, C]` to probabilities `[B, K]`; series `[B, T, C]`, in their units and with calendar features, to
    forecasts `[B, S, Y]` in units. Makes the same arithmetic as `evaluate`. `dtype` is that of the statistics: float64 for a
    series that float32 cannot hold.
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
        """Raw values to the answer."""
        inputs = standardize(raw, self.mean, self.std)
        return self.task.postprocess(self.task.decode(self.network(inputs), inputs))


def description(meta: dict[str, Any]) -> dict[str, Any]:
    """Return what a user of the predictor must know about its inputs and outputs; `meta` is windows.json."""
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
