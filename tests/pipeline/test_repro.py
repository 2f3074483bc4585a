"""`dvc repro` runs every stage once, and then only stages whose inputs changed."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from mlflow import MlflowClient

from reprise.config.compose import leaves
from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.tracking.lineage import TRAINING_SOURCES
from reprise.tracking.published_weights import read_published
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


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_the_results_of_every_experiment_follow_the_contract(pipeline_project: Path) -> None:
    for name, metric in (("digits_cnn", "accuracy"), ("temperature_lstm", "mae")):
        metrics = store.read_json(pipeline_project / "data" / "results" / name / "metrics.json")
        assert metrics["test"][metric] > 0
        assert metrics["seeds"] == [0]
        assert len(metrics["weights"]["seed0"]) == 64
        assert metrics["parameters"] > 1000
        assert metrics["test_std"][metric] is None  # of a single seed
        assert metrics["undefined"] == {}
    assert {"repeat_last", "seasonal_naive", "drift"} == set(metrics["baselines"])
    assert {"mae", "rmse", "mase"} <= set(metrics["test"])
    assert metrics["units"] == {"mae": "°C", "mse": "°C²", "rmse": "°C", "width_80": "°C", "width_95": "°C"}
    assert 0.5 < metrics["test"]["coverage_80"] <= metrics["test"]["coverage_95"] <= 1


def test_the_naive_baselines_equal_values_computed_by_hand(pipeline_project: Path) -> None:
    metrics = store.read_json(pipeline_project / "data" / "results" / "temperature_lstm" / "metrics.json")
    values = store.open_array(pipeline_project / "data/processed/seattle_weather/values.npy")[:, 0].astype(float)
    first = len(values) - round(0.15 * len(values))  # lookbacks reach back over the border
    assert metrics["baselines"]["repeat_last"]["mae"] == pytest.approx(
        abs(values[first:] - values[first - 1 : -1]).mean(), rel=1e-6
    )
    assert metrics["baselines"]["seasonal_naive"]["mae"] == pytest.approx(
        abs(values[first:] - values[first - 365 : -365]).mean(), rel=1e-6
    )


def test_a_second_repro_runs_no_stage(pipeline_project: Path) -> None:
    again = run_in(pipeline_project, "dvc", "repro", "--all-pipelines")
    assert again.returncode == 0
    assert stages_run(again.stdout) == set()


def test_long_experiments_run_only_with_all_pipelines(pipeline_project: Path) -> None:
    assert stages_run(run_in(pipeline_project, "dvc", "repro", "--dry", "--force").stdout) == STAGES
    long = {f"long/dvc.yaml:{stage}@temperature_lstm" for stage in ("window", "train", "evaluate", "draw")}
    long |= {f"long/dvc.yaml:{stage}@seattle_weather" for stage in ("download", "preprocess")}
    assert stages_run(run_in(pipeline_project, "dvc", "repro", "--dry", "--force", "--all-pipelines").stdout) == STAGES | long


def test_the_long_pipeline_has_the_same_stages() -> None:
    short, long = (yaml.safe_load((ROOT / file).read_text()) for file in ("dvc.yaml", "long/dvc.yaml"))
    for both in ("plugins", "compose", "list_folder", "preprocess_folder"):  # serve the experiments of both lists
        del short["stages"][both]
    lists = {"${experiments}": "${long}", "${datasets}": "${long_datasets}"}
    for entry in short["stages"].values():
        entry["foreach"] = lists[entry["foreach"]]
        entry["do"]["wdir"] = ".."
    assert long == {"vars": ["../conf/pipeline.yaml"], "stages": short["stages"]}


def test_a_changed_reader_reruns_the_stages_that_use_it() -> None:
    """Every module that reads or splits data, also one imported by another, is a dependency of the stages of data."""
    graph = grimp.build_graph("reprise", exclude_type_checking_imports=True)
    reached = [f"reprise.data.modalities.{kind}.arrays" for kind in ("images", "sequences", "series")]
    for module in reached:  # grows
        reached += [one for one in graph.find_modules_directly_imported_by(module) if one not in reached]
    files = {f"src/{module.replace('.', '/')}.py" for module in reached if module.startswith("reprise.data.")}
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    dependencies = [one for stage in ("preprocess", "preprocess_folder", "window") for one in entries[stage]["do"]["deps"]]
    assert {file for file in files if not any(file == one or file.startswith(f"{one}/") for one in dependencies)} == set()


def test_the_hash_of_the_training_code_covers_what_a_training_depends_on() -> None:
    dependencies = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["do"]["deps"]
    package = {one.removeprefix("src/reprise/") for one in dependencies if one.startswith("src/reprise/")}
    after_training = {"inference/intervals.py", "inference/predictor.py", "stages/published.py", "tracking/weights.py"}
    covered = {one for one in package if one.startswith(tuple(TRAINING_SOURCES))}
    assert package - covered == after_training


def test_a_pipeline_run_records_the_hashes_that_dvc_has_of_its_inputs(pipeline_project: Path) -> None:
    locked = yaml.safe_load((pipeline_project / "dvc.lock").read_text())["stages"]["train@digits_cnn"]["deps"]
    md5_of = {dep["path"]: dep["md5"] for dep in locked}
    (run,) = read_published(ProjectPaths(pipeline_project), "digits_cnn")
    run_id = run.run_id
    tags = MlflowClient(f"sqlite:///{pipeline_project / 'mlruns' / 'mlflow.db'}").get_run(run_id).data.tags
    for path in ("data/processed/digits", "data/windows/digits_cnn"):
        assert tags[f"dvc.{path}"] == md5_of[path]


def test_the_results_command_prints_and_writes_the_table(pipeline_project: Path) -> None:
    assert "digits_cnn" in run_in(pipeline_project, "reprise", "results").stdout
    page = pipeline_project / "results.md"
    assert run_in(pipeline_project, "reprise", "results", "--write", str(page)).returncode == 0
    written = page.read_text()
    assert len(re.findall(r"\n\| digits_cnn( ‡)? \| digits \|", written)) == 1
    assert written.count("\n| as it is (`digits_cnn`) |") == 1
    metrics = store.read_json(pipeline_project / "data" / "results" / "digits_cnn" / "metrics.json")
    assert f" {metrics['test']['accuracy']:.4f} " in written
    file = pipeline_project / "data" / "models" / "digits_cnn" / "seed0.safetensors"
    assert written.count(store.sha256(file)) == 1


def test_every_figure_and_table_of_a_classification_is_written(pipeline_project: Path) -> None:
    files = {file.name for file in (pipeline_project / "data" / "results" / "digits_cnn" / "figures").iterdir()}
    assert files == {
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
    results = pipeline_project / "data" / "results" / "digits_cnn" / "figures"
    metrics = store.read_json(results.parent / "metrics.json")
    report = store.read_json(results / "classification_report.json")
    assert report["accuracy"] == pytest.approx(metrics["test"]["accuracy"], abs=1e-7)
    assert report["averages"]["macro"]["f1"] == pytest.approx(metrics["test"]["f1_macro"], abs=1e-9)
    assert [row["name"] for row in report["classes"]] == [*"0123456789"]
    assert store.read_json(results / "layers.json")["total"]["parameters"] == metrics["parameters"]


def test_every_figure_of_a_forecast_is_written(pipeline_project: Path) -> None:
    files = {file.name for file in (pipeline_project / "data" / "results" / "temperature_lstm" / "figures").iterdir()}
    figures = {"calibration.png", "curves.png", "error_by_step.png", "forecast.png", "intervals.png", "residuals.png"}
    tables = {"errors_by_channel.csv", "errors_by_step.csv", "layers.json", "layers.txt", "manifest.json"}
    assert files == tables | figures


def test_a_manual_run_changes_no_output_of_the_pipeline(pipeline_project: Path) -> None:
    before = snapshot(pipeline_project)
    done = run_in(pipeline_project, "reprise", "train", "experiment=digits_cnn", "trainer.max_epochs=1", "data.limit=200")
    assert done.returncode == 0, done.stderr
    assert snapshot(pipeline_project) == before
    client = MlflowClient(f"sqlite:///{pipeline_project / 'mlruns' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert sorted(run.data.tags["origin"] for run in runs) == ["by hand", "pipeline"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def snapshot(project: Path) -> dict[str, str]:
    files = [path for path in (project / "data").rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in [*files, project / "dvc.lock"]}


def test_a_changed_learning_rate_runs_one_training_and_its_evaluation(pipeline_project: Path) -> None:
    file = pipeline_project / "conf" / "experiment" / "digits_cnn.yaml"
    before = file.read_text()
    try:
        file.write_text(before + "optimizer:\n  lr: 0.002\n")
        done = run_in(pipeline_project, "dvc", "repro")
        assert done.returncode == 0, done.stderr
        assert stages_run(done.stdout) == {"compose", "train@digits_cnn", "evaluate@digits_cnn", "draw@digits_cnn"}
    finally:
        file.write_text(before)
    back = run_in(pipeline_project, "dvc", "repro")  # the earlier outputs come from the cache
    assert stages_run(back.stdout) <= {"compose"}


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
"""The stages that read each key of an experiment's config directly. DVC derives the stages that depend on these."""


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


def test_dvc_yaml_lists_the_keys_that_each_stage_reads() -> None:
    assert declared() == READ_BY


class Spy:
    """A config that records which of its keys are read."""

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


def test_the_window_stage_reads_only_keys_listed_in_dvc_yaml(pipeline_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's window stage, run with a config that records every read."""
    from rich.console import Console

    from reprise.project_paths import ProjectPaths
    from reprise.stages import compose, window

    paths, read = ProjectPaths(pipeline_project), set[str]()
    spied: Any = Spy(compose.load("digits_cnn", paths), "", read)
    window.run(spied, paths, Console(quiet=True), pipeline_project / "scratch")
    assert read <= {key for key, stages in READ_BY.items() if "window" in stages}
    read.clear()
    window.are_for(pipeline_project / "scratch", spied, paths.processed("digits"))
    assert read <= {key for key, stages in READ_BY.items() if "window" in stages}


def different_value(value: Any) -> Any:
    """Return a different value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return "other" if value is None or isinstance(value, str) else [*value, "other"]


def set_key(tree: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    tree[int(last) if isinstance(tree, list) else last] = value


@pytest.mark.long
def test_changing_a_key_reruns_exactly_the_stages_that_read_it(pipeline_project: Path) -> None:
    """According to `dvc status`, key by key. Two sections rerun nothing: `tracking` affects no result, and the keys under `data` are
    read from conf/data/ by download and preprocess, whose outputs the later stages depend on."""
    file = pipeline_project / "data" / "config" / "digits_cnn.yaml"
    before = file.read_text()
    wrong = {}
    try:
        for path, value in leaves(yaml.safe_load(before)):
            tree = yaml.safe_load(before)
            set_key(tree, path, different_value(value))
            file.write_text(yaml.safe_dump(tree, sort_keys=False))
            status = json.loads(
                run_in(
                    pipeline_project, "dvc", "status", "--json", *[f"{stage}@digits_cnn" for stage in ("window", "train")]
                ).stdout
            )
            changed = {stage.split("@")[0] for stage, why in status.items() if any("changed deps" in part for part in why)}
            keys = [key for key in READ_BY if path == key or path.startswith(f"{key}.")]
            if changed != {"window", "train"} & set().union(*(READ_BY[key] for key in keys)):
                wrong[path] = changed
    finally:
        file.write_text(before)
    assert wrong == {}
