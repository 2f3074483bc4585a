"""Training: bits depend on the seed only, metrics are those of whole splits, and the best weights are saved."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from reprise.data.loader import EvalLoader
from reprise.errors import UserError
from reprise.models.convnet import Block, ConvNet
from reprise.tasks.classification import Classification
from reprise.tasks.classification_metrics import ClassificationMetrics
from reprise.tasks.forecast_metrics import ForecastMetrics
from reprise.tracking.weights import load_weights
from reprise.training.best_weights import BestWeights
from reprise.training.learner import Learner
from tests.training.conftest import CLASSES, CPU, Trained, classify, compute_metrics, images, validate

Learn = Callable[..., Trained]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def without_time(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_repeated_training_gives_the_same_bits(learn: Learn, precision: str) -> None:
    first = learn(precision=precision)
    torch.randn(1000)  # other draws in between
    again = learn(precision=precision)
    assert same(first.weights[-1], again.weights[-1])
    assert without_time(first.rows) == without_time(again.rows)


def test_another_seed_gives_another_training(learn: Learn) -> None:
    assert not same(learn(seed=0).weights[-1], learn(seed=1).weights[-1])


def test_order_and_dropout_depend_only_on_the_seed() -> None:
    """All start from equal weights. The same seed gives the same result after any earlier draws, another seed another result."""

    def trained(seed: int, dropout: float, drawn_before: int = 0) -> dict[str, Tensor]:
        # initialises the weights, and does not change them
        classifier = classify(seed=5, dropout=dropout, max_epochs=1, lr=1e-30)
        torch.manual_seed(drawn_before)
        return Trained(classifier.network, classifier.task, images(70, 1), images(45, 2), seed, max_epochs=1).weights[-1]

    assert same(trained(0, 0.3), trained(0, 0.3, drawn_before=1))
    assert not same(trained(0, 0.3), trained(1, 0.3))
    assert not same(trained(0, 0.0), trained(1, 0.0))


def test_every_epoch_has_a_different_order() -> None:
    """The last batch is a smaller one; which samples are in it differs from epoch to epoch."""

    class Last(pl.Callback):
        batches: list[Tensor] = []  # noqa: RUF012

        def on_train_batch_end(self, *arguments: Any) -> None:
            if arguments[-1] == 4:
                self.batches.append(arguments[-2].inputs)

    last = Last()
    classify(callbacks=[last], max_epochs=3)
    assert len(last.batches) == 3
    assert len({inputs.sum().item() for inputs in last.batches}) == 3


def test_validation_metrics_are_those_of_the_whole_split(learn: Learn) -> None:
    """45 samples in batches of 7: a mean of batch means would give the last ones more than double weight."""
    trained = learn()
    network = trained.network.eval()
    batch = trained.val.gather(torch.arange(45))
    with torch.inference_mode():
        predictions = trained.task.decode(network(batch.inputs), batch.inputs)
    expected = compute_metrics(trained.task, predictions, batch.targets)
    assert {name: trained.rows[-1][f"val/{name}"] for name in expected} == pytest.approx(expected)
    by_batch = [
        compute_metrics(trained.task, *parts)["loss"] for parts in zip(predictions.split(7), batch.targets.split(7), strict=True)
    ]
    assert sum(by_batch) / len(by_batch) != pytest.approx(expected["loss"])  # otherwise this test would prove nothing


def test_training_metrics_are_those_of_the_whole_split() -> None:
    """With a learning rate near zero and no dropout, predictions during training equal those of the final network."""
    trained = classify(dropout=0.0, lr=1e-30)
    batch = images(70, 1).gather(torch.arange(70))
    with torch.inference_mode():
        expected = compute_metrics(trained.task, trained.network.eval()(batch.inputs), batch.targets)
    for row in trained.rows:
        assert {name: row[f"train/{name}"] for name in expected} == pytest.approx(expected)


def test_a_row_is_recorded_once_per_epoch_with_both_splits(learn: Learn) -> None:
    rows = learn(max_epochs=3).rows
    assert len(rows) == 3
    for row in rows:
        assert {name.partition("/")[0] for name in row} == {"train", "val"}
        assert row["train/lr"] == 0.01
        assert all(math.isfinite(value) for value in row.values())


def test_validation_does_not_depend_on_the_batch_size(learn: Learn) -> None:
    trained = learn()
    (metrics, full_batch), (of_parts, parts) = (validate(trained.network, trained.task, trained.val, size) for size in (45, 7))
    torch.testing.assert_close(full_batch, parts)  # the arithmetic of the network itself may differ in the last bits
    assert metrics == pytest.approx(of_parts)
    targets = trained.val.gather(torch.arange(45)).targets
    assert torch.equal(
        full_batch[:, 1] if targets.is_floating_point() else full_batch[:, 1].argmax(-1), targets
    )  # in the order of the split


def test_validation_does_not_change_the_network(learn: Learn) -> None:
    trained = learn()
    validate(trained.network, trained.task, trained.val, 7)
    assert same(trained.weights[-1], trained.network.state_dict())


def test_training_reduces_the_validation_loss(learn: Learn) -> None:
    trained = learn(max_epochs=12)
    assert trained.rows[-1]["val/loss"] < 0.7 * trained.rows[0]["val/loss"]


@pytest.mark.parametrize(
    ("mode", "values", "losses", "best_epoch"),
    [
        ("max", [0.1, 0.8, 0.3, 0.9, 0.7], [1, 1, 1, 9, 1], 4),
        ("min", [0.9, 0.2, 0.3, 0.1, 0.7], [1, 1, 1, 9, 1], 4),
        ("max", [0.1, 0.8, 0.3, 0.8, 0.8], [1, 0.5, 1, 0.2, 0.4], 4),  # a tie: the smallest loss
        ("min", [0.9, 0.2, 0.3, 0.2, 0.2], [1, 0.5, 1, 0.2, 0.4], 4),
        ("max", [0.1, 0.8, 0.3, 0.8, 0.7], [1, 0.5, 1, 0.5, 1], 4),  # equal losses too: the later one
        ("max", [0.5, 0.5, 0.5, 0.5, 0.5], [1, 1e-9, 1.1e-9, 1, 1], 2),
        ("max", [0.5, 0.5 + 1e-12, 0.5, 0.5, 0.5], [1, 9, 1, 1, 1], 2),  # more digits than float32 has
    ],
)
def test_the_best_weights_are_those_of_the_best_epoch_then_the_smallest_loss_then_the_later_epoch(
    learn: Learn,
    mode: str,
    values: list[float],
    losses: list[float],
    best_epoch: int,
    weights_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"loss": loss, "score": value} for value, loss in zip(values, losses, strict=True)]
    scores = (row for row in rows for _ in ("train", "val"))
    for kind in (ClassificationMetrics, ForecastMetrics):  # a task measures one sample to learn the names of its metrics
        monkeypatch.setattr(kind, "_compute", lambda _, count: next(scores) if count > 1 else {"loss": 0.0, "mae": 0.0})
    best = BestWeights(weights_file, "score", mode)
    trained = learn(callbacks=[best], max_epochs=5)
    assert [row["val/score"] for row in trained.rows] == values
    assert best.epoch == best_epoch
    assert same(trained.weights[best_epoch - 1], load_weights(weights_file))
    assert set(load_weights(weights_file)) == set(trained.network.state_dict())


def test_the_reloaded_best_weights_give_the_best_metric(weights_file: Path) -> None:
    best = BestWeights(weights_file, "accuracy", "max")
    trained = classify(callbacks=[best], max_epochs=8, lr=0.08)
    trained.network.load_state_dict(load_weights(weights_file))
    metrics, _ = validate(trained.network, trained.task, trained.val, 7)
    assert metrics["accuracy"] == trained.rows[best.epoch - 1]["val/accuracy"] == max(row["val/accuracy"] for row in trained.rows)


def test_validation_alone_saves_no_weights(weights_file: Path) -> None:
    trained = classify()
    best = BestWeights(weights_file, "accuracy", "max")
    trainer = pl.Trainer(accelerator="cpu", callbacks=[best], logger=False, enable_checkpointing=False, enable_progress_bar=False)
    learner = Learner(trained.network, trained.task, None, None, 0, None)  # type: ignore[arg-type]
    trainer.validate(learner, EvalLoader(trained.val, 7, CPU), verbose=False)
    assert best.epoch == 0
    assert not weights_file.exists()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_diverged_training_is_reported_in_one_line(learn: Learn, optimizer: Any, weights_file: Path) -> None:
    best = BestWeights(weights_file, "loss", "min")
    with pytest.raises(UserError) as refused:
        learn(lr=1e30, optimizer=optimizer, callbacks=[best])
    assert str(refused.value).startswith("training diverged: train/loss is ")
    assert str(refused.value).endswith(" after epoch 1; try a smaller optimizer.lr, or trainer.gradient_clip=1")
    assert not weights_file.exists()  # NaN weights are never the best


def test_patience_stops_after_that_many_epochs_without_improvement() -> None:
    assert classify(lr=1e-30, max_epochs=9, patience=2).epochs == 3
    assert classify(lr=1e-30, max_epochs=9, patience=None).epochs == 9


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("fused", [False, True])
def test_the_update_of_a_clipped_gradient_has_the_clip_norm(precision: str, fused: bool) -> None:
    """Plain gradient descent at a rate of 1 moves the weights by the gradient. One batch, one step."""

    def step(gradient_clip: float | None) -> float:
        before = {name: weight.clone() for name, weight in classify(max_epochs=1, lr=1e-30).network.state_dict().items()}
        trained = classify(
            max_epochs=1,
            batch_size=70,
            lr=1.0,
            optimizer=lambda weights, lr: torch.optim.SGD(weights, lr, fused=fused),
            gradient_clip=gradient_clip,
            precision=precision,
        )
        updates = [trained.weights[0][name] - before[name] for name in before]
        return float(torch.stack([part.norm() for part in updates]).norm())

    unclipped = step(None)
    assert step(2 * unclipped) == pytest.approx(unclipped)
    assert step(unclipped / 10) == pytest.approx(unclipped / 10, rel=1e-3)


def test_the_penalty_of_a_part_of_the_network_is_added_to_the_loss() -> None:
    class Penalty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs

        def penalty(self) -> Tensor:
            return 1000 * self.weight**2

    torch.manual_seed(0)
    part = Penalty()
    network = nn.Sequential(part, ConvNet([6, 6, 1], 3, [Block(4)], []))
    Trained(network, Classification(CLASSES), images(70, 1), images(45, 2), optimizer=torch.optim.SGD, lr=1e-5)
    assert 0 < part.weight.item() < 0.9  # no other gradient reaches it
