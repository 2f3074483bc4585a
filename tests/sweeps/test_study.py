"""A study: sampling, taking trials, the best trial, and the experiment written from it."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console

from reprise.config import compose
from reprise.config.sweep import read_resumed, read_sweep
from reprise.data import store
from reprise.errors import UserError
from reprise.sweeps import studies, tuned
from reprise.sweeps import study as study_module
from reprise.sweeps.view import View
from tests.pipeline.conftest import ROOT
from tests.sweeps.conftest import TREE, read, read_small


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "gp", "random", "sobol"])
def test_every_sampler_draws_reproducibly_within_the_space(root: Path, kind: str) -> None:
    drawn = []
    sweep = read_small(f"sweep.sampler.kind={kind}", "sweep.sampler.startup=3", "n_trials=6")
    for name in ("first", "second"):
        study = studies.create_or_load(sweep.model_copy(update={"name": name}), root, root / "mlruns", None)
        for _ in range(6):
            with study.claim_trial() as trial:
                assert trial
                chosen = study.suggest(trial)
                assert 0.001 <= chosen["optimizer.lr"] <= 0.1
                assert (chosen["optimizer"] == "sgd") == ("optimizer.momentum" in chosen)
                study.optuna.tell(trial, chosen["optimizer.lr"])
                drawn.append(chosen)
        with study.claim_trial() as trial:
            assert trial is None
    assert drawn[:6] == drawn[6:]
    assert len({chosen["optimizer.lr"] for chosen in drawn}) > 3  # a GP may ask for the same end of a range twice
    momenta = [chosen["optimizer.momentum"] for chosen in drawn[:6] if "optimizer.momentum" in chosen]
    assert len(set(momenta)) == len(momenta)


def test_a_trial_whose_process_dies_repeatedly_fails(root: Path) -> None:
    study = studies.create_or_load(read_small("n_trials=1"), root, root / "mlruns", None)
    for _ in range(study_module.MAX_STARTS):
        with study.claim_trial() as trial:
            assert trial
            assert trial.number == 0
    with study.claim_trial() as trial:
        assert trial is None
    (failed,) = study.snapshot().failures
    assert failed.user_attrs["error"] == "3 processes died while training it"


def test_a_trial_that_makes_progress_can_be_restarted_any_number_of_times(root: Path) -> None:
    study = studies.create_or_load(read_small("n_trials=1"), root, root / "mlruns", None)
    for _ in range(2 * study_module.MAX_STARTS):
        with study.claim_trial() as trial:
            assert trial
            study_module.reset_starts(trial)


def test_a_trial_of_another_machine_is_not_taken_while_it_sends_heartbeats(root: Path) -> None:
    url = f"sqlite:///{root}/shared.db"
    local, remote = (studies.create_or_load(read_small("n_trials=1"), root, root / folder, url) for folder in ("local", "remote"))
    with remote.claim_trial() as trial:
        assert trial
    assert not local.has_available_trial(local.snapshot())
    assert remote.has_available_trial(remote.snapshot())  # on its own machine, the free lock shows that nobody trains it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "LOST_AFTER_SECONDS", -1)
        with local.claim_trial() as taken_over:
            assert taken_over
            assert taken_over.number == 0
            assert local.snapshot().trials[0].user_attrs[study_module.FOLDER_ID] == local.folder_id
            assert remote.snapshot().trials[0].user_attrs[study_module.FOLDER_ID] != remote.folder_id
    assert not remote.has_available_trial(remote.snapshot())


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that sets the time zone of this process."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("remote_first", [True, False])
def test_a_trial_just_taken_in_another_time_zone_is_not_taken_again(
    root: Path, zone: Callable[[str], None], remote_first: bool
) -> None:
    url, zones = f"sqlite:///{root}/shared.db", ["America/Los_Angeles", "Asia/Tokyo"]
    local, remote = (studies.create_or_load(read_small("n_trials=1"), root, root / folder, url) for folder in ("local", "remote"))
    zone(zones[remote_first])
    before = time.time()
    with remote.claim_trial() as trial:
        assert trial
        zone(zones[not remote_first])
        assert before <= study_module.start_time(trial) <= time.time()
        assert not local.has_available_trial(local.snapshot())
        with local.claim_trial() as taken_over:
            assert taken_over is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module.time, "time", lambda: before + study_module.LOST_AFTER_SECONDS + 60)
        assert local.has_available_trial(local.snapshot())  # a trial of a lost machine is taken over after the same time


def test_a_trial_without_a_heartbeat_is_taken_over_only_after_the_timeout(root: Path) -> None:
    url = f"sqlite:///{root}/shared.db"
    local, remote = (studies.create_or_load(read_small("n_trials=1"), root, root / folder, url) for folder in ("local", "remote"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module.Trial, "set_user_attr", _interrupt)
        with pytest.raises(KeyboardInterrupt), remote.claim_trial():
            pass
    assert not local.has_available_trial(local.snapshot())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module, "LOST_AFTER_SECONDS", -1)
        assert local.has_available_trial(local.snapshot())


def test_a_trial_killed_before_its_folder_was_recorded_belongs_to_the_folder_of_its_lock(root: Path) -> None:
    url = f"sqlite:///{root}/shared.db"
    local, remote = (studies.create_or_load(read_small("n_trials=1"), root, root / folder, url) for folder in ("local", "remote"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_module.Trial, "set_user_attr", _interrupt)
        with pytest.raises(KeyboardInterrupt), local.claim_trial():
            pass
    assert study_module.FOLDER_ID not in local.snapshot().trials[0].user_attrs
    assert not remote.has_available_trial(remote.snapshot())
    with local.claim_trial() as trial:
        assert trial
        assert trial.number == 0


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_sweep_can_be_extended_but_not_shortened(root: Path) -> None:
    study = studies.create_or_load(read_small("n_trials=2", "sweep.max_failures=0"), root, root / "mlruns", None)
    longer = studies.extend(study, read_resumed(["sweep=mine", "n_trials=3", "sweep.max_failures=5"]).changes)
    assert (len(longer.snapshot().trials), longer.snapshot().max_failures) == (3, 5)
    assert studies.load("mine", root / "mlruns", None).sweep == longer.sweep
    with pytest.raises(UserError, match=r"n_trials=2: sweep mine was started with 3; ask for more"):
        studies.extend(longer, {"n_trials": 2})


def test_resume_accepts_the_original_overrides_and_refuses_others(root: Path) -> None:
    original = read_small("n_trials=2", "trainer.max_epochs=2", "sweep.sampler.seed=3")
    for words in ([], ["trainer.max_epochs=2"], ["experiment=digits_cnn", "sweep.sampler.seed=3", "n_trials=5"]):
        read_resumed(["sweep=mine", *words]).check_same(original)
    for word in ("optimizer.lr=3", "sweep.seeds=2", "trainer.max_epochs=3", "experiment=mnist_best"):
        with pytest.raises(UserError, match=r"was started without it, .*; `reprise sweep sweep=mine resume` resumes it"):
            read_resumed(["sweep=mine", word]).check_same(original)
    with pytest.raises(UserError, match="use `reprise sweep sweep=NAME resume`"):
        read_resumed(["n_trials=3"])


def test_resume_finds_a_grid_and_a_renamed_sweep(root: Path) -> None:
    words = ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.001,0.003", "optimizer=adam,sgd", "trainer.max_epochs=1"]
    original, resumed = read_sweep(root, words), read_resumed(words)
    assert resumed.name == original.name == "grid-digits_cnn"
    resumed.check_same(original)
    with pytest.raises(UserError, match="started without it"):
        read_resumed([*words[:2], "optimizer.lr=0.001,0.004"]).check_same(original)
    assert read_resumed(["sweep=mine", "name=second"]).name == "second"


def test_a_trial_above_a_limit_is_not_the_best(root: Path) -> None:
    limit = {"metric": "parameters", "at_most": 1000.0}
    study = studies.create_or_load(read(root, TREE | {"limits": [limit]}, "n_trials=3"), root, root / "mlruns", None)
    for value, excess in ((0.9, 1.0), (0.7, 0.0), (0.8, -5.0)):
        with study.claim_trial() as trial:
            assert trial
            study.suggest(trial)
            trial.set_constraint("parameters", excess)
            study.optuna.tell(trial, value)
    assert [trial.value for trial in study.best()] == [0.8]


def test_a_trial_that_ends_after_a_snapshot_is_not_taken_again(root: Path) -> None:
    study = studies.create_or_load(read_small("n_trials=1"), root, root / "mlruns", None)
    with study.claim_trial() as trial:
        assert trial
        snapshot = study.snapshot()
        study.optuna.tell(trial, 0.5)
    assert [one.state for one in snapshot.unfinished] == [TrialState.RUNNING]
    assert not study.has_available_trial(snapshot)
    assert study._claim_stale(snapshot) is None


def test_the_terminal_shows_running_trials_the_best_one_and_the_remaining_time(root: Path) -> None:
    study = studies.create_or_load(read_small("n_trials=4"), root, root / "mlruns", None)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, record=True)
    with View(study, console) as view:
        for value in (0.75, 0.5):
            with study.claim_trial() as trial:
                assert trial
                study.suggest(trial)
                study.optuna.tell(trial, value)
        with study.claim_trial() as trial:
            assert trial
            study.suggest(trial)
            trial.report(0.625, 3)
            view.update(study.snapshot())
    shown = console.export_text()
    assert "2 of 4 trials, 0 pruned, 0 failed; about 0:00:0" in shown
    best = max(study.snapshot().in_state(TrialState.COMPLETE), key=lambda trial: trial.value or 0)
    assert f"optimizer.lr={best.params['optimizer.lr']:.4g}" in shown.split("best:")[1]
    row = next(line for line in shown.splitlines() if line.split()[:1] == ["2"])
    assert row.split()[:3] == ["2", "3", "0.6250"]


@pytest.mark.parametrize("name", [file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml")])
def test_the_best_trial_of_every_shipped_sweep_can_be_written_as_an_experiment(root: Path, name: str) -> None:
    study = studies.create_or_load(read_sweep(root, [f"sweep={name}", "trainer.patience=3"]), root, root / "mlruns", None)
    for _ in range(3):
        with study.claim_trial() as trial:
            assert trial
            study.optuna.tell(trial, len(study.suggest(trial)))
    (best,) = study.best()
    assert tuned.write(study, best, root) == root / "conf" / "experiment" / f"{name}_tuned.yaml"
    written, expected = compose(root, [f"experiment={name}_tuned"]), study.sweep.config(study.folder, best.params)
    left_out = {"name", "published", "tracking"}
    assert written.model_dump(exclude=left_out) == expected.model_dump(exclude=left_out)


def test_settings_that_conf_no_longer_allows_are_not_written(root: Path) -> None:
    study = studies.create_or_load(read_small(), root, root / "mlruns", None)
    with study.claim_trial() as trial:
        assert trial
        study.suggest(trial)
        study.optuna.tell(trial, 0.5)
    file = root / "conf" / "experiment" / "digits_cnn.yaml"
    file.write_text(file.read_text() + "seed: 7\n")
    assert tuned.write(study, study.best()[0], root).is_file()  # settings that differ from conf are written explicitly
    (root / "conf" / "experiment" / "mine_tuned.yaml").unlink()
    (root / "conf" / "optimizer" / study.best()[0].params["optimizer"]).with_suffix(".yaml").unlink()
    with pytest.raises(UserError):
        tuned.write(study, study.best()[0], root)
    assert not (root / "conf" / "experiment" / "mine_tuned.yaml").exists()


def test_trials_on_changed_arrays_are_refused(root: Path) -> None:
    study = studies.create_or_load(read_small(), root, root / "mlruns", None)
    arrays = root / "data" / "processed" / "digits"
    study.check_same_arrays(arrays)  # not made yet
    for content, is_refused in (("one", False), ("one", False), ("other", True)):
        with store.publish(arrays) as draft:
            (draft / "images.npy").write_text(content)
        again = studies.load("mine", root / "mlruns", None)
        if is_refused:
            with pytest.raises(
                UserError, match=r"sweep mine was started with other data: .*digits changed since; restore it, or"
            ):
                again.check_same_arrays(arrays)
        else:
            again.check_same_arrays(arrays)


def test_attributes_of_earlier_versions_are_read(root: Path) -> None:
    study = studies.create_or_load(read_small("n_trials=1"), root, root / "mlruns", None)
    with study.claim_trial() as trial:
        assert trial
        assert study_module.attribute(trial, study_module.PRUNED_AT) is None
        trial.set_user_attr("given up", "after epoch 2")
        assert study_module.attribute(trial, study_module.PRUNED_AT) == "after epoch 2"
        trial.set_user_attr("heard", 1.0)
        assert study_module.attribute(trial, study_module.LAST_HEARTBEAT) > 1  # the new name comes first
