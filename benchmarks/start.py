"""How long commands take besides their work, as multiples of importing PyTorch and Lightning.

    python benchmarks/start.py [--rounds 5] [--repro]     # on an idle machine, a minute per round

Each round measures one after the other: the import, `reprise --help`, `reprise train experiment=digits_cnn` until its first step
and in all, and with `--repro`, in this checkout, `reprise repro` and `dvc repro` with nothing to do (the first `reprise repro`
runs what is out of date). The ratios are to the import of the same round, by the wall clock; those of the CPU seconds, on which
other load has less influence, are among the facts.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from processes import REPRISE, project, run
from report import Ratio, report

NAME = "import torch, pytorch_lightning"
IMPORT = [sys.executable, "-c", NAME]
TRAIN = """
import os, sys, threading, time

def register():  # PyTorch is imported by the command itself
    while not hasattr(sys.modules.get("torch.optim.optimizer"), "register_optimizer_step_post_hook"):
        time.sleep(0.01)
    handle = sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(lambda *_: (note(), handle.remove()))

def note():
    used = os.times()
    open(sys.argv[1], "w").write(f"{time.time()} {used.user + used.system}")

threading.Thread(target=register, daemon=True).start()
from reprise.__main__ import main
sys.argv = ["reprise", *sys.argv[1:]]
main(sys.argv[2:])
"""
"""Trains, and writes the time of the first optimizer step, and the CPU seconds until then, to a file."""
Figures = dict[str, tuple[float, float]]
"""Wall clock and CPU seconds, by command."""
GOALS = {
    "reprise --help": "",
    "reprise train, first step": "at most 1.25",
    "reprise train": "at most 2.5",
    "reprise repro": "",
    "dvc repro": "",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repro", action="store_true", help="also time the pipeline of this checkout")
    arguments = parser.parse_args()
    checkout, load = Path(__file__).parents[1], round(os.getloadavg()[0], 2)
    with project() as folder:
        run([train(folder / "warm", 0)], folder)  # creates the database and the arrays
        if arguments.repro:
            run([[*REPRISE, "repro"]], checkout)
        rounds = [measure(folder, number + 1, checkout if arguments.repro else None) for number in range(arguments.rounds)]
    ratios = []
    for name, goal in GOALS.items():
        if name in rounds[0]:
            wall, cpu = ([one[name][part] / one[NAME][part] for one in rounds] for part in (0, 1))
            facts = {"CPU seconds": round(statistics.median(cpu), 3), "load before": load}
            ratios.append(Ratio(f"{name} / {NAME}", wall, "whole process", goal=goal, facts=facts))
    report("start", ratios, f"python benchmarks/start.py --rounds {arguments.rounds}{' --repro' * arguments.repro}")


def train(file: Path, seed: int) -> list[str]:
    return [sys.executable, "-P", "-c", TRAIN, str(file), "train", "experiment=digits_cnn", f"seed={seed}"]


def measure(folder: Path, seed: int, checkout: Path | None) -> Figures:
    """Time every command once."""
    figures = {NAME: run([IMPORT], folder), "reprise --help": run([[*REPRISE, "--help"]], folder)}
    with tempfile.TemporaryDirectory() as scratch:
        file, began = Path(scratch) / "first_step", time.time()
        figures["reprise train"] = run([train(file, seed)], folder)
        at, used = map(float, file.read_text("utf-8").split())
    figures["reprise train, first step"] = at - began, used
    if checkout:
        figures["reprise repro"] = run([[*REPRISE, "repro"]], checkout)
        figures["dvc repro"] = run([[sys.executable, "-P", "-m", "dvc", "repro"]], checkout)
    return figures


if __name__ == "__main__":
    main()
