"""Sixteen seeds of one network trained as one program (torch.func: stacked weights, vmap), against the same in turn.

    python benchmarks/stacked.py [--members 16] [--steps 100] [--rounds 3] [--only NAME]

Both variants take the same steps with the same batches: each member has its own order of samples, a function of (seed, epoch).
They alternate (A B A B …). It prints the median of the ratios "in turn / stacked", above 1 where the stack is faster, and the
largest relative difference of a loss on val between the two after all steps. The stack is that of `trainer.stacked`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from reprise import config as configs
from reprise.config import Config
from reprise.data.datasets import Batch, Dataset
from reprise.data.loader import TrainLoader, move_to_device
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.tasks.build import build_network, build_task
from reprise.tasks.task import Task
from reprise.training.optimizers import make_optimizer
from reprise.training.stack import Stack, StackedLoader, StackedTask
from roofline import synchronize

CASES = {
    "mnist_cnn64": ["experiment=mnist_cnn64"],
    "temperature_lstm": ["experiment=temperature_lstm"],
    "mnist_rows_lstm": ["experiment=mnist_rows_lstm"],
    "etth1_96_nlinear": ["experiment=etth1_96_nlinear"],
    "etth1_96_dlinear": ["experiment=etth1_96_dlinear"],
    "batch_norm_cnn": ["experiment=mnist_cnn64", "model.blocks=[{filters: 16, batch_norm: true, pool: 2}]"],
}
COMPARED = 512
"""Samples of val whose loss is compared."""


def step(network: nn.Module, task: Task | StackedTask, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """Take a step of a network, or of a stack."""
    loss = task.loss(task.decode(network(batch.inputs), batch.inputs), batch.targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def ratio(name: str, folder: Path, device: torch.device, members: int, steps: int, rounds: int = 3) -> dict[str, Any]:
    """Return the ratios of the seconds in turn to those of the stack, and the largest relative difference of a loss on val."""
    config = configs.compose(folder, [*CASES[name], "trainer.progress=false"])
    windows = prepare(config, ProjectPaths(folder), Console(quiet=True))
    task = build_task(config, windows.meta).to(device)
    split, val = (move_to_device(one, device, True) for one in windows.learning())
    seeds = [config.model_copy(update={"seed": seed}) for seed in range(members)]
    ratios, difference = [], 0.0
    for turn in range(rounds + 1):
        alone = [build_network(one, windows.meta, task).to(device).train() for one in seeds]
        try:
            stack = Stack([build_network(one, windows.meta, task) for one in seeds]).to(device).train()
        except ValueError as error:
            return {"error": str(error)}
        in_turn = _seconds(lambda nets=alone: _train_in_turn(nets, task, seeds, split, steps), device)  # type: ignore[misc]
        try:
            stacked = _seconds(lambda one=stack: _train_stacked(one, task, seeds, split, steps), device)  # type: ignore[misc]
        except RuntimeError as error:
            return {"error": str(error).splitlines()[0]}
        if turn:
            ratios.append(in_turn / stacked)
        difference = max(difference, _largest_difference(alone, stack, task, val))
    return {"ratio": statistics.median(ratios), "ratios": ratios, "largest_difference": difference}


def _train_in_turn(networks: list[nn.Module], task: Task, seeds: list[Config], split: Dataset, steps: int) -> None:
    for network, config in zip(networks, seeds, strict=True):
        optimizer = make_optimizer(config, network)
        loader = TrainLoader(split, config.trainer.batch_size, config.seed, split.device)
        for _, batch in zip(range(steps), _batches(loader, loader.batch_size), strict=False):
            step(network, task, optimizer, batch)


def _train_stacked(stack: Stack, task: Task, seeds: list[Config], split: Dataset, steps: int) -> None:
    optimizer, stacked_task = make_optimizer(seeds[0], stack), StackedTask(task, stack.size)
    loader = StackedLoader([TrainLoader(split, one.trainer.batch_size, one.seed, split.device) for one in seeds])
    for _, batch in zip(range(steps), _batches(loader, seeds[0].trainer.batch_size), strict=False):
        step(stack, stacked_task, optimizer, batch)


def _batches(loader: TrainLoader | StackedLoader, size: int) -> Iterator[Batch]:
    """Yield full batches, epoch after epoch."""
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from (batch for batch in loader if len(batch.targets) == size)
        epoch += 1


@torch.no_grad()
def _largest_difference(alone: list[nn.Module], stack: Stack, task: Task, val: Dataset) -> float:
    """Return the largest relative difference of the losses of a member and of the network that was trained alone."""
    inputs, targets, *_ = val.gather(torch.arange(min(len(val), COMPARED), device=val.device))
    outputs = stack.eval()(inputs.unsqueeze(1).expand(-1, stack.size, *inputs.shape[1:]))
    found = []
    for network, stacked in zip(alone, outputs.unbind(1), strict=True):
        one, other = (float(task.loss(task.decode(each, inputs), targets)) for each in (stacked, network.eval()(inputs)))
        found.append(abs(one - other) / other)
    return max(found)


def _seconds(compute: Callable[[], None], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    compute()
    synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    from report import Ratio, report  # late: the GPU benchmark uses this file where MLflow is missing

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=CASES)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conf").symlink_to(configs.project_root() / "conf")
        for case in [options.only] if options.only else CASES:
            row = ratio(case, folder, device, options.members, options.steps, options.rounds)
            print(f"{case}: {row}", flush=True)
            if "error" not in row:
                facts = {"largest relative difference of a loss": row["largest_difference"], "device": device.type}
                what = f"{options.members} seeds of {case}: in turn / stacked"
                ratios.append(Ratio(what, row["ratios"], "training only", reproducible=True, facts=facts))
    report("stacked", ratios, f"python benchmarks/stacked.py --steps {options.steps}")


if __name__ == "__main__":
    main()
