"""Sixteen seeds of one network trained as one program (torch.func: stacked weights, vmap), against the same in turn.

    python benchmarks/stacked.py [--members 16] [--steps 100] [--rounds 3] [--only NAME]

Both variants take the same steps with the same batches: each member has its own order of samples, a function of (seed, epoch).
They alternate (A B A B …). It prints the median of the ratios "in turn / stacked", above 1 where the stack is faster, and the
largest relative difference of a loss on val between the two after all steps. Two layers are replaced in the stack by others of
the same arithmetic: vmap has no rule for an LSTM, and copies the weights of a linear layer for each row of a batch unless its
input has two dimensions.
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
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from reprise import config as configs
from reprise.config import Config
from reprise.data.datasets import Batch, Dataset
from reprise.data.loader import TrainLoader, move_to_device
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.tasks.build import build_network, build_task
from reprise.tasks.task import Task
from reprise.training.optimizers import make_optimizer
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
Weights = dict[str, Tensor]


class UnrolledLSTM(nn.Module):
    """An LSTM of one layer as matrix products, step by step; its parameters have the same names."""

    bidirectional = False
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        for name, weight in lstm.named_parameters():
            self.register_parameter(name, weight)

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        """Return the hidden states `[B, T, F]`."""
        steps = nn.functional.linear(inputs.flatten(0, 1), self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        hidden = cell = inputs.new_zeros(len(inputs), self.weight_hh_l0.shape[1])
        states = []
        for given in steps.unflatten(0, inputs.shape[:2]).unbind(1):
            enter, forget, new, leave = (given + hidden @ self.weight_hh_l0.T).chunk(4, -1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            hidden = leave.sigmoid() * cell.tanh()
            states.append(hidden)
        return torch.stack(states, 1), None


class FlatLinear(nn.Linear):
    """A linear layer whose input is made two-dimensional."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the name of the base class
        """Return `[…, outputs]`."""
        rows = super().forward(input.reshape(-1, input.shape[-1]))
        return torch.unflatten(rows, 0, list(input.shape[:-1]))


def stackable(network: nn.Module) -> nn.Module:
    """Replace the layers of a network that vmap cannot run, or not well."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = FlatLinear
        for name, child in module.named_children():
            if isinstance(child, nn.LSTM):
                setattr(module, name, UnrolledLSTM(child))
    return network


class Stack:
    """Networks of the same shape, of which one step trains all."""

    def __init__(self, networks: list[nn.Module], task: Task, make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        weights, self.buffers = stack_module_state(networks)
        self.weights: Weights = {name: nn.Parameter(weight.detach()) for name, weight in weights.items()}
        self.base, self.task = networks[0], task
        self.optimizer = make(list(self.weights.values()))

    def step(self, batches: list[Batch]) -> None:
        """Take a step of every member with its own batch."""
        inputs, targets = torch.stack([batch.inputs for batch in batches]), torch.stack([batch.targets for batch in batches])

        def loss(weights: Weights, buffers: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
            outputs = functional_call(self.base, (weights, buffers), (inputs,))
            return self.task.loss(self.task.decode(outputs, inputs), targets)

        losses = torch.vmap(loss, randomness="different")(self.weights, self.buffers, inputs, targets)
        self.optimizer.zero_grad()
        losses.sum().backward()
        self.optimizer.step()


def step_alone(network: nn.Module, task: Task, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """Take a step of one network."""
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
        together = [stackable(build_network(one, windows.meta, task)).to(device).train() for one in seeds]
        stack = Stack(together, task, lambda weights: make_optimizer(config, _Holder(weights)))
        in_turn = _seconds(lambda nets=alone: _train_in_turn(nets, task, seeds, split, steps), device)  # type: ignore[misc]
        try:
            stacked = _seconds(lambda one=stack: _train_stacked(one, seeds, split, steps), device)  # type: ignore[misc]
        except RuntimeError as error:
            return {"error": str(error).splitlines()[0]}
        if turn:
            ratios.append(in_turn / stacked)
        difference = max(difference, _largest_difference(alone, stack, val))
    return {"ratio": statistics.median(ratios), "ratios": ratios, "largest_difference": difference}


class _Holder(nn.Module):
    """A module with these parameters, for `make_optimizer`."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)


def _train_in_turn(networks: list[nn.Module], task: Task, seeds: list[Config], split: Dataset, steps: int) -> None:
    for network, config in zip(networks, seeds, strict=True):
        optimizer = make_optimizer(config, network)
        for _, batch in zip(range(steps), _batches(split, config), strict=False):
            step_alone(network, task, optimizer, batch)


def _train_stacked(stack: Stack, seeds: list[Config], split: Dataset, steps: int) -> None:
    for _, batches in zip(range(steps), zip(*(_batches(split, config) for config in seeds), strict=True), strict=False):
        stack.step(list(batches))


def _batches(split: Dataset, config: Config) -> Iterator[Batch]:
    """Yield the full batches of a seed, epoch after epoch."""
    loader = TrainLoader(split, config.trainer.batch_size, config.seed, split.device)
    while True:
        yield from (batch for batch in loader if len(batch.targets) == loader.batch_size)
        loader.set_epoch(loader.epoch + 1)


@torch.no_grad()
def _largest_difference(alone: list[nn.Module], stack: Stack, val: Dataset) -> float:
    """Return the largest relative difference of the losses of a member and of the network that was trained alone."""
    inputs, targets, *_ = val.gather(torch.arange(min(len(val), COMPARED), device=val.device))
    found = []
    for member, network in enumerate(alone):
        weights = {name: tensor[member] for name, tensor in (stack.weights | stack.buffers).items()}
        outputs = functional_call(stack.base.eval(), weights, (inputs,)), network.eval()(inputs)
        stacked, single = (float(stack.task.loss(stack.task.decode(one, inputs), targets)) for one in outputs)
        found.append(abs(stacked - single) / single)
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
