"""Rates of the machine, steps of each kind of network in a bare loop, stacked trainings, predictions and explanations."""

import copy
import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from gpu_parts.bench import KINDS, Bench, Results
from reprise.config import Config
from reprise.data.datasets import Dataset
from reprise.data.loader import TrainLoader, move_to_device
from reprise.errors import UserError
from reprise.inference.attribution import recurrent_gradients
from reprise.inference.compute import classifier, forecaster
from reprise.inference.predictor import Predictor
from reprise.tasks.build import build_network, build_task, build_transform
from reprise.training import precision
from reprise.training.optimizers import make_optimizer
from roofline import copy_bandwidth, matrix_rate, seconds_of, synchronize, work

LARGE_BATCH = 2048


def machine(bench: Bench) -> Results:
    """Describe the machine, and measure the rates of matrix products and of a copy."""
    yield "versions", {"python": platform.python_version(), "torch": torch.__version__, "lightning": version("pytorch-lightning")}
    yield "cpus", len(os.sched_getaffinity(0))
    size, megabytes = (256, 64) if bench.smoke_test else (8192, 4096)
    if not bench.smoke_test:
        card = torch.cuda.get_device_properties(bench.device)
        yield "gpu", {"name": card.name, "memory": card.total_memory, "multiprocessors": card.multi_processor_count}
        yield "cuda", {"runtime": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    yield "bandwidth", copy_bandwidth(bench.device, megabytes)
    for number_format in ("float32", "tf32", "bf16"):
        yield f"rate_{number_format}", matrix_rate(bench.device, number_format, size)


def networks(bench: Bench) -> Results:
    """Measure the steps of each kind of network in a bare loop: samples a second, and the share of the roofline."""
    found = dict(machine(bench))
    for name in KINDS:
        for number_format in ("float32", "bf16"):
            for batch in (None, LARGE_BATCH):
                config = bench.kind(name, *([] if batch is None or bench.smoke_test else [f"trainer.batch_size={batch}"]))
                row = _bare_steps(bench, config, number_format, found)
                yield f"{name} {number_format} batch {config.trainer.batch_size}", row
                if bench.smoke_test:
                    break


def _bare_steps(bench: Bench, config: Config, number_format: str, machine: dict[str, Any]) -> dict[str, float]:
    windows = bench.windows(config)
    task = build_task(config, windows.meta)
    network = build_network(config, windows.meta, task)
    split = move_to_device(windows.learning()[0], bench.device, True)
    counted = work(network, split.gather(torch.arange(4, device=bench.device)).inputs)
    network, task = network.to(bench.device).train(), task.to(bench.device)
    optimizer = make_optimizer(config, network)
    batches = iter(_endless(split, config, bench.device))

    def step() -> None:
        inputs, targets, *_ = next(batches)
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=number_format == "bf16"):
            loss = task.loss(task.decode(network(inputs), inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    size = min(config.trainer.batch_size, len(split))
    seconds = seconds_of(step, bench.device, least=0.1 if bench.smoke_test else 1.5)
    width = 2 if number_format == "bf16" else 4
    least = counted.least_seconds(size, machine[f"rate_{number_format}"], machine["bandwidth"], width)
    return {
        "samples_per_second": size / seconds,
        "flops_per_sample": counted.flops,
        "flops_per_second": counted.flops * size / seconds,
        "share_of_roofline": least / seconds,
    }


def _endless(split: Dataset, config: Config, device: torch.device) -> Iterator[Any]:
    """Yield full batches, epoch after epoch."""
    loader = TrainLoader(split, min(config.trainer.batch_size, len(split)), config.seed, device)
    while True:
        for batch in loader:
            if len(batch.targets) == loader.batch_size:
                yield batch
        loader.set_epoch(loader.epoch + 1)


def stacked(bench: Bench) -> Results:
    """Train 16 seeds as one program and in turn."""
    from stacked import CASES, ratio

    members, steps = (4, 8) if bench.smoke_test else (16, 200)
    for name in CASES:
        try:
            row = ratio(name, bench.folder, bench.device, members, steps)
        except UserError as error:  # data that this machine does not have
            row = {"error": str(error)}
        yield name, row


def answers(bench: Bench) -> Results:
    """Predict and explain on the device as the commands do, with raw inputs and answers on the host; compare with the CPU."""
    from reprise.inference.attribution import integrated_gradients

    precision.set_tf32(False)
    for name in KINDS:
        config = bench.kind(name)
        windows = bench.windows(config)
        val, task = windows.val(), build_task(config, windows.meta)
        rows = torch.arange(min(len(val), 16 if bench.smoke_test else 2048))
        raw, inputs = val.raw(rows), val.gather(rows).inputs
        predictor = Predictor(build_transform(windows.meta), build_network(config, windows.meta, task), task)
        moved = copy.deepcopy(predictor).to(bench.device)
        on_device = inputs.to(bench.device)
        with torch.inference_mode():
            seconds = seconds_of(lambda net=moved.network, batch=on_device: net(batch), bench.device)  # type: ignore[misc]
        compute, on_cpu = (forecaster(one, None) if name == "PatchTST" else classifier(one) for one in (moved, predictor))
        row = {
            "samples_per_second": len(inputs) / seconds,
            "answers_per_second": len(inputs) / seconds_of(lambda run=compute, parts=raw: run(parts), bench.device),  # type: ignore[misc]
            "largest_difference": float(abs(compute(raw)[0] - on_cpu(raw)[0]).max()),  # type: ignore[operator]
        }
        try:
            row["explained_per_second"] = _explained(moved.network, on_device[:8], bench.device, integrated_gradients)
        except (ImportError, RuntimeError, TypeError) as error:
            row["explain"] = f"{type(error).__name__}: {error}"  # type: ignore[assignment]
        yield name, row


def _explained(network: nn.Module, inputs: Tensor, device: torch.device, explain: Any) -> float:
    started = time.perf_counter()
    with recurrent_gradients(network):
        explain(lambda batch, _: network(batch)[:, :1], inputs, torch.zeros_like(inputs))
    synchronize(device)
    return len(inputs) / (time.perf_counter() - started)
