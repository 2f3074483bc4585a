"""A trained network with its pre- and post-processing: the only way from raw inputs to an answer."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from reprise import cpus
from reprise.config import Config
from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import InputTransform
from reprise.tasks.build import build_network, build_task, build_transform
from reprise.tasks.task import Task
from reprise.tracking.weights import load_into

if TYPE_CHECKING:  # a predictor is built without MLflow, which `TrainedRun` imports
    from reprise.inference.trained_run import TrainedRun


class Predictor(nn.Module):
    """Input transform, network, and the post-processing of the task.

    Maps the raw inputs of the modality to predictions: images `uint8 [B, H, W, C]` to probabilities `[B, K]`; values
    `[B, T, C]` in their units and time stamps `int64 [B, T]` to forecasts `[B, S, Y]` in units. `evaluate` computes the same
    arithmetic.
    """

    def __init__(self, transform: InputTransform, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.transform = transform
        self.network = network
        self.task = task
        self.eval()

    @classmethod
    def from_weights(cls, config: Config, meta: WindowsMeta, weights: Path, name: str) -> Self:
        """Return the predictor of a config with weights from a file. `name` is that of the run, for error messages.

        Raises:
            UserError: if the weights are missing, damaged, or do not fit the network that the config builds.

        """
        task = build_task(config, meta)
        network = build_network(config, meta, task)
        load_into(network, weights, name)
        return cls(build_transform(meta), network, task)

    @classmethod
    def from_run(cls, run: "TrainedRun") -> Self:
        """Return the predictor of a run on its device; on the CPU, with as many threads as in its training."""
        torch.set_num_threads(run.config.trainer.threads or cpus.per_process(run.config.trainer.devices))
        return cls.from_weights(run.config, run.windows.meta, run.weights, run.trained.name).to(run.device)

    def move(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Return raw inputs on the device of the predictor."""
        device = next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))
        return [tensor.to(device) for tensor in raw]

    def forward(self, *raw: Tensor) -> Tensor:
        """Return predictions for raw inputs."""
        return self.predict(self.transform(*raw))

    def predict(self, inputs: Tensor) -> Tensor:
        """Return predictions for network inputs."""
        return self.task.postprocess(self.task.decode(self.network(inputs), inputs))
