"""Check that an experiment trains deterministically: run its first steps in two processes, without and with a loader thread."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console

from reprise.config import Config, tracking_config
from reprise.config.plugins import make_importable
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import initial_weights
from reprise.stages.prepare import prepare
from reprise.stages.run_key import run_key
from reprise.tracking import certificates, lineage
from reprise.tracking.certificates import Certificate
from reprise.training.devices import threads
from reprise.training.fingerprint import Fingerprint, first_difference
from reprise.training.fit import first_steps
from reprise.training.initial import InitialWeights


def run(config: Config, paths: ProjectPaths, steps: int, console: Console) -> Certificate:
    """Train the first steps twice, compare the weights, and store and return the certificate.

    Raises:
        UserError: for a training on several devices, since a single process would wait for the others; for a stack of seeds.

    """
    if config.trainer.world_size > 1:
        raise UserError(f"trainer.devices={config.trainer.devices}: one process is certified at a time", "use trainer.devices=1")
    if config.trainer.stacked:
        raise UserError(f"trainer.stacked={config.trainer.stacked}: one network is certified at a time", "leave it out")
    config = config.model_copy(update={"seeds": 1})
    windows = prepare(config, paths, console)
    config, initial = initial_weights.find(config, windows, paths, console)
    fingerprints = []
    for streamed, loader in ((False, "no loader thread"), (True, "one loader thread")):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            fingerprints.append(pool.submit(_steps, config, paths, steps, streamed, initial).result())
        console.print(f"certify  {config.name}: {steps} steps with {loader}", highlight=False)
    versions = ", ".join(f"{key.removeprefix('version.')} {value}" for key, value in sorted(lineage.versions().items()))
    summary = f"bit-equal over {len(fingerprints[0]) - 1} steps in two processes, without and with a loader thread"
    certificate = Certificate(
        words=f"{summary}, {time.strftime('%Y-%m-%d')}",
        difference=first_difference(*fingerprints),
        holds_for=f"{lineage.processor()}, {threads(config.trainer)} threads, precision {config.trainer.precision}, {versions}",
    )
    tagged = certificates.issue(paths.store, run_key(config, windows), certificate, tracking_config(paths.root))
    console.print(f"certify  {config.name}: tagged {tagged} runs", highlight=False)
    return certificate


def _steps(config: Config, paths: ProjectPaths, steps: int, streamed: bool, initial: InitialWeights | None) -> list[Fingerprint]:
    """Return the fingerprints of the first steps. Runs in the spawned process."""
    make_importable(paths.root)
    return first_steps(config, prepare(config, paths, Console(quiet=True)), steps, streamed, initial)
