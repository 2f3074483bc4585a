"""`reprise compare` on a real tracking store: groups, statistical tests, excluded runs."""

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
from tests.analysis.trainings import rows, write_run
from tests.pipeline.conftest import run_in
from tests.tracking.server import Server

NOISE = np.random.default_rng(0).normal(0, 0.004, (3, 5))
LR = ({"optimizer.lr": "0.001"}, {"optimizer.lr": "0.01"})


def write_seeds(project: Path, mean: float, noise: Any, **more: Any) -> list[str]:
    """Write one run per seed. The best epoch is the second of three."""
    return [write_run(project / "mlruns", seed, [mean - 0.1, mean + one, mean - 0.05], **more) for seed, one in enumerate(noise)]


def comparison_of(project: Path, **query: Any) -> Comparison:
    return compare(ProjectPaths(project), ComparisonQuery(**query))


def printed(comparison: Comparison) -> str:
    console = Console(width=80, file=io.StringIO())
    compare_view.show(comparison, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_two_equal_configs_are_not_distinguishable(project: Path) -> None:
    for noise, config in zip(NOISE, LR, strict=False):
        write_seeds(project, 0.9, noise, config=config)
    (table,) = comparison_of(project).tables
    assert [len(group.runs) for group in table.groups] == [5, 5]
    assert table.differing == ["optimizer.lr"]
    (pairwise,) = table.tests
    assert pairwise.verdict == "not distinguishable"
    assert "not distinguishable" in printed(comparison_of(project))


def test_a_real_difference_is_detected_with_the_values_of_scipy(project: Path) -> None:
    write_seeds(project, 0.95, NOISE[0], config={"model.dropout": "0.3"})
    write_seeds(project, 0.90, NOISE[1], config={"model.dropout": "0.0"})
    (table,) = json.loads(json.dumps(compare_view.described(comparison_of(project))))["tables"]
    first, second = table["groups"]
    assert (first["config"], first["words"], second["words"]) == ({"model.dropout": "0.3"}, "better than 2", "worse than 1")
    expected = stats.ttest_rel(0.95 + NOISE[0], 0.90 + NOISE[1])
    pairwise = first["beside"]
    assert pairwise["test"] == "paired"
    result = [pairwise["t"], pairwise["p"], *pairwise["interval"], first["mean"], first["std"]]
    interval = expected.confidence_interval()
    assert result == pytest.approx(
        [expected.statistic, expected.pvalue, interval.low, interval.high, np.mean(0.95 + NOISE[0]), np.std(NOISE[0], ddof=1)],
        abs=1e-9,
    )
    assert [run["seed"] for run in first["runs"]] == [0, 1, 2, 3, 4]


def test_the_false_positive_rate_is_at_most_the_level() -> None:
    generator = np.random.default_rng(1)
    for groups in (2, 3):
        false_positives = 0
        for _ in range(200):
            every = [rows(generator.normal(0.9, 0.01, 5), **{"optimizer.lr": str(group)}) for group in range(groups)]
            result = ranked("digits", "val/accuracy", [row for trained in every for row in trained])
            false_positives += any(one.verdict != "not distinguishable" for one in result.tests)
        assert false_positives / 200 <= 0.05


def test_lower_errors_rank_first_and_the_value_is_that_of_the_best_epoch(project: Path) -> None:
    for config, mean in zip(LR, (3.0, 2.0), strict=True):
        for seed, noise in enumerate(NOISE[0]):
            history = [-mean - 1, -mean + noise, -mean - 2]  # to `write_run`, the highest value is the best
            write_run(project / "mlruns", seed, history, metric="val/mae", config=config)
    (table,) = comparison_of(project, metric="mae").tables
    assert not table.higher_is_better
    assert [round(group.mean) for group in table.groups] == [-3, -2]
    assert "lower is better" in printed(comparison_of(project, metric="mae"))


def test_groups_with_different_seeds_are_compared_by_welchs_test(project: Path) -> None:
    write_seeds(project, 0.95, NOISE[0], config=LR[0])
    for seed, noise in enumerate(NOISE[1], 10):
        write_run(project / "mlruns", seed, [0.9 + noise], config=LR[1])
    (pairwise,) = comparison_of(project).tables[0].tests
    assert pairwise.test is not None
    assert pairwise.test.kind == "Welch"
    assert pairwise.test.p == pytest.approx(stats.ttest_ind(0.95 + NOISE[0], 0.9 + NOISE[1], equal_var=False).pvalue, abs=1e-9)


def test_groups_that_share_only_some_seeds_are_compared_by_all_values(project: Path) -> None:
    write_seeds(project, 0.95, NOISE[0], config=LR[0])
    for seed, noise in zip((0, 1, 10, 11, 12), NOISE[1], strict=True):
        write_run(project / "mlruns", seed, [0.9 + noise], config=LR[1])
    (pairwise,) = comparison_of(project).tables[0].tests
    assert pairwise.test is not None
    assert pairwise.test.kind == "Welch"
    assert pairwise.verdict == "better"


def test_the_direction_comes_from_the_runs_and_every_name_of_a_metric_is_accepted(project: Path) -> None:
    write_seeds(project, 0.95, NOISE[0], config=LR[0], metric="val/iou", tags={"monitor": "val/iou", "mode": "max"})
    write_seeds(project, 0.90, NOISE[1], config=LR[1], metric="val/iou", tags={"monitor": "val/iou", "mode": "max"})
    for name in ("iou", "val/iou", "best/val/iou"):
        (table,) = comparison_of(project, metric=name).tables
        assert table.metric == "val/iou"
        assert [group.config["optimizer.lr"] for group in table.groups] == ["0.001", "0.01"]


def test_values_measured_on_different_samples_are_in_separate_tables(project: Path) -> None:
    for config in ({"window.lookback": "30"}, {"window.lookback": "60"}, {"window.lookback": "60", "window.limit": "100"}):
        write_seeds(project, 0.9, NOISE[0], config=config)
    assert [len(table.groups) for table in comparison_of(project).tables] == [1, 2]  # a limit reduces the training split only


def changed(splits: str) -> dict[str, str]:
    """Return the tags of a run after images were added to the data set, which changed these splits."""
    return {f"sha256.{name}": "f" * 64 for name in ("processed", *splits.split())}


def test_runs_on_different_data_with_the_same_name_are_not_averaged(project: Path) -> None:
    write_seeds(project, 0.9, NOISE[0])
    write_seeds(project, 0.5, NOISE[1][:3], tags=changed("val test"), once={"test/accuracy": 0.5})
    tables = comparison_of(project).tables
    assert [[len(group.runs) for group in table.groups] for table in tables] == [[5], [3]]
    assert [round(table.groups[0].mean, 1) for table in tables] == [0.9, 0.5]
    assert [table.data for table in tables] == ["digits (samples 64696769)", "digits (samples ffffffff)"]
    assert not any(run.reason.startswith("made again") for run in comparison_of(project).excluded)


def test_runs_with_the_same_test_set_are_compared_although_training_images_were_added(project: Path) -> None:
    published, once = {"window.test_size": "null"}, {"test/accuracy": 0.8}
    write_seeds(project, 0.9, NOISE[0], config=published, once=once)
    write_seeds(project, 0.9, NOISE[1], config={**published, "optimizer.lr": "0.1"}, tags=changed("val"), once=once)
    assert [len(table.groups) for table in comparison_of(project, metric="test/accuracy").tables] == [2]
    assert [len(table.groups) for table in comparison_of(project).tables] == [1, 1]


def test_a_run_without_split_hashes_is_grouped_by_the_hash_of_its_arrays(project: Path) -> None:
    write_seeds(project, 0.9, NOISE[0][:2])
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    for seed in (10, 11):
        older = write_run(project / "mlruns", seed, [0.9])
        for tag in ("sha256.val", "sha256.test"):
            client.delete_tag(older, tag)
    assert [len(group.runs) for table in comparison_of(project).tables for group in table.groups] == [4]


def test_a_repeated_run_counts_once(project: Path) -> None:
    write_seeds(project, 0.9, NOISE[0])
    write_seeds(project, 0.9, NOISE[0][:2])
    result = comparison_of(project)
    assert [len(group.runs) for group in result.tables[0].groups] == [5]
    assert [run.reason for run in result.excluded] == ["repeated by a newer run with the same settings and seed"] * 2


def test_by_groups_by_the_given_keys_and_pairs_by_all_others(project: Path) -> None:
    for lr in ("0.1", "0.2"):
        for dropout, mean in (("0.0", 0.8), ("0.5", 0.9)):
            write_seeds(project, mean, NOISE[0][:2] + float(lr), config={"optimizer.lr": lr, "model.dropout": dropout})
    result = comparison_of(project, by=("model",))
    (table,) = result.tables
    assert [(group.config, len(group.runs)) for group in table.groups] == [
        ({"model.dropout": "0.5"}, 4),
        ({"model.dropout": "0.0"}, 4),
    ]
    assert table.tests[0].test is None  # every pair has the same difference, so no test is possible
    with pytest.raises(UserError, match=r"--by modle: no such key; the nearest is model"):
        comparison_of(project, by=("modle",))


def test_excluded_runs_are_listed_with_their_reasons(project: Path) -> None:
    write_seeds(project, 0.9, NOISE[0])
    store = project / "mlruns"
    write_run(store, 10, [])
    write_run(store, 11, [0.5], status="RUNNING")
    write_run(store, 12, [0.5], status="FAILED")
    write_run(store, 13, [0.5], status="KILLED", tags={"pruned": "too slow"})
    write_run(store, 14, [0.5], tags={"reproduces": "1234"})
    write_run(store, 15, [0.5], tags={"group": "comparison"})
    write_run(store, 16, [float("nan")])
    write_run(store, 17, [float("inf")])
    write_run(store, 0, [0.5, 0.6], config={"optimizer.lr": "0.5"})
    write_run(store, 0, [0.9], experiment="mnist_cnn", config={"data.name": "mnist"})
    write_run(store, 0, [0.9], config={"window.val_size": "0.1"})
    result = comparison_of(project)
    assert {run.reason for run in result.excluded} == {
        "no val/accuracy", "still running", "failed", "pruned by its sweep", "repeats another run", "no training"
    }  # fmt: skip
    assert [table.data for table in result.tables] == ["digits (window.val_size=0.1)", "digits (window.val_size=0.2)", "mnist"]
    shown = printed(result)
    assert "mixed data sets: 3 tables, which cannot be compared with each other" in shown
    for line in ("left out  3 runs: no val/accuracy", "1 run: still running", "1 run: failed", "one seed: no test is"):
        assert line in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_an_empty_missing_or_broken_store_is_reported(project: Path) -> None:
    assert printed(comparison_of(project)) == "the store is empty; `reprise train` creates a run\n"
    shutil.rmtree(project / "mlruns")
    assert printed(comparison_of(project)) == "the store is empty; `reprise train` creates a run\n"
    assert not (project / "mlruns").exists()
    (project / "mlruns").mkdir()
    (project / "mlruns" / "mlflow.db").write_text("no database")
    with pytest.raises(UserError, match=r"the tracking store .* fails: "):
        comparison_of(project)


def test_an_undefined_metric_is_excluded_with_its_reason_and_several_targets_are_ranked_by_scaled_errors(project: Path) -> None:
    constant = "flag: constant in the training split"
    tags = {"undefined.mase": constant, "monitor": "val/mae_scaled", "mode": "min", "test_opened": "1"}
    for seed in (0, 1):
        write_run(project / "mlruns", seed, [0.5 + seed], metric="val/mae_scaled", tags=tags)
    assert {run.reason for run in comparison_of(project, metric="test/mase").excluded} == {f"test/mase is undefined: {constant}"}
    (table,) = comparison_of(project).tables
    assert (table.metric, table.higher_is_better) == ("val/mae_scaled", False)


def test_test_metrics_use_evaluated_runs_only(project: Path) -> None:
    write_run(project / "mlruns", 0, [0.9], once={"test/accuracy": 0.8})
    write_run(project / "mlruns", 1, [0.9], once={"test/accuracy": 0.82})
    write_run(project / "mlruns", 2, [0.9])
    result = comparison_of(project, metric="test/accuracy")
    assert result.tables[0].groups[0].values == [0.8, 0.82]
    assert [run.reason for run in result.excluded] == ["not evaluated on the test split"]
    assert "evaluated runs only" in printed(result).replace("\n", " ")
    assert compare_view.described(result)["tables"][0]["only_of_evaluated_runs"]
    assert not compare_view.described(comparison_of(project))["tables"][0]["only_of_evaluated_runs"]


def test_the_filter_has_mlflows_syntax_and_its_errors_are_one_line(project: Path) -> None:
    write_seeds(project, 0.9, NOISE[0], config=LR[0])
    write_seeds(project, 0.9, NOISE[1], config=LR[1], experiment="other")
    result = comparison_of(project, expression="params.`optimizer.lr` = '0.01' and metrics.`val/accuracy` < 10")
    assert [group.name for table in result.tables for group in table.groups] == ["other"]
    assert len(comparison_of(project, experiments=("other",)).tables[0].groups) == 1
    with pytest.raises(UserError, match=r'^--filter lr > 3: Invalid .*; for example: params.`optimizer.lr` = "0.001"'):
        comparison_of(project, expression="lr > 3")
    with pytest.raises(UserError, match=r"no run of experiment othr; the nearest is other"):
        comparison_of(project, experiments=("othr",))


def test_a_server_returns_the_same_rows_as_its_database(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_seeds(project, 0.9, NOISE[0][:2], once={"test/accuracy": 0.8})
    write_run(project / "mlruns", 7, [0.5, float("nan")])
    metrics = ["val/accuracy", "val/mae"]
    local = listing.read(project / "mlruns", None, metrics, None)
    metric_of_run = {row.id: "val/accuracy" for row in local}
    curves = listing.histories(project / "mlruns", None, metric_of_run)
    (tmp_path / "server").mkdir()
    with (
        closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as source,
        closing(sqlite3.connect(tmp_path / "server" / "server.db")) as target,
    ):
        source.backup(target)
    server = Server(tmp_path / "server")
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        remote = listing.read(project / "mlruns", None, metrics, "attributes.status = 'FINISHED'")
        assert remote == local
        assert listing.histories(project / "mlruns", None, metric_of_run) == curves
    finally:
        server.stop()


def test_a_training_records_its_cost_and_json_output_is_only_json(project: Path) -> None:
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
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "nothing to compare: no finished training has this metric")
