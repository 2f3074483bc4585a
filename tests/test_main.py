"""The command line: a user error is one line with exit code 2, and every command has help."""

import errno
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reprise.__main__ import cli, main
from reprise.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
KEY_WORDS = {
    "export": ["--to", "--int8", "onnxruntime"],
    "serve": ["127.0.0.1", "/predict", "SIGTERM"],
    "init": ["--from", "conf/data/", "data.KEY=value"],
    "code": ["data/code.json", "upgrade"],
    "plugins": ["conf/pipeline.yaml", "data/plugins"],
    "compose": ["experiment=NAME", "optimizer.lr=0.003"],
    "download": ["data=NAME", "REPRISE_MIRROR"],
    "preprocess": ["data=NAME", "data/processed"],
    "window": ["--pipeline", "experiment=NAME"],
    "train": [
        "--pipeline",
        "trainer.max_epochs",
        "optimizer.lr",
        "seeds=3",
        "--multirun",
        "trainer=auto|cpu|gpu|ddp|ddp_cpu|fsdp|fsdp_cpu",
    ],
    "watch": ["RUN", "tracking.uri=ADDRESS", "Ctrl-C", "Exit codes"],
    "register": ["RUN", "--alias", "--force", "champion", "seeds=5"],
    "repro": ["dvc repro", "dvc.lock"],
    "sweep": ["sweep=NAME", "resume", "workers=N", "storage=URL", "launcher=", "sweep=grid", "sweep.seeds=3"],
    "draw": ["--pipeline"],
    "revalidate": ["STAGE", "dvc commit", "exit code is 3"],
    "evaluate": ["RUN", "--pipeline", "--json", "experiment=NAME"],
    "predict": ["RUN", "PATH", "--out", "--device", "--json", "predictions.csv"],
    "explain": ["RUN", "PATH", "--sample", "--target", "--out", "--device", "--json", "attribution.csv"],
    "results": ["--json", "--write"],
    "lineage": ["RUN", "--json"],
    "runs": ["--data-hash", "--config-hash", "--commit", "--json"],
    "compare": ["EXPERIMENT", "--filter", "--by", "--metric", "--html", "--json", "not distinguishable"],
    "reproduce": ["RUN", "--tolerance", "--env", "Exit codes"],
    "certify": ["experiment=NAME", "--steps", "Exit codes"],
    "sync": ["tracking.uri=ADDRESS"],
    "dashboard": ["--port", "127.0.0.1"],
    "diff": ["RUN_A RUN_B", "--patch"],
    "gc": ["--older-than", "--failed", "--not-best", "--not-registered", "--yes", "checkpoints", "cache"],
    "doctor": ["experiment=NAME", "--port", "code and a fix", "Exit codes"],
}
"""Words that the help of each subcommand must contain."""


def run(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m reprise …` in a separate process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REPRISE_", "_REPRISE", "COMP_"))}
    command = [sys.executable, "-m", "reprise", *arguments]
    return subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=60)


def exit_code(*arguments: str) -> int:
    """Run a command line in this process. Return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(autouse=True)
def project_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # a test process keeps its own handlers
    monkeypatch.delenv("REPRISE_DEBUG", raising=False)


def test_a_user_error_is_one_line_on_stderr_with_exit_code_2() -> None:
    done = run("compose", "experiment=digits_cnn", "optimizer.lrr=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "reprise: optimizer.lrr: no such key; the nearest is optimizer.lr; to add an argument: +optimizer.lrr=1\n"
    )


def test_reprise_debug_shows_the_traceback() -> None:
    done = run("compose", "experiment=digits_cnn", "optimizer.lrr=1", REPRISE_DEBUG="1")
    assert done.returncode != 0
    assert done.stderr.startswith("Traceback")
    assert "UserError: optimizer.lrr: no such key" in done.stderr


def test_outside_a_project_the_error_names_the_remedy(tmp_path: Path) -> None:
    done = run("train", "experiment=digits_cnn", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"reprise: no project in {tmp_path} or above it; ")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_starts_without_heavy_imports() -> None:
    """PyTorch, Lightning and MLflow take seconds to import; only the commands that need them import them."""
    code = (
        "import sys, reprise.__main__; slow = {'torch', 'mlflow', 'pytorch_lightning', 'hydra', 'sklearn', 'pandas', 'matplotlib'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'\\?; see `reprise --help`"),
        (["train", "--pipelin"], "No such option '--pipelin'. Did you mean '--pipeline'\\?; see `reprise train --help`"),
        (["train", "--pipeline"], "Option '--pipeline' requires an argument; see `reprise --help`"),
        (["dashboard", "--port", "many"], "Invalid value for '--port': 'many' is not a valid integer; see `reprise dashboard --help`"),
        (["results", "--write", "/"], "Invalid value for '--write': File '/' is a directory; see `reprise results --help`"),
        (["train"], "no experiment named; add experiment=NAME, one of .*digits_cnn.*"),
        (["window", "experiment=digits_cn"], "experiment=digits_cn: no conf/experiment/digits_cn.yaml; the nearest is digits_cnn"),
        (["download"], "no data set named; add data=NAME, one of .*digits, .*"),
        (["preprocess", "data=digts"], "no data set named digts; the nearest is digits"),
        (["preprocess", "data=image_folder"], "data.path: is missing; set data.path=…"),
        (["preprocess", "data=image_folder", "data.pth=x"], "data.pth: no such key; the nearest is data.path"),
        (["preprocess", "data=image_folder", "data.path=nowhere"], "data.path=nowhere: no such folder or file"),
        (["preprocess", "data.path=nowhere", "data=image_folder"], "data.path=nowhere: no such folder or file"),
        (["predict", "nobody", "nowhere.png"], "0 runs are called nobody; .*"),
        (["explain", "nobody"], "Missing argument 'PATH'; see `reprise explain --help`"),
        (["evaluate"], "no run named; use `reprise evaluate RUN` or `reprise evaluate experiment=NAME`"),
        (["evaluate", "experiment=digits_cnn", "trainer=cpu"], "runs of the pipeline are evaluated with its own settings; name a RUN .*"),
        (["evaluate", "--pipeline", "digits_cnn", "1234"], "runs of the pipeline are evaluated with its own settings; name a RUN .*"),
        (["train", "--pipeline", "digits_cnn", "seed=3"], "--pipeline takes its config from data/config/; set keys in conf/, .*"),
        (["train", "--pipeline", "nothing"], "no .*data/config/nothing.yaml; run `reprise compose` first, or `dvc repro` .*"),
    ],
)  # fmt: skip
def test_every_user_error_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*arguments) == 2
    printed = capsys.readouterr()
    assert re.fullmatch(f"reprise: {message}\n", printed.err)
    assert printed.out == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOTDIR])
def test_a_full_disk_missing_permission_or_folder_is_a_user_error(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number), "data/config/.draft")

    monkeypatch.setattr("reprise.stages.compose.run", fails)
    assert exit_code("compose") == 2
    assert capsys.readouterr().err == f"reprise: data/config/.draft: {os.strerror(number)}\n"


def test_an_internal_error_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_key_error(*_: object) -> None:
        raise KeyError("forgotten")

    monkeypatch.setattr("reprise.stages.compose.run", raise_key_error)
    with pytest.raises(KeyError, match="forgotten"):
        main(["compose"])


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"reprise {importlib.metadata.version('reprise')}\n"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code() == 2
    assert "Usage: reprise" in capsys.readouterr().err
    assert exit_code("--help") == 0
    shown = capsys.readouterr().out
    positions = [shown.index(f"\n  {command} ") for command in cli.commands]
    assert positions == sorted(positions)  # in the order in which they are used
    assert list(cli.commands)[:8] == ["init", "compose", "download", "preprocess", "window", "train", "evaluate", "draw"]


@pytest.mark.parametrize("command", cli.commands)
def test_the_help_of_every_command_contains_its_key_words(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "-h") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for word in KEY_WORDS[command]:
        assert word in shown
    lines = (cli.commands[command].help or "").splitlines()
    assert len(lines[0].split(". ")[0]) < 68, "the summary in the list of commands would be cut off on a narrow terminal"


def test_every_example_in_the_help_of_train_composes() -> None:
    from reprise.config import compose

    help_text = cli.commands["train"].help or ""
    examples = re.findall(r"^ *reprise train ((?:\S+=\S+ ?)+)", help_text, re.MULTILINE)
    assert len(examples) >= 6
    for example in examples:
        assert compose(ROOT, example.split()).name in example


def test_a_printed_config_loads_back_equal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from reprise.config import compose, load

    assert exit_code("compose", "experiment=digits_cnn", "seed=3") == 0
    (tmp_path / "digits_cnn.yaml").write_text(capsys.readouterr().out)
    assert load(tmp_path / "digits_cnn.yaml") == compose(ROOT, ["experiment=digits_cnn", "seed=3"])


def test_a_closed_pipe_is_no_error() -> None:
    """`reprise compose … | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:  # noqa: PTH123 -- a file descriptor, not a path
        command = [sys.executable, "-m", "reprise", "compose", "experiment=digits_cnn"]
        done = subprocess.run(command, cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""


def completions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str, *words: str) -> list[str]:
    """Return the completions that click offers a shell for the last of `words`."""
    monkeypatch.setenv("_REPRISE_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["reprise", *words]) if shell == "bash" else " ".join(["reprise", *words[:-1]]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)) if shell == "bash" else words[-1])
    with pytest.raises(SystemExit):
        cli.main([], prog_name="reprise")
    lines = capsys.readouterr().out.splitlines()
    return [line.partition(",")[2] for line in lines if line]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_and_keys_are_completed(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "train" in " ".join(completions(monkeypatch, capsys, shell, "tr"))
    assert completions(monkeypatch, capsys, shell, "train", "exp") == ["experiment="]
    assert completions(monkeypatch, capsys, shell, "evaluate", "1234", "trainer.max") == ["trainer.max_epochs="]
    assert any(option.startswith("--pipeline") for option in completions(monkeypatch, capsys, shell, "train", "--pi"))


def test_values_are_completed_in_a_shell_that_splits_at_the_equals_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bash passes `experiment`, `=`, `dig`, and inserts the completion after the sign."""
    assert completions(monkeypatch, capsys, "bash", "train", "experiment", "=", "dig") == ["digits_cnn"]
    assert completions(monkeypatch, capsys, "bash", "train", "optimizer", "=") == ["adam", "adamw", "sgd"]
    words = ["train", "experiment", "=", "temperature_lstm", "seed", "=", "3", "model.h"]
    assert completions(monkeypatch, capsys, "bash", *words) == ["model.hidden="]


def test_values_are_completed_in_a_shell_that_does_not_split_at_the_equals_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completions(monkeypatch, capsys, "fish", "train", "experiment=dig") == ["experiment=digits_cnn"]
    assert completions(monkeypatch, capsys, "fish", "train", "experiment=temperature_lstm", "model.h") == ["model.hidden="]


def test_outside_a_project_nothing_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completions(monkeypatch, capsys, "fish", "train", "experiment=dig") == []


def test_completion_works_in_a_real_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the script that a user sources; no space is added after `key=`."""
    script = """
        eval "$(_REPRISE_COMPLETE=bash_source reprise)"
        compopt() { printf "%s " compopt "$@"; }
        COMP_WORDS=(reprise train trainer.max_ep) COMP_CWORD=2; _reprise_completion reprise; echo "${COMPREPLY[@]}"
        COMPREPLY=(); COMP_WORDS=(reprise train experiment = dig) COMP_CWORD=4; _reprise_completion reprise; echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["compopt -o nospace trainer.max_epochs=", "digits_cnn"], done.stderr


def test_line_breaks_in_a_user_error_are_removed() -> None:
    assert str(UserError("what\n  went wrong", "how\n to fix it")) == "what went wrong; how to fix it"
    assert str(UserError("what went wrong")) == "what went wrong"
    assert isinstance(UserError("x"), Exception)
    assert not isinstance(UserError("x"), click.ClickException)


def test_a_signal_within_a_destructor_stops_the_process() -> None:
    """Python drops exceptions that are raised in a destructor, so also that of the signal handler."""
    program = """
import os, signal, sys, time
from reprise import __main__ as program

class Closing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        sum(range(1000))

def command(**settings):
    del_me = Closing()
    del del_me
    time.sleep(20)

program.cli.main = command
program.main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
    assert "stopped by SIGTERM" in done.stderr
    assert "Traceback" not in done.stderr
