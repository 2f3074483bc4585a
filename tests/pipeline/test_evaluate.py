"""`evaluate` on edge cases: one test window, a constant target, classes with the names of averages, a figure that fails."""

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
from reprise.figures import classification, training
from reprise.project_paths import ProjectPaths
from reprise.stages import draw, evaluate
from reprise.tracking import groups
from reprise.tracking.event_log import EventLog
from tests.pipeline.conftest import run_in

TRAIN = ["reprise", "train", "trainer.max_epochs=1", "trainer.threads=1", "tracking.log_model=false"]
CLASSES = ["accuracy", "macro avg", "weighted avg"]
CONSTANT = "flag: constant in the training split"


@pytest.fixture(scope="module")
def series_run(project: Path) -> Path:
    """Train on two targets, a level in mm and a flag that is 0 throughout training, with one test window. Return the run directory."""
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
def image_run(project: Path) -> Path:
    """Train one epoch on images whose classes have the names of averages. Return the run directory."""
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


KINDS = ("forecast", "fan_chart", "residuals", "error_by_step")


def _days(count: int) -> list[str]:
    return [str(day) for day in np.arange("2020-01-01", count, dtype="datetime64[D]")[:count]]


def _newest(project: Path) -> Path:
    return max((project / "mlruns" / "runs").iterdir(), key=lambda run_dir: run_dir.stat().st_mtime)


def test_errors_are_per_target_with_units_and_undefined_ones_are_null_with_a_reason(project: Path, series_run: Path) -> None:
    done = run_in(project, "reprise", "evaluate", series_run.name, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["undefined"] == {"mase": CONSTANT, "mase/flag": CONSTANT}
    widths = {f"width_{percent}/level": "mm" for percent in (80, 95)}
    assert metrics["units"] == {"mae/level": "mm", "mse/level": "mm²", "rmse/level": "mm"} | widths
    assert metrics["test"].keys() >= {*widths, "coverage_80", "coverage_95/level", "width_80_scaled", "wql"}
    assert not [name for part in ("val", "repeat_last") for name in metrics[part] if name.startswith(("coverage", "width"))]
    for part in ("val", "test", "repeat_last"):
        assert metrics[part]["mase"] is metrics[part]["mase/flag"] is None
        assert {"mae", "rmse"}.isdisjoint(metrics[part])
        assert metrics[part]["mae/level"] > 0
    values = store.open_array(project / "data" / "processed" / "tank" / "values.npy")[:, 0].astype(float)
    naive = np.abs(np.diff(values[: len(values) - 12 - round(0.15 * 300)])).mean()
    assert metrics["test"]["mase/level"] == pytest.approx(metrics["test"]["mae/level"] / naive)
    event_log = EventLog(series_run)
    assert event_log.tags["undefined.mase"] == CONSTANT
    assert event_log.tags["unit.mae/level"] == "mm"
    assert event_log.tags["monitor"] == "val/mae_scaled"
    assert {"test/mae/level", "test/mae_scaled"} <= event_log.figures.keys()
    assert {"test/mase", "best/val/mase"}.isdisjoint(event_log.figures)
    description = event_log.tags["mlflow.note.content"]
    assert "mae/level, mm" in description
    assert f"mase is undefined: {CONSTANT}." in description
    table = run_in(project, "reprise", "evaluate", series_run.name).stdout
    assert f"mase is undefined: {CONSTANT}" in table
    assert "–" in next(line for line in table.splitlines() if "mase/flag" in line)
    comparison = run_in(project, "reprise", "compare", "--metric", "test/mase").stdout
    assert f"test/mase is undefined: {CONSTANT}" in " ".join(comparison.split())


def test_one_test_window_is_evaluated_and_drawn(series_run: Path) -> None:
    assert {file.name for file in (series_run / "figures").glob("*.png")} == {
        *("calibration.png", "curves.png", "error_by_channel.png", "error_by_step.png"),
        *(f"{kind}_{target}.png" for kind in KINDS for target in ("level", "flag")),
    }


def test_classes_with_the_names_of_averages_have_their_own_scores(project: Path, image_run: Path) -> None:
    done = run_in(project, "reprise", "evaluate", image_run.name)
    assert done.returncode == 0, done.stderr
    assert "could not be made" not in done.stderr
    report = store.read_json(image_run / "figures" / "classification_report.json")
    assert [row["name"] for row in report["classes"]] == CLASSES
    assert report["averages"].keys() == {"macro", "weighted"}
    assert 0 <= report["accuracy"] <= 1
    text = (image_run / "figures" / "classification_report.txt").read_text()
    assert sum(line.split()[0] == "accuracy" for line in text.splitlines() if line) == 2  # the class, and the overall accuracy
    assert "val f1_macro" in done.stdout


def evaluate_run(project: Path, run_dir: Path) -> None:
    paths = ProjectPaths(project)
    _, config = evaluate.recorded(paths, run_dir.name, [])
    evaluate.by_hand(config, run_dir.name, paths, Console(quiet=True))


def test_a_figure_that_fails_is_a_warning_and_the_evaluation_is_counted_and_logged(
    project: Path, image_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: Any) -> None:
        raise RuntimeError("no such font")

    before = EventLog(image_run)
    monkeypatch.setattr(classification, "confusion_matrix", raise_error)
    monkeypatch.setattr(training, "curves", raise_error)
    with pytest.warns(Notice) as caught:
        evaluate_run(project, image_run)
    messages = [str(one.message) for one in caught if one.category is Notice]
    assert messages == [
        f"{file} could not be made: RuntimeError: no such font" for file in ("curves.png", "confusion_matrix.png")
    ]
    after = EventLog(image_run)
    assert int(after.tags["test_opened"]) == int(before.tags["test_opened"]) + 1
    assert "test/accuracy" in after.figures


def test_an_interrupted_evaluation_is_counted_and_logs_no_metric(
    project: Path, series_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = EventLog(series_run)
    monkeypatch.setattr(evaluate, "_of_baseline", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(project, series_run)
    after = EventLog(series_run)
    assert int(after.tags["test_opened"]) == int(before.tags["test_opened"]) + 1
    assert after.points == before.points


def test_metrics_are_logged_and_printed_before_figures_are_drawn(
    project: Path, image_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def interrupt(*_: Any) -> None:
        done.append("printed" if json.loads(capsys.readouterr().out)["test"]["accuracy"] >= 0 else "")
        raise KeyboardInterrupt

    monkeypatch.setattr(groups, "update_parents", lambda *_: done.append("logged"))
    monkeypatch.setattr(draw, "write", interrupt)
    paths = ProjectPaths(project)
    _, config = evaluate.recorded(paths, image_run.name, [])
    with pytest.raises(KeyboardInterrupt):
        evaluate.by_hand(config, image_run.name, paths, Console(), as_json=True)
    assert done == ["logged", "printed"]


def test_an_unknown_monitor_is_refused_in_one_line(project: Path) -> None:
    done = run_in(project, *TRAIN, "experiment=digits_cnn", "task.monitor=acuracy")
    assert done.returncode == 2
    assert "task.monitor=acuracy: no such validation metric; the nearest is accuracy" in " ".join(done.stderr.split())
