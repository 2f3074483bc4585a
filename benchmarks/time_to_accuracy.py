"""Seconds from the command to a test metric, of reprise and of a peer, whole processes in turn (A B A B …).

    python benchmarks/time_to_accuracy.py [fashion_mnist mnist etth1_96] [--rounds 5]     # on an idle machine

reprise: `reprise train --evaluate`, another seed in each round, timed until it prints the test metric, and until its end, when
figures are drawn. The peers are the scripts in `benchmarks/peers`, in environments of their own that are made in `.benchmarks/`;
they print the metric at their end. The data is read from the folder that REPRISE_MIRROR names, and prepared before the first
round. Prints the ratios, and writes them to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import REPRISE
from report import Ratio, report
from reprise.tracking.event_log import EventLog

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(__file__).parents[1] / ".benchmarks"
FIRST_SEED = 10
"""Of the rounds: the settings of the experiments were chosen with smaller ones."""


@dataclass(frozen=True)
class Comparison:
    """An experiment, its metric and target, and the script of the peer with its packages and arguments."""

    experiment: str
    metric: str
    target: float
    script: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...]

    def reached(self, value: float) -> bool:
        return value >= self.target if self.metric == "accuracy" else value <= self.target


KERAS = ("tensorflow-cpu==2.21.0",)
COMPARISONS = {
    "fashion_mnist": Comparison("fashion_mnist_fast", "accuracy", 0.9124, "keras_images.py", KERAS, ("fashion-mnist", "0.9124")),
    "mnist": Comparison("mnist_fast", "accuracy", 0.9893, "keras_images.py", KERAS, ("mnist", "0.9893")),
    "etth1_96": Comparison(
        "etth1_96_ridge",
        "mse_scaled",
        0.374,
        "neuralforecast_etth1.py",
        ("torch==2.13.0", "neuralforecast==3.3.0"),
        ("ett/ETTh1.csv",),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*COMPARISONS, []], help="comparisons; by default all")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    names = arguments.names or list(COMPARISONS)
    ratios = [ratio for name in names for ratio in compare(COMPARISONS[name], arguments.rounds)]
    command = f"python benchmarks/time_to_accuracy.py {' '.join(names)} --rounds {arguments.rounds}"
    report("time_to_accuracy" if len(names) == len(COMPARISONS) else f"time_to_accuracy_{'_'.join(names)}", ratios, command)


def compare(comparison: Comparison, rounds: int) -> list[Ratio]:
    mirror = Path(os.environ["REPRISE_MIRROR"]).resolve()
    python = environment(comparison.packages)
    first, *rest = comparison.arguments
    timed([*REPRISE, "window", f"experiment={comparison.experiment}"])
    own, other = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + rounds):
        own.append(train_and_evaluate(comparison, seed))
        output, _, seconds = timed([str(python), str(PEERS / comparison.script), str(mirror / first), *rest, f"--seed={seed}"])
        other.append({"seconds": seconds, **json.loads(output.splitlines()[-1])})
        print(f"{comparison.experiment} {own[-1]}, {comparison.script} {other[-1]}", file=sys.stderr, flush=True)
    values, peers = [one["value"] for one in own], [one["value"] for one in other]
    facts = {
        f"test {comparison.metric}": values,
        "mean": round(statistics.fmean(values), 4),
        "target": comparison.target,
        "reached": comparison.reached(statistics.fmean(values)),
        "of the peer": peers,
        "reached by the peer": [comparison.reached(value) for value in peers],
        "training / whole process": round(statistics.median(one["training_seconds"] / one["seconds"] for one in own), 3),
    }
    goals = {"seconds_to_metric": f"to the printed test {comparison.metric}", "seconds": "with figures"}
    return [
        Ratio(
            f"{comparison.experiment}, train --evaluate {what} / {comparison.script}",
            [ours[clock] / theirs["seconds"] for ours, theirs in zip(own, other, strict=True)],
            "whole process",
            True,
            "at most 0.1" if clock == "seconds_to_metric" else "",
            facts,
        )
        for clock, what in goals.items()
    ]


def train_and_evaluate(comparison: Comparison, seed: int) -> dict[str, Any]:
    """Train and evaluate one seed. Return the test metric, and the seconds until it is printed, of all, and of the training."""
    before = set(runs())
    settings = [f"experiment={comparison.experiment}", f"seed={seed}", "seeds=1", "resume=false"]
    _, printed, seconds = timed([*REPRISE, "train", "--evaluate", *settings], f"test {comparison.metric} ")
    [name] = set(runs()) - before
    run_dir = Path("mlruns/runs") / name
    trained = json.loads((run_dir / "trained.json").read_text())
    return {
        "value": EventLog(run_dir).figures[f"test/{comparison.metric}"],
        "seconds_to_metric": printed,
        "seconds": seconds,
        "training_seconds": round(trained["train_seconds"], 2),
    }


def runs() -> list[str]:
    return [folder.name for folder in Path("mlruns/runs").glob("*")]


def timed(command: Sequence[str], text: str = "") -> tuple[str, float, float]:
    """Run a command. Return what it prints, and the seconds until it prints a line with this text, and until it ends."""
    started, lines, printed = time.perf_counter(), [], None
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            if printed is None and text in line:
                printed = time.perf_counter() - started
            lines.append(line)
        code, seconds = process.wait(), time.perf_counter() - started
        errors.seek(0)
        if code:
            raise SystemExit(f"{' '.join(command)}: {errors.read()[-2000:]}")
    return "".join(lines), round(seconds if printed is None else printed, 2), round(seconds, 2)


def environment(packages: tuple[str, ...]) -> Path:
    """Return the Python of an environment with these packages, made at first use. They are installed in order, torch first."""
    folder = ENVIRONMENTS / "-".join(package.partition("==")[0] for package in packages)
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        for number in range(len(packages)):
            timed([str(python), "-m", "pip", "install", "--quiet", *packages[: number + 1]])
        (folder / ".ready").touch()
    return python


if __name__ == "__main__":
    main()
