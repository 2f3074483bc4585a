"""Evaluation of a split: on one device without Lightning, whose import takes longer than most evaluations, or on several."""

from typing import Protocol, final

import torch
from torch import Tensor, nn

from reprise.config import Config
from reprise.data.datasets import Dataset
from reprise.data.loader import EvalLoader, move_to_device
from reprise.tasks.task import Keep, Task
from reprise.training import determinism, precision
from reprise.training.devices import accelerator, check_devices, threads


class Evaluator(Protocol):
    """Computes the metrics of a split in float32."""

    is_global_zero: bool
    """Whether this process logs and prints."""

    def evaluate(self, network: nn.Module, task: Task, split: Dataset, keep: Keep | None) -> tuple[dict[str, float], Tensor]:
        """Return the metrics of a split and the predictions that `keep` keeps (empty without it)."""
        ...


def make_evaluator(config: Config, task: Task) -> Evaluator:
    """Return the evaluator for the devices of a config. It joins the process group, if there is one.

    Raises:
        UserError: if the requested devices are not available.

    """
    if config.trainer.strategy == "single":
        return OneDevice(config)
    from reprise.stages.evaluator_on_ranks import Ranks  # late: Lightning

    return Ranks(config, task)


@final
class OneDevice:
    """Evaluates on one device, with the same settings as Lightning's Trainer."""

    is_global_zero = True

    def __init__(self, config: Config) -> None:
        self.config = config.trainer
        torch.set_num_threads(threads(self.config))
        check_devices(self.config)
        precision.set_tf32(False)
        determinism.configure(self.config.deterministic)
        self.device = torch.device("cuda", 0) if accelerator(self.config) == "gpu" else torch.device("cpu")
        self.nondeterministic: set[str] = set()

    def evaluate(self, network: nn.Module, task: Task, split: Dataset, keep: Keep | None) -> tuple[dict[str, float], Tensor]:
        """See `Evaluator`. Network and task are moved to the device and back, and left in evaluation mode."""
        network.to(self.device).eval()
        task.to(self.device).eval()
        dataset = move_to_device(split, self.device, self.config.preload_to_device)
        metrics, kept = task.new_metrics(self.device), []
        with determinism.record_nondeterministic(self.nondeterministic), torch.inference_mode():
            for number, batch in enumerate(EvalLoader(dataset, self.config.eval_batch_size, self.device)):
                predictions = task.decode(network(batch.inputs), batch.inputs)
                if batch.tiles is not None:
                    predictions = task.combine(predictions, batch.tiles)
                metrics.update(predictions, batch.targets)
                if keep:
                    kept.append(keep(predictions, batch.targets, number))
            values = metrics.compute()
            all_kept = torch.cat(kept) if kept else torch.empty(0)
        network.cpu()
        task.cpu()
        return values, all_kept
