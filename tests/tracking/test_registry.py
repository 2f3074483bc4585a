"""Who takes the alias of a data set's model: the better, or the smaller of two that cannot be told apart."""

import json
from collections.abc import Iterator

import mlflow
import numpy as np
import pytest

from tests.cli_fork_server import Child, CliForkServer
from tests.faults.conftest import CNN, client, runs
from tests.pipeline.conftest import make_project

QUICK = [word for word in CNN if word != "tracking.log_model=false"]


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    started = CliForkServer(make_project(tmp_path_factory.mktemp("registry") / "project"))
    yield started
    started.end()


def trained(fork_server: CliForkServer, *words: str) -> str:
    """The name of the first run of a training."""
    before = runs(fork_server.folder)
    fork_server.run(*QUICK, *words)
    new = [
        run.info.run_name
        for run_id, run in runs(fork_server.folder).items()
        if run_id not in before and "group" not in run.data.tags
    ]
    return min(new)


def register(fork_server: CliForkServer, *words: str) -> Child:
    child = fork_server.start("register", *words)
    child.wait()
    return child


def holder(fork_server: CliForkServer) -> str:
    store = client(fork_server.folder)
    return store.get_run(store.get_model_version_by_alias("digits", "champion").run_id).info.run_name


def test_only_the_better_and_the_smaller_of_equals_take_the_alias(fork_server: CliForkServer) -> None:
    first = trained(fork_server, "seeds=3")
    assert f"{first}: the first champion of digits" in register(fork_server, first).output
    mlflow.set_tracking_uri(f"sqlite:///{fork_server.folder / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    assert model.predict(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)
    assert "is the champion of digits already" in register(fork_server, first).output
    for model in ("models:/digits@champion", "models:/digits/1"):
        assert json.loads(fork_server.run("lineage", model, "--json").out.read_text())["run"]["name"] == first
        assert "is the champion of digits already" in register(fork_server, model).output
    for model, said in (
        ("models:/digits@best", "there are models:/digits@champion"),
        ("models:/digits", "not of the form models:/NAME@"),
    ):
        child = fork_server.start("predict", model, ".")
        assert child.wait() == 2
        assert said in child.output

    worse = trained(fork_server, "seeds=3", "optimizer.lr=0.00001")
    said = register(fork_server, worse).output
    assert said.startswith(f"reprise: {worse}: val/accuracy 0.")
    assert "(3 seeds), 38,282 parameters, is worse (p " in said
    assert f"than that of the champion {first}, 0." in said
    assert said.rstrip().endswith("; --force REASON registers it all the same")
    assert said.count("\n") == 1
    assert holder(fork_server) == first

    better = trained(fork_server, "seeds=3", "trainer.max_epochs=12")
    assert "is better (p " in register(fork_server, better).output
    assert holder(fork_server) == better

    same = trained(fork_server, "seeds=3", "trainer.max_epochs=12", "trainer.eval_batch_size=64")
    said = register(fork_server, same).output
    assert "is not distinguishable" in said
    assert "it is not smaller" in said
    assert holder(fork_server) == better

    single = trained(fork_server, "trainer.max_epochs=13")
    assert "(1 seed), 38,282 parameters, is not to be told from" in register(fork_server, single).output
    assert holder(fork_server) == better

    other = trained(fork_server, "seeds=2", "window.seed=1")
    assert "no telling" in register(fork_server, other).output

    said = register(fork_server, worse, "--force", "a demonstration").output
    assert "forced: a demonstration" in said
    assert holder(fork_server) == worse
    version = client(fork_server.folder).get_model_version_by_alias("digits", "champion")
    assert version.tags["forced.champion"] == "a demonstration"
    assert "is worse" in version.tags["judged.champion"]


def test_what_cannot_be_registered_is_said(fork_server: CliForkServer) -> None:
    bare = trained(fork_server, "tracking.log_model=false", "seed=8")
    for words, said in (
        (["nobody"], "0 runs of the store are called nobody; `reprise runs` lists them"),
        ([bare, "--alias", "bare"], f"run {bare} has logged no model; train it with tracking.log_model=true"),
        ([bare, "--alias", "v1"], "--alias v1: no name that MLflow takes"),
    ):
        child = register(fork_server, *words)
        assert said in child.output
        assert child.output.startswith("reprise: ")
