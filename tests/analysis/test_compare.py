"""`reprise compare` over a real store: what is grouped, what is told apart, and what is only said."""

import io
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from rich.console import Console
from scipy import stats

from reprise.analysis import compare_view
from reprise.analysis.compare import Comparison, ComparisonQuery, compare, ranked
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import listing
from tests.analysis.trainings import rows, write
from tests.pipeline.conftest import run_in
from tests.tracking.server import Server

LUCK = np.random.default_rng(0).normal(0, 0.004, (3, 5))
LR = ({"optimizer.lr": "0.001"}, {"optimizer.lr": "0.01"})


def train(project: Path, mean: float, luck: Any, **more: Any) -> list[str]:
    """A run a seed; the best epoch is the one before the last."""
    return [write(project / "mlruns", seed, [mean - 0.1, mean + one, mean - 0.05], **more) for seed, one in enumerate(luck)]


def compared(project: Path, **asked: Any) -> Comparison:
    return compare(ProjectPaths(project), ComparisonQuery(**asked))


def printed(comparison: Comparison) -> str:
    console = Console(width=80, file=io.StringIO())
    compare_view.show(comparison, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_two_equal_configs_are_not_distinguishable(project: Path) -> None:
    for luck, config in zip(LUCK, LR, strict=False):
        train(project, 0.9, luck, config=config)
    (table,) = compared(project).tables
    assert [len(group.runs) for group in table.groups] == [5, 5]
    assert table.differing == ["optimizer.lr"]
    (beside,) = table.tests
    assert beside.verdict == "not distinguishable"
    assert "not distinguishable" in printed(compared(project))


def test_a_real_gap_is_told_apart_with_the_figures_of_scipy(project: Path) -> None:
    train(project, 0.95, LUCK[0], config={"model.dropout": "0.3"})
    train(project, 0.90, LUCK[1], config={"model.dropout": "0.0"})
    (table,) = json.loads(json.dumps(compare_view.described(compared(project))))["tables"]
    first, second = table["groups"]
    assert (first["config"], first["words"], second["words"]) == ({"model.dropout": "0.3"}, "better than 2", "worse than 1")
    expected = stats.ttest_rel(0.95 + LUCK[0], 0.90 + LUCK[1])
    beside = first["beside"]
    assert beside["test"] == "paired"
    found = [beside["t"], beside["p"], *beside["interval"], first["mean"], first["std"]]
    interval = expected.confidence_interval()
    assert found == pytest.approx(
        [expected.statistic, expected.pvalue, interval.low, interval.high, np.mean(0.95 + LUCK[0]), np.std(LUCK[0], ddof=1)],
        abs=1e-9,
    )
    assert [run["seed"] for run in first["runs"]] == [0, 1, 2, 3, 4]


def test_luck_alone_is_called_a_difference_no_more_often_than_the_level_says() -> None:
    generator = np.random.default_rng(1)
    for groups in (2, 3):
        wrong = 0
        for _ in range(200):
            every = [rows(generator.normal(0.9, 0.01, 5), **{"optimizer.lr": str(group)}) for group in range(groups)]
            found = ranked("digits", "val/accuracy", [row for trained in every for row in trained])
            wrong += any(one.verdict != "not distinguishable" for one in found.tests)
        assert wrong / 200 <= 0.05


def test_an_error_is_better_where_it_is_lower_and_a_figure_is_that_of_the_best_epoch(project: Path) -> None:
    for config, mean in zip(LR, (3.0, 2.0), strict=True):
        for seed, luck in enumerate(LUCK[0]):
            history = [-mean - 1, -mean + luck, -mean - 2]  # the highest is the best to `write`
            write(project / "mlruns", seed, history, metric="val/mae", config=config)
    (table,) = compared(project, metric="mae").tables
    assert not table.higher_is_better
    assert [round(group.mean) for group in table.groups] == [-3, -2]
    assert "lower is better" in printed(compared(project, metric="mae"))


def test_groups_of_unlike_seeds_are_tested_as_independent(project: Path) -> None:
    train(project, 0.95, LUCK[0], config=LR[0])
    for seed, luck in enumerate(LUCK[1], 10):
        write(project / "mlruns", seed, [0.9 + luck], config=LR[1])
    (beside,) = compared(project).tables[0].tests
    assert beside.test is not None
    assert beside.test.kind == "Welch"
    assert beside.test.p == pytest.approx(stats.ttest_ind(0.95 + LUCK[0], 0.9 + LUCK[1], equal_var=False).pvalue, abs=1e-9)


def test_no_figure_is_thrown_away_where_groups_share_some_seeds_only(project: Path) -> None:
    train(project, 0.95, LUCK[0], config=LR[0])
    for seed, luck in zip((0, 1, 10, 11, 12), LUCK[1], strict=True):
        write(project / "mlruns", seed, [0.9 + luck], config=LR[1])
    (beside,) = compared(project).tables[0].tests
    assert beside.test is not None
    assert beside.test.kind == "Welch"
    assert beside.verdict == "better"


def test_which_end_is_better_is_what_the_runs_say_and_the_name_of_the_dashboard_means_the_same(project: Path) -> None:
    train(project, 0.95, LUCK[0], config=LR[0], metric="val/iou", tags={"monitor": "val/iou", "mode": "max"})
    train(project, 0.90, LUCK[1], config=LR[1], metric="val/iou", tags={"monitor": "val/iou", "mode": "max"})
    for name in ("iou", "val/iou", "best/val/iou"):
        (table,) = compared(project, metric=name).tables
        assert table.metric == "val/iou"
        assert [group.config["optimizer.lr"] for group in table.groups] == ["0.001", "0.01"]


def test_figures_of_other_samples_stand_in_tables_of_their_own(project: Path) -> None:
    for config in ({"window.lookback": "30"}, {"window.lookback": "60"}, {"window.lookback": "60", "window.limit": "100"}):
        train(project, 0.9, LUCK[0], config=config)
    assert [len(table.groups) for table in compared(project).tables] == [1, 2]  # a limit cuts the training split alone


def changed(splits: str) -> dict[str, str]:
    """Tags of a run after images were added to the data set, which changed these splits."""
    return {f"sha256.{name}": "f" * 64 for name in ("processed", *splits.split())}


def test_runs_on_other_data_of_the_same_name_are_not_averaged(project: Path) -> None:
    train(project, 0.9, LUCK[0])
    train(project, 0.5, LUCK[1][:3], tags=changed("val test"), once={"test/accuracy": 0.5})
    tables = compared(project).tables
    assert [[len(group.runs) for group in table.groups] for table in tables] == [[5], [3]]
    assert [round(table.groups[0].mean, 1) for table in tables] == [0.9, 0.5]
    assert [table.data for table in tables] == ["digits (samples 64696769)", "digits (samples ffffffff)"]
    assert not any(left.reason.startswith("made again") for left in compared(project).excluded)


def test_a_test_set_that_stayed_the_same_is_compared_though_training_images_were_added(project: Path) -> None:
    published, once = {"window.test_size": "null"}, {"test/accuracy": 0.8}
    train(project, 0.9, LUCK[0], config=published, once=once)
    train(project, 0.9, LUCK[1], config={**published, "optimizer.lr": "0.1"}, tags=changed("val"), once=once)
    assert [len(table.groups) for table in compared(project, metric="test/accuracy").tables] == [2]
    assert [len(table.groups) for table in compared(project).tables] == [1, 1]


def test_a_run_of_an_older_version_counts_among_those_of_the_same_arrays(project: Path) -> None:
    train(project, 0.9, LUCK[0][:2])
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    for seed in (10, 11):
        older = write(project / "mlruns", seed, [0.9])
        for tag in ("sha256.val", "sha256.test"):
            client.delete_tag(older, tag)
    assert [len(group.runs) for table in compared(project).tables for group in table.groups] == [4]


def test_a_run_made_again_counts_once(project: Path) -> None:
    train(project, 0.9, LUCK[0])
    train(project, 0.9, LUCK[0][:2])
    found = compared(project)
    assert [len(group.runs) for group in found.tables[0].groups] == [5]
    assert [left.reason for left in found.excluded] == ["made again since, with the same settings and seed"] * 2


def test_by_groups_by_the_named_keys_and_pairs_by_all_others(project: Path) -> None:
    for lr in ("0.1", "0.2"):
        for dropout, mean in (("0.0", 0.8), ("0.5", 0.9)):
            train(project, mean, LUCK[0][:2] + float(lr), config={"optimizer.lr": lr, "model.dropout": dropout})
    found = compared(project, by=("model",))
    (table,) = found.tables
    assert [(group.config, len(group.runs)) for group in table.groups] == [
        ({"model.dropout": "0.5"}, 4),
        ({"model.dropout": "0.0"}, 4),
    ]
    assert table.tests[0].test is None  # in every pair the gap is the same: nothing to judge by
    with pytest.raises(UserError, match=r"--by modle: no such key; the nearest is model"):
        compared(project, by=("modle",))


def test_what_cannot_be_compared_is_said_plainly(project: Path) -> None:
    train(project, 0.9, LUCK[0])
    store = project / "mlruns"
    write(store, 10, [])
    write(store, 11, [0.5], status="RUNNING")
    write(store, 12, [0.5], status="FAILED")
    write(store, 13, [0.5], status="KILLED", tags={"pruned": "too slow"})
    write(store, 14, [0.5], tags={"reproduces": "1234"})
    write(store, 15, [0.5], tags={"group": "comparison"})
    write(store, 16, [float("nan")])
    write(store, 17, [float("inf")])
    write(store, 0, [0.5, 0.6], config={"optimizer.lr": "0.5"})
    write(store, 0, [0.9], experiment="mnist_cnn", config={"data.name": "mnist"})
    write(store, 0, [0.9], config={"window.val_size": "0.1"})
    found = compared(project)
    assert {left.reason for left in found.excluded} == {
        "no val/accuracy", "still going", "failed", "given up by its sweep", "repeats another run", "no training"
    }  # fmt: skip
    assert [table.data for table in found.tables] == ["digits (window.val_size=0.1)", "digits (window.val_size=0.2)", "mnist"]
    shown = printed(found)
    assert "mixed data sets: 3 tables, whose figures cannot be compared" in shown
    for said in ("left out  3 runs: no val/accuracy", "1 run: still going", "1 run: failed", "one seed: nothing can be"):
        assert said in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_an_empty_store_a_missing_one_and_an_unknown_experiment_are_said_plainly(project: Path) -> None:
    assert printed(compared(project)) == "the store is empty; `reprise train` makes a run\n"
    shutil.rmtree(project / "mlruns")
    assert printed(compared(project)) == "the store is empty; `reprise train` makes a run\n"
    assert not (project / "mlruns").exists()
    (project / "mlruns").mkdir()
    (project / "mlruns" / "mlflow.db").write_text("no database")
    with pytest.raises(UserError, match=r"the tracking store .* fails: "):
        compared(project)


def test_an_undefined_metric_is_left_out_with_its_reason_and_scaled_errors_stand_for_several_targets(project: Path) -> None:
    constant = "flag: constant in the training split"
    tags = {"undefined.mase": constant, "monitor": "val/mae_scaled", "mode": "min", "test_opened": "1"}
    for seed in (0, 1):
        write(project / "mlruns", seed, [0.5 + seed], metric="val/mae_scaled", tags=tags)
    assert {left.reason for left in compared(project, metric="test/mase").excluded} == {f"test/mase is undefined: {constant}"}
    (table,) = compared(project).tables
    assert (table.metric, table.higher_is_better) == ("val/mae_scaled", False)


def test_test_metrics_are_of_runs_that_evaluate_opened(project: Path) -> None:
    write(project / "mlruns", 0, [0.9], once={"test/accuracy": 0.8})
    write(project / "mlruns", 1, [0.9], once={"test/accuracy": 0.82})
    write(project / "mlruns", 2, [0.9])
    found = compared(project, metric="test/accuracy")
    assert found.tables[0].groups[0].values == [0.8, 0.82]
    assert [left.reason for left in found.excluded] == ["not opened by `evaluate`"]
    assert "of runs that `evaluate` opened" in printed(found).replace("\n", " ")
    assert compare_view.described(found)["tables"][0]["only_of_evaluated_runs"]
    assert not compare_view.described(compared(project))["tables"][0]["only_of_evaluated_runs"]


def test_the_filter_is_mlflows_and_its_complaint_is_one_line(project: Path) -> None:
    train(project, 0.9, LUCK[0], config=LR[0])
    train(project, 0.9, LUCK[1], config=LR[1], experiment="other")
    found = compared(project, expression="params.`optimizer.lr` = '0.01' and metrics.`val/accuracy` < 10")
    assert [group.name for table in found.tables for group in table.groups] == ["other"]
    assert len(compared(project, experiments=("other",)).tables[0].groups) == 1
    with pytest.raises(UserError, match=r'^--filter lr > 3: Invalid .*; for example: params.`optimizer.lr` = "0.001"'):
        compared(project, expression="lr > 3")
    with pytest.raises(UserError, match=r"no run of experiment othr; the nearest is other"):
        compared(project, experiments=("othr",))


def test_a_server_gives_the_same_rows_as_its_database(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(project, 0.9, LUCK[0][:2], once={"test/accuracy": 0.8})
    write(project / "mlruns", 7, [0.5, float("nan")])
    metrics = ["val/accuracy", "val/mae"]
    here = listing.read(project / "mlruns", None, metrics, None)
    wanted = {row.id: "val/accuracy" for row in here}
    curves = listing.histories(project / "mlruns", None, wanted)
    (tmp_path / "server").mkdir()
    with (
        closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as own,
        closing(sqlite3.connect(tmp_path / "server" / "server.db")) as its,
    ):
        own.backup(its)
    server = Server(tmp_path / "server")
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        there = listing.read(project / "mlruns", None, metrics, "attributes.status = 'FINISHED'")
        assert there == here
        assert listing.histories(project / "mlruns", None, wanted) == curves
    finally:
        server.stop()


def test_a_training_says_what_it_cost_and_the_command_prints_json_alone(project: Path) -> None:
    for seed in (0, 1):
        done = run_in(project, "reprise", "train", "experiment=digits_cnn", f"seed={seed}", "tracking.log_model=false")
        assert done.returncode == 0, done.stderr
    done = run_in(project, "reprise", "compare", "digits_cnn", "--json")
    assert done.returncode == 0, done.stderr
    ((group,),) = [table["groups"] for table in json.loads(done.stdout)["tables"]]
    assert group["n"] == 2
    assert 1e8 < group["peak_memory"] < 1e11
    assert group["samples_per_second"] > 0
    assert group["train_seconds"] > 0
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    history = client.get_metric_history(group["runs"][0]["id"], "val/accuracy")
    best = int(client.get_run(group["runs"][0]["id"]).data.tags["best_epoch"])
    assert group["runs"][0]["value"] == {point.step: point.value for point in history}[best]
    done = run_in(project, "reprise", "compare", "--metric", "nothing/such")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "nothing to compare: no finished training has such figures")
