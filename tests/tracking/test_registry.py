"""Which run takes the alias of a registered model: a better one, or a smaller one that is not inferior."""

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


def train_run(fork_server: CliForkServer, *words: str) -> str:
    """Train, and return the name of the first run."""
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


@pytest.mark.long
def test_only_a_better_run_or_a_smaller_one_that_is_not_inferior_takes_the_alias(fork_server: CliForkServer) -> None:
    first = train_run(fork_server, "seeds=3")
    assert f"{first}: the first champion of digits" in register(fork_server, first).output
    mlflow.set_tracking_uri(f"sqlite:///{fork_server.folder / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    assert model.predict(np.zeros((2, 8, 8, 1), np.uint8)).shape == (2, 10)
    assert "is the champion of digits already" in register(fork_server, first).output
    for model in ("models:/digits@champion", "models:/digits/1"):
        assert json.loads(fork_server.run("lineage", model, "--json").out.read_text())["run"]["name"] == first
        assert "is the champion of digits already" in register(fork_server, model).output
    for model, output in (
        ("models:/digits@best", "there are models:/digits@champion"),
        ("models:/digits", "not of the form models:/NAME@"),
    ):
        child = fork_server.start("predict", model, ".")
        assert child.wait() == 2
        assert output in child.output

    worse = train_run(fork_server, "seeds=3", "optimizer.lr=0.00001")
    output = register(fork_server, worse).output
    assert output.startswith(f"reprise: {worse}: val/accuracy 0.")
    assert "(3 seeds), 38,282 parameters, is worse (p " in output
    assert f"than that of the champion {first}, 0." in output
    assert output.rstrip().endswith("; --force REASON registers it anyway")
    assert output.count("\n") == 1
    assert holder(fork_server) == first

    better = train_run(fork_server, "seeds=3", "trainer.max_epochs=12")
    assert "is better (p " in register(fork_server, better).output
    assert holder(fork_server) == better

    same = train_run(fork_server, "seeds=3", "trainer.max_epochs=12", "trainer.eval_batch_size=64")
    output = register(fork_server, same).output
    assert "is not distinguishable" in output
    assert "it is not smaller" in output
    assert holder(fork_server) == better

    single = train_run(fork_server, "trainer.max_epochs=13")
    assert "(1 seed), 38,282 parameters, is not comparable from" in register(fork_server, single).output
    assert holder(fork_server) == better

    other = train_run(fork_server, "seeds=2", "window.seed=1")
    assert "not comparable" in register(fork_server, other).output

    output = register(fork_server, worse, "--force", "a demonstration").output
    assert "forced: a demonstration" in output
    assert holder(fork_server) == worse
    version = client(fork_server.folder).get_model_version_by_alias("digits", "champion")
    assert version.tags["forced.champion"] == "a demonstration"
    assert "is worse" in version.tags["judged.champion"]


def test_a_run_that_cannot_be_registered_is_refused_with_the_reason(fork_server: CliForkServer) -> None:
    bare = train_run(fork_server, "tracking.log_model=false", "seed=8")
    for words, message in (
        (["nobody"], "0 runs of the store are called nobody; `reprise runs` lists them"),
        ([bare, "--alias", "bare"], f"run {bare} has logged no model; train it with tracking.log_model=true"),
        ([bare, "--alias", "v1"], "--alias v1: not an alias that MLflow accepts"),
    ):
        child = register(fork_server, *words)
        assert message in child.output
        assert child.output.startswith("reprise: ")
