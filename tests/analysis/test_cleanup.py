"""`reprise gc` deletes what is named, in MLflow and on disk, and nothing that something refers to."""

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from reprise.analysis import cleanup
from reprise.analysis.cleanup.selection import Filters, parse_age
from reprise.analysis.cleanup.usage import usage
from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import backend, deletion, groups, mlflow_tables, registry, resume, run_info
from reprise.tracking import run as tracking
from reprise.tracking.descriptions import BEST
from reprise.tracking.entries import DatasetEntry, DatasetInfo
from reprise.tracking.event_log import outbox
from reprise.tracking.mlflow_sync import NOTE, PARENT_TAG
from tests.pipeline.conftest import run_in

TRACKING = TrackingConfig(uri=None, experiment="digits", log_model=False)
FAILED, NOT_BEST, ALL = Filters(failed=True), Filters(not_best=True), Filters(older_than=0.0)
DAY = 86400.0
INFO = DatasetInfo("Digits", "", "", "", "best/val/accuracy", "max")


class Runs:
    """Makes runs in a project, in its store and on disk."""

    def __init__(self, root: Path) -> None:
        self.paths, self.folder = ProjectPaths(root), root / "mlruns"
        self.client = backend.connect(backend.local_address(self.folder), self.folder)

    def make(self, name: str, status: str = "FINISHED", value: float | None = None, days: float = 0.1, **tags: str) -> str:
        """Make a run that started some days ago, with a value of the monitored metric. `__` in a tag stands for a dot."""
        content = json.loads(tags.pop("config", "{}"))
        run = tracking.create_run(TRACKING, self.folder, name, name, content)
        info = run_info.read(run.run_dir)
        run_info.write(run.run_dir, info.model_copy(update={"started": int(1000 * (time.time() - days * DAY))}))
        facts = {
            "experiment": "digits_cnn",
            "data": "digits",
            "monitor": "val/accuracy",
            "mode": "max",
            "mlflow.source.name": "x",
        }
        run.tag(facts | {key.replace("__", "."): text for key, text in tags.items()})
        if value is not None:
            run.log_summary({f"{BEST}val/accuracy": value})
            run.event_log.append(DatasetEntry(INFO))
        run.log_text("content", "figure.txt")
        if status == "RUNNING":
            run.flush()
            outbox(self.folder, run.id).unlink()
        else:
            run.end(status, {})
        return run.id

    def group(self, name: str, children: Sequence[str], status: str = "FINISHED", kind: str = "seeds", **tags: str) -> str:
        parent = self.make(name, status, group=kind, **tags)
        store.write_json(self.folder / "runs" / parent / groups.CHILDREN, list(children))
        for child in children:
            run = tracking.open_run_dir(TRACKING, self.folder, child)
            run.tag({PARENT_TAG: parent})
            run.flush()
        return parent

    def log_model(self, run_id: str) -> str:
        """Log a model as `mlflow_sync` does, and return its id."""
        run = self.client.get_run(run_id)
        model = self.client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run_id)
        folder = store.made(self.folder / "runs" / run_id / "model")
        (folder / "MLmodel").write_text("flavors: {}\n")
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, "READY")
        from mlflow.entities import LoggedModelOutput

        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        return str(model.model_id)

    def collect(self, filters: Filters, what: str = "runs", dry: bool = False) -> cleanup.Outcome:
        return cleanup.collect(self.paths, what, filters, dry)

    @property
    def left(self) -> set[str]:
        """The ids of the runs on disk. The store must have the same."""
        on_disk = {run_dir.name for run_dir in run_info.run_dirs(self.folder)}
        rows = {row.id for row in mlflow_tables.read_rows(self.folder / "mlflow.db", [])}
        assert rows == on_disk
        assert {folder.name for folder in (self.folder / "artifacts").glob("*/") if folder.name != "models"} == on_disk
        assert not list((self.folder / "trash").glob("*"))
        return on_disk


@pytest.fixture
def runs(project: Path) -> Runs:
    return Runs(project)


def reason(outcome: cleanup.Outcome, run_id: str) -> str:
    return next(one.reason for one in outcome.kept if one.run.id == run_id)


def count_rows(folder: Path) -> int:
    """Return the rows of all tables that hold a run or what it logged."""
    tables = ("runs", "params", "tags", "metrics", "latest_metrics", "logged_models", "logged_model_tags")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return sum(int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in tables)


def test_a_deleted_run_leaves_nothing_on_disk_and_no_row_in_the_store(runs: Runs) -> None:
    kept = runs.make("kept", value=0.9)
    before, rows = sorted((runs.folder / "runs").rglob("*")), count_rows(runs.folder)
    failed = runs.make("failed", "FAILED", value=0.5)
    model = runs.log_model(failed)
    assert (runs.folder / "artifacts" / "models" / model).is_dir()
    outcome = runs.collect(FAILED)
    assert [run_id for run_id, _, _ in outcome.deleted] == [failed]
    assert outcome.bytes > 0
    assert runs.left == {kept}
    assert sorted((runs.folder / "runs").rglob("*")) == before
    assert count_rows(runs.folder) == rows
    assert not (runs.folder / "artifacts" / "models" / model).exists()


def test_a_dry_run_changes_nothing(runs: Runs) -> None:
    runs.make("failed", "FAILED")
    rows = count_rows(runs.folder)
    outcome = runs.collect(FAILED, dry=True)
    assert [name for _, name, _ in outcome.deleted] == ["failed"]
    assert len(runs.left) == 1
    assert count_rows(runs.folder) == rows


Situation = Callable[[Runs, ExitStack], tuple[Filters, set[str], set[str]]]
"""Makes runs; returns the filters, the runs that are kept and those that are deleted."""


def active(runs: Runs, stack: ExitStack) -> tuple[Filters, set[str], set[str]]:
    run_id = runs.make("a", "RUNNING", days=9)
    stack.enter_context(resume.lock_training(runs.folder, "key", 0)).record_run_id(0, run_id)
    return ALL, {run_id}, set()


def about_to_start(runs: Runs, stack: ExitStack) -> tuple[Filters, set[str], set[str]]:
    run_id = runs.make("a", "RUNNING", days=9)
    stack.enter_context(resume.lock_training(runs.folder, "key", 0)).token(0, "a")
    return ALL, {run_id}, set()


def interrupted(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    run_id, other = runs.make("a", "RUNNING"), runs.make("b", "FAILED", days=9)
    with resume.lock_training(runs.folder, "key", 0) as training:
        training.token(0, "a")
        training.record_run_id(0, run_id)
    return FAILED, set(), {run_id, other}


def unsynced(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    run_id = runs.make("a", "FAILED")
    outbox(runs.folder, run_id).touch()
    return FAILED, {run_id}, set()


def registered(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    """The holder of an alias, and an earlier version without one."""
    ids = [runs.make(name, days=9) for name in ("a", "b")]
    for run_id in ids:
        runs.log_model(run_id)
        registry.register(runs.folder, TRACKING, run_id, "digits", "champion", {}, "")
    return ALL, set(ids), set()


def not_registered(runs: Runs, stack: ExitStack) -> tuple[Filters, set[str], set[str]]:
    _, kept, _ = registered(runs, stack)
    return Filters(not_registered=True), kept, {runs.make("c")}


def published(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    run_id, other = runs.make("a"), runs.make("b")
    store.made(runs.folder / "pipeline")
    store.write_json(runs.folder / "pipeline" / "digits_cnn.json", {"c" * 64: {"run_id": run_id}})
    store.write_json(runs.folder / "pipeline" / "digits_cnn.windows.json", {"windows": "x"})
    return ALL, {run_id}, {other}


def published_weights(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    run_id, other = runs.make("a", sha256__weights="c" * 64), runs.make("b", sha256__weights="d" * 64)
    folder = store.made(runs.paths.models("digits_cnn"))
    store.write_json(folder / "training.json", [{"sha256": "c" * 64}])
    return ALL, {run_id}, {other}


def group_partly_failed(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    seeds = [runs.make("a"), runs.make("b", "FAILED")]
    return FAILED, {*seeds, runs.group("p", seeds, "FAILED")}, {runs.make("c", "FAILED")}


def group_failed(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    seeds = [runs.make("a", "KILLED"), runs.make("b", "FAILED")]
    return FAILED, set(), {*seeds, runs.group("p", seeds, "FAILED")}


def nested_groups(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    old = Filters(older_than=5 * DAY)
    seeds = [runs.make(name, days=9) for name in ("a", "b")]
    jobs = [runs.group("p", seeds, days=9), runs.make("c", days=1)]  # type: ignore[arg-type]
    return old, {*seeds, *jobs, runs.group("m", jobs, kind="multirun", days=9)}, {runs.make("d", days=9)}  # type: ignore[arg-type]


def sweep(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    store.made(runs.folder / "sweeps" / "search")
    trials = [runs.make(name, sweep="search", trial=name) for name in ("1", "2")]
    return ALL, {*trials, runs.group("s", trials, kind="sweep", sweep="search")}, {runs.make("a", sweep="deleted")}


def sweep_in_database(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    with closing(sqlite3.connect(runs.folder / "sweeps.db")) as database:
        database.execute("CREATE TABLE studies (study_name TEXT)")
        database.execute("INSERT INTO studies VALUES ('search')")
        database.commit()
    return ALL, {runs.make("1", sweep="search")}, {runs.make("2", sweep="deleted")}


def verified(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    """A run whose reproduction is old, and a reproduction whose run is old."""
    again, first = runs.make("again", days=9), runs.make("first2", days=9)
    return (
        Filters(older_than=5 * DAY),
        {again, runs.make("first", verified_by=again), first, runs.make("again2", reproduces=first)},
        set(),
    )


def verified_together(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    again = runs.make("again")
    return ALL, set(), {again, runs.make("first", verified_by=again)}


def started_from(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    """Runs whose config names another run by name or id."""
    by_name, by_id = runs.make("base", "FAILED"), runs.make("other", "FAILED")
    users = {runs.make("u1", config='{"model": {"from": "base"}}'), runs.make("u2", config=json.dumps({"init_from": by_id}))}
    return FAILED, {by_name, by_id, *users}, set()


def chain(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    """A registered run started from a run that started from another."""
    first = runs.make("first")
    second = runs.make("second", config='{"init_from": "first"}')
    third = runs.make("third", config='{"init_from": "second"}')
    runs.log_model(third)
    registry.register(runs.folder, TRACKING, third, "digits", "champion", {}, "")
    return ALL, {first, second, third}, set()


def best(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    """The best of each experiment and data set; ties; lower is better; a run without results; a comparison."""
    kept = {runs.make("a", value=0.9), runs.make("b", value=0.9), runs.make("c", value=0.2, experiment="other")}
    kept |= {runs.make("d", value=0.1, mode="min", experiment="errors"), runs.make("compare", group="comparison")}
    return NOT_BEST, kept, {
        runs.make("e", value=0.8),
        runs.make("f", "FAILED"),
        runs.make("g", value=0.3, mode="min", experiment="errors"),
    }  # fmt: skip


def conditions_are_joined(runs: Runs, _: ExitStack) -> tuple[Filters, set[str], set[str]]:
    filters = Filters(older_than=5 * DAY, failed=True)
    return filters, {runs.make("a", "FAILED", days=1), runs.make("b", days=9)}, {runs.make("c", "FAILED", days=9)}


SITUATIONS: dict[str, tuple[Situation, str]] = {
    "a run in training": (active, "it is being trained"),
    "a run whose training is about to open it": (about_to_start, "it is being trained"),
    "an interrupted training": (interrupted, ""),
    "entries that the store lacks": (unsynced, "not synced yet"),
    "registered models": (registered, "registered model digits version"),
    "registered and other runs": (not_registered, ""),
    "a result of the pipeline": (published, "data/models/digits_cnn holds its weights"),
    "published weights without a record of the run": (published_weights, "data/models/digits_cnn holds its weights"),
    "a group of which one seed failed": (group_partly_failed, "its group p stays"),
    "a group that failed as a whole": (group_failed, ""),
    "a group in a group with a newer run": (nested_groups, "stays, and refers to it"),
    "a sweep with a folder": (sweep, "sweep search refers to it"),
    "a sweep in the database": (sweep_in_database, "sweep search refers to it"),
    "reproductions": (verified, "stays, and refers to it"),
    "a run together with its reproduction": (verified_together, ""),
    "runs that others started from": (started_from, "stays, and refers to it"),
    "a chain that ends in a registered model": (chain, "refers to it"),
    "the best runs": (best, ""),
    "several conditions": (conditions_are_joined, ""),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_nothing_is_lost_that_something_refers_to(runs: Runs, situation: str) -> None:
    make, text = SITUATIONS[situation]
    with ExitStack() as stack:
        filters, kept, deleted = make(runs, stack)
        assert runs.left == kept | deleted
        outcome = runs.collect(filters)
        assert {run_id for run_id, _, _ in outcome.deleted} == deleted
        assert runs.left == kept
    if text:
        assert any(text in one.reason for one in outcome.kept), outcome.kept
    assert {one.run.id for one in outcome.kept} <= kept


def test_a_deleted_interrupted_run_is_not_resumed(runs: Runs) -> None:
    with ExitStack() as stack:
        interrupted(runs, stack)
    runs.collect(FAILED)
    assert not list((runs.folder / "in_progress").glob("*.json"))


def test_a_training_that_resumes_a_selected_run_meanwhile_is_not_disturbed(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        interrupted(runs, stack)
        monkeypatch.setattr(deletion, "delete_run", lambda *_: pytest.fail("deleted"))
        select = cleanup.selection.select

        def select_and_resume(*arguments: Any) -> Any:
            selected = select(*arguments)
            stack.enter_context(resume.lock_training(runs.folder, "key", 0))
            return selected

        monkeypatch.setattr(cleanup.selection, "select", select_and_resume)
        with pytest.raises(UserError, match="has just resumed one of these runs; repeat the command"):
            runs.collect(FAILED)
        assert len(runs.left) == 2


def test_nothing_is_deleted_if_it_cannot_be_known_what_refers_to_runs(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.make("a", "FAILED")
    file = store.made(runs.folder / "pipeline") / "digits_cnn.json"
    file.write_text("{")
    with pytest.raises(UserError, match=r"digits_cnn.json is damaged"):
        runs.collect(FAILED)
    file.unlink()
    (runs.folder / "sweeps.db").write_text("no database " * 100)
    with pytest.raises(UserError, match=r"sweeps.db cannot be read"):
        runs.collect(FAILED)
    (runs.folder / "sweeps.db").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(backend, "connect", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("database is locked")))
        with pytest.raises(UserError, match="database is locked"):
            runs.collect(FAILED)
    assert len(runs.left) == 1


KILL_POINTS = {
    "moved to the trash": ("reprise.tracking.deletion._delete_in_store", "before"),
    "artifacts deleted": ("reprise.tracking.mlflow_tables.purge", "before"),
    "rows deleted": ("reprise.tracking.mlflow_tables.purge", "after"),
    "all runs deleted": ("reprise.tracking.deletion.update_descriptions", "before"),
}


def kill_at(point: str, runs: Runs, patch: pytest.MonkeyPatch) -> None:
    """Run `gc` in a child process that dies at a point, as by SIGKILL."""
    name, when = KILL_POINTS[point]
    module, _, function = name.rpartition(".")
    original = getattr({"deletion": deletion, "mlflow_tables": mlflow_tables}[module.rpartition(".")[2]], function)

    def dies(*arguments: Any) -> None:
        if when == "after":
            original(*arguments)
        os._exit(9)

    with patch.context() as inner:
        inner.setattr(name, dies)
        child = os.fork()
        if not child:
            try:
                runs.collect(FAILED)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.long
@pytest.mark.parametrize("point", KILL_POINTS)
def test_after_a_kill_the_same_command_finishes(runs: Runs, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [runs.make("a", "FAILED"), runs.make("b", "FAILED")]
    parent = runs.group("p", seeds, "FAILED")
    runs.log_model(seeds[0])
    kept = runs.make("kept", value=0.5)
    kill_at(point, runs, monkeypatch)
    rest = {run_dir.name for run_dir in run_info.run_dirs(runs.folder)}
    assert parent not in rest  # first, so that no run stays that refers to a deleted one
    assert kept in rest
    runs.collect(FAILED)
    assert runs.left == {kept}


def test_a_model_registered_after_a_kill_brings_its_run_back(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = runs.make("a", "FAILED")
    runs.log_model(run_id)
    kill_at("moved to the trash", runs, monkeypatch)
    registry.register(runs.folder, TRACKING, run_id, "digits", "champion", {}, "")
    assert runs.collect(FAILED).deleted == []
    assert runs.left == {run_id}


def test_descriptions_name_no_deleted_run(runs: Runs) -> None:
    runs.make("worse", value=0.5)
    runs.make("better", value=0.9, days=9)
    experiment = runs.client.get_experiment_by_name("digits")
    assert "reprise reproduce better" in experiment.tags[NOTE]
    runs.collect(Filters(older_than=5 * DAY))
    note = runs.client.get_experiment_by_name("digits").tags[NOTE]
    assert "reprise reproduce worse" in note
    assert "better" not in note


def test_checkpoints_are_deleted_and_their_runs_stay_unless_in_use(runs: Runs) -> None:
    ids = [runs.make("a", "FAILED"), runs.make("b", "RUNNING"), runs.make("c")]
    for run_id in ids:
        (store.made(runs.folder / "runs" / run_id / "checkpoints") / "1.pt").write_text("state")
    with resume.lock_training(runs.folder, "key", 0) as training:
        training.record_run_id(0, ids[1])
        outcome = runs.collect(ALL, "checkpoints")
    assert [run_id for run_id, _, _ in outcome.deleted] == [ids[0], ids[2]]
    assert reason(outcome, ids[1]) == "it is being trained"
    assert [path.parent.name for path in (runs.folder / "runs").glob("*/checkpoints")] == [ids[1]]
    assert runs.left == set(ids)


def test_windows_are_deleted_unless_a_run_was_trained_on_them_or_they_are_new(runs: Runs) -> None:
    made = {}
    for name in ("unused", "by_hash", "by_path", "new"):
        with store.publish(runs.folder / "windows" / name) as draft:
            (draft / "train.npy").write_text(name)
        made[name] = runs.folder / "windows" / name
        if name != "new":
            os.utime(made[name] / store.MANIFEST, (0, 0))
    runs.make("a", sha256__windows=store.digest(made["by_hash"]))
    run_id = runs.make("b")
    store.write_json(runs.folder / "runs" / run_id / "trained.json", {"windows": "mlruns/windows/by_path"})
    assert [name for name, _, _ in runs.collect(Filters(), "windows", dry=True).deleted] == ["unused"]
    assert len(list((runs.folder / "windows").iterdir())) == 4
    runs.collect(Filters(), "windows")
    assert {path.name for path in (runs.folder / "windows").iterdir()} == {"by_hash", "by_path", "new"}


@pytest.mark.long
def test_the_dvc_cache_keeps_what_any_commit_refers_to(runs: Runs) -> None:
    root, identity = runs.paths.root, ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    (root / "dvc.yaml").unlink()
    (root / "long" / "dvc.yaml").unlink()

    def run(*command: str) -> None:
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    run("git", "init", "-q")
    run("dvc", "init", "-q")
    for content in ("committed", "in the working tree"):
        (root / "file").write_text(content)
        run("dvc", "add", "-q", "file")
        if content == "committed":
            run("git", "add", "-A")
            run("git", *identity, "commit", "-qm", "file")
    (root / "other").write_text("unused")
    run("dvc", "add", "-q", "other")
    (root / "other.dvc").unlink()
    cached = root / ".dvc" / "cache" / "files"
    assert len(runs.collect(Filters(), "cache", dry=True).deleted) == 1
    assert len([file for file in cached.rglob("*") if file.is_file()]) == 3
    outcome = runs.collect(Filters(), "cache")
    assert (len(outcome.deleted), outcome.bytes) == (1, len("unused"))
    assert len([file for file in cached.rglob("*") if file.is_file()]) == 2


def test_the_parts_of_a_project_are_measured(runs: Runs) -> None:
    run_id = runs.make("a")
    (store.made(runs.folder / "runs" / run_id / "checkpoints") / "1.pt").write_bytes(bytes(1000))
    parts = {part.name: part for part in usage(runs.paths)}
    assert (parts["runs"].count, parts["checkpoints"].count, parts["checkpoints"].bytes) == (1, 1, 1000)
    in_runs = sum(file.stat().st_size for file in (runs.folder / "runs").rglob("*") if file.is_file())
    assert parts["runs"].bytes == in_runs - 1000
    assert parts["their copies in MLflow"].bytes == len("content")


@pytest.mark.parametrize(
    ("what", "filters"), [("runs", Filters()), ("checkpoints", Filters()), ("windows", FAILED), ("cache", ALL)]
)
def test_what_is_not_named_is_not_deleted(runs: Runs, what: str, filters: Filters) -> None:
    with pytest.raises(UserError, match=f"gc {what}: "):
        runs.collect(filters, what)


def test_ages_are_a_number_and_a_unit() -> None:
    assert [parse_age(text) for text in ("90m", "12h", "30d", "2w")] == [5400, 43200, 30 * DAY, 14 * DAY]
    for wrong in ("30", "d", "1.5d", "-1d", "30 d", "1y", ""):
        with pytest.raises(UserError, match="not an age"):
            parse_age(wrong)


@pytest.mark.long
def test_the_command_shows_first_and_deletes_with_yes(runs: Runs) -> None:
    root = runs.paths.root
    kept, failed = runs.make("kept", value=0.9, days=9), runs.make("failed", "FAILED", days=9)
    seed = runs.make("seed", "FAILED", days=9)
    runs.group("seeds", [seed], days=9)
    sizes = run_in(root, "reprise", "gc")
    assert sizes.stdout.splitlines()[2].split()[:2] == ["runs", "4"], sizes.stdout
    shown = run_in(root, "reprise", "gc", "runs", "--failed", "--older-than", "1d")
    assert "gc  would delete failed  " in shown.stdout
    assert "gc  keeps seed: its group seeds stays, and refers to it" in shown.stdout
    assert "next  reprise gc runs --older-than 1d --failed --yes  # deletes them" in shown.stderr
    assert len(runs.left) == 4
    done = run_in(root, "reprise", "gc", "runs", "--failed", "--older-than", "1d", "--yes", "--json")
    report = json.loads(done.stdout)
    assert [one["id"] for one in report["deleted"]] == [failed]
    assert [one["id"] for one in report["kept"]] == [seed]
    assert kept in runs.left
    assert run_in(root, "reprise", "runs").returncode == 0
    refused = run_in(root, "reprise", "gc", "runs", "--yes")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("reprise: gc runs: no runs named; add --older-than AGE")
