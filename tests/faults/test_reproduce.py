"""`reproduce` trains a run again from its id: the same bits, or a report of what differs."""

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

from reprise.analysis.working_copy import link_data, refuse_untrusted_run
from reprise.data import store
from reprise.errors import UserError
from reprise.inference.trained_run import open_run
from reprise.project_paths import ProjectPaths
from reprise.tracking import lineage, record
from reprise.tracking.event_log import FILE, EventLog
from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN, LSTM, runs
from tests.pipeline.conftest import ROOT, clone, run_in

QUICK = {"cnn": CNN, "lstm": LSTM}


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    """A clone with an uncommitted change, in which both networks were trained and the CNN was evaluated."""
    project = clone(tmp_path_factory.mktemp("reproduce") / "clone")
    optimizer = project / "conf" / "optimizer" / "adam.yaml"
    optimizer.write_text(optimizer.read_text().replace("0.001", "0.002"))
    started = CliForkServer(project)
    for name, command in QUICK.items():
        started.run(*command, f"name={name}")
    started.run("evaluate", run_id_of(project, "cnn"))
    yield started
    started.end()


def run_id_of(project: Path, name: str) -> str:
    run_ids = [
        run_id
        for run_id, run in runs(project).items()
        if run.data.tags["experiment"] == name and "reproduces" not in run.data.tags
    ]
    assert len(run_ids) == 1
    return run_ids[0]


@pytest.mark.parametrize("name", QUICK)
def test_a_run_with_uncommitted_changes_is_reproduced_bit_for_bit_in_a_fresh_clone(
    fork_server: CliForkServer, tmp_path: Path, name: str
) -> None:
    project, fresh = fork_server.folder, tmp_path / "fresh"
    subprocess.run(["git", "clone", "-q", project, fresh], check=True)
    uri = f"sqlite:///{project / 'mlruns' / 'mlflow.db'}"
    old = run_id_of(project, name)
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


def test_the_code_of_a_run_made_elsewhere_is_shown_and_not_executed(fork_server: CliForkServer, tmp_path: Path) -> None:
    project, fresh = fork_server.folder, tmp_path / "fresh"
    subprocess.run(["git", "clone", "-q", project, fresh], check=True)
    old = run_id_of(project, "cnn")
    done = run_in(fresh, "reprise", "reproduce", old, MLFLOW_TRACKING_URI=f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    assert done.returncode == 2
    assert "-lr: 0.001" in done.stdout
    assert "+lr: 0.002" in done.stdout
    assert done.stderr.endswith(
        "was not made in this project, so its code may be somebody else's; read the patch above, then add --trust\n"
    )
    assert not list((fresh / "mlruns").glob("runs/*"))
    assert not list((fresh / "mlruns").glob("reproduce/*"))


def test_control_characters_in_a_shown_patch_are_escaped() -> None:
    """Escape sequences that move the cursor, and overrides of the writing direction."""
    old = SimpleNamespace(name="run", tag=lambda _: "0" * 40, config={}, patch="+a\x1b[2K\r+b\u202eä\n".encode())
    console = Console(file=io.StringIO(), width=80)
    with pytest.raises(UserError, match="add --trust"):
        refuse_untrusted_run(old, False, console)  # type: ignore[arg-type]
    assert console.file.getvalue().endswith("+a\\u001b[2K\\u000d+b\\u202eä\n")  # type: ignore[attr-defined]


def test_sources_edited_during_a_training_are_not_recorded(fork_server: CliForkServer, copy: Path) -> None:
    """Each seed records the code with which the process started."""
    child = fork_server.start(*CNN, "seeds=2", "trainer.max_epochs=30", "name=edited", folder=copy)
    before = set((fork_server.folder / "mlruns" / "runs").iterdir())
    while not [run_dir for run_dir in new_run_dirs(copy, before) if (run_dir / "lineage" / "uncommitted.patch").is_file()]:
        time.sleep(0.02)
    (copy / "conf" / "optimizer" / "sgd.yaml").write_text("edited: true\n")
    assert child.wait() == 0, child.output
    patches = [file.read_bytes() for run_dir in new_run_dirs(copy, before) for file in run_dir.glob("lineage/uncommitted.patch")]
    assert len(patches) == 2
    assert patches[0] == patches[1]


def new_run_dirs(project: Path, before: set[Path]) -> list[Path]:
    return [run_dir for run_dir in (project / "mlruns" / "runs").iterdir() if run_dir.name not in {old.name for old in before}]


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def refusal(fork_server: CliForkServer, folder: Path, name: str) -> str:
    """Run `reproduce` in a changed copy of the project. Return its one-line error."""
    child = fork_server.start("reproduce", run_id_of(fork_server.folder, name), folder=folder)
    assert child.wait() == 2, child.output
    lines = child.output.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def copy(fork_server: CliForkServer, tmp_path: Path) -> Path:
    return shutil.copytree(fork_server.folder, tmp_path / "copy", symlinks=True)


def test_a_changed_byte_of_the_data_is_reported(fork_server: CliForkServer, copy: Path) -> None:
    flip_bit(copy / "data" / "processed" / "digits" / "train" / "images.npy")
    assert "images.npy is not what was written" in refusal(fork_server, copy, "cnn")


def test_a_changed_line_of_the_patch_is_reported(fork_server: CliForkServer, copy: Path) -> None:
    patch = copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "cnn") / "lineage" / "uncommitted.patch"
    assert "+lr: 0.002" in patch.read_text()
    patch.write_text(patch.read_text().replace("+lr: 0.002", "+lr: 0.003"))
    assert "uncommitted.patch is not what was recorded" in refusal(fork_server, copy, "cnn")


def test_a_changed_value_of_the_config_is_reported(fork_server: CliForkServer, copy: Path) -> None:
    file = copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "lstm") / "lineage" / "config.json"
    config = store.read_json(file)
    config["optimizer"]["lr"] *= 2
    file.write_text(json.dumps(config))
    assert "config.json is not what was recorded" in refusal(fork_server, copy, "lstm")


def test_exchanged_weights_are_reported_with_tensor_and_epoch(fork_server: CliForkServer, copy: Path) -> None:
    """The recorded weights and metrics are changed together with their hashes, so only training again reveals it."""
    import torch

    from reprise.tracking.weights import load_weights, save_weights

    run_id = run_id_of(fork_server.folder, "cnn")
    run_dir = copy / "mlruns" / "runs" / run_id
    weights = load_weights(run_dir / "best.safetensors")
    last = list(weights)[-1]
    save_weights(run_dir / "best.safetensors", {**weights, last: torch.nextafter(weights[last], torch.tensor(9.0))})
    rewrite_tags(
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


def rewrite_tags(run_dir: Path, **tags: str) -> None:
    """Change tags in the event log of a run directory. New tags are inserted at its start."""
    lines = [json.loads(line) for line in (run_dir / FILE).read_text().splitlines()]
    for recorded in (entry["tags"] for entry in lines if "tags" in entry):
        recorded.update({key: value for key, value in tags.items() if key in recorded})
    known = {key for entry in lines for key in entry.get("tags", {})}
    lines.insert(0, {"tags": {key: value for key, value in tags.items() if key not in known}})
    (run_dir / FILE).write_text("".join(json.dumps(entry) + "\n" for entry in lines))


def test_an_invalid_weights_file_is_refused_before_training(fork_server: CliForkServer, copy: Path) -> None:
    run_dir = copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "cnn")
    (run_dir / "best.safetensors").write_bytes(b"no weights")
    (run_dir / "best.sha256").write_text(f"{store.sha256(run_dir / 'best.safetensors')}  best.safetensors\n")
    rewrite_tags(run_dir, **{"sha256.weights": store.sha256(run_dir / "best.safetensors")})
    assert "best.safetensors contains something other than weights, and was not loaded" in refusal(fork_server, copy, "cnn")


def test_a_changed_package_list_is_refused_and_lists_only_versions(fork_server: CliForkServer, copy: Path) -> None:
    run_dir = copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "cnn")
    packages = run_dir / "lineage" / "packages.txt"
    packages.write_text(packages.read_text() + "--index-url=https://nowhere.example\n")
    assert "packages.txt is not what was recorded (sha256 differs)" in refusal(fork_server, copy, "cnn")
    rewrite_tags(run_dir, **{"sha256.packages": store.sha256(packages)})
    assert "something other than packages: '--index-url=https://nowhere.example'" in refusal(fork_server, copy, "cnn")


def test_open_run_uses_the_config_with_a_recorded_hash(fork_server: CliForkServer, copy: Path) -> None:
    run_dir = copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "cnn")
    config = store.read_json(run_dir / "config.json")
    config["model"]["blocks"][0]["filters"] *= 2
    store.write_json(run_dir / "config.json", config)  # this copy has no recorded hash
    assert open_run(ProjectPaths(copy), run_dir.name).config.model.model_dump()["blocks"][0]["filters"] == 16
    store.write_json(run_dir / "lineage" / "config.json", config)
    with pytest.raises(UserError, match=r"config\.json is not what was recorded"):
        open_run(ProjectPaths(copy), run_dir.name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_reproduction_leaves_no_run_with_the_status_running(
    fork_server: CliForkServer, copy: Path, number: signal.Signals
) -> None:
    run_dir = copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "cnn")
    config = store.read_json(run_dir / "lineage" / "config.json")
    config["trainer"]["max_epochs"] = 100_000
    store.write_json(run_dir / "lineage" / "config.json", config)
    rewrite_tags(run_dir, **{"sha256.config": lineage.config_hash(config)})
    before = set((copy / "mlruns" / "runs").iterdir())
    child = fork_server.start("reproduce", run_dir.name, folder=copy)
    while not list(copy.glob("mlruns/reproduce/*/copy/mlruns/runs/*/best.safetensors")):
        assert not child.has_ended(), child.output
        time.sleep(0.05)
    child.kill(number)
    assert child.wait() == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    while list((copy / "mlruns" / "reproduce").iterdir()):  # the training of a killed `reproduce` ends by itself
        assert number == signal.SIGKILL
        fork_server.start("sync", folder=copy).wait()
    (new,) = new_run_dirs(copy, before)
    assert EventLog(new).status == "KILLED"
    assert runs(copy)[new.name].info.status == "KILLED"


def test_a_reproduction_without_a_server_stays_in_the_outbox(fork_server: CliForkServer, copy: Path) -> None:
    before = set((copy / "mlruns" / "runs").iterdir())
    no_server = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    child = fork_server.start("reproduce", run_id_of(fork_server.folder, "lstm"), folder=copy, **no_server)
    assert child.wait() == 0, child.output
    (new,) = new_run_dirs(copy, before)
    assert (copy / "mlruns" / "outbox" / new.name).is_file()
    child = fork_server.start("sync", folder=copy, **no_server)
    assert child.wait() == 2
    assert "1 runs are not sent yet" in child.output


def test_raw_data_is_linked_if_the_arrays_of_the_run_are_missing(fork_server: CliForkServer, copy: Path, tmp_path: Path) -> None:
    """Valid raw files are linked, so that nothing is downloaded, and so is an image folder named relative to the project root."""
    old = record.from_run_dir(copy / "mlruns" / "runs" / run_id_of(fork_server.folder, "cnn"))
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
def test_a_run_is_reproduced_in_an_environment_with_its_recorded_packages(fork_server: CliForkServer, tmp_path: Path) -> None:
    """For a build that no index has, another build of the same version is used."""
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
    rewrite_tags(run_dir, **{"sha256.packages": store.sha256(packages)})
    child = fork_server.start("reproduce", run_dir.name, "--env", folder=project)
    assert child.wait() == 0, child.output
    assert re.search(r"pip finds no pluggy==(.*)\+nowhere: pluggy==\1 is used instead", child.output)
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


def test_lineage_leads_from_the_raw_file_to_the_metrics_and_back(fork_server: CliForkServer) -> None:
    run_id = run_id_of(fork_server.folder, "cnn")
    origin = json.loads(fork_server.run("lineage", run_id[:9], "--json").output)
    tags = runs(fork_server.folder)[run_id].data.tags
    assert origin["raw"]["files"] == [
        {"name": "digits.csv.gz", "sha256": store.sha256(fork_server.folder / "data/raw/digits/digits.csv")}
    ]
    assert origin["arrays"]["sha256"] == store.digest(fork_server.folder / "data" / "processed" / "digits")
    assert origin["code"]["commit"] == run_in(fork_server.folder, "git", "rev-parse", "HEAD").stdout.strip()
    assert origin["code"]["uncommitted"] == "true"
    assert origin["weights"]["sha256"] == store.sha256(fork_server.folder / "mlruns" / "runs" / run_id / "best.safetensors")
    assert origin["metrics"]["test/accuracy"] == runs(fork_server.folder)[run_id].data.metrics["test/accuracy"]
    for option, known in (
        ("--data-hash", tags["sha256.processed"]),
        ("--config-hash", tags["sha256.config"]),
        ("--commit", tags["git.commit"]),
    ):
        assert run_id in {run["id"] for run in json.loads(fork_server.run("runs", option, known[:12], "--json").output)}
    assert json.loads(fork_server.run("runs", "--data-hash", "00000000", "--json").output) == []


def test_certify_refuses_several_processes(fork_server: CliForkServer) -> None:
    child = fork_server.start("certify", *CNN[1:], "name=cnn", "trainer=ddp_cpu", "trainer.devices=2")
    assert child.wait() == 2
    assert "trainer.devices=2: one process is certified at a time; use trainer.devices=1" in child.output


def test_certify_tags_every_run_with_the_same_settings(fork_server: CliForkServer) -> None:
    output = fork_server.run("certify", *CNN[1:], "name=cnn", "--steps", "5").output
    assert "bit-equal over 5 steps in two processes" in output
    tags = runs(fork_server.folder)[run_id_of(fork_server.folder, "cnn")].data.tags
    assert tags["certificate"].startswith("bit-equal over 5 steps")
    assert "1 threads" in tags["certificate.scope"]
