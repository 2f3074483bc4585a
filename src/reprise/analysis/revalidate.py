"""revalidate: check, stage by stage, that changed code gives the same outputs, so that DVC need not rerun the stage.

`compose`, `preprocess`, `window` and `evaluate` run again in a temporary project, and every output file is compared. Of `train`,
only the first steps run again; the weights after each step are compared with those recorded by the stage. For `download`, the raw
files are compared with their sha256 in conf/data/. A stage that passes is committed by `dvc commit`. `draw` is not checked:
`dvc repro` draws the figures again.
"""

import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from reprise.config import compose_dataset
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import compose, published, window
from reprise.tracking import dvc_files, published_weights
from reprise.training.fingerprint import FIRST_STEPS, Fingerprint, first_difference

ORDER = ("compose", "download", "list_folder", "preprocess", "preprocess_folder", "window", "train", "evaluate")
FOLDERS = ("config", "raw", "processed", "windows", "models")
"""The folders of data/ that stages read."""


@dataclass(frozen=True)
class Stage:
    """A DVC stage whose code changed."""

    address: str
    """Its name in DVC: `train@digits_cnn`, or `long/dvc.yaml:train@mnist_best`."""
    command: Sequence[str]
    outputs: Sequence[str]
    changed: Sequence[str]
    """The changed dependencies, which are all code."""

    @property
    def kind(self) -> str:
        """The name without the item, such as `train`."""
        return self.address.rpartition(":")[2].partition("@")[0]

    @property
    def item(self) -> str:
        """The data set or experiment."""
        return self.address.partition("@")[2]


def run(paths: ProjectPaths, only: Sequence[str], console: Console) -> bool:
    """Check every stage of which only code changed, or those in `only`; commit those that pass. Return whether all passed.

    Raises:
        UserError: when `only` names a stage that is unchanged or changed in more than code.

    """
    stages = changed_stages(paths.root)
    if unknown := sorted(set(only) - {stage.address for stage in stages}):
        raise UserError(f"{unknown[0]}: no stage whose code alone changed", "`dvc status` lists what changed")
    passed = True
    for stage in stages:
        if only and stage.address not in only:
            continue
        difference = check(paths, stage)
        if not difference:
            if stage.kind == "window":
                window.record_code(compose.load(stage.item, paths), paths)
            _dvc(paths.root, "commit", "--force", "--quiet", stage.address)
        passed &= not difference
        same = f"same weights over the first {FIRST_STEPS} steps" if stage.kind == "train" else "same outputs"
        message = f"differs: {difference}" if difference else f"{same} with the changed {', '.join(stage.changed)}"
        console.print(f"revalidate  {stage.address}: {message}", markup=False, highlight=False, soft_wrap=True)
    if not stages:
        console.print("revalidate  no stage whose code alone changed", highlight=False)
    return passed


def changed_stages(root: Path) -> list[Stage]:
    """Return the stages, except `draw`, of which only dependencies in src/ changed, in the order in which DVC runs them."""
    status: dict[str, list[Any]] = json.loads(_dvc(root, "status", "--json"))
    stages = [
        _stage(root, address, list(changes[0]["changed deps"]))
        for address, changes in status.items()
        if len(changes) == 1
        and isinstance(changes[0], dict)
        and list(changes[0]) == ["changed deps"]
        and all(path.startswith("src/") and how == "modified" for path, how in changes[0]["changed deps"].items())
    ]
    stages = [stage for stage in stages if stage.kind != "draw"]
    return sorted(stages, key=lambda stage: ORDER.index(stage.kind) if stage.kind in ORDER else len(ORDER))


def _stage(root: Path, address: str, changed: Sequence[str]) -> Stage:
    locked = dvc_files.locked_stage(root, address)
    return Stage(address, shlex.split(locked.command)[1:], list(locked.outputs), changed)


def check(paths: ProjectPaths, stage: Stage) -> str:
    """Return the first difference between the outputs of a stage and those of the current code; "" if there is none."""
    if stage.kind == "download":
        return _check_raw(paths, stage.item)
    if stage.kind == "train":
        return _check_first_steps(paths, stage.item)
    with _temporary_project(paths, stage.outputs) as copy:
        done = subprocess.run([sys.executable, "-P", "-m", "reprise", *stage.command], cwd=copy, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return next(filter(None, (_first_file(paths.root / out, copy / out) for out in stage.outputs)), "")


@contextlib.contextmanager
def _temporary_project(paths: ProjectPaths, outputs: Sequence[str]) -> Iterator[Path]:
    """Make a temporary project that links to this one, without the outputs of a stage and without mlruns/."""
    with tempfile.TemporaryDirectory(dir=store.made(paths.store), prefix="revalidate-") as folder:
        copy = Path(folder)
        for entry in paths.root.iterdir():  # plugins and image folders may lie beside conf/
            if entry.name not in {"data", "mlruns", ".git", dvc_files.FOLDER}:
                (copy / entry.name).symlink_to(entry)
        hidden = {paths.root / out for out in outputs}
        for kind in FOLDERS:
            source = paths.root / "data" / kind
            if source not in hidden and source.is_dir():
                store.made(copy / "data" / kind)
                for child in source.iterdir():
                    if child not in hidden:
                        (copy / "data" / kind / child.name).symlink_to(child)
        yield copy


def _first_file(old: Path, new: Path) -> str:
    """Return the first file that differs, by its path in the output; "" if none does."""
    then, now = (
        {str(file.relative_to(out.parent)): store.sha256(file) for file in _files_of(out) if file.name != ".gitignore"}
        for out in (old, new)
    )
    return next((name for name in sorted({*then, *now}) if then.get(name) != now.get(name)), "")


def _files_of(out: Path) -> list[Path]:
    return [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]


def _check_raw(paths: ProjectPaths, dataset: str) -> str:
    data = compose_dataset(paths.root, dataset, [])
    expected = {file.sha256 for file in getattr(data, "files", [])}
    present = {store.sha256(file) for file in paths.raw(dataset).iterdir()}
    return f"a file of data/raw/{dataset} is missing or changed" if expected - present else ""


def _check_first_steps(paths: ProjectPaths, experiment: str) -> str:
    """Train the first steps of every seed in a new process and return the first difference from the recorded weights."""
    models = paths.models(experiment)
    config = compose.load(experiment, paths)
    if config.trainer.world_size > 1:
        return f"cannot be compared: trainer.devices={config.trainer.devices}, and fingerprints are those of one device"
    if config.trainer.stacked:
        return f"cannot be compared: trainer.stacked={config.trainer.stacked}, and a single seed would have other fingerprints"
    machine = published.this_machine(config.trainer)
    for entry in store.read_json(models / published_weights.TRAINING):
        seed = entry["outcome"]["seed"]
        if entry["machine"] != machine:
            return f"cannot be compared: seed {seed} was trained on {entry['machine']}, this is {machine}"
        recorded: list[Fingerprint] = store.read_json(published_weights.fingerprints_file(models, seed))
        if not recorded:
            return f"cannot be compared: no fingerprints of seed {seed}"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            fingerprints = pool.submit(_first_steps, paths, experiment, seed).result()
        if difference := first_difference(recorded, fingerprints[: len(recorded)]):
            return f"seed {seed}: {difference}"
    return ""


def _first_steps(paths: ProjectPaths, experiment: str, seed: int) -> list[Fingerprint]:
    """Return the fingerprints of the first steps. Runs in the spawned process."""
    from reprise.config.plugins import make_importable
    from reprise.data.windows import open_windows
    from reprise.stages import initial_weights
    from reprise.training.fit import first_steps

    make_importable(paths.root)
    config = compose.load(experiment, paths).model_copy(update={"seed": seed, "seeds": 1})
    windows = open_windows(paths.windows(experiment), paths.processed(config.data.name))
    config, initial = initial_weights.find(config, windows, paths, Console(quiet=True))
    return first_steps(config, windows, FIRST_STEPS, streamed=False, initial=initial)


def _dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc {arguments[0]}: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return done.stdout
