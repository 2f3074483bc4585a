"""Small learnable splits, and trainings on them with the components that `train` uses."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn

from reprise.config import TrainerConfig
from reprise.data.loader import EvalLoader, TrainLoader
from reprise.data.modalities.images.tensors import Images
from reprise.data.modalities.series.tensors import SeriesWindows
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.recurrent import Recurrent
from reprise.tasks.build import build_transform
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.task import Task
from reprise.training import schedules
from reprise.training.learner import Learner
from reprise.training.trainer import make_trainer
from tests.metas import image_meta, series_meta

torch.set_num_threads(1)
CPU = torch.device("cpu")
CLASSES = image_meta(statistics={"mean": [70.0], "std": [40.0]})
SERIES = series_meta(
    ["pressure"],
    ["temperature", "pressure"],
    horizon=2,
    units=["Pa"],
    statistics={"mean": [10.0, -20.0], "std": [2.0, 4.0], "naive_mae": [5.0]},
)


def trainer_config(**changes: Any) -> TrainerConfig:
    """Return conf/trainer/auto.yaml for a small float32 training on one thread, with changes."""
    shipped = yaml.safe_load((Path(__file__).resolve().parents[2] / "conf" / "trainer" / "auto.yaml").read_text())
    small = {"max_epochs": 2, "batch_size": 16, "eval_batch_size": 7, "threads": 1, "progress": False}
    return TrainerConfig(**(shipped | {"accelerator": "cpu", "precision": "float32"} | small | changes))


def images(count: int, seed: int) -> Images:
    """Return noise images with a bright row at the index of the class: learnable, not trivial."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    pixels = torch.randint(0, 128, (count, 6, 6, 1), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(count), labels] += 60
    return Images(pixels, labels, torch.arange(count), build_transform(CLASSES))


def windows(count: int, seed: int) -> SeriesWindows:
    """Return windows of two noisy sines, in units, with lookback 5 and horizon 2."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(count + 6)[:, None] * torch.tensor([0.3, 0.2])
    raw = torch.tensor([10.0, -20.0]) + torch.tensor([2.0, 4.0]) * (
        time.sin() + 0.1 * torch.randn(time.shape, generator=generator)
    )
    stamps = torch.arange(len(raw))
    inputs = build_transform(SERIES)(raw, stamps)
    return SeriesWindows(inputs, torch.arange(count), 5, 2, torch.tensor([1]), raw.numpy(), stamps.numpy(), [0, 1])


def of_parameters(make: Callable[..., torch.optim.Optimizer], network: nn.Module, **settings: Any) -> torch.optim.Optimizer:
    """Return an optimizer of the parameters of a network."""
    return make(network.parameters(), **settings)


class Trained:
    """A finished training: its network, its metrics and its weights after each epoch."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        train: Images | SeriesWindows,
        val: Images | SeriesWindows,
        seed: int = 0,
        lr: float = 0.01,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        callbacks: Sequence[pl.Callback] = (),
        **settings: Any,
    ) -> None:
        config = trainer_config(**settings)
        self.network, self.task, self.val, self.config = network, task, val, config
        self.rows: list[dict[str, float]] = []
        self.weights: list[dict[str, Tensor]] = []
        trainer = make_trainer(config, task, callbacks)
        learner = Learner(network, task, partial(of_parameters, optimizer, lr=lr), schedules.constant, seed, self.record)
        device = trainer.strategy.root_device
        loaders = (
            TrainLoader(train.to(device), config.batch_size, seed, device),
            EvalLoader(val.to(device), config.eval_batch_size, device),
        )
        trainer.fit(learner, *loaders)
        self.epochs = trainer.current_epoch

    def record(self, metrics: dict[str, float], step: int) -> None:
        assert step == len(self.rows) + 1
        self.rows.append(dict(metrics))
        self.weights.append({name: weight.detach().clone() for name, weight in self.network.state_dict().items()})


def classify(seed: int = 0, dropout: float = 0.3, **settings: Any) -> Trained:
    """Train a classifier on 70 images, with 45 for validation; two epochs by default."""
    torch.manual_seed(seed)
    network = ConvNet([6, 6, 1], 3, [Block(4)], [Dense(8, dropout)])
    return Trained(network, Classification(CLASSES), images(70, 1), images(45, 2), seed, **settings)


def forecast(seed: int = 0, **settings: Any) -> Trained:
    """Train a forecaster on 70 windows, with 45 for validation; two epochs by default."""
    torch.manual_seed(seed)
    network = Recurrent([5, 2], 2, hidden=6)
    return Trained(network, Forecasting(SERIES), windows(70, 1), windows(45, 2), seed, **settings)


@pytest.fixture(params=[classify, forecast], ids=["classification", "forecasting"])
def learn(request: pytest.FixtureRequest) -> Callable[..., Trained]:
    """The function that trains a small network, for each task."""
    train: Callable[..., Trained] = request.param
    return train


def compute_metrics(task: Task, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metrics of predictions."""
    metrics = task.new_metrics()
    metrics.update(predictions, targets)
    return metrics.compute()


def validate(network: nn.Module, task: Task, split: Images | SeriesWindows, batch_size: int) -> tuple[dict[str, float], Tensor]:
    """Return the metrics of a split as `evaluate` computes them, and predictions and one-hot or real targets `[N, 2, …]`."""

    def keep(predictions: Tensor, targets: Tensor, batch: int) -> Tensor:
        true = targets if targets.is_floating_point() else nn.functional.one_hot(targets, predictions.shape[-1])
        return torch.stack([predictions, true], dim=1)

    trainer = make_trainer(trainer_config(), task)
    learner = Learner(network, task, _forbidden, _forbidden, 0, _forbidden, keep)
    trainer.validate(learner, EvalLoader(split, batch_size, CPU), verbose=False)
    return learner.validated, learner.kept[0]


def _forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("validation optimises and records nothing")


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    return tmp_path / "best.safetensors"
