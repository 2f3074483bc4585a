"""`dvc repro` makes everything once, and then only what changed."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from reprise.config.compose import leaves
from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.stages.trained import read_published
from tests.pipeline.conftest import ROOT, run_in

STAGES = {
    "compose",
    "download@digits",
    "preprocess@digits",
    "window@digits_cnn",
    "train@digits_cnn",
    "evaluate@digits_cnn",
    "draw@digits_cnn",
}


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_every_experiment_has_results_that_hold_the_contract(made: Path) -> None:
    for name, metric in (("digits_cnn", "accuracy"), ("temperature_lstm", "mae")):
        found = store.read_json(made / "data" / "results" / name / "metrics.json")
        assert found["test"][metric] > 0
        assert found["seeds"] == [0]
        assert len(found["weights"]["seed0"]) == 64
        assert found["parameters"] > 1000
        assert found["test_std"][metric] is None  # of a single seed
        assert found["undefined"] == {}
    assert {"repeat_last", "seasonal_naive"} == set(found["baselines"])
    assert {"mae", "rmse", "mase"} <= set(found["test"])
    assert found["units"] == {"mae": "°C", "mse": "°C²", "rmse": "°C"}


def test_the_naive_baselines_are_those_computed_by_hand(made: Path) -> None:
    found = store.read_json(made / "data" / "results" / "temperature_lstm" / "metrics.json")
    values = store.open_array(made / "data/processed/seattle_weather/values.npy")[:, 0].astype(float)
    first = len(values) - round(0.15 * len(values)) + 30  # the first test day with 30 days of test before it
    assert found["baselines"]["repeat_last"]["mae"] == pytest.approx(
        abs(values[first:] - values[first - 1 : -1]).mean(), rel=1e-6
    )
    assert found["baselines"]["seasonal_naive"]["mae"] == pytest.approx(
        abs(values[first:] - values[first - 365 : -365]).mean(), rel=1e-6
    )


def test_a_second_repro_runs_no_stage(made: Path) -> None:
    again = run_in(made, "dvc", "repro", "--all-pipelines")
    assert again.returncode == 0
    assert ran(again.stdout) == set()


def test_what_takes_long_is_made_only_when_asked_for(made: Path) -> None:
    assert ran(run_in(made, "dvc", "repro", "--dry", "--force").stdout) == STAGES
    long = {f"long/dvc.yaml:{stage}@temperature_lstm" for stage in ("window", "train", "evaluate", "draw")}
    long |= {f"long/dvc.yaml:{stage}@seattle_weather" for stage in ("download", "preprocess")}
    assert ran(run_in(made, "dvc", "repro", "--dry", "--force", "--all-pipelines").stdout) == STAGES | long


def test_what_takes_long_goes_through_the_same_stages_word_for_word() -> None:
    short, long = (yaml.safe_load((ROOT / file).read_text()) for file in ("dvc.yaml", "long/dvc.yaml"))
    for both in ("plugins", "compose", "list_folder", "preprocess_folder"):  # make what experiments of both lists read
        del short["stages"][both]
    lists = {"${experiments}": "${long}", "${datasets}": "${long_datasets}"}
    for entry in short["stages"].values():
        entry["foreach"] = lists[entry["foreach"]]
        entry["do"]["wdir"] = ".."
    assert long == {"vars": ["../conf/pipeline.yaml"], "stages": short["stages"]}


def test_a_run_of_the_pipeline_names_the_hashes_by_which_dvc_knows_its_inputs(made: Path) -> None:
    locked = yaml.safe_load((made / "dvc.lock").read_text())["stages"]["train@digits_cnn"]["deps"]
    known = {dep["path"]: dep["md5"] for dep in locked}
    (run,) = read_published(ProjectPaths(made), "digits_cnn")
    run_id = run.run_id
    tags = MlflowClient(f"sqlite:///{made / 'mlruns' / 'mlflow.db'}").get_run(run_id).data.tags
    for path in ("data/processed/digits", "data/windows/digits_cnn"):
        assert tags[f"dvc.{path}"] == known[path]


def test_results_are_shown_and_written_by_a_command(made: Path) -> None:
    assert "digits_cnn" in run_in(made, "reprise", "results").stdout
    page = made / "results.md"
    assert run_in(made, "reprise", "results", "--write", str(page)).returncode == 0
    written = page.read_text()
    assert written.count("\n| digits_cnn | digits |") == 1
    assert written.count("\n| as it is (`digits_cnn`) |") == 1
    found = store.read_json(made / "data" / "results" / "digits_cnn" / "metrics.json")
    assert f" {found['test']['accuracy']:.4f} " in written
    file = made / "data" / "models" / "digits_cnn" / "seed0.safetensors"
    assert written.count(store.sha256(file)) == 1


def test_every_picture_and_table_of_a_classification_is_drawn(made: Path) -> None:
    found = {file.name for file in (made / "data" / "results" / "digits_cnn" / "figures").iterdir()}
    assert found == {
        "attribution.png",
        "classes.png",
        "classification_report.json",
        "classification_report.txt",
        "confusion_matrix.png",
        "curves.png",
        "feature_maps_conv1.png",
        "feature_maps_conv2.png",
        "filters.png",
        "layers.json",
        "layers.txt",
        "manifest.json",
        "predictions.png",
        "reliability.png",
        "samples.png",
        "worst_mistakes.png",
    }
    results = made / "data" / "results" / "digits_cnn" / "figures"
    metrics = store.read_json(results.parent / "metrics.json")
    report = store.read_json(results / "classification_report.json")
    assert report["accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-7)
    assert report["averages"]["macro"]["f1"] == pytest.approx(metrics["test"]["f1_macro"], abs=1e-9)
    assert [row["name"] for row in report["classes"]] == [*"0123456789"]
    assert store.read_json(results / "layers.json")["total"]["parameters"] == metrics["parameters"]


def test_every_picture_of_a_forecast_is_drawn(made: Path) -> None:
    found = {file.name for file in (made / "data" / "results" / "temperature_lstm" / "figures").iterdir()}
    pictures = {"curves.png", "error_by_step.png", "forecast.png", "residuals.png"}
    assert found == {"layers.json", "layers.txt", "manifest.json"} | pictures


def test_a_quick_try_is_a_run_of_its_own_and_overwrites_nothing(made: Path) -> None:
    before = snapshot(made)
    done = run_in(made, "reprise", "train", "experiment=digits_cnn", "trainer.max_epochs=1", "data.limit=200")
    assert done.returncode == 0, done.stderr
    assert snapshot(made) == before
    client = MlflowClient(f"sqlite:///{made / 'mlruns' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.data.tags["origin"] for run in runs) == ["by hand", "pipeline"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def snapshot(project: Path) -> dict[str, str]:
    files = [path for path in (project / "data").rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in [*files, project / "dvc.lock"]}


def test_a_changed_learning_rate_runs_one_training_and_its_evaluation(made: Path) -> None:
    file = made / "conf" / "experiment" / "digits_cnn.yaml"
    before = file.read_text()
    try:
        file.write_text(before + "optimizer:\n  lr: 0.002\n")
        done = run_in(made, "dvc", "repro")
        assert done.returncode == 0, done.stderr
        assert ran(done.stdout) == {"compose", "train@digits_cnn", "evaluate@digits_cnn", "draw@digits_cnn"}
    finally:
        file.write_text(before)
    back = run_in(made, "dvc", "repro")  # what was made before is taken from the cache
    assert ran(back.stdout) <= {"compose"}


READ_BY = {
    "name": {"window", "train"},
    "data.name": {"window"},
    "window": {"window"},
    "seed": {"train"},
    "seeds": {"train"},
    "plugins": {"train"},
    "plugin_sources": {"train", "evaluate", "draw"},
    "augment": {"train"},
    "task": {"train"},
    "model": {"train"},
    "optimizer": {"train"},
    "scheduler": {"train"},
    "trainer": {"train"},
}
"""Which stages read a key of an experiment's config directly; those that follow from them are DVC's to know."""


def declared() -> dict[str, set[str]]:
    entries: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    by_key: dict[str, set[str]] = {}
    for stage, entry in entries.items():
        for params in entry.get("do", entry).get("params", []):
            for file, keys in params.items():
                if file.startswith("data/config/"):
                    for key in keys:
                        by_key.setdefault(key, set()).add(stage)
    return by_key


def test_dvc_is_told_which_keys_each_stage_reads() -> None:
    assert declared() == READ_BY


class Spy:
    """A config that writes down which of its keys are read."""

    def __init__(self, node: Any, path: str, read: set[str]) -> None:
        object.__setattr__(self, "_spied", (node, path, read))

    def __getattr__(self, name: str) -> Any:
        node, path, read = object.__getattribute__(self, "_spied")
        value = getattr(node, name)
        if name in type(node).model_fields:
            inner = f"{path}.{name}" if path else name
            if hasattr(type(value), "model_fields") and inner == "data":
                return Spy(value, inner, read)
            read.add(inner)
        return value


def test_a_stage_reads_no_key_that_dvc_is_not_told_of(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's window stage, run with a config that notes every read."""
    from rich.console import Console

    from reprise.project_paths import ProjectPaths
    from reprise.stages import compose, window

    paths, read = ProjectPaths(made), set[str]()
    spied: Any = Spy(compose.load("digits_cnn", paths), "", read)
    window.run(spied, paths, Console(quiet=True), made / "scratch")
    assert read <= {key for key, stages in READ_BY.items() if "window" in stages}
    read.clear()
    window.are_for(made / "scratch", spied, paths.processed("digits"))
    assert read <= {key for key, stages in READ_BY.items() if "window" in stages}


def other(value: Any) -> Any:
    """A value of the same kind that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return "other" if value is None or isinstance(value, str) else [*value, "other"]


def put(tree: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    tree[int(last) if isinstance(tree, list) else last] = value


def test_each_leaf_key_changed_reruns_exactly_the_stages_that_read_it(made: Path) -> None:
    """DVC's own word, leaf by leaf. Two sections rerun nothing: `tracking` decides no result, and the facts under `data` are read
    from conf/data/ by download and preprocess, whose outputs the others depend on."""
    file = made / "data" / "config" / "digits_cnn.yaml"
    before = file.read_text()
    wrong = {}
    try:
        for path, value in leaves(yaml.safe_load(before)):
            tree = yaml.safe_load(before)
            put(tree, path, other(value))
            file.write_text(yaml.safe_dump(tree, sort_keys=False))
            said = json.loads(
                run_in(made, "dvc", "status", "--json", *[f"{stage}@digits_cnn" for stage in ("window", "train")]).stdout
            )
            changed = {stage.split("@")[0] for stage, why in said.items() if any("changed deps" in part for part in why)}
            keys = [key for key in READ_BY if path == key or path.startswith(f"{key}.")]
            if changed != {"window", "train"} & set().union(*(READ_BY[key] for key in keys)):
                wrong[path] = changed
    finally:
        file.write_text(before)
    assert wrong == {}
