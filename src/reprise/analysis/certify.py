"""Whether an experiment trains the same bits twice: its first steps in fresh processes, with and without a loader thread."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console

from reprise.config import Config, tracking_config
from reprise.config.plugins import make_importable
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.stages.train import first_steps, prepare, scope
from reprise.tracking import certificates, lineage
from reprise.tracking.certificates import Certificate
from reprise.training.fingerprint import Fingerprint, first_difference
from reprise.training.trainer import threads


def run(config: Config, paths: ProjectPaths, steps: int, console: Console) -> Certificate:
    """Train the first steps twice, compare, and keep the certificate.

    Raises:
        UserError: for a training of several processes: one alone would wait for the others.

    """
    if config.trainer.world_size > 1:
        raise UserError(f"trainer.devices={config.trainer.devices}: one process is certified at a time", "take trainer.devices=1")
    config = config.model_copy(update={"seeds": 1})
    windows = prepare(config, paths, console)
    taken = []
    for streamed, how in ((False, "no loader thread"), (True, "one loader thread")):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            taken.append(fresh.submit(_steps, config, paths, steps, streamed).result())
        console.print(f"certify  {config.name}: {steps} steps with {how}", highlight=False)
    versions = ", ".join(f"{key.removeprefix('version.')} {value}" for key, value in sorted(lineage.versions().items()))
    how = f"bit-equal over {len(taken[0]) - 1} steps in two processes, without and with a loader thread"
    certificate = Certificate(
        words=f"{how}, {time.strftime('%Y-%m-%d')}",
        difference=first_difference(*taken),
        holds_for=f"{lineage.processor()}, {threads(config.trainer)} threads, precision {config.trainer.precision}, {versions}",
    )
    tagged = certificates.issue(paths.store, scope(config, windows), certificate, tracking_config(paths.root))
    console.print(f"certify  {config.name}: said of {tagged} runs", highlight=False)
    return certificate


def _steps(config: Config, paths: ProjectPaths, steps: int, streamed: bool) -> list[Fingerprint]:
    """In the fresh process."""
    make_importable(paths.root)
    return first_steps(config, prepare(config, paths, Console(quiet=True)), steps, streamed)
