"""One flipped bit at a random place of what the pipeline made: whether it is noticed, named and mended."""

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
from reprise.errors import UserError
from reprise.stages import compose, download, evaluate, preprocess, train, window
from reprise.stages.project_paths import ProjectPaths
from reprise.training.checkpoint import save_weights
from tests.pipeline.conftest import make_project, run_in

QUIET = Console(quiet=True)
KINDS = ("raw", "processed", "windows", "cache")
OUTPUTS = ("config", "raw", "processed", "windows")
STAGES = ("compose", "download@digits", "preprocess@digits", "window@digits_cnn")


@dataclass(frozen=True)
class Flip:
    """A flipped bit, and what became of it."""

    file: Path
    place: int
    said: str
    """The message; "": not noticed."""
    named: bool
    mended: bool

    @property
    def well(self) -> bool:
        """Noticed in one line that names the file, and mended by the stage that makes it."""
        return bool(self.said) and "\n" not in self.said and self.named and self.mended


class Made:
    """A project whose digits are downloaded, preprocessed, split and in DVC's cache."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.paths = ProjectPaths(make_project(folder))
        self.random = random.Random(seed)
        compose.run(self.paths, QUIET)
        self.config: Config = compose.load("digits_cnn", self.paths)
        for kind in OUTPUTS[1:]:
            self.remake(kind)
        for command in (["init", "-q", "--no-scm"], ["commit", "-q", "-f", *STAGES]):
            assert self.in_cache(["dvc", *command]) == ""
        self.before = self.content()

    def in_cache(self, command: list[str]) -> str:
        """A command of DVC's; what it complains of, or ""."""
        site = self.paths.root / "site"  # what DVC remembers of the cache outside the project
        shutil.rmtree(site, ignore_errors=True)
        done = run_in(self.paths.root, *command, DVC_SITE_CACHE_DIR=str(site), DVC_NO_ANALYTICS="1")
        return "" if done.returncode == 0 else " ".join(done.stderr.split()) or "failed"

    def content(self) -> dict[Path, bytes]:
        """Every file of the outputs."""
        folders = [self.paths.root / "data" / kind for kind in OUTPUTS]
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
        return {file: file.read_bytes() for file in files}

    def is_as_before(self) -> bool:
        """Whether all is what it was, and is used without a word."""
        return self.before.items() <= self.content().items() and complaint(self.use) == ""

    def output(self, file: Path) -> tuple[str, ...]:
        """The output of DVC's that a file is a part of: data/config, data/raw/digits, …"""
        inside = file.relative_to(self.paths.root).parts
        return inside[: 2 if inside[1] == "config" else 3]

    def remake(self, kind: str) -> None:
        """Run the stage that makes an output."""
        stages: dict[str, Callable[[], object]] = {
            "config": lambda: compose.run(self.paths, QUIET),
            "raw": lambda: download.run(self.config.data, self.paths, QUIET),
            "processed": lambda: preprocess.run(self.config.data, self.paths, QUIET),
            "windows": lambda: window.run(self.config, self.paths, QUIET),
        }
        stages[kind]()

    def use(self) -> None:
        """What the stages do before they compute anything: preprocess, train, and evaluate with the test split."""
        for name in ("digits_cnn", "temperature_lstm"):
            compose.load(name, self.paths)
        preprocess._read(self.config.data, self.paths.raw("digits"))  # type: ignore[arg-type]
        opened = train.prepare(self.config, self.paths, QUIET)
        opened.learning()
        opened.test()

    def flip(self, kind: str) -> Flip:
        """Flip a bit, see whether it is noticed, mend it."""
        if kind == "cache":
            return self._flip_in_cache()
        file = self.random.choice(sorted(file for file in self.before if self.output(file)[1] == kind))
        with flipped(file, self.random) as place:
            said = complaint(self.use)
            with contextlib.suppress(UserError):  # the stage after it can be made now
                self.remake(kind)
            mended = self.is_as_before()
        return Flip(file, place, said, names(said, file), mended)

    def _flip_in_cache(self) -> Flip:
        """DVC does not notice it: the outputs are checked out with the flipped bit."""
        cache = self.paths.root / ".dvc" / "cache" / "files" / "md5"
        file = self.random.choice(sorted(cache.rglob("*/*")))
        with flipped(file, self.random) as place:
            outputs = sorted({"/".join(self.output(file)) for file in self.before})
            for folder in outputs:
                shutil.rmtree(self.paths.root / folder)
            refused = self.in_cache(
                ["dvc", "checkout", *outputs]
            )  # by DVC itself only where its list of an output's files is hit
            wrong = [file for file, content in self.before.items() if not file.is_file() or file.read_bytes() != content]
            said = refused or complaint(self.use)
            assert not refused or file.suffix == ".dir", refused
            named = any(names(said, file) for file in wrong) or any(folder in refused for folder in outputs)
            for kind in OUTPUTS:
                with contextlib.suppress(UserError):
                    self.remake(kind)
            mended = self.is_as_before()
        return Flip(file, place, said, named, mended)


def names(said: str, file: Path) -> bool:
    """Whether a message names a file; of a manifest, the file it is wrong about will do."""
    return str(file) in said or (file.name == store.MANIFEST and str(file.parent) in said)


def complaint(call: Callable[[], object]) -> str:
    """The user's error that a call ends with, or ""."""
    try:
        call()
    except UserError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def flipped(file: Path, generator: random.Random) -> Iterator[int]:
    """One bit of a file is another inside the block, which says at which byte; a file that was not made anew is restored."""
    content, mode = file.read_bytes(), file.stat().st_mode
    damaged = bytearray(content)
    place = generator.randrange(len(content))
    damaged[place] ^= 1 << generator.randrange(8)
    file.chmod(0o644)
    file.write_bytes(damaged)
    file.chmod(mode)  # DVC takes what is write-protected for sound
    try:
        yield place
    finally:
        if file.is_file() and file.read_bytes() == damaged:
            file.chmod(0o644)
            file.write_bytes(content)
            file.chmod(mode)


def publish_model(made: Made) -> Path:
    """A folder as `train` publishes it for the pipeline."""
    folder = made.paths.models("digits_cnn")
    with store.publish(folder) as draft:
        save_weights(draft / "seed0.safetensors", {"weight": torch.arange(40.0)})
        (draft / "seed0.history.jsonl").write_text('{"key": "val/loss", "value": 1.0, "timestamp": 0, "step": 1}\n')
        store.write_json(draft / "config.json", made.config.model_dump(by_alias=True, exclude={"tracking", "published"}))
        outcome = {"seed": 0, "best_epoch": 1, "epochs": 1, "parameters": 40, "windows": "data/windows/digits_cnn"}
        store.write_json(draft / "training.json", [{"outcome": outcome, "sha256": "0" * 64, "machine": "a processor, 1 threads"}])
    return folder


def evaluation(made: Made) -> str:
    """What `evaluate` says to the folder before it computes anything."""
    return complaint(lambda: evaluate.pipeline(made.config, made.paths, QUIET))
