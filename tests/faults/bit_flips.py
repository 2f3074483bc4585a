"""Flip one bit of a random pipeline output, and check that the damage is detected, named and repaired."""

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from reprise.config import Config
from reprise.data import store
from reprise.data.published import read_files
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import compose, download, evaluate, preprocess, window
from reprise.stages.prepare import prepare
from reprise.tracking.weights import save_weights
from tests.pipeline.conftest import make_project, run_in

QUIET = Console(quiet=True)
KINDS = ("raw", "processed", "windows", "cache")
OUTPUTS = ("config", "raw", "processed", "windows")
STAGES = ("compose", "download@digits", "preprocess@digits", "window@digits_cnn")


@dataclass(frozen=True)
class Flip:
    """A flipped bit, and how the pipeline handled it."""

    file: Path
    offset: int
    message: str
    """The error message; "" if the damage was not detected."""
    named: bool
    """Whether the message names the file."""
    repaired: bool
    """Whether the stage that makes the file has restored it."""

    @property
    def handled(self) -> bool:
        """Whether the damage was detected with a one-line message that names the file, and repaired by its stage."""
        return bool(self.message) and "\n" not in self.message and self.named and self.repaired


class PipelineProject:
    """A project with the digits dataset downloaded, preprocessed, split and in DVC's cache."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.paths = ProjectPaths(make_project(folder))
        self.random = random.Random(seed)
        compose.run(self.paths, QUIET)
        self.config: Config = compose.load("digits_cnn", self.paths)
        for kind in OUTPUTS[1:]:
            self.run_stage(kind)
        for command in (["init", "-q", "--no-scm"], ["commit", "-q", "-f", *STAGES]):
            assert self.run_dvc(["dvc", *command]) == ""
        self.original = self.content()

    def run_dvc(self, command: list[str]) -> str:
        """Run a DVC command. Return its error message, or ""."""
        site = self.paths.root / "site"  # DVC's state of the cache, which it stores outside the project
        shutil.rmtree(site, ignore_errors=True)
        process = run_in(self.paths.root, *command, DVC_SITE_CACHE_DIR=str(site), DVC_NO_ANALYTICS="1")
        return "" if process.returncode == 0 else " ".join(process.stderr.split()) or "failed"

    def content(self) -> dict[Path, bytes]:
        """Return the content of every file of the outputs."""
        folders = [self.paths.root / "data" / kind for kind in OUTPUTS]
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
        return {file: file.read_bytes() for file in files}

    def is_unchanged(self) -> bool:
        """Return whether all outputs are unchanged, and the stages accept them."""
        return self.original.items() <= self.content().items() and error_message(self.use) == ""

    def output(self, file: Path) -> tuple[str, ...]:
        """Return the DVC output that contains a file: data/config, data/raw/digits, …"""
        inside = file.relative_to(self.paths.root).parts
        return inside[: 2 if inside[1] == "config" else 3]

    def run_stage(self, kind: str) -> None:
        """Run the stage that makes this kind of output."""
        stages: dict[str, Callable[[], object]] = {
            "config": lambda: compose.run(self.paths, QUIET),
            "raw": lambda: download.run(self.config.data, self.paths, QUIET),
            "processed": lambda: preprocess.run(self.config.data, self.paths, QUIET),
            "windows": lambda: window.run(self.config, self.paths, QUIET),
        }
        stages[kind]()

    def use(self) -> None:
        """Read the outputs as preprocess, train and evaluate do before they compute anything."""
        for name in ("digits_cnn", "temperature_lstm"):
            compose.load(name, self.paths)
        read_files(self.config.data, self.paths.raw("digits"))  # type: ignore[arg-type]
        opened = prepare(self.config, self.paths, QUIET)
        opened.learning()
        opened.test()

    def flip(self, kind: str) -> Flip:
        """Flip a bit, read the outputs, and run the stage that makes the file."""
        if kind == "cache":
            return self._flip_in_cache()
        file = self.random.choice(sorted(file for file in self.original if self.output(file)[1] == kind))
        with flipped(file, self.random) as offset:
            message = error_message(self.use)
            with contextlib.suppress(UserError):
                self.run_stage(kind)
            repaired = self.is_unchanged()
        return Flip(file, offset, message, names_file(message, file), repaired)

    def _flip_in_cache(self) -> Flip:
        """Flip a bit in DVC's cache. DVC does not detect it, and checks out damaged outputs."""
        cache = self.paths.root / ".dvc" / "cache" / "files" / "md5"
        file = self.random.choice(sorted(cache.rglob("*/*")))
        with flipped(file, self.random) as offset:
            outputs = sorted({"/".join(self.output(file)) for file in self.original})
            for folder in outputs:
                shutil.rmtree(self.paths.root / folder)
            # DVC itself detects damage only in its lists of the files of an output (.dir)
            dvc_error = self.run_dvc(["dvc", "checkout", *outputs])
            damaged = [file for file, content in self.original.items() if not file.is_file() or file.read_bytes() != content]
            message = dvc_error or error_message(self.use)
            assert not dvc_error or file.suffix == ".dir", dvc_error
            named = any(names_file(message, file) for file in damaged) or any(folder in dvc_error for folder in outputs)
            for kind in OUTPUTS:
                with contextlib.suppress(UserError):
                    self.run_stage(kind)
            repaired = self.is_unchanged()
        return Flip(file, offset, message, named, repaired)


def names_file(message: str, file: Path) -> bool:
    """Return whether a message names a file, or the folder of a manifest."""
    return str(file) in message or (file.name == store.MANIFEST and str(file.parent) in message)


def error_message(call: Callable[[], object]) -> str:
    """Return the message of the UserError that a call raises, or ""."""
    try:
        call()
    except UserError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def flipped(file: Path, generator: random.Random) -> Iterator[int]:
    """Flip a random bit of a file inside the block, and yield its byte offset. Restore the file if nothing has rewritten it."""
    content, mode = file.read_bytes(), file.stat().st_mode
    damaged = bytearray(content)
    offset = generator.randrange(len(content))
    damaged[offset] ^= 1 << generator.randrange(8)
    file.chmod(0o644)
    file.write_bytes(damaged)
    file.chmod(mode)  # DVC trusts write-protected files
    try:
        yield offset
    finally:
        if file.is_file() and file.read_bytes() == damaged:
            file.chmod(0o644)
            file.write_bytes(content)
            file.chmod(mode)


def publish_model(project: PipelineProject) -> Path:
    """Publish a models folder as `train` does in the pipeline. Return it."""
    folder = project.paths.models("digits_cnn")
    with store.publish(folder) as draft:
        save_weights(draft / "seed0.safetensors", {"weight": torch.arange(40.0)})
        (draft / "seed0.history.jsonl").write_text('{"key": "val/loss", "value": 1.0, "timestamp": 0, "step": 1}\n')
        store.write_json(draft / "config.json", project.config.model_dump(by_alias=True, exclude={"tracking", "published"}))
        outcome = {"seed": 0, "best_epoch": 1, "epochs": 1, "parameters": 40, "windows": "data/windows/digits_cnn"}
        store.write_json(draft / "training.json", [{"outcome": outcome, "sha256": "0" * 64, "machine": "a processor, 1 threads"}])
    return folder


def evaluate_error(project: PipelineProject) -> str:
    """Return the error message of `evaluate` for the published models, or ""."""
    return error_message(lambda: evaluate.pipeline(project.config, project.paths, QUIET))
