"""The cost of the pipeline beyond the arithmetic of the network: an epoch of fashion_mnist_cnn in four variants.

    python benchmarks/step_cost.py [--rounds 5] [--epochs 2] [--samples 55000] [--threads N]

- reprise: as `reprise train experiment=fashion_mnist_cnn` runs it: MLflow, event log, progress bar, validation, best weights.
  The seconds without its validation are those of `train/seconds`, from the start of an epoch to its validation.
- unreproducible: the same with trainer.deterministic=false, for the price of reproducible bits.
- bare: a plain PyTorch loop over tensors in memory: the same network, batch, precision, memory layout, optimizer and schedule;
  no validation, no metrics, no logging.
- template: a Dataset with a per-sample `__getitem__`, a DataLoader, and plain Lightning with two `self.log` a step.

Each round trains some epochs of each variant in turn (A B C D A B C D …), after a warm-up round. Prints the ratios, of seconds
and of CPU seconds of all threads, and writes them to benchmarks/results/. Machines are noisy: read the ratios, not the seconds.
If other programs run too, only the ratio of CPU seconds means anything.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from report import Ratio, report
from reprise import config as configs
from reprise.config import Config
from reprise.data.modalities.images.tensors import Images
from reprise.data.windows import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.stages.seed_run import train_seed
from reprise.tasks.build import build_network, build_task
from reprise.tracking import resume
from reprise.training import precision
from reprise.training.fit import Fitted, Training
from reprise.training.trainer import quiet_lightning

TAGS = {"origin": "benchmark", "mlflow.source.name": "python benchmarks/step_cost.py"}


class Cost(NamedTuple):
    """The cost of the epochs of a training."""

    seconds: float
    cpu_seconds: float
    """Of all threads of this process."""
    unvalidated: float = 0.0
    """Of `seconds`, those without validations; 0 if not measured."""

    @classmethod
    def now(cls) -> "Cost":
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: "Cost") -> "Cost":
        return self._replace(seconds=self.seconds - start.seconds, cpu_seconds=self.cpu_seconds - start.cpu_seconds)


def reprise_epoch(config: Config, windows: Windows, paths: ProjectPaths, devnull: TextIO) -> Cost:
    """Return the cost of a fit: training and validation of each epoch, metrics, event log, MLflow, weights, progress bar."""
    console = Console(force_terminal=True, file=devnull)
    fits: list[Cost] = []
    fit = Training.fit

    def measured(*arguments: Any, **settings: Any) -> Fitted:
        began = Cost.now()
        fitted = fit(*arguments, **settings)
        unvalidated = sum(row["train/seconds"] for row in fitted.history)
        fits.append(Cost.now().since(began)._replace(unvalidated=unvalidated))
        return fitted

    with resume.lock_training(paths.store, "benchmark", 0) as training, patch.object(Training, "fit", measured):
        training.forget()
        train_seed(config, windows, None, paths, console, TAGS, training)
    return fits.pop()


EPOCHS: list[Cost] = []


class Stopwatch(pl.Callback):
    """The cost of a training."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began = Cost.now()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        EPOCHS.append(Cost.now().since(self.began))


def autocast(number_format: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=number_format == "bf16")


def bare_epoch(config: Config, windows: Windows, number_format: str) -> Cost:
    torch.use_deterministic_algorithms(False)  # as in a loop written by hand
    network = build_network(config, windows.meta, build_task(config, windows.meta))
    split, _ = windows.learning()
    assert isinstance(split, Images)
    inputs = split.transform(split.pixels[split.samples])
    labels = split.labels[split.samples]
    optimizer = configs.build(config.optimizer, "optimizer", [], network.parameters())
    steps = -(-len(inputs) // config.trainer.batch_size) * config.trainer.max_epochs
    schedule = configs.build(config.scheduler, "scheduler", [], optimizer, total_steps=steps)
    began = Cost.now()
    for _ in range(config.trainer.max_epochs):
        for rows in torch.randperm(len(inputs)).split(config.trainer.batch_size):
            with autocast(number_format):
                loss = nn.functional.cross_entropy(network(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Cost.now().since(began)


class PerSample(Dataset[tuple[Tensor, Tensor]]):
    """A Dataset as in tutorials: one sample at a time, normalised on each access."""

    def __init__(self, split: Images) -> None:
        self.pixels, self.labels = split.pixels[split.samples], split.labels[split.samples]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels[index].float().div(255).sub(0.286).div(0.353), self.labels[index]


class Plain(pl.LightningModule):
    """A LightningModule as in tutorials: a loss, an accuracy, two logs per step."""

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.network, self.learning_rate = network, learning_rate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        logits = self.network(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_acc", (logits.argmax(1) == batch[1]).float().mean(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.learning_rate)


def template_epoch(config: Config, windows: Windows, number_format: str) -> Cost:
    torch.use_deterministic_algorithms(False)
    network = build_network(config, windows.meta, build_task(config, windows.meta))
    split, _ = windows.learning()
    assert isinstance(split, Images)
    loader = DataLoader(PerSample(split), config.trainer.batch_size, shuffle=True)
    quiet_lightning()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=config.trainer.max_epochs,
        precision=precision.LIGHTNING[number_format],  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[Stopwatch()],
    )
    trainer.fit(Plain(network, config.optimizer.lr), loader)
    return EPOCHS.pop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each training")
    parser.add_argument("--samples", type=int, default=55_000, help="training images of the epoch")
    parser.add_argument("--threads", type=int, help="as trainer.threads; by default all CPUs")
    options = parser.parse_args()
    root = configs.project_root()
    with tempfile.TemporaryDirectory() as scratch, Path(os.devnull).open("w") as devnull:
        paths = ProjectPaths(Path(scratch))  # the project's config and data, a tracking store of its own
        for name in ("conf", "data"):
            (paths.root / name).symlink_to(root / name)
        overrides = [f"trainer.max_epochs={options.epochs}", f"data.limit={options.samples}", "tracking.log_model=false"]
        overrides += [f"trainer.threads={options.threads}"] if options.threads else []
        config = configs.compose(root, ["experiment=fashion_mnist_cnn", *overrides])
        free = configs.compose(root, ["experiment=fashion_mnist_cnn", "trainer.deterministic=false", *overrides])
        windows = prepare(config, paths, Console(quiet=True))
        task = build_task(config, windows.meta)
        number_format = precision.resolve(config.trainer.precision, torch.device("cpu"), task.tolerates_bf16)
        variants: dict[str, Callable[[], Cost]] = {
            "reprise": lambda: reprise_epoch(config, windows, paths, devnull),
            "unreproducible": lambda: reprise_epoch(free, windows, paths, devnull),
            "bare": lambda: bare_epoch(config, windows, number_format),
            "template": lambda: template_epoch(config, windows, number_format),
        }
        measured: dict[str, list[Cost]] = {variant: [] for variant in variants}
        for turn in range(options.rounds + 1):
            for variant, epoch in variants.items():
                cost = epoch()
                if turn:
                    measured[variant].append(cost)
            if turn:
                print(
                    "  ".join(
                        f"{name} {costs[-1].seconds:.2f} s, CPU {costs[-1].cpu_seconds:.2f} s" for name, costs in measured.items()
                    ),
                    flush=True,
                )
    facts = {"threads": torch.get_num_threads(), "precision": number_format, "images": options.samples, "epochs": options.epochs}

    def ratios(what: str, upper: str, lower: str, reproducible: bool, goal: str = "") -> list[Ratio]:
        pairs = list(zip(measured[upper], measured[lower], strict=True))
        return [
            Ratio(what, [one.seconds / other.seconds for one, other in pairs], "training only", reproducible, goal, facts),
            Ratio(
                f"{what}, CPU seconds",
                [one.cpu_seconds / other.cpu_seconds for one, other in pairs],
                "training only",
                reproducible,
                "",
                facts,
            ),
        ]

    unvalidated = [one.unvalidated / other.seconds for one, other in zip(measured["reprise"], measured["bare"], strict=True)]
    report(
        "step_cost",
        [
            *ratios("epoch of reprise / bare loop", "reprise", "bare", True, "at most 1.03"),
            Ratio("epoch of reprise without its validation / bare loop", unvalidated, "training only", True, "", facts),
            *ratios("epoch of reprise with trainer.deterministic=false / bare loop", "unreproducible", "bare", False),
            *ratios("epoch of reprise / the same with trainer.deterministic=false", "reprise", "unreproducible", True),
            *ratios("epoch of plain Lightning with a per-sample Dataset / bare loop", "template", "bare", False),
        ],
        f"python benchmarks/step_cost.py --rounds {options.rounds} --epochs {options.epochs} --samples {options.samples}"
        + (f" --threads {options.threads}" if options.threads else ""),
    )


if __name__ == "__main__":
    main()
