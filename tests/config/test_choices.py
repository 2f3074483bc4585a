"""A group chosen on the command line replaces the keys that the experiment set under it. Other keys do not change."""

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
"""The keys in which the files of conf/trainer differ."""
CUSTOM_MODEL = "_target_: torch.nn.Identity\nwidth: 64\ndense: 3\n"


def group_keys(group: str, choice: str) -> dict[str, object]:
    tree: dict[str, object] = yaml.safe_load((ROOT / "conf" / group / f"{choice}.yaml").read_text())
    inherited = [group_keys(group, name) for name in tree.pop("defaults", []) if name != "_self_"]  # type: ignore[attr-defined]
    return {key: value for one in [*inherited, tree] for key, value in one.items()}


def keys_set_by_experiment(name: str, group: str) -> dict[str, object]:
    """Return the keys that an experiment, or one that it inherits from, sets under a group."""
    tree = yaml.safe_load((ROOT / "conf" / "experiment" / f"{name}.yaml").read_text())
    inherited = [keys_set_by_experiment(one, group) for one in tree["defaults"] if isinstance(one, str) and one != "_self_"]
    return {key: value for one in [*inherited, tree.get(group, {})] for key, value in one.items()}


@settings(max_examples=8)
@given(st.data())
def test_a_chosen_group_replaces_exactly_that_group(data: st.DataObject) -> None:
    experiment = data.draw(st.sampled_from(EXPERIMENTS))
    group = data.draw(st.sampled_from(sorted(GROUPS - {"data"})))
    choice = data.draw(st.sampled_from(choices(ROOT, group)))
    own = own_choices(ROOT, experiment)
    before, after = (composed_tree(ROOT, [f"experiment={experiment}", *more]) for more in ([], [f"{group}={choice}"]))
    if choice == own[group]:
        assert after == before
        return
    expected = group_keys(group, choice)
    if group == "trainer":
        set_by_experiment = {key: value for key, value in keys_set_by_experiment(experiment, group).items() if key not in DEVICES}
        expected |= set_by_experiment
    for key, value in expected.items():
        if "${" not in str(value):
            assert after[group][key] == value
    assert after[group].keys() == expected.keys()
    for section in before.keys() - {group}:
        if "${optimizer" not in str(group_keys("scheduler", own["scheduler"])) or section != "scheduler":
            assert after[section] == before[section]


def test_own_choices_are_those_that_hydra_makes() -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for experiment in ("ablation_all", "temperature_cnn1d", "digits_cnn"):
            chosen = hydra_compose(
                "config", overrides=[f"experiment={experiment}"], return_hydra_config=True
            ).hydra.runtime.choices
            own = own_choices(ROOT, experiment)
            assert {group: chosen[group] for group in GROUPS} == {group: own[group] for group in GROUPS}


def test_a_custom_model_replaces_the_model_of_a_shipped_experiment(clone: Path) -> None:
    """`dense` is a list in the shipped model and a number in the custom one. Overrides by the user are kept."""
    (clone / "conf" / "model" / "mine.yaml").write_text(CUSTOM_MODEL)
    config = compose(clone, ["experiment=digits_cnn", "model=mine", "model.width=7", "optimizer=sgd", "optimizer.lr=0.5"])
    assert config.model.arguments() == {"width": 7, "dense": 3}
    assert config.optimizer.lr == 0.5
    assert (config.trainer.max_epochs, config.trainer.batch_size) == (15, 32)
    with pytest.raises(UserError, match=r"model\.blocks: no such key"):
        compose(clone, ["experiment=digits_cnn", "model=mine", "model.blocks=[]"])


def test_another_trainer_replaces_the_devices_but_not_the_epochs(clone: Path) -> None:
    file = clone / "conf" / "experiment" / "mine.yaml"
    file.write_text(
        "# @package _global_\ndefaults: [digits_cnn, override /trainer: ddp, _self_]\nname: mine\ntrainer: {devices: 8, max_epochs: 3}\n".replace(
            "override /trainer: ddp", "{override /trainer: ddp}"
        )
    )
    trainer = compose(clone, ["experiment=mine", "trainer=auto"]).trainer
    assert (trainer.devices, trainer.strategy, trainer.max_epochs, trainer.batch_size) == (1, "single", 3, 32)


def test_conf_is_used_directly_if_nothing_is_replaced() -> None:
    for overrides in (["experiment=digits_cnn"], ["experiment=digits_cnn", "model=cnn", "model.init=torch"], ["data=digits"]):
        with replacing(ROOT, overrides) as conf:
            assert conf == ROOT / "conf"
