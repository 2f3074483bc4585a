"""Every config that ships composes, builds what it names, and learns from a batch."""

from pathlib import Path

import pytest
import torch
import yaml

from reprise.config import Config, build, choices, compose, compose_dataset, pipeline, render
from reprise.config.compose import load
from reprise.stages.train import build_parts
from tests.config.conftest import ROOT, windows_for

EXPERIMENTS = choices(ROOT, "experiment")
NEEDED = {"image_folder": ["data.path=pictures"]}
"""What only the user can say."""
PARAMETERS = {
    "mnist_cnn64": 121_930,
    "mnist_cnn128": 225_034,
    "fashion_mnist_cnn": 225_034,
    "fashion_mnist_small": 173_738,
    "fashion_mnist_deep": 467_818,
    "mnist_best": 278_890,
    "fashion_mnist_best": 426_602,
    "temperature_lstm": 5_153,
    "temperature_gru": 3_873,
    "temperature_cnn1d": 4_593,
    "ablation_layers": 130_890,
    "ablation_filters": 485_514,
    "ablation_augmentation": 225_034,
    "ablation_optimizer": 225_034,
    "ablation_batch_norm": 225_130,
    "ablation_all": 371_274,
}
"""Of every experiment of the pipeline; the first five are those of the lessons."""
OF_KIND = {"cnn": "bare_images", "cnn1d": "bare_series", "lstm": "bare_series", "gru": "bare_series"}
"""Which data a model reads."""


def learn_one_batch(config: Config) -> dict[str, bool]:
    """What came of a forward pass, loss, backward pass, a step of the optimizer and one of the schedule, as the Learner makes them."""
    windows = windows_for(config)
    network, task = build_parts(config, windows)
    optimizer = build(config.optimizer, "optimizer", config.plugins, network.parameters())
    scheduler = build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=10)
    inputs = torch.randn(4, *windows.input_shape)
    outputs = network(inputs)
    predictions = task.decode(outputs, inputs)
    targets = torch.arange(4) % task.outputs if config.data.kind == "images" else torch.randn_like(predictions)
    task.loss(predictions, targets).backward()
    before = [weight.detach().clone() for weight in network.parameters()]
    optimizer.step()
    scheduler.step()
    return {
        "an output for each class or value": outputs.shape == (4, task.outputs),
        "a finite gradient for each weight": all(
            weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in network.parameters()
        ),
        "weights that moved": any(bool((old != new).any()) for old, new in zip(before, network.parameters(), strict=True)),
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_learns_from_a_batch(root: Path, experiment: str) -> None:
    config = compose(root, [f"experiment={experiment}", *NEEDED.get(experiment, [])])
    assert config.name == experiment  # its folder under data/ is called as its file
    learned = learn_one_batch(config)
    assert all(learned.values()), learned


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("trainer", choices(ROOT, "trainer"))
def test_every_experiment_composes_with_every_trainer_and_reads_back_equal(
    root: Path, tmp_path: Path, experiment: str, trainer: str
) -> None:
    config = compose(root, [f"experiment={experiment}", f"trainer={trainer}", *NEEDED.get(experiment, [])])
    assert config.trainer.world_size == (2 if "dp" in trainer else 1)
    (tmp_path / "config.yaml").write_text(render(config))
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("model", choices(ROOT, "model"))
def test_every_model_learns_from_a_batch(clone: Path, model: str) -> None:
    learned = learn_one_batch(compose(clone, [f"experiment={OF_KIND[model]}", f"model={model}"]))
    assert all(learned.values()), learned


@pytest.mark.parametrize("choice", [f"{group}={name}" for group in ("optimizer", "scheduler") for name in choices(ROOT, group)])
def test_every_optimizer_and_schedule_learns_from_a_batch(root: Path, choice: str) -> None:
    learned = learn_one_batch(compose(root, ["experiment=digits_cnn", choice]))
    assert all(learned.values()), learned


@pytest.mark.parametrize("name", choices(ROOT, "data"))
def test_every_data_set_is_named_as_its_file_and_is_the_same_alone_and_in_a_run(clone: Path, name: str) -> None:
    needed = NEEDED.get(name, [])
    alone = compose_dataset(clone, name, needed)
    assert alone.name == name
    assert compose(clone, [f"experiment=bare_{alone.kind}", f"data={name}", *needed]).data == alone


def test_every_experiment_of_the_pipeline_has_the_parameters_it_says(root: Path) -> None:
    wanted = pipeline(root)
    found = {}
    for name in wanted.experiments | wanted.long:
        config = compose(root, [f"experiment={name}"])
        network, _ = build_parts(config, windows_for(config))
        found[name] = sum(weight.numel() for weight in network.parameters())
    assert found == PARAMETERS


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(root: Path) -> None:
    config = compose(root, ["experiment=digits_cnn"])
    first, again, other = (build_parts(config.model_copy(update={"seed": seed}), windows_for(config))[0] for seed in (3, 3, 4))
    for one, same, different in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, different)


def test_the_pipeline_names_experiments_and_data_sets_that_exist(root: Path) -> None:
    wanted = pipeline(root)
    assert not wanted.experiments.keys() & wanted.long
    for experiment, data in (wanted.experiments | wanted.long).items():
        assert compose(root, [f"experiment={experiment}", *wanted.overrides]).data.name == data
    assert set(wanted.experiments.values()) == set(wanted.datasets)
    assert set(wanted.long.values()) - set(wanted.datasets) == set(wanted.long_datasets)


def test_every_key_of_conf_that_is_chosen_from_a_few_names_them_beside_it(root: Path) -> None:
    """The comments in conf/ are where a user learns what a key may be."""
    text = (root / "conf" / "trainer" / "auto.yaml").read_text()
    for words in ("auto, cpu or gpu", "single, ddp or fsdp", "float32, tf32, bf16 or fp16"):
        assert words in text
    assert set(yaml.safe_load(text)) == set(compose(root, ["experiment=digits_cnn"]).trainer.model_dump())
