"""Sweep configs: errors reported before the first trial, and how values become settings."""

import re
from pathlib import Path
from typing import Any

import pytest

from reprise.config.space import as_overrides, combinations
from reprise.config.sweep import read_sweep
from reprise.errors import UserError
from reprise.sweeps import studies
from tests.pipeline.conftest import ROOT
from tests.sweeps.conftest import SPACE, TREE, read


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml")])
def test_every_shipped_sweep_is_valid(name: str) -> None:
    assert read_sweep(ROOT, [f"sweep={name}"]).space


def test_overrides_of_the_file_hold_unless_the_command_line_sets_the_key(root: Path) -> None:
    tree = TREE | {"overrides": ["trainer.max_epochs=7", "trainer.batch_size=16"]}
    trainer = read(root, tree).config(root, {}).trainer
    assert (trainer.max_epochs, trainer.batch_size) == (7, 16)
    trainer = read(root, tree, "trainer.max_epochs=2").config(root, {}).trainer
    assert (trainer.max_epochs, trainer.batch_size) == (2, 16)
    with pytest.raises(UserError, match="overrides"):
        read(root, TREE | {"overrides": "trainer.max_epochs=7"})


def test_overrides_set_keys_of_the_sweep_or_fix_keys_of_the_experiment(root: Path) -> None:
    sweep = read(root, TREE, "n_trials=7", "sweep.seeds=3", "sweep.sampler.kind=random", "name=other", "trainer.max_epochs=2")
    assert (sweep.n_trials, sweep.seeds, sweep.sampler.kind, sweep.name) == (7, 3, "random", "other")
    assert sweep.config(root, {"optimizer.lr": 0.05}).trainer.max_epochs == 2


def test_a_grid_is_every_combination(root: Path) -> None:
    sweep = read_sweep(
        root, ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.1,0.2", "seed=1,2,3", "trainer.max_epochs=1"]
    )
    assert sweep.n_trials == 6
    assert sweep.overrides == ["trainer.max_epochs=1"]


def test_numbers_may_be_in_scientific_notation(root: Path) -> None:
    sweep = read_sweep(root, ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=1e-3,1e-4", "trainer.max_epochs=range(1,3)"])
    assert [part.ends() for part in sweep.space.values()] == [[0.001, 0.0001], [1, 2]]
    sweep = read(root, TREE | {"space": {"optimizer.lr": {"kind": "float", "low": "1e-4", "high": "1E-2", "log": True}}})
    assert sweep.space["optimizer.lr"].ends() == [0.0001, 0.01]


def test_choices_may_be_lists(root: Path) -> None:
    heads = [[{"units": 16}, {"units": 8, "dropout": 0.5}], []]
    sweep = read(root, TREE | {"space": {"model.dense": {"kind": "choice", "values": heads}}})
    first, second = (sweep.config(root, chosen).model.arguments()["dense"] for _, chosen in sweep.ends())
    assert [first, second] == heads


def test_a_grid_omits_keys_whose_conditions_do_not_hold(root: Path) -> None:
    momentum = {"kind": "choice", "values": [0.1, 0.9], "when": {"optimizer": "sgd"}}
    nesterov = {"kind": "choice", "values": [True, False], "when": {"optimizer.momentum": 0.9}}
    space = {"optimizer": SPACE["optimizer"], "optimizer.momentum": momentum, "optimizer.nesterov": nesterov}
    sweep = read(root, TREE | {"space": space, "sampler": {"kind": "grid"}})
    assert combinations(sweep.space) == [
        {"optimizer": "adam"},
        {"optimizer": "sgd", "optimizer.momentum": 0.1},
        {"optimizer": "sgd", "optimizer.momentum": 0.9, "optimizer.nesterov": True},
        {"optimizer": "sgd", "optimizer.momentum": 0.9, "optimizer.nesterov": False},
    ]
    study = studies.create_or_load(sweep, root, root / "mlruns", None)
    drawn = []
    for _ in range(4):
        with study.claim_trial() as trial:
            assert trial
            drawn.append(study.suggest(trial))
            study.optuna.tell(trial, 0.5)
    assert drawn == combinations(sweep.space)


def test_the_first_trials_use_the_settings_of_first(root: Path) -> None:
    good = {"optimizer": "sgd", "optimizer.lr": 0.05}
    study = studies.create_or_load(read(root, TREE | {"first": [good]}), root, root / "mlruns", None)
    for number in range(2):
        with study.claim_trial() as trial:
            assert trial
            chosen = study.suggest(trial)
            assert (good.items() <= chosen.items()) == (number == 0)
            study.optuna.tell(trial, 0.5)


def test_a_key_is_searched_only_if_its_conditions_hold(root: Path) -> None:
    sweep = read(root, TREE)
    for optimizer, keys in (("adam", ["optimizer", "optimizer.lr"]), ("sgd", list(SPACE))):
        chosen: dict[str, Any] = {}
        active_keys = []
        for key, _ in sweep.active(chosen):
            active_keys.append(key)
            chosen[key] = optimizer
        assert active_keys == keys


def test_chosen_values_become_the_same_settings(root: Path) -> None:
    chosen = {
        "optimizer.lr": 3.3333333333333335e-05,
        "optimizer": "sgd",
        "trainer.patience": None,
        "trainer.deterministic": "warn",
    }
    assert as_overrides(chosen)[0] == "optimizer=sgd"  # a group comes before its keys
    config = read(root, TREE).config(root, chosen)
    assert config.optimizer.arguments()["lr"] == 3.3333333333333335e-05
    assert (config.trainer.patience, config.trainer.deterministic) == (None, "warn")


ERRORS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "space.optimizer.lrr: optimizer.lrr: no such key": ({"space": {"optimizer.lrr": SPACE["optimizer.lr"]}}, []),
    "space.optimizer: optimizer=adan: no conf/optimizer/adan.yaml; the nearest is adam": (
        {"space": {"optimizer": {"kind": "choice", "values": ["adam", "adan"]}}},
        [],
    ),
    "space.trainer.max_epochs: trainer.max_epochs=0": (
        {"space": {"trainer.max_epochs": {"kind": "int", "low": 0, "high": 3}}},
        [],
    ),
    "space.optimizer.lr.low": ({"space": {"optimizer.lr": {"kind": "float", "high": 3.0}}}, []),
    "low=2.0 is above high=1.0": ({"space": {"optimizer.lr": {"kind": "float", "low": 2.0, "high": 1.0}}}, []),
    "a scale of powers begins above 0": (
        {"space": {"optimizer.lr": {"kind": "float", "low": 0.0, "high": 1.0, "log": True}}},
        [],
    ),
    "space: is empty": ({"space": {}}, []),
    "names optimizer, which is not defined before it": ({"space": {"optimizer.momentum": SPACE["optimizer.momentum"]}}, []),
    "optimizer is never rprop": (
        {"space": {**SPACE, "optimizer.momentum": {"kind": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": "rprop"}}}},
        [],
    ),
    "objectives.0.metric=test/accuracy": ({"objectives": [{"metric": "test/accuracy", "direction": "maximize"}]}, []),
    "pruner: not available with several objectives": (
        {"objectives": [*TREE["objectives"], {"metric": "parameters", "direction": "minimize"}], "pruner": {"kind": "median"}},
        [],
    ),
    "wilcoxon compares seeds, the fewest are 5": ({"pruner": {"kind": "wilcoxon"}, "seeds": 4}, []),
    "sampler.kind=cmaes: supports one objective": (
        {"objectives": [*TREE["objectives"], {"metric": "parameters", "direction": "minimize"}], "sampler": {"kind": "cmaes"}},
        [],
    ),
    "n_trials=4: the grid has 3 combinations": (
        {"sampler": {"kind": "grid"}, "space": {"optimizer.lr": {"kind": "choice", "values": [0.1, 0.2, 0.3]}}},
        [],
    ),
    "first.0.optimizer.lr=1.0: lies outside the space": ({"first": [{"optimizer.lr": 1.0}]}, []),
    "first.0.optimizer.eps: is not in the space, which has optimizer, optimizer.lr": ({"first": [{"optimizer.eps": 1.0}]}, []),
    "a trial trains on one device; use trainer=auto": ({}, ["trainer=ddp_cpu"]),
    "space.trainer: a trial trains on one device": ({"space": {"trainer": {"kind": "choice", "values": ["cpu", "ddp_cpu"]}}}, []),
    "seeds=3: is no setting of a trial; use sweep.seeds=3": ({}, ["seeds=3"]),
    "resume=false: is no setting of a trial; use name=NEW": ({}, ["resume=false"]),
    "sampler.kind=grid needs a choice for every key": ({"sampler": {"kind": "grid"}}, []),
    "samplr: no such key; the nearest is sampler": ({}, ["sweep.samplr.kind=tpe"]),
    "optimizer.lrr: no such key; the nearest is optimizer.lr": ({}, ["optimizer.lrr=3"]),
    "n_trials=0": ({}, ["n_trials=0"]),
    "fast: not of the form key=value": ({}, ["fast"]),
    "tracking.uri: holds a login, which the study would keep; set MLFLOW_TRACKING_URI": ({}, ["tracking.uri=http://me:pw@host"]),
    "storage.uri: holds a login, which the study would keep": ({}, ["storage.uri=postgresql://host/db?user=me&password=pw"]),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_are_reported_before_the_first_trial(root: Path, message: str) -> None:
    changes, words = ERRORS[message]
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        read(root, TREE | changes, *words)
    assert "\n" not in str(refused.value)


def test_an_unknown_sweep_names_the_nearest(root: Path) -> None:
    with pytest.raises(UserError, match=r"sweep=mnist_cn: no conf/sweep/mnist_cn.yaml; the nearest is mnist_cnn"):
        read_sweep(root, ["sweep=mnist_cn"])
    with pytest.raises(UserError, match=r"no sweep named; add sweep=NAME, one of .*grid"):
        read_sweep(root, ["n_trials=3"])
    with pytest.raises(UserError, match=r"sweep=grid searches keys with several values"):
        read_sweep(root, ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.1"])
