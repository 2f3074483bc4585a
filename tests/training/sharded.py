"""Run one of two ranks that train small networks with DDP and FSDP2, and save their state for test_sharding.py."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from reprise.config import CheckpointConfig
from reprise.data.loader import EvalLoader, TrainLoader
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.recurrent import Recurrent
from reprise.tasks import metric_names
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.task import Task
from reprise.tracking.weights import load_weights
from reprise.training import schedules
from reprise.training.best_weights import BestWeights
from reprise.training.checkpoint import Checkpoints
from reprise.training.devices import leave_process_group
from reprise.training.learner import Learner
from reprise.training.sharding import blocks, local_parameters
from reprise.training.trainer import make_trainer
from tests.training.conftest import CLASSES, CPU, SERIES, images, of_parameters, trainer_config, windows

STEPS = 5
"""Steps per epoch: 70 samples in batches of 16."""

PARTS = {"batch_size": 13, "accumulate": 3}
"""Batches in three parts, of 7 and 6 samples on the two ranks; the last batch of an epoch has 3 and 2, in one."""


def parts(kind: str) -> tuple[nn.Module, Task, Any, Any]:
    """Return network, task, train and val. Convolutions use channels-last memory, as in `train`."""
    torch.manual_seed(0)
    if kind == "series":
        return Recurrent([5, 2], 2, hidden=6), Forecasting(SERIES), windows(70, 1), windows(45, 2)
    network = ConvNet([6, 6, 1], 3, [Block(16, padding="same", batch_norm=True)] * 3, [Dense(16, 0.0)], global_pool="average")
    return network.to(memory_format=torch.channels_last), Classification(CLASSES), images(70, 1), images(45, 2)  # type: ignore[call-overload]


class Gathered(pl.Callback):
    """Records the most parameters that are unsharded on this rank while one block computes."""

    def __init__(self) -> None:
        self.most = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for block in blocks(pl_module.network):  # type: ignore[arg-type]
            block.register_forward_pre_hook(lambda *_: self.look(pl_module.network))  # type: ignore[arg-type]

    def look(self, network: nn.Module) -> None:
        unsharded = [weight.numel() for weight in network.parameters() if not isinstance(weight, distributed.tensor.DTensor)]
        self.most = max(self.most, sum(unsharded))


class Reductions(pl.Callback):
    """Counts how often DDP reduces the gradient of a bucket over the ranks."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(trainer.model, DistributedDataParallel):
            trainer.model.register_comm_hook(None, self.reduce)  # type: ignore[no-untyped-call]

    def reduce(self, state: object, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        self.count += 1
        return allreduce_hook(distributed.group.WORLD, bucket)


def train(
    kind: str, strategy: str, folder: Path, resume: int | None = None, steps: int = STEPS, **settings: Any
) -> dict[str, Any]:
    """Train two epochs with a checkpoint every `steps` steps, from the start or from one of the checkpoints."""
    network, task, train_split, val_split = parts(kind)
    devices = 1 if strategy == "single" else 2
    config = trainer_config(strategy=strategy, devices=devices, gradient_clip=1.0, **settings)
    gathered, reductions = Gathered(), Reductions()
    trainer = make_trainer(config, task, [gathered, reductions])
    best = BestWeights(folder / "best.safetensors", task.monitor, task.mode)
    saver = Checkpoints(folder / "checkpoints", CheckpointConfig(steps=steps, minutes=None), lambda: None, best.file)
    trainer.callbacks += [best, saver]  # type: ignore[attr-defined]
    rows: list[dict[str, float]] = []

    def record(metrics: dict[str, float], step: int) -> None:
        rows.append({key: value for key, value in metrics.items() if key not in metric_names.SPEED})

    learner = Learner(network, task, partial(of_parameters, torch.optim.Adam, lr=0.01), schedules.cosine, 0, record)
    rank_and_world = trainer.global_rank, trainer.world_size
    loaders = (
        TrainLoader(train_split, config.batch_size, 0, CPU, *rank_and_world),
        EvalLoader(val_split, config.eval_batch_size, CPU, *rank_and_world),
    )
    checkpoint = None if resume is None else folder / "checkpoints" / f"{resume:010}.pt"
    trainer.fit(learner, *loaders, ckpt_path=checkpoint, weights_only=True)
    trainer.strategy.barrier()
    states = trainer.optimizers[0].state.values()
    moments = [state["exp_avg"] for state in states]
    return {
        "rows": rows,
        "best": load_weights(folder / "best.safetensors"),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "local": local_parameters(network),
        "moments": sum((m.to_local() if isinstance(m, distributed.tensor.DTensor) else m).numel() for m in moments),
        "gathered": gathered.most,
        "reductions": reductions.count,
        "end": {key: value for key, value in trainer.strategy.lightning_module_state_dict().items() if isinstance(value, Tensor)},
    }


def main(folder: Path) -> None:
    results: dict[str, Any] = {}
    for kind in ("images", "series"):
        for strategy in ("ddp", "fsdp"):
            results[f"{kind} {strategy}"] = train(kind, strategy, folder / kind / strategy, steps=4)
        results[f"{kind} resumed"] = train(kind, "fsdp", folder / kind / "fsdp", resume=8, steps=1000)
    for strategy in ("ddp", "fsdp"):
        results[f"parts {strategy}"] = train("series", strategy, folder / "parts" / strategy, **PARTS)
    torch.save(results, folder / f"rank{distributed.get_rank()}.pt")
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
