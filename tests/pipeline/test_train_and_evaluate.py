"""`train --evaluate`: the weights of a plain training, and the metrics and figures of `evaluate`."""

from pathlib import Path

import pytest

from reprise.tracking.event_log import EventLog
from tests.pipeline.conftest import make_project, run_in

TRAIN = [
    "experiment=temperature_lstm",
    "window.limit=300",
    "trainer.max_epochs=1",
    "trainer.threads=1",
]
NO_MODEL = "tracking.log_model=false"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project") / "project")


def test_the_runs_have_the_weights_of_a_plain_training_and_are_evaluated(project: Path) -> None:
    plain = run_in(project, "reprise", "train", *TRAIN, NO_MODEL)
    assert plain.returncode == 0, plain.stderr
    runs = project / "mlruns" / "runs"
    (expected,) = runs.iterdir()
    done = run_in(project, "reprise", "train", "--evaluate", *TRAIN, "seeds=2", NO_MODEL)
    assert done.returncode == 0, done.stderr
    new = {folder: EventLog(folder) for folder in runs.iterdir() if folder != expected}
    (parent,) = (log for log in new.values() if "group" in log.tags)
    seeds = {log.tags["seed"]: folder for folder, log in new.items() if "group" not in log.tags}
    assert (seeds["0"] / "best.safetensors").read_bytes() == (expected / "best.safetensors").read_bytes()
    for folder in seeds.values():
        log = EventLog(folder)
        assert log.tags["mlflow.source.name"] == f"reprise train --evaluate {' '.join(TRAIN)} seeds=2"
        assert log.tags["test_opened"] == "1"
        assert f"test mae {log.figures['test/mae']:.4f}" in done.stdout
        assert (folder / "figures" / "curves.png").is_file()
    mean = sum(EventLog(folder).figures["test/mae"] for folder in seeds.values()) / 2
    assert parent.figures["test/mae"] == pytest.approx(mean)
    lines = done.stdout.splitlines()
    (summary,) = (number for number, line in enumerate(lines) if "mean of the seeds" in line)
    assert summary < min(number for number, line in enumerate(lines) if "drawing figures" in line)
    assert "reprise evaluate" not in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--multirun", "optimizer.lr=0.001,0.01"], "the jobs of --multirun are compared on val"),
        (["window.folds=3"], "window.folds=3 is 3 trainings"),
        (["trainer=ddp_cpu"], "it takes a training on one device"),
    ],
)
def test_what_cannot_be_evaluated_at_once_is_refused_in_one_line(project: Path, words: list[str], reason: str) -> None:
    done = run_in(project, "reprise", "train", "--evaluate", "experiment=temperature_lstm", *words)
    assert done.returncode == 2
    assert done.stderr == f"reprise: --evaluate: {reason}; run `reprise train` without it, then `reprise evaluate RUN`\n"
