"""Training on images four times larger than the memory of the process, against a training that keeps them in memory.

    python benchmarks/large_images.py [--mib 1800] [--rounds 3] [--steps 500]     # as root, on Linux: it makes a control group

Writes an image set of four times `--mib` MiB (32 x 32 x 3 pixels), and trains the network of digits_cnn on it: in a process whose
memory is limited to `--mib` MiB, with nothing in the page cache, and in one without a limit, with everything in it, in turn.
Prints the ratio of the images per second, and writes it to benchmarks/results/.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from report import Ratio, report
from reprise import config as configs
from reprise import cpus
from reprise.config import Config
from reprise.data import store
from reprise.data.windows import open_windows
from reprise.project_paths import ProjectPaths

SHAPE, CLASSES, BATCH, MEBIBYTE = (32, 32, 3), 10, 32, 2**20
WARM_UP = 20
"""Steps before the clock starts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1800)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(images_per_second(options.train, options.steps))
        return
    scratch_folder = store.made(configs.project_root() / ".benchmarks")  # on disk, where /tmp may be in memory; git ignores it
    with tempfile.TemporaryDirectory(dir=scratch_folder) as scratch, control_group(options.mib * MEBIBYTE) as group:
        paths = ProjectPaths(Path(scratch).resolve())
        make_images(paths.processed("digits"), 4 * options.mib * MEBIBYTE // int(np.prod(SHAPE)))
        from reprise.stages import window

        window.run(config(), paths, Console(quiet=True))
        rounds = []
        for _ in range(options.rounds):
            limited = run(paths.root, options.steps, group)
            read_all(paths.root)
            resident = run(paths.root, options.steps, None)
            print(
                f"{limited:,.0f} images a second with {options.mib} MiB, {resident:,.0f} in memory", file=sys.stderr, flush=True
            )
            rounds.append(limited / resident)
    facts = {
        "limit in MiB": options.mib,
        "images in MiB": 4 * options.mib,
    }
    what = "images a second, set four times larger than the memory limit / set in memory"
    report(
        "large_images",
        [Ratio(what, rounds, "throughput", True, "at least 0.5", facts)],
        f"python benchmarks/large_images.py --mib {options.mib}",
    )


def config() -> Config:
    return configs.compose(
        configs.project_root(), ["experiment=digits_cnn", f"trainer.batch_size={BATCH}", "trainer.progress=false"]
    )


def make_images(folder: Path, count: int) -> None:
    """Write images of noise, block by block."""
    draws = np.random.Generator(np.random.PCG64(0))
    with store.publish(folder) as draft:
        images = np.lib.format.open_memmap(store.made(draft / "train") / "images.npy", "w+", np.uint8, (count, *SHAPE))
        for start in range(0, count, 2**14):
            part = images[start : start + 2**14]
            part[:] = np.frombuffer(draws.bytes(part.nbytes), np.uint8).reshape(part.shape)
        del images
        store.write_array(draft / "train" / "labels.npy", draws.integers(CLASSES, size=count))
        classes = [str(number) for number in range(CLASSES)]
        meta = {"name": "digits", "kind": "images", "shape": list(SHAPE), "known_duplicates": 0, "classes": classes}
        store.write_json(draft / "meta.json", meta)


def images_per_second(project: Path, steps: int) -> float:
    """Train some steps in this process."""
    from reprise.training.fit import Training

    paths, made = ProjectPaths(project), config()
    training = Training(made, open_windows(paths.windows(made.name), paths.processed("digits")))
    training.first_steps(WARM_UP)
    training = Training(made, open_windows(paths.windows(made.name), paths.processed("digits")))
    started = time.perf_counter()
    training.first_steps(steps)
    return steps * BATCH / (time.perf_counter() - started)


def run(project: Path, steps: int, group: Path | None) -> float:
    """Return the rate of a process in a control group with nothing in the page cache, or without one."""
    if group:
        drop_cache(project)
    join = f"echo $$ > {group}/cgroup.procs; " if group else ""
    command = f"{join}exec {sys.executable} {Path(__file__).resolve()} --train {project} --steps {steps}"
    return float(subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split()[-1])


def drop_cache(project: Path) -> None:
    """Remove the arrays from the page cache: cached pages count for the process that read them first."""
    for file in project.rglob("*.npy"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_all(project: Path) -> None:
    for file in project.rglob("*.npy"):
        with file.open("rb") as stream:
            while stream.read(2**24):
                pass


@contextmanager
def control_group(limit: int) -> Iterator[Path]:
    """Make a control group with a memory limit, below that of this process."""
    folder, version = next(iter(cpus.cgroups(cpus.SYSTEM, "memory")))
    group = folder / f"reprise-{os.getpid()}"
    group.mkdir()
    (group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).write_text(str(limit))
    try:
        yield group
    finally:
        group.rmdir()


if __name__ == "__main__":
    main()
