"""The name of a run contains its data set and the settings that differ from its experiment."""

import re
from pathlib import Path

import pytest

from reprise.config import compose
from reprise.config.naming import MAX_LENGTH, differences
from tests.config.conftest import ROOT

DIFFERENCES = {
    (): [],
    ("seed=7", "seeds=3", "trainer=cpu", "trainer.progress=false", "resume=false", "tracking.log_model=false"): [],
    ("optimizer.lr=0.003",): ["lr0.003"],
    ("optimizer=sgd", "augment=clothes", "data.limit=2000"): ["limit2000", "sgd", "clothes"],
    ("optimizer=sgd", "optimizer.lr=0.5"): ["SGD"],
    ("model=lstm",): ["lstm"],
    ("model.blocks.0.filters=8", "trainer.max_epochs=1"): ["blocks", "max_epochs1"],
    ("scheduler=one_cycle",): ["one_cycle"],
    ("optimizer.fused=false", "trainer.patience=3", "model.tta_hflip=true"): ["tta_hflip", "no_fused", "patience3"],
    ("data=fashion_mnist", "window.test_size=null"): ["fashion_mnist", "no_test_size"],
}


@pytest.mark.parametrize("overrides", DIFFERENCES)
def test_the_name_contains_the_settings_that_differ(overrides: tuple[str, ...]) -> None:
    assert differences(ROOT, compose(ROOT, ["experiment=digits_cnn", *overrides])) == DIFFERENCES[overrides]


def test_the_name_of_a_custom_data_set_has_only_characters_that_can_be_typed(tmp_path: Path) -> None:
    words = [
        f"data.path={tmp_path}/a, b",
        "data.name=my.flowers-2",
        "model.activation=gelu",
        "trainer.max_epochs=3",
        "optimizer.lr=1e-05",
    ]
    parts = differences(ROOT, compose(ROOT, ["experiment=image_folder", *words]))
    assert parts == ["my.flowers_2", "gelu", "lr1e_05"]
    name = "-".join(parts)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert len(name) <= MAX_LENGTH


def test_an_unknown_experiment_gives_no_differences(tmp_path: Path) -> None:
    assert differences(ROOT, compose(ROOT, ["experiment=digits_cnn", "name=unknown", "optimizer.lr=0.5"])) == []
