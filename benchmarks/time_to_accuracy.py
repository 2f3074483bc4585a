"""Seconds from the command to a test metric, of reprise and of a peer, whole processes in turn (A B A B …).

    python benchmarks/time_to_accuracy.py [fashion_mnist mnist etth1_96] [--rounds 5]     # on an idle machine

reprise: `reprise train` and `reprise evaluate`, one after the other, another seed in each round. The peers are the scripts in
`benchmarks/peers`, in environments of their own that are made in `.benchmarks/`. The data is read from the folder that
REPRISE_MIRROR names, and prepared before the first round. Prints the ratios, and writes them to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Ratio, report

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
    reprise("window", f"experiment={comparison.experiment}")
    own, other = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + rounds):
        own.append(timed(lambda seed=seed: train_and_evaluate(comparison, seed)))
        peer = [str(python), str(PEERS / comparison.script), str(mirror / first), *rest, f"--seed={seed}"]
        other.append(timed(lambda peer=peer: json.loads(run(*peer).splitlines()[-1])))
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
    ratios = [ours["seconds"] / theirs["seconds"] for ours, theirs in zip(own, other, strict=True)]
    what = f"{comparison.experiment}, train and evaluate / {comparison.script}"
    return [Ratio(what, ratios, "whole process", True, "at most 0.1", facts)]


def timed(work: Any) -> dict[str, Any]:
    started = time.perf_counter()
    result: dict[str, Any] = work()
    return {"seconds": round(time.perf_counter() - started, 2), **result}


def train_and_evaluate(comparison: Comparison, seed: int) -> dict[str, Any]:
    """Train and evaluate one seed. Return the test metric, and the seconds of the training alone."""
    before = set(runs())
    reprise("train", f"experiment={comparison.experiment}", f"seed={seed}", "seeds=1", "resume=false")
    [name] = set(runs()) - before
    evaluated = json.loads(reprise("evaluate", name, "--json"))
    trained = json.loads((Path("mlruns/runs") / name / "trained.json").read_text())
    return {"value": evaluated["test"][comparison.metric], "training_seconds": round(trained["train_seconds"], 2)}


def runs() -> list[str]:
    return [folder.name for folder in Path("mlruns/runs").glob("*")]


def reprise(*words: str) -> str:
    return run(sys.executable, "-m", "reprise", *words)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout


def environment(packages: tuple[str, ...]) -> Path:
    """Return the Python of an environment with these packages, made at first use. They are installed in order, torch first."""
    folder = ENVIRONMENTS / "-".join(package.partition("==")[0] for package in packages)
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        for number in range(len(packages)):
            run(str(python), "-m", "pip", "install", "--quiet", *packages[: number + 1])
        (folder / ".ready").touch()
    return python


if __name__ == "__main__":
    main()
