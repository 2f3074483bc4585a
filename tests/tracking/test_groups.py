"""Parent runs of several seeds and of the jobs of a `--multirun`, and their descriptions on the dashboard."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from reprise.tracking import descriptions
from tests.cli_fork_server import CliForkServer
from tests.data.test_own_tables import write_table
from tests.faults.conftest import CNN, client, runs
from tests.pipeline.conftest import make_project
from tests.tracking.server import Server

QUICK = [*CNN, "trainer.max_epochs=2"]
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"


@pytest.fixture
def fork_server(tmp_path: Path) -> Iterator[CliForkServer]:
    started = CliForkServer(make_project(tmp_path / "project"), nested=True, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    yield started
    started.end()


def children_by_parent(all_runs: dict[str, Run]) -> dict[str, set[str]]:
    """Return the names of the child runs of each run, and under "" those without a parent."""
    names = {run_id: run.info.run_name.rsplit("-", 1)[0] for run_id, run in all_runs.items()}
    children: dict[str, set[str]] = {}
    for run_id, run in all_runs.items():
        children.setdefault(names.get(run.data.tags.get(PARENT, ""), ""), set()).add(names[run_id])
    return children


def test_several_seeds_have_a_parent_run_with_their_mean(fork_server: CliForkServer) -> None:
    fork_server.run(*QUICK, "seeds=[0,4]")
    all_runs = runs(fork_server.folder)
    assert children_by_parent(all_runs) == {
        "": {"digits_cnn-2seeds"},
        "digits_cnn-2seeds": {"digits_cnn-seed0", "digits_cnn-seed4"},
    }
    (parent,) = (run for run in all_runs.values() if PARENT not in run.data.tags)
    children = [run for run in all_runs.values() if run is not parent]
    values = [run.data.metrics["best/val/accuracy"] for run in children]
    assert parent.data.metrics["best/val/accuracy"] == pytest.approx(fmean(values), abs=1e-12)
    assert parent.data.metrics["best_std/val/accuracy"] == pytest.approx(stdev(values), abs=1e-12)
    assert parent.info.status == "FINISHED"
    assert f"{fmean(values):.4f} ± {stdev(values):.4f}" in parent.data.tags[NOTE]
    assert f"{parent.data.tags['mlflow.source.name']}    # repeats all of them" in parent.data.tags[NOTE]
    for run in children:
        history = {
            point.step: point.value for point in client(fork_server.folder).get_metric_history(run.info.run_id, "val/accuracy")
        }
        assert run.data.metrics["best/val/accuracy"] == history[int(run.data.tags["best_epoch"])]
        assert f"reprise reproduce {run.info.run_name}" in run.data.tags[NOTE]
        assert f"runs/{parent.info.run_id})" in run.data.tags[NOTE]
        assert run.data.tags["parent"] == parent.info.run_name
        assert run.data.tags["model"] == "ConvNet"

    for turn, run in enumerate(children):  # the parent has test metrics once all children have
        assert "test/accuracy" not in runs(fork_server.folder)[parent.info.run_id].data.metrics
        fork_server.run("evaluate", run.info.run_name)
        assert ("test/accuracy" in runs(fork_server.folder)[parent.info.run_id].data.metrics) == (turn == 1)
    all_runs = runs(fork_server.folder)
    mean = fmean(all_runs[run.info.run_id].data.metrics["test/accuracy"] for run in children)
    assert all_runs[parent.info.run_id].data.metrics["test/accuracy"] == pytest.approx(mean, abs=1e-12)

    child = fork_server.start("evaluate", parent.info.run_name)
    assert child.wait() == 2
    assert "is the parent of 2 runs; name one of them: digits_cnn-seed0-" in child.output
    listed = json.loads(fork_server.run("runs", "--json").output)
    assert {run["name"] for run in listed} == {run.info.run_name for run in children}


def test_folds_have_a_parent_run_with_their_mean_and_are_evaluated_together(fork_server: CliForkServer) -> None:
    file = write_table(fork_server.folder / "days.csv", channels=1)
    windows = ("window.folds=2", "window.test_size=0.4", "window.lookback=14", "window.horizon=3")
    fork_server.run("train", "experiment=forecast_csv", f"data.path={file}", *windows)
    (parent,) = (run for run in runs(fork_server.folder).values() if PARENT not in run.data.tags)
    assert parent.info.run_name.startswith("forecast_csv-2folds-")
    output = fork_server.run("evaluate", parent.info.run_name).output
    all_runs = runs(fork_server.folder)
    values = [run.data.metrics["test/mae"] for run in all_runs.values() if PARENT in run.data.tags]
    assert len(set(values)) == 2
    mean, spread = fmean(values), stdev(values)
    assert all_runs[parent.info.run_id].data.metrics["test/mae"] == pytest.approx(mean, abs=1e-12)
    assert all_runs[parent.info.run_id].data.metrics["test_std/mae"] == pytest.approx(spread, abs=1e-12)
    assert f"test mae {mean:.4f} ± {spread:.4f}" in output


def test_the_description_of_a_data_set_names_its_best_run_and_the_command(fork_server: CliForkServer) -> None:
    fork_server.run(*QUICK, "seeds=2")
    best = max(
        (run for run in runs(fork_server.folder).values() if PARENT in run.data.tags),
        key=lambda run: run.data.metrics["best/val/accuracy"],
    )
    (experiment,) = (one for one in client(fork_server.folder).search_experiments() if one.name == "digits")
    first = experiment.tags[NOTE].splitlines()[0]
    assert first.startswith(f"The best run so far: `reprise reproduce {best.info.run_name}` repeats it: val accuracy 0.")
    assert "Optical recognition of handwritten digits" in experiment.tags[NOTE]
    assert "CC BY 4.0" in experiment.tags[NOTE]
    assert "seeds-" not in experiment.tags[NOTE]  # a parent run is not listed


def test_a_multirun_has_one_parent_run_with_a_child_per_job_and_names_the_best(fork_server: CliForkServer) -> None:
    output = fork_server.run("train", "--multirun", *QUICK[1:], "optimizer.lr=0.0001,0.003", "seeds=choice(2,[5,6])").output
    assert "multirun  digits_cnn-4jobs-" in output
    all_runs = runs(fork_server.folder)
    parents = [run for run in all_runs.values() if run.data.tags.get("group") == "multirun"]
    (top,) = parents
    assert children_by_parent(all_runs)["digits_cnn-4jobs"] == {"digits_cnn-lr0.0001-2seeds", "digits_cnn-lr0.003-2seeds"}
    jobs = [run for run in all_runs.values() if run.data.tags.get(PARENT) == top.info.run_id]
    assert {run.data.tags["settings"] for run in jobs} == {
        f"optimizer.lr={lr} {seeds}" for lr in ("0.0001", "0.003") for seeds in ("seeds=2", "'seeds=[5,6]'")
    }
    assert len(all_runs) == 1 + 4 + 8
    assert (
        "The best by val/accuracy is `optimizer.lr=0.003 seeds=2`." in top.data.tags[NOTE] or "seeds=[5,6]" in top.data.tags[NOTE]
    )


def test_a_failed_job_does_not_stop_the_others_and_the_next_start_trains_only_the_rest(fork_server: CliForkServer) -> None:
    command = ["train", "-m", *QUICK[1:], "trainer.precision=float32", "optimizer.lr=1e30,0.001"]
    child = fork_server.start(*command)
    assert child.wait() == 2
    assert "1 of 2 jobs failed, the first: optimizer.lr=1e+30: training diverged" in child.output
    before = runs(fork_server.folder)
    assert sorted(run.info.status for run in before.values()) == ["FAILED", "FAILED", "FINISHED"]
    fork_server.start(*command).wait()
    after = runs(fork_server.folder)
    (done,) = (run for run in before.values() if run.info.status == "FINISHED")
    assert [run.info.run_id for run in after.values() if run.info.status == "FINISHED"] == [done.info.run_id]
    assert len([run for run in after.values() if "group" in run.data.tags]) == 1


def test_invalid_multirun_arguments_are_refused_before_the_first_job(fork_server: CliForkServer) -> None:
    for words, message in (
        (["optimizer.lr=interval(0.1,0.2)"], "optimizer.lr=interval(0.1,0.2): has no end; `reprise sweep` searches intervals"),
        (["optimizer.lrr=0.1,0.2"], "optimizer.lrr: no such key; the nearest is optimizer.lr"),
        (["trainer=ddp_cpu", "seed=1,2"], "seed=1: --multirun trains on one device"),
    ):
        child = fork_server.start("train", "--multirun", "experiment=digits_cnn", *words)
        assert child.wait() == 2
        assert message in child.output
    assert not (fork_server.folder / "mlruns" / "runs").exists()


def test_child_runs_created_without_the_server_get_their_parent_at_sync(fork_server: CliForkServer, tmp_path: Path) -> None:
    server = Server(tmp_path)
    child = fork_server.run(*QUICK, "seeds=2", f"tracking.uri={server.address}")
    assert "`reprise sync` sends" in child.output
    server.start()
    try:
        fork_server.run("sync")
        store = MlflowClient(server.address)
        all_runs = store.search_runs([store.get_experiment_by_name("digits").experiment_id])
        (parent,) = (run for run in all_runs if "group" in run.data.tags)
        assert {run.data.tags.get(PARENT) for run in all_runs if run is not parent} == {parent.info.run_id}
        assert not (fork_server.folder / "mlruns" / "runs" / parent.info.run_id).exists()  # its run directory has a local id
    finally:
        server.stop()


def test_bars_and_line_breaks_in_names_are_escaped_in_a_description() -> None:
    page = descriptions.of_group("seeds", [("a|b\nc", {"val/accuracy": 0.5})], [])
    assert "| a\\|b c | 0.5000 |" in page
