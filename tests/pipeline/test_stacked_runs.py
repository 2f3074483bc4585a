"""Each seed of a stack has a run like that of a seed trained alone."""

from pathlib import Path

import pytest
from rich.console import Console

from reprise.config import compose
from reprise.data import store, windows
from reprise.project_paths import ProjectPaths
from reprise.stages import train
from reprise.tracking.event_log import EventLog
from reprise.tracking.groups import CHILDREN
from reprise.tracking.weights import load_weights
from tests.pipeline.conftest import ROOT

SMALL = ["experiment=digits_cnn", "window.limit=320", "trainer.max_epochs=1", "trainer.threads=1", "tracking.log_model=false"]


def test_each_seed_of_a_stack_has_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_test_split_locked", False)  # the training locks it, for this test alone
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    paths = ProjectPaths(tmp_path)
    config = compose(tmp_path, [*SMALL, "seeds=3", "trainer.stacked=2", "trainer.progress=false"])
    trained = train.run(config, paths, Console(quiet=True), "a test")
    assert [one.seed for one in trained] == [0, 1, 2]
    files = {frozenset(file.name for file in paths.run_dir(one.run_id).iterdir()) for one in trained}
    assert len(files) == 1
    assert {"best.safetensors", "first_steps.json", "trained.json", "events.jsonl"} < next(iter(files))
    assert "checkpoints" not in next(iter(files))
    for one, seeds in zip(trained, ([0, 1], [0, 1], [2]), strict=True):
        run_dir = paths.run_dir(one.run_id)
        log, recorded = EventLog(run_dir), store.read_json(run_dir / "config.json")
        assert (recorded["seed"], recorded["seeds"], log.tags["stack"]) == (one.seed, seeds, str(seeds))
        assert {"train/loss", "val/loss", "val/accuracy", "train/seconds"} <= {name for name, _ in log.points}
        assert not [name for name, _ in log.points if name.split("/")[1].isdigit()]
        assert log.status == "FINISHED"
        assert load_weights(run_dir / "best.safetensors")["features.conv1.weight"].shape == (16, 1, 3, 3)
    (parent,) = (tmp_path / "mlruns" / "runs").glob(f"*/{CHILDREN}")
    assert store.read_json(parent) == [one.run_id for one in trained]
