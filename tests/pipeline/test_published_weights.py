"""A published number can be computed again: the same kind of machine trains weights with the published sha256."""

from pathlib import Path

import pytest

from reprise.config import compose
from reprise.data import store
from reprise.stages.published import this_machine
from reprise.stages.summary import Summary
from tests.pipeline.conftest import ROOT, run_in


@pytest.mark.parametrize("experiment", ["digits_cnn", "temperature_lstm"])
def test_a_training_gives_the_published_weights_on_the_same_kind_of_machine(experiment: str, tmp_path: Path) -> None:
    published = Summary.read(ROOT / "data" / "results" / experiment / "metrics.json", "run `dvc repro`")
    machine = this_machine(compose(ROOT, [f"experiment={experiment}"]).trainer)
    if machine != published.machine:
        pytest.skip(f"the weights were trained on {published.machine}, this is {machine}")
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    trained = run_in(tmp_path, "reprise", "train", f"experiment={experiment}", "tracking.log_model=false")
    assert trained.returncode == 0, trained.stderr
    (run_dir,) = (tmp_path / "mlruns" / "runs").iterdir()
    assert store.sha256(run_dir / "best.safetensors") == published.weights["seed0"]
