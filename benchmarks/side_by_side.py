"""Trainings at the same time on one machine, against the same trainings one after the other.

    python benchmarks/side_by_side.py [--rounds 5] [--experiment fashion_mnist_cnn] [--limit 20000] [--spin 0 1000 300000]

On an idle machine, some minutes per round. Each round measures, for each value of GOMP_SPINCOUNT: four trainings one after the
other, two at once, four at once, and one beside compiling processes on every CPU. The ratios are: two and four at once
to as many one after the other (1: they share the CPUs without loss), one beside compilers to one alone (2: a fair share), and one
alone to one alone with the first value. They are of whole processes; `training` counts the seconds of the training itself.
300000 is the value of GNU OpenMP without the variable. Weights are the same to the bit for every value.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import reprise
from processes import REPRISE, project, run
from report import Ratio, report
from reprise import cpus

Figures = dict[str, float]
COMPILE = """
import pathlib, sysconfig
while True:
    for file in pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"):
        compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
"""
SEEDS = itertools.count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--experiment", default="fashion_mnist_cnn")
    parser.add_argument("--limit", type=int, default=20_000, help="training samples")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--spin", nargs="+", default=[reprise.SPIN_COUNT], help="values of GOMP_SPINCOUNT")
    arguments = parser.parse_args()
    settings = [f"experiment={arguments.experiment}", f"trainer.max_epochs={arguments.epochs}", "tracking.log_model=false"]
    settings += [f"data.limit={arguments.limit}"] if arguments.limit else []
    load = round(os.getloadavg()[0], 2)
    with project() as folder:
        train(folder, settings, 1, arguments.spin[0])  # downloads and converts the data
        rounds = [{spin: measure(folder, settings, spin) for spin in arguments.spin} for _ in range(arguments.rounds)]
    first = [one[arguments.spin[0]] for one in rounds]
    limit, spins = arguments.limit, " ".join(arguments.spin)
    report(
        "side_by_side",
        [ratio for spin in arguments.spin for ratio in ratios([one[spin] for one in rounds], first, spin, load)],
        f"python benchmarks/side_by_side.py --rounds {arguments.rounds} --limit {limit} --spin {spins}",
    )


def measure(folder: Path, settings: Sequence[str], spin: str) -> Figures:
    """Return the seconds of every arrangement."""
    alone = [train(folder, settings, 1, spin) for _ in range(4)]
    figures = {
        "alone": statistics.fmean(whole for whole, _ in alone),
        "alone, training": statistics.fmean(one for _, one in alone),
    }
    for count in (2, 4):
        figures[f"{count} at once"], figures[f"{count} at once, training"] = train(folder, settings, count, spin)
    with compilers():
        figures["beside compilers"], figures["beside compilers, training"] = train(folder, settings, 1, spin)
    return figures


def ratios(rounds: Sequence[Figures], first: Sequence[Figures], spin: str, load: float) -> Iterator[Ratio]:
    """Yield the ratios of one value of GOMP_SPINCOUNT; `first` are the seconds with the first value, round by round."""
    for name in rounds[0]:
        arrangement, training = name.partition(", ")[::2]
        base = f"alone, {training}" if training else "alone"
        count = int(arrangement.split()[0]) if "at once" in arrangement else 1
        compared = first if arrangement == "alone" else rounds
        values = [one[name] / (count * other[base]) for one, other in zip(rounds, compared, strict=True)]
        to = "first value" if arrangement == "alone" else f"{count} one after the other" if count > 1 else "alone"
        what = f"GOMP_SPINCOUNT={spin}: {arrangement} / {to}"
        goal = "at most 1.15" if count > 1 else ""
        facts = {"load before": load}
        yield Ratio(what, values, "training only" if training else "whole process", True, goal, facts)


def train(folder: Path, settings: Sequence[str], count: int, spin: str) -> tuple[float, float]:
    """Return the seconds of as many trainings at once, and the longest training without start and end."""
    environment = os.environ | {"GOMP_SPINCOUNT": spin}
    known = set(folder.glob("mlruns/runs/*/trained.json"))
    commands = [[*REPRISE, "train", *settings, f"seed={next(SEEDS)}"] for _ in range(count)]
    seconds, _ = run(commands, folder, environment)
    outcomes = set(folder.glob("mlruns/runs/*/trained.json")) - known
    return seconds, max(json.loads(file.read_text("utf-8"))["train_seconds"] for file in outcomes)


@contextlib.contextmanager
def compilers() -> Iterator[None]:
    """Compile Python files on every CPU meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", COMPILE]) for _ in range(cpus.available())]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
