"""A group chosen on the command line replaces what the experiment set under it; all else stays."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config import compose
from reprise.config.choices import own_choices, replacing
from reprise.config.compose import choices, composed_tree
from reprise.errors import UserError
from tests.config.conftest import ROOT

EXPERIMENTS = choices(ROOT, "experiment")
GROUPS = {"model", "optimizer", "scheduler", "augment", "task", "window", "trainer", "data"}
DEVICES = {"accelerator", "strategy", "devices"}
"""In what the files of conf/trainer differ."""
MINE = "_target_: torch.nn.Identity\nwidth: 64\ndense: 3\n"


def file_of(group: str, choice: str) -> dict[str, object]:
    tree: dict[str, object] = yaml.safe_load((ROOT / "conf" / group / f"{choice}.yaml").read_text())
    inherited = [file_of(group, name) for name in tree.pop("defaults", []) if name != "_self_"]  # type: ignore[attr-defined]
    return {key: value for one in [*inherited, tree] for key, value in one.items()}


def experiment_of(name: str, group: str) -> dict[str, object]:
    """What an experiment, or one that it inherits from, sets under a group."""
    tree = yaml.safe_load((ROOT / "conf" / "experiment" / f"{name}.yaml").read_text())
    inherited = [experiment_of(one, group) for one in tree["defaults"] if isinstance(one, str) and one != "_self_"]
    return {key: value for one in [*inherited, tree.get(group, {})] for key, value in one.items()}


@settings(max_examples=8)
@given(st.data())
def test_a_chosen_group_is_that_group_and_nothing_else_changes(data: st.DataObject) -> None:
    experiment = data.draw(st.sampled_from(EXPERIMENTS))
    group = data.draw(st.sampled_from(sorted(GROUPS - {"data"})))
    choice = data.draw(st.sampled_from(choices(ROOT, group)))
    own = own_choices(ROOT / "conf", experiment)
    before, after = (composed_tree(ROOT, [f"experiment={experiment}", *more]) for more in ([], [f"{group}={choice}"]))
    if choice == own[group]:
        assert after == before
        return
    expected = file_of(group, choice)
    if group == "trainer":
        set_by_experiment = {key: value for key, value in experiment_of(experiment, group).items() if key not in DEVICES}
        expected |= set_by_experiment
    for key, value in expected.items():
        if "${" not in str(value):
            assert after[group][key] == value
    assert after[group].keys() == expected.keys()
    for section in before.keys() - {group}:
        if "${optimizer" not in str(file_of("scheduler", own["scheduler"])) or section != "scheduler":
            assert after[section] == before[section]


def test_the_choices_of_an_experiment_are_those_that_hydra_makes() -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for experiment in ("ablation_all", "temperature_cnn1d", "digits_cnn"):
            made = hydra_compose("config", overrides=[f"experiment={experiment}"], return_hydra_config=True).hydra.runtime.choices
            own = own_choices(ROOT / "conf", experiment)
            assert {group: made[group] for group in GROUPS} == {group: own[group] for group in GROUPS}


def test_a_model_of_ones_own_goes_with_every_experiment_of_ours(clone: Path) -> None:
    """`dense` is a list of ours and a number of theirs; what the user sets holds."""
    (clone / "conf" / "model" / "mine.yaml").write_text(MINE)
    config = compose(clone, ["experiment=digits_cnn", "model=mine", "model.width=7", "optimizer=sgd", "optimizer.lr=0.5"])
    assert config.model.arguments() == {"width": 7, "dense": 3}
    assert config.optimizer.lr == 0.5
    assert (config.trainer.max_epochs, config.trainer.batch_size) == (15, 32)
    with pytest.raises(UserError, match=r"model\.blocks: no such key"):
        compose(clone, ["experiment=digits_cnn", "model=mine", "model.blocks=[]"])


def test_the_devices_of_an_experiment_are_replaced_and_its_epochs_are_not(clone: Path) -> None:
    file = clone / "conf" / "experiment" / "mine.yaml"
    file.write_text(
        "# @package _global_\ndefaults: [digits_cnn, override /trainer: ddp, _self_]\nname: mine\ntrainer: {devices: 8, max_epochs: 3}\n".replace(
            "override /trainer: ddp", "{override /trainer: ddp}"
        )
    )
    trainer = compose(clone, ["experiment=mine", "trainer=auto"]).trainer
    assert (trainer.devices, trainer.strategy, trainer.max_epochs, trainer.batch_size) == (1, "single", 3, 32)


def test_conf_itself_is_left_as_it_is_where_nothing_is_replaced() -> None:
    for overrides in (["experiment=digits_cnn"], ["experiment=digits_cnn", "model=cnn", "model.init=torch"], ["data=digits"]):
        with replacing(ROOT / "conf", overrides) as conf:
            assert conf == ROOT / "conf"
