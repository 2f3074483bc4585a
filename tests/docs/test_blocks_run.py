"""Every page is followed from top to bottom: each command and Python block runs as it stands."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli_fork_server import user_environment
from tests.docs import material
from tests.docs.blocks import PAGES, blocks, script

pytestmark = pytest.mark.long

PRELUDE = """\
set -euo pipefail
servers=()
in_background() {  # name, address that answers when it is ready, command
    local log=$1.log url=$2; shift 2
    "$@" >"$log" 2>&1 & servers+=($!)
    for _ in $(seq 600); do
        curl --silent --fail --output /dev/null "$url" && return
        kill -0 "${servers[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    cat "$log"; return 1
}
trap 'for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done' EXIT
reprise() {
    case $1 in
        dashboard) in_background dashboard http://127.0.0.1:5789 command reprise "$@" --port 5789 --no-open ;;
        serve) in_background serve http://127.0.0.1:8000/ready command reprise "$@" ;;
        *) command reprise "$@" ;;
    esac
}
mlflow() { in_background mlflow http://127.0.0.1:5001/health command mlflow "$@"; }
"""
COMMIT = "git add --all\ngit commit --quiet --message start\n"
QUICK = "reprise train experiment=digits_cnn trainer.max_epochs=2"
NO_PROJECT = {"getting-started.md", "guides/project.md"}
"""Pages that make their own project; all others are followed in one."""
BEFORE = {
    "concepts/evaluation.md": f"reprise init of_sales --from ~/sales.csv\ncd of_sales\nreprise repro\n{COMMIT}",
    "guides/compare.md": "".join(
        f"reprise train experiment=temperature_{cell} trainer.max_epochs=2 seeds=2\n" for cell in ("lstm", "gru")
    ),
    "guides/reproduce.md": f"{COMMIT}{QUICK}\n",
    "guides/upkeep.md": f"{COMMIT}{QUICK}\n{QUICK} optimizer.lr=0.01\n",
}
"""What a reader of a page has done before."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with the files of the pages, and a project that has them too."""
    folder = tmp_path_factory.mktemp("reader") / "home"
    material.write(folder)
    assert not run("reprise init work", folder, folder)
    shutil.copytree(folder, folder / "work", dirs_exist_ok=True, ignore=shutil.ignore_patterns("work"))
    return folder


def run(text: str, folder: Path, home: Path) -> str:
    """Run lines of bash until one fails. Return the output if one failed, otherwise an empty string."""
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = user_environment() | identity | {"HOME": str(home)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with tempfile.TemporaryFile("w+") as output:
        command = ["bash", "-c", PRELUDE + text]
        reader = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            code = reader.wait(timeout=3600)  # for a busy machine
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(reader.pid, signal.SIGKILL)  # servers, if any are left
        output.seek(0)
        return f"{text}\nexits with {code}:\n{output.read()[-6000:]}" if code else ""


@pytest.mark.parametrize("page", [page for page in PAGES if any(one.language in {"bash", "python"} for one in blocks(page))])
def test_the_blocks_of_a_page_run_as_they_stand(page: str, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    if page in NO_PROJECT:
        folder.mkdir()
    else:
        shutil.copytree(home / "work", folder, symlinks=True)
    assert not run(BEFORE.get(page, "") + script(page), folder, home)
