"""Optuna's storage behaves as the adapter assumes. A failure here means: adapt sweeps/optuna_storage.py to the new Optuna."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from reprise.sweeps import optuna_storage
from reprise.sweeps.optuna_storage import StoredStudy

HINT = f"Optuna {optuna.__version__} changed RDBStorage or Trial: adapt sweeps/optuna_storage.py"


@pytest.fixture
def opened(tmp_path: Path) -> tuple[StoredStudy, StoredStudy]:
    """One study with two waiting trials, opened by two processes, as far as Optuna can tell."""
    address = f"sqlite:///{tmp_path}/sweeps.db"
    first, second = (optuna_storage.connect(address, tmp_path) for _ in range(2))
    created = optuna_storage.create(first, "mine", ["minimize"])
    assert created
    for _ in range(2):
        created.study.enqueue_trial({})
    assert optuna_storage.create(second, "mine", ["minimize"]) is None
    other = optuna_storage.load(second, "mine")
    for one in (created, other):
        one.study.get_trials(deepcopy=False)
    return created, other


def test_a_waiting_trial_is_started_by_one_process_only(opened: tuple[StoredStudy, StoredStudy]) -> None:
    first, second = opened
    assert first.start_waiting_trial(1) is True, HINT
    assert second.start_waiting_trial(1) is False, HINT
    assert [trial.state for trial in second.study.trials] == [TrialState.WAITING, TrialState.RUNNING], HINT


def test_a_finished_trial_is_not_started_again(opened: tuple[StoredStudy, StoredStudy]) -> None:
    first, second = opened
    assert first.start_waiting_trial(0), HINT
    first.study.tell(first.open_trial(0), 0.5)
    assert second.start_waiting_trial(0) is False, HINT
    assert second.study.trials[0].value == 0.5, HINT


def test_a_trial_that_another_process_started_can_be_continued(opened: tuple[StoredStudy, StoredStudy]) -> None:
    first, second = opened
    assert first.start_waiting_trial(0), HINT
    first.open_trial(0).set_user_attr("starts", 1)
    trial = second.open_trial(0)
    assert (trial.number, trial.user_attrs) == (0, {"starts": 1}), HINT
    assert 0 <= trial.suggest_float("lr", 0, 1) <= 1, HINT
    second.study.tell(trial, 0.25)
    assert first.study.trials[0].value == 0.25, HINT


def test_there_is_no_study_of_an_unknown_name(tmp_path: Path) -> None:
    storage = optuna_storage.connect(f"sqlite:///{tmp_path}/sweeps.db", tmp_path)
    with pytest.raises(KeyError):
        optuna_storage.load(storage, "mine")
