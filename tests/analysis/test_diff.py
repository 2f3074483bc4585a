"""`reprise diff`: what differs between two runs, from config to metrics."""

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reprise.analysis import diff
from reprise.analysis.diff import Change
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import lineage
from reprise.tracking.record import RunRecord
from tests.pipeline.conftest import clone, run_in

CONFIG: dict[str, Any] = {
    "name": "digits_cnn",
    "seed": 0,
    "data": {"name": "digits", "title": "Digits"},
    "model": {"_target_": "reprise.models.ConvNet", "dropout": 0.3},
    "optimizer": {"lr": 0.001},
}
METRICS = {"best/val/accuracy": [(0, 0.97)], "val/accuracy": [(1, 0.9), (2, 0.97)], "train/seconds": [(1, 0.5), (2, 0.5)]}


def make_run(
    root: Path,
    name: str,
    config: dict[str, Any] | None = None,
    packages: str = "numpy==2.0\ntorch==2.13.0\n",
    patch: bytes = b"",
    metrics: dict[str, list[tuple[int, float]]] | None = None,
    **tags: str,
) -> RunRecord:
    """Return the record of a run that was trained from the commit of the repository at `root`."""
    shutil.rmtree(root / "runs" / name, ignore_errors=True)
    folder = store.made(root / "runs" / name / "lineage")
    store.write_json(folder / "config.json", config or CONFIG)
    (folder / "packages.txt").write_text(packages)
    if patch:
        (folder / "uncommitted.patch").write_bytes(patch)
    facts = {
        "git.commit": subprocess.run(
            ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "sha256.config": lineage.config_hash(config or CONFIG),
        "sha256.packages": lineage.text_hash(packages),
        "sha256.patch": lineage.text_hash(patch),
        "sha256.weights": "a" * 64,
        "sha256.code": "b" * 64,
        "version.python": "3.11.7",
        "monitor": "val/accuracy",
        "best_epoch": "2",
        "threads": "2",
    }
    return RunRecord(
        name,
        name,
        "FINISHED",
        facts | {key.replace("__", "."): value for key, value in tags.items()},
        metrics or METRICS,
        folder.parent,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code")
    store.made(root / "src/reprise/models")
    store.made(root / "conf")
    (root / "src/reprise/models/net.py").write_text("width = 1\n")
    (root / "conf/config.yaml").write_text("a: 1\n")
    (root / "notes.txt").write_text("not code\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", "-C", root, *words], check=True)
    return root


def changes(difference: diff.Difference) -> dict[str, list[Change]]:
    return {group.name: group.changes for group in difference.groups}


def test_a_run_is_equal_to_its_repetition_whatever_it_cost(root: Path) -> None:
    slower = METRICS | {"train/seconds": [(1, 0.7), (2, 0.6)]}
    difference = diff.compare(
        root, make_run(root, "a", train_seconds="1.0"), make_run(root, "b", metrics=slower, train_seconds="2.0")
    )
    assert difference.is_equal
    assert changes(difference) == {"cost": [Change("train_seconds", "1.0", "2.0", is_decisive=False)]}


def test_decisive_settings_come_before_titles_and_a_missing_key_has_no_value(root: Path) -> None:
    other = {**CONFIG, "data": {"name": "digits", "title": "Other"}, "optimizer": {"lr": 0.01, "momentum": 0.9}, "seed": 1}
    other["model"] = {**CONFIG["model"], "dropout": 0.5}
    difference = diff.compare(root, make_run(root, "a"), make_run(root, "b", other, sha256__weights="c" * 64))
    assert changes(difference)["config"] == [
        Change("model.dropout", 0.3, 0.5),
        Change("optimizer.lr", 0.001, 0.01),
        Change("optimizer.momentum", None, 0.9),
        Change("seed", 0, 1),
        Change("data.title", "Digits", "Other", is_decisive=False),
    ]
    assert difference.weights == "different"
    assert not difference.is_equal


def test_groups_that_can_change_the_weights_come_first(root: Path) -> None:
    other = {**CONFIG, "data": {"name": "digits", "title": "Other"}}
    first = make_run(root, "a")
    second = make_run(root, "b", other, "numpy==2.1\nrich==1\ntorch==2.13.0\n", threads="4", sha256__processed="d" * 64)
    difference = diff.compare(root, first, second)
    assert [group.name for group in difference.groups] == ["data", "packages", "machine", "config"]
    assert changes(difference)["data"] == [Change("arrays", None, "d" * 12)]
    assert changes(difference)["packages"] == [Change("numpy", "2.0", "2.1"), Change("rich", None, "1", is_decisive=False)]
    assert changes(difference)["machine"] == [Change("threads", "2", "4")]


def test_uncommitted_code_is_compared_by_its_content(root: Path) -> None:
    """Two patches that lead to the same code do not differ in it; other files than code do not count."""
    file = root / "src/reprise/models/net.py"
    patches = []
    for text in ("width = 2\n", "width = 3\ndepth = 4\n"):
        file.write_text(text)
        patches.append(subprocess.run(["git", "-C", root, "diff", "--binary"], capture_output=True, check=True).stdout)
    subprocess.run(["git", "-C", root, "checkout", "-q", "."], check=True)
    first, second = make_run(root, "a", patch=patches[0]), make_run(root, "b", patch=patches[1], sha256__code="e" * 64)
    difference = diff.compare(root, first, second)
    sources, changed = changes(difference)["code"]
    assert (sources.first, sources.second) == ("b" * 12, "e" * 12)
    assert changed == Change("src/reprise/models/net.py", "-1", "+2")
    assert b"-width = 2\n+width = 3\n+depth = 4\n" in difference.patch
    assert subprocess.run(["git", "-C", root, "status", "--porcelain", "src"], capture_output=True).stdout == b""

    same = diff.compare(root, first, make_run(root, "c", patch=patches[0]))
    assert same.is_equal
    assert same.patch == b""


def test_metrics_show_the_monitored_one_first_and_where_the_runs_part(root: Path) -> None:
    first = METRICS | {"test/accuracy": [(0, 0.95)], "baseline/accuracy": [(0, 0.1)]}
    second = {
        "best/val/accuracy": [(0, 0.98)],
        "val/accuracy": [(1, 0.9), (2, 0.98)],
        "baseline/accuracy": [(0, 0.2)],
        "train/seconds": [(1, 9.0)],
    }
    difference = diff.compare(root, make_run(root, "a", metrics=first), make_run(root, "b", metrics=second, best_epoch="1"))
    assert changes(difference)["metrics"] == [
        Change("best/val/accuracy", 0.97, 0.98),
        Change("test/accuracy", 0.95, None),
        Change("baseline/accuracy", 0.1, 0.2),
        Change("best epoch", "2", "1"),
        Change("first in epoch 2: val/accuracy", 0.97, 0.98),
    ]


def test_parts_that_cannot_be_compared_are_named_and_the_others_are_compared(root: Path) -> None:
    lost = make_run(root, "b", threads="8", git__commit="f" * 40)
    (lost.files / "lineage" / "packages.txt").unlink()
    difference = diff.compare(root, make_run(root, "a"), lost)
    assert [note.partition(":")[0] for note in difference.notes] == ["code", "packages"]
    assert "not in this repository" in difference.notes[0]
    assert not difference.is_equal
    assert [change.name for change in changes(difference)["code"]] == ["commit"]
    assert changes(difference)["machine"] == [Change("threads", "2", "8")]


def test_the_parent_of_several_runs_is_refused(root: Path) -> None:
    run = make_run(root, "a")
    with pytest.raises(UserError, match="is the parent of several runs; name one of them"):
        diff.compare(root, run, replace(run, tags={**run.tags, "group": "seeds"}))


def test_runs_of_a_project_are_compared_by_the_command(tmp_path: Path) -> None:
    project = clone(tmp_path / "clone")
    small = ["reprise", "train", "experiment=digits_cnn", "trainer.max_epochs=1", "data.limit=300", "tracking.log_model=false"]
    for words in ([], ["resume=false"], ["optimizer.lr=0.01"]):
        if words == ["optimizer.lr=0.01"]:
            file = project / "conf" / "experiment" / "digits_cnn.yaml"
            file.write_text(file.read_text() + "# edited\n")
        done = run_in(project, *small, *words)
        assert done.returncode == 0, done.stderr
    newest = [run["name"] for run in json.loads(run_in(project, "reprise", "runs", "--json").stdout)]
    third, second, first = newest

    same = run_in(project, "reprise", "diff", first, second)
    assert (same.returncode, same.stdout.splitlines()[0]) == (
        0,
        f"diff  {first} and {second} are equal: weights, metrics, config, code, data, packages and machine",
    )
    report = json.loads(run_in(project, "reprise", "diff", second, third, "--json").stdout)
    assert (report["equal"], report["weights"], report["not_compared"]) == (False, "different", [])
    assert report["groups"]["config"] == [{"name": "optimizer.lr", "first": 0.001, "second": 0.01, "is_decisive": True}]
    assert [change["name"] for change in report["groups"]["code"]] == ["conf/experiment/digits_cnn.yaml", "commit"]
    (loss,) = (change for change in report["groups"]["metrics"] if change["name"] == "best/val/loss")
    assert math.isfinite(loss["first"])
    shown = run_in(project, "reprise", "diff", second, third).stdout
    assert "diff  weights: different; differing: config, metrics, code, cost" in shown
    assert run_in(project, "reprise", "diff", second, third, "--patch").stdout == report["patch"]
    assert "+# edited" in report["patch"]
