"""Every shipped config composes, builds its parts, and trains on one batch."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from reprise.config import Config, build, choices, compose, compose_dataset, pipeline, render
from reprise.config.compose import load
from reprise.models.closed_form import ClosedForm, is_closed_form
from reprise.models.ridge_classifier import RidgeClassifier
from reprise.tasks.task import Task
from tests.config.conftest import ROOT, build_parts, windows_for

EXPERIMENTS = choices(ROOT, "experiment")
REQUIRED_OVERRIDES = {
    "csv": ["data.path=a.csv"],
    "forecast_csv": ["data.path=a.csv"],
    "image_folder": ["data.path=pictures"],
    "image_folder_pretrained": ["data.path=pictures"],
    "ucr": ["data.path=sequences.csv"],
}
"""Overrides of keys without a default."""
PARAMETERS = {
    "digits_cnn": 38_282,
    "mnist_cnn64": 121_930,
    "mnist_cnn128": 225_034,
    "fashion_mnist_cnn": 225_034,
    "fashion_mnist_small": 173_738,
    "fashion_mnist_deep": 467_818,
    "mnist_fast": 46_458,
    "fashion_mnist_fast": 54_778,
    "mnist_best": 278_890,
    "fashion_mnist_best": 426_602,
    "temperature_lstm": 5_153,
    "temperature_gru": 3_873,
    "temperature_cnn1d": 2_033,
    "temperature_ridge": 0,
    "temperature_week": 5_351,
    "ablation_layers": 130_890,
    "ablation_filters": 485_514,
    "ablation_augmentation": 225_034,
    "ablation_optimizer": 225_034,
    "ablation_batch_norm": 225_130,
    "ablation_all": 371_274,
    "etth1_96_ensemble": 0,
    "etth1_192_ensemble": 0,
    "etth1_336_ensemble": 0,
    "etth1_720_ensemble": 0,
    "etth1_96_ridge": 0,
    "etth1_192_ridge": 0,
    "etth1_336_ridge": 0,
    "etth1_720_ridge": 0,
    "etth1_96_nlinear": 32_352,
    "etth1_192_nlinear": 64_704,
    "etth1_336_nlinear": 113_232,
    "etth1_720_nlinear": 242_640,
    "etth1_96_dlinear": 64_704,
    "etth1_192_dlinear": 129_408,
    "etth1_336_dlinear": 226_464,
    "etth1_720_dlinear": 485_280,
    "etth1_96_rlinear": 32_366,
    "etth1_192_rlinear": 64_718,
    "etth1_336_rlinear": 113_246,
    "etth1_720_rlinear": 242_654,
    "etth1_96_sparse_tsf": 145,
    "etth1_192_sparse_tsf": 265,
    "etth1_336_sparse_tsf": 445,
    "etth1_720_sparse_tsf": 925,
    "etth1_96_cycle_net": 32_520,
    "etth1_192_cycle_net": 64_872,
    "etth1_336_cycle_net": 113_400,
    "etth1_720_cycle_net": 242_808,
    "etth1_96_time_base": 214,
    "etth1_192_time_base": 242,
    "etth1_336_time_base": 284,
    "etth1_720_time_base": 396,
    "etth1_96_patch_tst": 81_728,
    "etth1_192_patch_tst": 146_336,
    "etth1_336_patch_tst": 243_248,
    "etth1_720_patch_tst": 501_680,
    "gun_point_hydra": 0,
    "gun_point_resnet": 127_202,
    "italy_power_demand_hydra": 0,
    "italy_power_demand_resnet": 127_202,
    "japanese_vowels_hydra": 0,
    "japanese_vowels_resnet": 130_825,
    "basic_motions_hydra": 0,
    "basic_motions_resnet": 128_772,
    "mnist_rows_lstm": 82_186,
}
"""Number of parameters of every experiment of the pipeline; those of `mnist_cnn…` and `fashion_mnist_…` are published.
Models in closed form have none."""
SERIES = ["experiment=bare_series", "window.season=7"]
DATA_FOR_MODEL = {
    **dict.fromkeys(choices(ROOT, "model"), SERIES),
    "cnn": ["experiment=bare_images"],
    **{f"efficientnet_lite{version}": ["experiment=bare_images"] for version in (0, 1, 2)},
    "resnet": ["experiment=bare_images"],
    "wide_resnet": ["experiment=bare_images"],
    "cycle_net": [*SERIES, "window.calendar=[year]", "model.cycle=7"],
    "recursive": [*SERIES, "window.targets=null", "window.calendar=[]", "task.predict_delta=false"],
}
"""Overrides that choose data which the model can read."""


def slow(experiment: str) -> list[pytest.MarkDecorator]:
    """Return the mark of an experiment that is another one but for its horizon."""
    return [pytest.mark.long] if re.match(r"etth1_(192|336|720)_", experiment) else []


def train_one_batch(config: Config) -> dict[str, bool]:
    """Run forward pass, loss, backward pass, optimizer step and scheduler step, as `Learner` does. Return the result of each check."""
    windows = windows_for(config)
    network, task = build_parts(config)
    optimizer = build(config.optimizer, "optimizer", config.plugins, network.parameters())
    scheduler = build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=10)
    inputs = torch.randn(4, *windows.input_shape)
    outputs = network(inputs)
    predictions = task.decode(outputs, inputs)
    targets = torch.arange(4) % task.outputs if config.data.kind in {"images", "sequences"} else torch.randn_like(predictions)
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


def fit_one_batch(network: nn.Module, task: Task, config: Config) -> dict[str, bool]:
    """Compute the weights of a closed-form model from one batch. Return the result of each check."""
    inputs = torch.randn(8, *windows_for(config).input_shape)
    targets = torch.arange(8) % task.outputs if isinstance(network, RidgeClassifier) else torch.randn(8, *task.output_shape)
    assert isinstance(network, ClosedForm)
    network.fit([(inputs, targets)], [(inputs, targets)])
    return {
        "an output for each class or value": network(inputs).shape == (8, task.outputs),
        "weights that are not zero": any(bool(buffer.any()) for buffer in network.buffers()),
        "a record of what was chosen": bool(network.chosen),
    }


@pytest.mark.parametrize("experiment", [pytest.param(one, marks=slow(one)) for one in EXPERIMENTS])
def test_every_experiment_trains_on_a_batch(root: Path, experiment: str) -> None:
    config = compose(root, [f"experiment={experiment}", *REQUIRED_OVERRIDES.get(experiment, [])])
    assert config.name == experiment  # its folder under data/ has the name of its file
    network, task = build_parts(config)
    checks = fit_one_batch(network, task, config) if is_closed_form(network) else train_one_batch(config)
    assert all(checks.values()), checks


WITH_EVERY_TRAINER = {"digits_cnn", "temperature_lstm", "gun_point_hydra"}
PAIRS = [
    pytest.param(one, trainer, marks=slow(one) if trainer == "auto" or one in WITH_EVERY_TRAINER else [pytest.mark.long])
    for one in EXPERIMENTS
    for trainer in choices(ROOT, "trainer")
]
"""Every experiment with every trainer; `make test` runs every experiment with one, and every trainer with one of each modality."""


@pytest.mark.parametrize(("experiment", "trainer"), PAIRS)
def test_every_experiment_composes_with_every_trainer_and_reads_back_equal(
    root: Path, tmp_path: Path, experiment: str, trainer: str
) -> None:
    config = compose(root, [f"experiment={experiment}", f"trainer={trainer}", *REQUIRED_OVERRIDES.get(experiment, [])])
    assert config.trainer.world_size == (2 if "dp" in trainer else 1)
    (tmp_path / "config.yaml").write_text(render(config))
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("model", choices(ROOT, "model"))
def test_every_model_trains_on_a_batch(clone: Path, model: str) -> None:
    config = compose(clone, [*DATA_FOR_MODEL[model], f"model={model}"])
    network, task = build_parts(config)
    checks = fit_one_batch(network, task, config) if is_closed_form(network) else train_one_batch(config)
    assert all(checks.values()), checks


@pytest.mark.parametrize("choice", [f"{group}={name}" for group in ("optimizer", "scheduler") for name in choices(ROOT, group)])
def test_every_optimizer_and_schedule_trains_on_a_batch(root: Path, choice: str) -> None:
    checks = train_one_batch(compose(root, ["experiment=digits_cnn", choice]))
    assert all(checks.values()), checks


@pytest.mark.parametrize("name", choices(ROOT, "data"))
def test_every_data_set_has_the_name_of_its_file_and_composes_the_same_alone_and_in_a_run(clone: Path, name: str) -> None:
    required = REQUIRED_OVERRIDES.get(name, [])
    alone = compose_dataset(clone, name, required)
    assert alone.name == name
    own_targets = ["window.targets=null"] if alone.kind == "series" else []  # all channels, whatever their names
    assert compose(clone, [f"experiment=bare_{alone.kind}", f"data={name}", *own_targets, *required]).data == alone


@pytest.fixture(scope="module")
def configs_of_the_pipeline() -> dict[str, Config]:
    """The config of every experiment of both lists, composed once: it takes a third of a second each."""
    lists = pipeline(ROOT)
    return {name: compose(ROOT, [f"experiment={name}", *lists.overrides]) for name in lists.experiments | lists.long}


def test_every_experiment_of_the_pipeline_has_the_expected_number_of_parameters(
    configs_of_the_pipeline: dict[str, Config],
) -> None:
    counts = {}
    for name, config in configs_of_the_pipeline.items():
        network, _ = build_parts(config)
        counts[name] = sum(weight.numel() for weight in network.parameters())
    assert counts == PARAMETERS


def test_the_same_seed_gives_the_same_weights_and_another_seed_different_ones(root: Path) -> None:
    config = compose(root, ["experiment=digits_cnn"])
    first, again, other = (build_parts(config.model_copy(update={"seed": seed}))[0] for seed in (3, 3, 4))
    for one, same, different in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, different)


def test_the_pipeline_names_experiments_and_data_sets_that_exist(root: Path, configs_of_the_pipeline: dict[str, Config]) -> None:
    lists = pipeline(root)
    assert not lists.experiments.keys() & lists.long
    for experiment, data in (lists.experiments | lists.long).items():
        assert configs_of_the_pipeline[experiment].data.name == data
    assert set(lists.experiments.values()) == set(lists.datasets)
    assert set(lists.long.values()) - set(lists.datasets) == set(lists.long_datasets)


def test_every_choice_in_the_trainer_config_is_documented_in_a_comment(root: Path) -> None:
    """The comments in conf/ document the allowed values."""
    text = (root / "conf" / "trainer" / "auto.yaml").read_text()
    for words in ("auto, cpu or gpu", "single, ddp or fsdp", "float32, tf32, bf16 or fp16", "ema or swa"):
        assert words in text
    assert set(yaml.safe_load(text)) == set(type(compose(root, ["experiment=digits_cnn"]).trainer).model_fields)
