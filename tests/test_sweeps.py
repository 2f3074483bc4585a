"""Sweeps as they are written down: what is refused before the first trial, and how values become settings."""

import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from rich.console import Console

from reprise.config import compose
from reprise.config.space import as_overrides, combinations
from reprise.config.sweep import Sweep, read_changes, read_sweep
from reprise.errors import UserError
from reprise.runs import study as studies
from reprise.runs import tuned
from reprise.runs.sweep_view import View
from tests.pipeline.conftest import ROOT

SPACE = {
    "optimizer": {"kind": "choice", "values": ["adam", "sgd"]},
    "optimizer.lr": {"kind": "float", "low": 0.001, "high": 0.1, "log": True},
    "optimizer.momentum": {"kind": "float", "low": 0.1, "high": 0.9, "when": {"optimizer": "sgd"}},
}
TREE: dict[str, Any] = {
    "experiment": "digits_cnn",
    "n_trials": 4,
    "objectives": [{"metric": "val/accuracy", "direction": "maximize"}],
    "space": SPACE,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path


def read(root: Path, tree: dict[str, Any], *words: str) -> Sweep:
    (root / "conf" / "sweep" / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return read_sweep(root, ["sweep=mine", *words])


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml")])
def test_every_shipped_sweep_is_sound(name: str) -> None:
    assert read_sweep(ROOT, [f"sweep={name}"]).space


def test_words_set_keys_of_the_sweep_and_hold_settings_of_the_experiment(root: Path) -> None:
    sweep = read(root, TREE, "n_trials=7", "sweep.seeds=3", "sweep.sampler.kind=random", "name=other", "trainer.max_epochs=2")
    assert (sweep.n_trials, sweep.seeds, sweep.sampler.kind, sweep.name) == (7, 3, "random", "other")
    assert sweep.config(root, {"optimizer.lr": 0.05}).trainer.max_epochs == 2


def test_a_grid_is_every_combination(root: Path) -> None:
    sweep = read_sweep(
        root, ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.1,0.2", "seed=1,2,3", "trainer.max_epochs=1"]
    )
    assert sweep.n_trials == 6
    assert sweep.overrides == ["trainer.max_epochs=1"]
    assert sweep.objectives[0].metric == "val/accuracy"
    series = read_sweep(root, ["sweep=grid", "experiment=temperature_lstm", "optimizer.lr=0.1,0.2"])
    assert (series.objectives[0].metric, series.objectives[0].direction) == ("val/mae", "minimize")


def test_numbers_are_read_as_people_write_them(root: Path) -> None:
    sweep = read_sweep(root, ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=1e-3,1e-4", "trainer.max_epochs=range(1,3)"])
    assert [part.ends() for part in sweep.space.values()] == [[0.001, 0.0001], [1, 2]]
    sweep = read(root, TREE | {"space": {"optimizer.lr": {"kind": "float", "low": "1e-4", "high": "1E-2", "log": True}}})
    assert sweep.space["optimizer.lr"].ends() == [0.0001, 0.01]


def test_a_choice_can_be_of_lists(root: Path) -> None:
    heads = [[{"units": 16}, {"units": 8, "dropout": 0.5}], []]
    sweep = read(root, TREE | {"space": {"model.dense": {"kind": "choice", "values": heads}}})
    first, second = (sweep.config(root, chosen).model.arguments()["dense"] for _, chosen in sweep.ends())
    assert [first, second] == heads


def test_a_grid_leaves_out_what_is_not_searched_beside_the_others(root: Path) -> None:
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
    study = studies.begin(sweep, root, root / "mlruns", None)
    drawn = []
    for _ in range(4):
        with study.take() as trial:
            assert trial
            drawn.append(study.choose(trial))
            study.optuna.tell(trial, 0.5)
    assert drawn == combinations(sweep.space)


def test_the_first_trials_begin_with_what_is_known_to_be_good(root: Path) -> None:
    good = {"optimizer": "sgd", "optimizer.lr": 0.05}
    study = studies.begin(read(root, TREE | {"first": [good]}), root, root / "mlruns", None)
    for number in range(2):
        with study.take() as trial:
            assert trial
            chosen = study.choose(trial)
            assert (good.items() <= chosen.items()) == (number == 0)
            study.optuna.tell(trial, 0.5)


def test_a_key_is_searched_only_where_its_conditions_hold(root: Path) -> None:
    sweep = read(root, TREE)
    for optimizer, keys in (("adam", ["optimizer", "optimizer.lr"]), ("sgd", list(SPACE))):
        chosen: dict[str, Any] = {}
        met = []
        for key, _ in sweep.active(chosen):
            met.append(key)
            chosen[key] = optimizer
        assert met == keys


def test_values_come_back_as_they_were_chosen(root: Path) -> None:
    chosen = {
        "optimizer.lr": 3.3333333333333335e-05,
        "optimizer": "sgd",
        "trainer.patience": None,
        "trainer.deterministic": "warn",
    }
    assert as_overrides(chosen)[0] == "optimizer=sgd"  # a group before the keys that it brings
    config = read(root, TREE).config(root, chosen)
    assert config.optimizer.arguments()["lr"] == 3.3333333333333335e-05
    assert (config.trainer.patience, config.trainer.deterministic) == (None, "warn")


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
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
    "names optimizer, which does not stand before it": ({"space": {"optimizer.momentum": SPACE["optimizer.momentum"]}}, []),
    "optimizer is never rprop": (
        {"space": {**SPACE, "optimizer.momentum": {"kind": "float", "low": 0.0, "high": 0.9, "when": {"optimizer": "rprop"}}}},
        [],
    ),
    "objectives.0.metric=test/accuracy": ({"objectives": [{"metric": "test/accuracy", "direction": "maximize"}]}, []),
    "pruner: several objectives cannot prune": (
        {"objectives": [*TREE["objectives"], {"metric": "parameters", "direction": "minimize"}], "pruner": {"kind": "median"}},
        [],
    ),
    "wilcoxon compares seeds, the fewest are 5": ({"pruner": {"kind": "wilcoxon"}, "seeds": 4}, []),
    "sampler.kind=cmaes: knows one objective": (
        {"objectives": [*TREE["objectives"], {"metric": "parameters", "direction": "minimize"}], "sampler": {"kind": "cmaes"}},
        [],
    ),
    "n_trials=4: the grid has 3 combinations": (
        {"sampler": {"kind": "grid"}, "space": {"optimizer.lr": {"kind": "choice", "values": [0.1, 0.2, 0.3]}}},
        [],
    ),
    "first.0.optimizer.lr=1.0: lies outside the space": ({"first": [{"optimizer.lr": 1.0}]}, []),
    "first.0.optimizer.eps: is not in the space, which has optimizer, optimizer.lr": ({"first": [{"optimizer.eps": 1.0}]}, []),
    "a trial trains on one device; take trainer=auto": ({}, ["trainer=ddp_cpu"]),
    "space.trainer: a trial trains on one device": ({"space": {"trainer": {"kind": "choice", "values": ["cpu", "ddp_cpu"]}}}, []),
    "seeds=3: is no setting of a trial; say sweep.seeds=3": ({}, ["seeds=3"]),
    "fresh=true: is no setting of a trial; say name=NEW": ({}, ["fresh=true"]),
    "sampler.kind=grid needs a choice for every key": ({"sampler": {"kind": "grid"}}, []),
    "samplr: no such key; the nearest is sampler": ({}, ["sweep.samplr.kind=tpe"]),
    "optimizer.lrr: no such key; the nearest is optimizer.lr": ({}, ["optimizer.lrr=3"]),
    "n_trials=0": ({}, ["n_trials=0"]),
    "fast: not of the form key=value": ({}, ["fast"]),
    "tracking.uri: holds a login, which the study would keep; set MLFLOW_TRACKING_URI": ({}, ["tracking.uri=http://me:pw@host"]),
    "storage.uri: holds a login, which the study would keep": ({}, ["storage.uri=postgresql://host/db?user=me&password=pw"]),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_refused_before_the_first_trial_and_named(root: Path, said: str) -> None:
    changes, words = WRONG[said]
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        read(root, TREE | changes, *words)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml")])
def test_the_best_of_every_shipped_sweep_can_be_written_as_an_experiment(root: Path, name: str) -> None:
    study = studies.begin(read_sweep(root, [f"sweep={name}", "trainer.patience=3"]), root, root / "mlruns", None)
    for _ in range(3):
        with study.take() as trial:
            assert trial
            study.optuna.tell(trial, len(study.choose(trial)))
    (best,) = study.best()
    assert tuned.write(study, best, root) == root / "conf" / "experiment" / f"{name}_tuned.yaml"
    made, wanted = compose(root, [f"experiment={name}_tuned"]), study.sweep.config(study.folder, best.params)
    left_out = {"name", "published", "tracking"}
    assert made.model_dump(exclude=left_out) == wanted.model_dump(exclude=left_out)


def test_what_conf_cannot_make_any_more_is_not_written(root: Path) -> None:
    study = studies.begin(read(root, TREE), root, root / "mlruns", None)
    with study.take() as trial:
        assert trial
        study.choose(trial)
        study.optuna.tell(trial, 0.5)
    file = root / "conf" / "experiment" / "digits_cnn.yaml"
    file.write_text(file.read_text() + "seed: 7\n")
    assert tuned.write(study, study.best()[0], root).is_file()  # what is said otherwise is written out
    (root / "conf" / "experiment" / "mine_tuned.yaml").unlink()
    (root / "conf" / "optimizer" / study.best()[0].params["optimizer"]).with_suffix(".yaml").unlink()
    with pytest.raises(UserError):
        tuned.write(study, study.best()[0], root)
    assert not (root / "conf" / "experiment" / "mine_tuned.yaml").exists()


def test_an_unknown_sweep_names_the_nearest(root: Path) -> None:
    with pytest.raises(UserError, match=r"sweep=mnist_cn: no conf/sweep/mnist_cn.yaml; the nearest is mnist_cnn"):
        read_sweep(root, ["sweep=mnist_cn"])
    with pytest.raises(UserError, match=r"no sweep named; add sweep=NAME, one of .*grid"):
        read_sweep(root, ["n_trials=3"])
    with pytest.raises(UserError, match=r"sweep=grid searches keys with several values"):
        read_sweep(root, ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.1"])


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "gp", "random", "sobol"])
def test_every_sampler_draws_within_the_space_and_the_same_again(root: Path, kind: str) -> None:
    drawn = []
    for turn in range(2):
        sweep = read(root, TREE, f"sweep.sampler.kind={kind}", "sweep.sampler.startup=3", "n_trials=6", f"name=s{turn}")
        study = studies.begin(sweep, root, root / "mlruns", None)
        for _ in range(6):
            with study.take() as trial:
                assert trial
                chosen = study.choose(trial)
                assert 0.001 <= chosen["optimizer.lr"] <= 0.1
                assert (chosen["optimizer"] == "sgd") == ("optimizer.momentum" in chosen)
                study.optuna.tell(trial, chosen["optimizer.lr"])
                drawn.append(chosen)
        with study.take() as trial:
            assert trial is None
    assert drawn[:6] == drawn[6:]
    assert len({chosen["optimizer.lr"] for chosen in drawn}) > 3  # a GP may ask for the same end of a range twice
    momenta = [chosen["optimizer.momentum"] for chosen in drawn[:6] if "optimizer.momentum" in chosen]
    assert len(set(momenta)) == len(momenta)


def test_a_trial_whose_process_dies_again_and_again_fails(root: Path) -> None:
    study = studies.begin(read(root, TREE, "n_trials=1"), root, root / "mlruns", None)
    for _ in range(studies.TRIES):
        with study.take() as trial:
            assert trial
            assert trial.number == 0
    with study.take() as trial:
        assert trial is None
    (failed,) = study.look().failures
    assert failed.user_attrs["error"] == "3 processes died of it"


def test_a_trial_that_comes_on_can_be_started_again_and_again(root: Path) -> None:
    study = studies.begin(read(root, TREE, "n_trials=1"), root, root / "mlruns", None)
    for _ in range(2 * studies.TRIES):
        with study.take() as trial:
            assert trial
            studies.came_on(trial)


def test_a_trial_of_another_machine_is_left_to_it_as_long_as_it_is_heard_of(root: Path) -> None:
    url = f"sqlite:///{root}/shared.db"
    here, there = (studies.begin(read(root, TREE, "n_trials=1"), root, root / place, url) for place in ("here", "there"))
    with there.take() as trial:
        assert trial
    assert not here.has_free(here.look())
    assert there.has_free(there.look())  # there its lock tells that nobody trains it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "LOST", -1)
        with here.take() as taken:
            assert taken
            assert taken.number == 0
            assert here.look().trials[0].user_attrs[studies.PLACE] == here.place
            assert there.look().trials[0].user_attrs[studies.PLACE] != there.place
    assert not there.has_free(there.look())


def test_a_trial_that_was_killed_before_its_place_was_noted_belongs_to_where_its_lock_lies(root: Path) -> None:
    url = f"sqlite:///{root}/shared.db"
    here, there = (studies.begin(read(root, TREE, "n_trials=1"), root, root / place, url) for place in ("here", "there"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies.Trial, "set_user_attr", _die)
        with pytest.raises(KeyboardInterrupt), here.take():
            pass
    assert studies.PLACE not in here.look().trials[0].user_attrs
    assert not there.has_free(there.look())
    with here.take() as trial:
        assert trial
        assert trial.number == 0


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_sweep_goes_on_with_more_trials_but_never_with_fewer(root: Path) -> None:
    study = studies.begin(read(root, TREE, "n_trials=2", "sweep.max_failures=0"), root, root / "mlruns", None)
    longer = studies.extend(study, read_changes(["n_trials=3", "sweep.max_failures=5"]))
    assert (len(longer.look().trials), longer.look().max_failures) == (3, 5)
    assert studies.load("mine", root / "mlruns", None).sweep == longer.sweep
    with pytest.raises(UserError, match=r"n_trials=2: sweep mine was begun with 3; ask for more"):
        studies.extend(longer, {"n_trials": 2})
    for word in ("optimizer.lr=3", "sweep.seeds=2"):
        with pytest.raises(UserError, match=r"a sweep goes on as it was begun; resume may set n_trials"):
            read_changes([word])


def test_what_is_above_a_limit_is_not_the_best(root: Path) -> None:
    limit = {"metric": "parameters", "at_most": 1000.0}
    study = studies.begin(read(root, TREE | {"limits": [limit]}, "n_trials=3"), root, root / "mlruns", None)
    for value, over in ((0.9, 1.0), (0.7, 0.0), (0.8, -5.0)):
        with study.take() as trial:
            assert trial
            study.choose(trial)
            trial.set_constraint("parameters", over)
            study.optuna.tell(trial, value)
    assert [trial.value for trial in study.best()] == [0.8]


def test_a_trial_that_ends_while_another_worker_looks_for_one_is_not_taken_again(root: Path) -> None:
    study = studies.begin(read(root, TREE, "n_trials=1"), root, root / "mlruns", None)
    with study.take() as trial:
        assert trial
        seen = study.look()
        study.optuna.tell(trial, 0.5)
    assert [one.state for one in seen.left] == [TrialState.RUNNING]
    assert not study.has_free(seen)
    assert study._orphan(seen) is None


def test_a_terminal_shows_the_trials_that_run_the_best_and_the_time_left(root: Path) -> None:
    study = studies.begin(read(root, TREE, "n_trials=4"), root, root / "mlruns", None)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, record=True)
    with View(study, console) as view:
        for value in (0.75, 0.5):
            with study.take() as trial:
                assert trial
                study.choose(trial)
                study.optuna.tell(trial, value)
        with study.take() as trial:
            assert trial
            study.choose(trial)
            trial.report(0.625, 3)
            view.update(study.look())
    shown = console.export_text()
    assert "2 of 4 trials, 0 given up, 0 failed; about 0:00:0" in shown
    best = max(study.look().of(TrialState.COMPLETE), key=lambda trial: trial.value or 0)
    assert f"optimizer.lr={best.params['optimizer.lr']:.4g}" in shown.split("best:")[1]
    row = next(line for line in shown.splitlines() if line.split()[:1] == ["2"])
    assert row.split()[:3] == ["2", "3", "0.6250"]
