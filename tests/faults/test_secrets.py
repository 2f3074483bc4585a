"""No secret from the environment or from an address is stored or printed, and a training unpickles nothing."""

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from reprise.config import compose, render
from reprise.errors import UserError
from reprise.tracking import address as tracking_address
from tests.pipeline.conftest import ROOT, make_project, run_in
from tests.tracking.server import Server

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hunter2-aws",
    "MLFLOW_TRACKING_USERNAME": "me",  # no secret: MLflow signs with it
    "MLFLOW_TRACKING_PASSWORD": "hunter2-password",
    "HF_TOKEN": "hunter2-token",
    "REPRISE_MIRROR": "http://me:hunter2-mirror@127.0.0.1:9",
}
IN_ADDRESS = "hunter2-address"
WORD = b"hunter2"
"""A part of each secret."""
WATCH = """
import os, sys

file = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(file, b"began\\n")
sys.addaudithook(lambda event, about: os.write(file, f"{event} {about[1:]}\\n".encode()) if event == "pickle.find_class" else None)
"""
"""Startup code of every `reprise` process, which records what is unpickled."""


@dataclass
class FinishedProject:
    """A project after the first stages of its pipeline, a training and an evaluation; what was printed; the folder of the server."""

    project: Path
    printed: str
    server: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> FinishedProject:
    project = make_project(tmp_path_factory.mktemp("secrets") / "clone")
    site = project.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCH)
    address = server.address.replace("//", f"//me:{IN_ADDRESS}@")
    settings = SECRETS | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT / 'src'}", "WATCHED": str(project.parent / "watched")}
    reprise = [sys.executable, "-m", "reprise"]
    printed = []

    def run_command(*command: str, **more: str) -> None:
        process = run_in(project, *command, **settings, **more)
        printed.append(process.stdout + process.stderr)
        assert process.returncode == 0, printed[-1]

    run_command("dvc", "init", "-q", "--no-scm")
    run_command("dvc", "repro", "compose", "download@digits")
    run_command(*reprise, "train", "experiment=digits_cnn", "trainer.max_epochs=1", "data.limit=200", f"tracking.uri={address}")
    (run_dir,) = (project / "mlruns" / "runs").iterdir()
    run_command(*reprise, "evaluate", run_dir.name, MLFLOW_TRACKING_URI=address)
    return FinishedProject(project, "".join(printed), server.folder)


def files_with(folder: Path, word: bytes) -> list[str]:
    """Return the files that contain a word in their content or name. Every process that had them open has ended."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return [str(file) for file in files if word in os.fsencode(file.name) or word in file.read_bytes()]


def test_no_secret_is_stored(finished: FinishedProject) -> None:
    for folder in ("mlruns", "data", ".dvc"):
        assert files_with(finished.project / folder, WORD) == []
        assert files_with(finished.project / folder, b"digits_cnn"), folder  # the search works
    assert WORD not in (finished.project / "dvc.lock").read_bytes()


def test_no_secret_is_printed(finished: FinishedProject) -> None:
    assert "train  digits_cnn" in finished.printed
    assert "evaluate  digits_cnn" in finished.printed
    assert WORD.decode() not in finished.printed


def test_the_server_stores_no_secret(finished: FinishedProject) -> None:
    with closing(sqlite3.connect(f"file:{finished.server}/server.db?mode=ro", uri=True)) as database:
        dump = "\n".join(database.iterdump())
    assert "digits_cnn" in dump
    assert WORD.decode() not in dump
    assert files_with(finished.server / "artifacts", b"digits_cnn")
    assert files_with(finished.server / "artifacts", WORD) == []


def test_a_training_and_its_evaluation_unpickle_nothing(finished: FinishedProject) -> None:
    """An audit hook of the interpreter records it, so MLflow, Lightning and PyTorch are included."""
    watched = (finished.project.parent / "watched").read_text().splitlines()
    assert len(watched) >= 2
    assert set(watched) == {"began"}


ADDRESS = f"http://me:{IN_ADDRESS}@127.0.0.1:9"


def check_before_training(overrides: list[str]) -> None:
    """Run the checks that precede a training: of the config, and of the form of the store's address."""
    config = compose(ROOT, ["experiment=digits_cnn", *overrides])
    tracking_address.address(config.tracking, ROOT / "mlruns")


@pytest.mark.parametrize(
    "overrides",
    [
        [f"tracking.uri={ADDRESS}", "optimizer.lr=fast"],
        [f"tracking.uri=sqlite:///x.db?token={IN_ADDRESS}"],
        [f"tracking.uri=[{ADDRESS}"],
        [f"tracking.uri='postgresql://127.0.0.1:9/runs?user=me&password={IN_ADDRESS}'", "optimizer.lr=fast"],
        [f"tracking.url={ADDRESS}"],
        [f"tracking={ADDRESS}"],
        [f"data.sources=['{ADDRESS}/']"],
    ],
)
def test_an_error_does_not_repeat_the_login_of_an_address(overrides: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        check_before_training(overrides)
    assert IN_ADDRESS not in str(refused.value)


@pytest.mark.parametrize("address", [ADDRESS, f"postgresql://127.0.0.1:9/runs?user=me&password={IN_ADDRESS}"])
def test_a_login_given_for_a_run_is_not_in_its_written_config(address: str) -> None:
    config = compose(ROOT, ["experiment=digits_cnn", f"tracking.uri='{address}'"])
    assert config.tracking.uri == address
    assert IN_ADDRESS not in render(config)
    assert "//127.0.0.1:9" in render(config)
