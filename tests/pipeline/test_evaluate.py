"""evaluate where data are awkward: one test window, a constant target, classes named as averages are; and where a figure fails."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from reprise.data import store
from reprise.errors import Notice
from reprise.project_paths import ProjectPaths
from reprise.stages import evaluate, report
from reprise.tracking.event_log import EventLog
from tests.pipeline.conftest import run_in

TRAIN = ["reprise", "train", "trainer.max_epochs=1", "trainer.threads=1", "tracking.log_model=false"]
CLASSES = ["accuracy", "macro avg", "weighted avg"]
CONSTANT = "flag: constant in the training split"


@pytest.fixture(scope="module")
def series(project: Path) -> Path:
    """The run directory of a run with two targets, a level in mm and a flag that is 0 throughout training; one test window."""
    rng = np.random.default_rng(0)
    level, flag = rng.normal(size=300).cumsum(), (np.arange(300) > 250) * 1.0
    rows = [f"{day},{one:.4f},{other:.0f}" for day, one, other in zip(_days(300), level, flag, strict=True)]
    file = project / "raw" / "tank.csv"
    file.parent.mkdir()
    file.write_text("\n".join(["day,level,flag", *rows]))
    tree = yaml.safe_load((project / "conf" / "data" / "seattle_weather.yaml").read_text()) | {
        "name": "tank",
        "sources": [str(file.parent)],
        "files": [{"fetch": "tank.csv", "sha256": store.sha256(file)}],
        "time": "day",
        "channels": [{"name": "level", "unit": "mm"}, {"name": "flag", "unit": ""}],
    }
    (project / "conf" / "data" / "tank.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    window = [
        "window.targets=[level,flag]",
        "window.lookback=10",
        "window.horizon=2",
        "window.test_size=12",
        "window.calendar=[]",
    ]
    done = run_in(project, *TRAIN, "experiment=temperature_lstm", "data=tank", *window)
    assert done.returncode == 0, done.stderr
    assert f"window.targets={CONSTANT}" in done.stdout
    return _newest(project)


@pytest.fixture(scope="module")
def pictures(project: Path) -> Path:
    """The run directory of a run on images whose classes are named as averages are; the training knows next to nothing."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(CLASSES * 12):
        file = project / "pictures" / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(file)
    data = [f"data.path={project / 'pictures'}", "data.name=named", "data.shape=[8,8,1]"]
    done = run_in(project, *TRAIN, "experiment=image_folder", *data, "task.monitor=f1_macro")
    assert done.returncode == 0, done.stderr
    assert "val/f1_macro" in done.stdout
    return _newest(project)


def _days(count: int) -> list[str]:
    return [str(day) for day in np.arange("2020-01-01", count, dtype="datetime64[D]")[:count]]


def _newest(project: Path) -> Path:
    return max((project / "mlruns" / "runs").iterdir(), key=lambda run_dir: run_dir.stat().st_mtime)


def test_errors_are_per_target_with_units_and_undefined_ones_are_empty_with_the_reason(project: Path, series: Path) -> None:
    done = run_in(project, "reprise", "evaluate", series.name, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["undefined"] == {"mase": CONSTANT, "mase/flag": CONSTANT}
    assert found["units"] == {"mae/level": "mm", "mse/level": "mm²", "rmse/level": "mm"}
    for part in ("val", "test", "repeat_last"):
        assert found[part]["mase"] is found[part]["mase/flag"] is None
        assert {"mae", "rmse"}.isdisjoint(found[part])
        assert found[part]["mae/level"] > 0
    values = store.open_array(project / "data" / "processed" / "tank" / "values.npy")[:, 0].astype(float)
    naive = np.abs(np.diff(values[: len(values) - 12 - round(0.15 * 300)])).mean()
    assert found["test"]["mase/level"] == pytest.approx(found["test"]["mae/level"] / naive)
    event_log = EventLog(series)
    assert event_log.tags["undefined.mase"] == CONSTANT
    assert event_log.tags["unit.mae/level"] == "mm"
    assert event_log.tags["monitor"] == "val/mae_scaled"
    assert {"test/mae/level", "test/mae_scaled"} <= event_log.figures.keys()
    assert {"test/mase", "best/val/mase"}.isdisjoint(event_log.figures)
    described = event_log.tags["mlflow.note.content"]
    assert "mae/level, mm" in described
    assert f"mase is undefined: {CONSTANT}." in described
    table = run_in(project, "reprise", "evaluate", series.name).stdout
    assert f"mase is undefined: {CONSTANT}" in table
    assert "–" in next(line for line in table.splitlines() if "mase/flag" in line)
    compared = run_in(project, "reprise", "compare", "--metric", "test/mase").stdout
    assert f"test/mase is undefined: {CONSTANT}" in " ".join(compared.split())


def test_one_test_window_is_evaluated_and_drawn(series: Path) -> None:
    assert {file.name for file in (series / "figures").glob("*.png")} == {
        "curves.png",
        *(f"{kind}_{target}.png" for kind in ("forecast", "residuals", "error_by_step") for target in ("level", "flag")),
    }


def test_classes_named_as_averages_have_scores_of_their_own(project: Path, pictures: Path) -> None:
    done = run_in(project, "reprise", "evaluate", pictures.name)
    assert done.returncode == 0, done.stderr
    assert "could not be made" not in done.stderr
    found = store.read_json(pictures / "figures" / "classification_report.json")
    assert [row["name"] for row in found["classes"]] == CLASSES
    assert found["averages"].keys() == {"macro", "weighted"}
    assert 0 <= found["accuracy"] <= 1
    text = (pictures / "figures" / "classification_report.txt").read_text()
    assert sum(line.split()[0] == "accuracy" for line in text.splitlines() if line) == 2  # the class, and the share of all
    assert "val f1_macro" in done.stdout


def by_hand(project: Path, run_dir: Path) -> None:
    paths = ProjectPaths(project)
    _, config = evaluate.recorded(paths, run_dir.name, [])
    evaluate.by_hand(config, run_dir.name, paths, Console(quiet=True))


def test_a_figure_that_fails_is_a_warning_and_the_evaluation_is_counted_and_logged(
    project: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no such font")

    before = EventLog(pictures)
    monkeypatch.setattr(report.classification, "confusion_matrix", fails)
    monkeypatch.setattr(report.training, "curves", fails)
    with pytest.warns(Notice) as told:
        by_hand(project, pictures)
    said = [str(one.message) for one in told if one.category is Notice]
    assert said == [f"{file} could not be made: RuntimeError: no such font" for file in ("curves.png", "confusion_matrix.png")]
    after = EventLog(pictures)
    assert int(after.tags["test_opened"]) == int(before.tags["test_opened"]) + 1
    assert "test/accuracy" in after.figures


def test_an_evaluation_that_dies_is_counted_and_logs_no_metric(
    project: Path, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    before = EventLog(series)
    monkeypatch.setattr(report, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        by_hand(project, series)
    after = EventLog(series)
    assert int(after.tags["test_opened"]) == int(before.tags["test_opened"]) + 1
    assert after.points == before.points


def test_a_metric_to_choose_by_that_does_not_exist_is_refused_in_one_line(project: Path) -> None:
    done = run_in(project, *TRAIN, "experiment=digits_cnn", "task.monitor=acuracy")
    assert done.returncode == 2
    assert "task.monitor=acuracy: no such validation metric; the nearest is accuracy" in " ".join(done.stderr.split())
