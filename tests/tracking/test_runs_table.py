"""The shared view of the dashboard's table of runs: its columns, and the tag that MLflow reads."""

import shutil
from pathlib import Path

import pytest

from reprise.tracking import backend, charts_view, runs_table, shared_views
from reprise.tracking.runs_table import TableRow, columns, decoded, encoded
from tests.analysis.trainings import write_run


def table_row(lr: str, metrics: dict[str, float], **more: str) -> TableRow:
    return TableRow({"model": "ConvNet"}, {"optimizer.lr": lr, "trainer.max_epochs": "3", **more}, metrics)


def test_the_columns_are_the_metrics_of_the_runs_and_the_settings_in_which_they_differ() -> None:
    many = {f"test/mae/target_{number}": 1.0 for number in range(20)}
    runs = [
        table_row(
            "0.1", {"best/val/mae_scaled": 1.0, "val/mae_scaled": 1.0, "baseline_naive/test/mae": 1.0}, seed="0", title="a"
        ),
        table_row("0.2", {"best/val/mae_scaled": 1.0, "test/mae_scaled": 1.0, "test/rmse": 1.0, **many}, seed="1"),
        TableRow({"group": "sweep"}, {"n_trials": "20"}, {"test_std/rmse": 1.0}),
    ]
    result = columns(runs, "val/mae_scaled")
    assert result[:3] == ["metrics.`best/val/mae_scaled`", "metrics.`test/mae_scaled`", "metrics.`test/rmse`"]
    assert [name for name in result if name.startswith("params")] == ["params.`seed`", "params.`optimizer.lr`", "params.`title`"]
    assert result[-4:] == [f"tags.`{key}`" for key in ("experiment", "model", "parameters", "train_seconds")]
    assert len([name for name in result if name.startswith("metrics")]) == 1 + runs_table.MAX_TEST_METRICS


def test_the_view_of_any_runs_fits_into_a_tag() -> None:
    runs = [
        table_row(
            str(lr),
            {f"test/{'m' * 60}_{number}": 1.0 for number in range(200)},
            **{f"{'k' * 60}.{i}": f"{lr}" for i in range(200)},
        )
        for lr in range(3)
    ]
    for view in (encoded(runs, "val/accuracy", "max"), charts_view.encoded(runs, "val/accuracy", "max")):
        assert len(view) < 5000  # the limit of MLflow for a tag of an experiment


def test_charts_show_bars_curves_and_the_settings_that_differ_with_runs_by_parent() -> None:
    metrics = {"best/val/mae": 1.0, "val/mae": 1.0, "train/mae": 1.0, "val/loss": 1.0, "test/mae": 1.0, "test/rmse": 2.0}
    runs = [TableRow({"parent": "sweep-1"}, {"optimizer.lr": lr, "name": "x"}, metrics) for lr in ("0.1", "0.2")]
    state = decoded(charts_view.encoded(runs, "val/mae", "min"))
    shown = [(chart["type"], chart.get("metricKey")) for chart in state["compareRunCharts"]]
    bars = [("BAR", name) for name in ("best/val/mae", "test/mae", "test/rmse")]
    curves = [("LINE", name) for name in ("val/mae", "train/mae", "val/loss")]
    assert shown == [*bars, *curves, ("PARALLEL", None)]
    assert state["compareRunCharts"][-1]["selectedParams"] == ["optimizer.lr"]
    assert state["compareRunCharts"][-1]["selectedMetrics"] == ["best/val/mae"]
    open_sections = [section["name"] for section in state["compareRunSections"] if section["display"]]
    assert open_sections == ["Results", "Learning curves", "Settings"]
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "parent"}]
    assert decoded(charts_view.encoded(runs[:1], "val/mae", "min"))["compareRunCharts"][-1]["type"] == "LINE"


@pytest.mark.parametrize(("mode", "ascending"), [("max", False), ("min", True)])
def test_the_best_run_comes_first(mode: str, ascending: bool) -> None:
    state = decoded(encoded([], "val/loss", mode))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/val/loss`", ascending)


def test_each_data_set_has_a_view_with_the_columns_of_all_its_runs(tmp_path: Path) -> None:
    folder, monitor = tmp_path / "mlruns", {"monitor": "val/accuracy", "mode": "max"}
    write_run(folder, 0, [0.5, 0.7], tags=monitor, once={"best/val/accuracy": 0.7, "test/accuracy": 0.6})
    write_run(folder, 0, [0.5, 0.8], tags=monitor, once={"best/val/accuracy": 0.8}, config={"optimizer.lr": "0.01"})
    other = {"data.name": "weather"}
    write_run(
        folder, 0, [1.0], tags={"monitor": "val/mae", "mode": "min"}, metric="val/mae", once={"best/val/mae": 1.0}, config=other
    )
    write_run(folder, 1, [], status="FAILED", config={"data.name": "nothing"})
    client = backend.connect(backend.local_address(folder), folder)
    pages = shared_views.write(folder, None)
    assert list(pages) == ["weather", "digits"]
    for name, column in (("digits", "params.`optimizer.lr`"), ("weather", "metrics.`best/val/mae`")):
        experiment = client.get_experiment_by_name(name)
        assert pages[name].charts == charts_view.address(experiment.experiment_id)
        bars = decoded(experiment.tags[charts_view.TAG])["compareRunCharts"]
        assert bars[0]["metricKey"] == f"best/{column.partition('best/')[2].strip('`') or 'val/accuracy'}"
        assert pages[name].table.endswith(
            f"/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=reprise"
        )
        assert column in decoded(experiment.tags[runs_table.TAG])["selectedColumns"]
    digits = decoded(client.get_experiment_by_name("digits").tags[runs_table.TAG])["selectedColumns"]
    assert {"metrics.`best/val/accuracy`", "metrics.`test/accuracy`", "params.`seed`", "tags.`train_seconds`"} <= set(digits)
    shutil.rmtree(folder)
