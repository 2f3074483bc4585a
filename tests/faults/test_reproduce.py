"""A run is run again from its id alone: the same bits, or a word on what is another."""

import io
import json
import platform
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from reprise.analysis.trained import open_run
from reprise.analysis.working_copy import demand_trust, link_data
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import lineage, record
from reprise.tracking.event_log import FILE, EventLog
from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN, LSTM, runs
from tests.pipeline.conftest import ROOT, clone, run_in

QUICK = {"cnn": CNN, "lstm": LSTM}


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    """A clone with a change that is not committed, in which the networks were trained; the CNN was evaluated too."""
    project = clone(tmp_path_factory.mktemp("reproduce") / "clone")
    optimizer = project / "conf" / "optimizer" / "adam.yaml"
    optimizer.write_text(optimizer.read_text().replace("0.001", "0.002"))
    started = CliForkServer(project)
    for name, command in QUICK.items():
        started.run(*command, f"name={name}")
    started.run("evaluate", run_of(project, "cnn"))
    yield started
    started.end()


def run_of(project: Path, name: str) -> str:
    found = [
        run_id
        for run_id, run in runs(project).items()
        if run.data.tags["experiment"] == name and "reproduces" not in run.data.tags
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", QUICK)
def test_a_run_from_a_dirty_tree_is_run_again_in_a_fresh_clone_to_the_bit(
    fork_server: CliForkServer, tmp_path: Path, name: str
) -> None:
    project, fresh = fork_server.folder, tmp_path / "fresh"
    subprocess.run(["git", "clone", "-q", project, fresh], check=True)
    uri = f"sqlite:///{project / 'mlruns' / 'mlflow.db'}"
    old = run_of(project, name)
    done = run_in(fresh, "reprise", "reproduce", old, "--trust", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical: weights bit for bit, every metric exactly" in done.stdout
    (new,) = (run for run in runs(project).values() if run.data.tags.get("reproduces") == old)
    before = runs(project)[old]
    assert before.data.tags["verified"].startswith("bit for bit, ")
    assert before.data.tags["verified_by"] == new.info.run_id
    assert new.data.tags["sha256.weights"] == before.data.tags["sha256.weights"]
    assert new.data.params == before.data.params
    assert run_in(project, "git", "worktree", "list").stdout.count("\n") == 1


def test_code_of_a_run_that_was_not_made_here_is_shown_and_not_run(fork_server: CliForkServer, tmp_path: Path) -> None:
    project, fresh = fork_server.folder, tmp_path / "fresh"
    subprocess.run(["git", "clone", "-q", project, fresh], check=True)
    old = run_of(project, "cnn")
    done = run_in(fresh, "reprise", "reproduce", old, MLFLOW_TRACKING_URI=f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    assert done.returncode == 2
    assert "-lr: 0.001" in done.stdout
    assert "+lr: 0.002" in done.stdout
    assert done.stderr.endswith("is somebody else's code, as far as this project knows; read the patch above, then add --trust\n")
    assert not list((fresh / "mlruns").glob("runs/*"))
    assert not list((fresh / "mlruns").glob("reproduce/*"))


def test_a_shown_patch_hides_nothing_from_the_reader() -> None:
    """Escapes that move the cursor, and overrides of the direction of writing, are spelt out."""
    old = SimpleNamespace(name="run", tag=lambda _: "0" * 40, config={}, patch="+a\x1b[2K\r+b\u202eä\n".encode())
    console = Console(file=io.StringIO(), width=80)
    with pytest.raises(UserError, match="add --trust"):
        demand_trust(old, False, console)  # type: ignore[arg-type]
    assert console.file.getvalue().endswith("+a\\u001b[2K\\u000d+b\\u202eä\n")  # type: ignore[attr-defined]


def test_sources_that_are_edited_during_a_training_are_not_recorded(fork_server: CliForkServer, copy: Path) -> None:
    """They were never imported: each seed says the code that the process began with."""
    child = fork_server.start(*CNN, "seeds=2", "trainer.max_epochs=30", "name=edited", folder=copy)
    before = set((fork_server.folder / "mlruns" / "runs").iterdir())
    while not [run_dir for run_dir in new_homes(copy, before) if (run_dir / "lineage" / "uncommitted.patch").is_file()]:
        time.sleep(0.02)
    (copy / "conf" / "optimizer" / "sgd.yaml").write_text("edited: true\n")
    assert child.wait() == 0, child.output
    patches = [file.read_bytes() for run_dir in new_homes(copy, before) for file in run_dir.glob("lineage/uncommitted.patch")]
    assert len(patches) == 2
    assert patches[0] == patches[1]


def new_homes(project: Path, before: set[Path]) -> list[Path]:
    return [run_dir for run_dir in (project / "mlruns" / "runs").iterdir() if run_dir.name not in {old.name for old in before}]


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def refused(fork_server: CliForkServer, folder: Path, name: str) -> str:
    """What `reproduce` says in a copy of the project to which something was done."""
    child = fork_server.start("reproduce", run_of(fork_server.folder, name), folder=folder)
    assert child.wait() == 2, child.output
    said = child.output.splitlines()
    assert len(said) == 1
    return said[0]


@pytest.fixture
def copy(fork_server: CliForkServer, tmp_path: Path) -> Path:
    return shutil.copytree(fork_server.folder, tmp_path / "copy", symlinks=True)


def test_a_changed_byte_of_data_is_named(fork_server: CliForkServer, copy: Path) -> None:
    flipped(copy / "data" / "processed" / "digits" / "train" / "images.npy")
    assert "images.npy is not what was written" in refused(fork_server, copy, "cnn")


def test_a_changed_line_of_the_patch_is_named(fork_server: CliForkServer, copy: Path) -> None:
    patch = copy / "mlruns" / "runs" / run_of(fork_server.folder, "cnn") / "lineage" / "uncommitted.patch"
    assert "+lr: 0.002" in patch.read_text()
    patch.write_text(patch.read_text().replace("+lr: 0.002", "+lr: 0.003"))
    assert "uncommitted.patch is not what was recorded" in refused(fork_server, copy, "cnn")


def test_a_changed_value_of_the_config_is_named(fork_server: CliForkServer, copy: Path) -> None:
    file = copy / "mlruns" / "runs" / run_of(fork_server.folder, "lstm") / "lineage" / "config.json"
    config = store.read_json(file)
    config["optimizer"]["lr"] *= 2
    file.write_text(json.dumps(config))
    assert "config.json is not what was recorded" in refused(fork_server, copy, "lstm")


def test_weights_that_were_exchanged_are_told_apart_with_tensor_and_epoch(fork_server: CliForkServer, copy: Path) -> None:
    """The recorded weights and metrics are changed, and all their hashes with them: the training itself says otherwise."""
    import torch

    from reprise.training.checkpoint import load_weights, save_weights

    run_id = run_of(fork_server.folder, "cnn")
    run_dir = copy / "mlruns" / "runs" / run_id
    weights = load_weights(run_dir / "best.safetensors")
    last = list(weights)[-1]
    save_weights(run_dir / "best.safetensors", {**weights, last: torch.nextafter(weights[last], torch.tensor(9.0))})
    say_instead(
        run_dir,
        **{"sha256.weights": store.sha256(run_dir / "best.safetensors"), "version.python": "2.7.18", "verified": "bit for bit"},
    )
    lines = [json.loads(line) for line in (run_dir / FILE).read_text().splitlines()]
    for entry in lines:
        if entry.get("key") == "val/loss" and entry["step"] == 2:
            entry["value"] += 1e-9
    (run_dir / FILE).write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    child = fork_server.start("reproduce", run_id, folder=copy)
    assert child.wait() == 3, child.output
    assert f"packages differ: python 2.7.18 → {platform.python_version()}" in child.output
    assert f"different: tensor {last} differs; epoch 2: val/loss" in child.output
    tags = EventLog(run_dir).tags
    assert tags["verified"].startswith(f"different: tensor {last} differs; epoch 2: val/loss")
    assert (copy / "mlruns" / "runs" / tags["verified_by"] / "best.safetensors").is_file()


def say_instead(run_dir: Path, **tags: str) -> None:
    """Let a run directory say other things than were recorded; what it does not say yet stands in front."""
    lines = [json.loads(line) for line in (run_dir / FILE).read_text().splitlines()]
    for said in (entry["tags"] for entry in lines if "tags" in entry):
        said.update({key: value for key, value in tags.items() if key in said})
    known = {key for entry in lines for key in entry.get("tags", {})}
    lines.insert(0, {"tags": {key: value for key, value in tags.items() if key not in known}})
    (run_dir / FILE).write_text("".join(json.dumps(entry) + "\n" for entry in lines))


def test_weights_that_are_none_are_refused_before_anything_is_trained(fork_server: CliForkServer, copy: Path) -> None:
    run_dir = copy / "mlruns" / "runs" / run_of(fork_server.folder, "cnn")
    (run_dir / "best.safetensors").write_bytes(b"no weights")
    (run_dir / "best.sha256").write_text(f"{store.sha256(run_dir / 'best.safetensors')}  best.safetensors\n")
    say_instead(run_dir, **{"sha256.weights": store.sha256(run_dir / "best.safetensors")})
    assert "best.safetensors holds something else than weights, and was not run" in refused(fork_server, copy, "cnn")


def test_packages_are_what_was_recorded_and_nothing_but_versions(fork_server: CliForkServer, copy: Path) -> None:
    run_dir = copy / "mlruns" / "runs" / run_of(fork_server.folder, "cnn")
    packages = run_dir / "lineage" / "packages.txt"
    packages.write_text(packages.read_text() + "--index-url=https://nowhere.example\n")
    assert "packages.txt is not what was recorded (sha256 differs)" in refused(fork_server, copy, "cnn")
    say_instead(run_dir, **{"sha256.packages": store.sha256(packages)})
    assert "something else than packages: '--index-url=https://nowhere.example'" in refused(fork_server, copy, "cnn")


def test_the_config_that_answers_is_the_one_that_was_recorded(fork_server: CliForkServer, copy: Path) -> None:
    run_dir = copy / "mlruns" / "runs" / run_of(fork_server.folder, "cnn")
    config = store.read_json(run_dir / "config.json")
    config["model"]["blocks"][0]["filters"] *= 2
    store.write_json(run_dir / "config.json", config)  # no hash was ever taken of this copy of it
    assert open_run(ProjectPaths(copy), run_dir.name).config.model.model_dump()["blocks"][0]["filters"] == 16
    store.write_json(run_dir / "lineage" / "config.json", config)
    with pytest.raises(UserError, match=r"config\.json is not what was recorded"):
        open_run(ProjectPaths(copy), run_dir.name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_reproduction_leaves_no_run_that_is_said_to_go_on(
    fork_server: CliForkServer, copy: Path, number: signal.Signals
) -> None:
    run_dir = copy / "mlruns" / "runs" / run_of(fork_server.folder, "cnn")
    config = store.read_json(run_dir / "lineage" / "config.json")
    config["trainer"]["max_epochs"] = 100_000
    store.write_json(run_dir / "lineage" / "config.json", config)
    say_instead(run_dir, **{"sha256.config": lineage.config_hash(config)})
    before = set((copy / "mlruns" / "runs").iterdir())
    child = fork_server.start("reproduce", run_dir.name, folder=copy)
    while not list(copy.glob("mlruns/reproduce/*/copy/mlruns/runs/*/best.safetensors")):
        assert not child.has_ended(), child.output
        time.sleep(0.05)
    child.kill(number)
    assert child.wait() == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    while list((copy / "mlruns" / "reproduce").iterdir()):  # what a killed one had started ends by itself
        assert number == signal.SIGKILL
        fork_server.start("sync", folder=copy).wait()
    (new,) = new_homes(copy, before)
    assert EventLog(new).status == "KILLED"
    assert runs(copy)[new.name].info.status == "KILLED"


def test_a_reproduction_whose_server_is_dead_waits_for_sync(fork_server: CliForkServer, copy: Path) -> None:
    before = set((copy / "mlruns" / "runs").iterdir())
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    child = fork_server.start("reproduce", run_of(fork_server.folder, "lstm"), folder=copy, **away)
    assert child.wait() == 0, child.output
    (new,) = new_homes(copy, before)
    assert (copy / "mlruns" / "outbox" / new.name).is_file()
    child = fork_server.start("sync", folder=copy, **away)
    assert child.wait() == 2
    assert "1 runs still wait" in child.output


def test_what_arrays_are_made_of_is_lent_where_the_arrays_are_others(
    fork_server: CliForkServer, copy: Path, tmp_path: Path
) -> None:
    """Raw files that are as published, so that nothing is fetched; pictures that the run named from the project's root."""
    old = record.from_run_dir(copy / "mlruns" / "runs" / run_of(fork_server.folder, "cnn"))
    shutil.rmtree(copy / "data" / "processed" / "digits")
    (copy / "data" / "raw" / "digits" / "other.csv").write_text("not as published")
    link_data(ProjectPaths(copy), old, tmp_path / "again", Console(quiet=True))
    assert [file.name for file in (tmp_path / "again" / "data" / "raw" / "digits").iterdir()] == ["digits.csv"]
    (copy / "own" / "pictures").mkdir(parents=True)
    config = {**old.config, "data": {"name": "own", "path": "own/pictures"}}
    store.write_json(old.files / "lineage" / "config.json", config)
    pictures = replace(old, tags={**old.tags, "sha256.config": lineage.config_hash(config)})
    link_data(ProjectPaths(copy), pictures, tmp_path / "again", Console(quiet=True))
    assert (tmp_path / "again" / "own" / "pictures").resolve() == copy / "own" / "pictures"


@pytest.mark.long  # installs all packages
def test_a_run_is_run_again_in_an_environment_of_its_own_packages(fork_server: CliForkServer, tmp_path: Path) -> None:
    """With one whose build no index has: the next best takes its place."""
    project = clone(tmp_path / "project")
    (project / "src").unlink()
    shutil.copytree(ROOT / "src" / "reprise", project / "src" / "reprise")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project / name)
    child = fork_server.start(*CNN, folder=project)
    assert child.wait() == 0, child.output
    (run_dir,) = (project / "mlruns" / "runs").iterdir()
    packages = run_dir / "lineage" / "packages.txt"
    packages.write_text(re.sub("^(pluggy==.*)$", r"\1+nowhere", packages.read_text(), flags=re.MULTILINE))
    say_instead(run_dir, **{"sha256.packages": store.sha256(packages)})
    child = fork_server.start("reproduce", run_dir.name, "--env", folder=project)
    assert child.wait() == 0, child.output
    assert re.search(r"pip finds no pluggy==(.*)\+nowhere: pluggy==\1 takes its place", child.output)
    assert re.search(r"packages differ: pluggy (.*)\+nowhere → \1\n", child.output)
    assert "identical: weights bit for bit, every metric exactly" in child.output


def test_a_run_made_outside_of_git_is_refused(fork_server: CliForkServer, tmp_path: Path) -> None:
    bare = shutil.copytree(fork_server.folder, tmp_path / "bare", symlinks=True, ignore=shutil.ignore_patterns(".git", "mlruns"))
    child = fork_server.start(*CNN, folder=bare)
    assert child.wait() == 0, child.output
    (run_id,) = runs(bare)
    child = fork_server.start("reproduce", run_id, folder=bare)
    assert child.wait() == 2
    assert "its code was not recorded: there is no git repository; `git init`" in child.output


def test_lineage_goes_from_the_raw_file_to_the_metrics_and_back(fork_server: CliForkServer) -> None:
    run_id = run_of(fork_server.folder, "cnn")
    way = json.loads(fork_server.run("lineage", run_id[:9], "--json").output)
    tags = runs(fork_server.folder)[run_id].data.tags
    assert way["raw"]["files"] == [
        {"name": "digits.csv.gz", "sha256": store.sha256(fork_server.folder / "data/raw/digits/digits.csv")}
    ]
    assert way["arrays"]["sha256"] == store.digest(fork_server.folder / "data" / "processed" / "digits")
    assert way["code"]["commit"] == run_in(fork_server.folder, "git", "rev-parse", "HEAD").stdout.strip()
    assert way["code"]["uncommitted"] == "true"
    assert way["weights"]["sha256"] == store.sha256(fork_server.folder / "mlruns" / "runs" / run_id / "best.safetensors")
    assert way["metrics"]["test/accuracy"] == runs(fork_server.folder)[run_id].data.metrics["test/accuracy"]
    for option, known in (
        ("--data-hash", tags["sha256.processed"]),
        ("--config-hash", tags["sha256.config"]),
        ("--commit", tags["git.commit"]),
    ):
        assert run_id in {run["id"] for run in json.loads(fork_server.run("runs", option, known[:12], "--json").output)}
    assert json.loads(fork_server.run("runs", "--data-hash", "00000000", "--json").output) == []


def test_a_training_of_several_processes_is_not_certified_by_one(fork_server: CliForkServer) -> None:
    child = fork_server.start("certify", *CNN[1:], "name=cnn", "trainer=ddp_cpu", "trainer.devices=2")
    assert child.wait() == 2
    assert "trainer.devices=2: one process is certified at a time; take trainer.devices=1" in child.output


def test_the_first_steps_are_certified_and_every_run_of_their_scope_says_so(fork_server: CliForkServer) -> None:
    said = fork_server.run("certify", *CNN[1:], "name=cnn", "--steps", "5").output
    assert "bit-equal over 5 steps in two processes" in said
    tags = runs(fork_server.folder)[run_of(fork_server.folder, "cnn")].data.tags
    assert tags["certificate"].startswith("bit-equal over 5 steps")
    assert "1 threads" in tags["certificate.scope"]
