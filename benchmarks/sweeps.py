"""Sweeps: speed-up by a second worker, overhead of a trial, pruning against random search, kills, and many workers on one study.

    python benchmarks/sweeps.py                   all of it, some twenty minutes on two cores
    python benchmarks/sweeps.py --only workers    or overhead, kills, many-workers, pruning (needs Fashion-MNIST)

Everything runs in a temporary project, on the weather series and the digits. Machines are noisy: read the ratios.
"""

import argparse
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pipeline.conftest import clone
from tests.pipeline.test_sweep import QUICK, kill_at_random, outcomes, runs, sweep, trials, write_sweep

SERIES = ["trainer.max_epochs=4", "tracking.log_model=false"]
SPACE = {"optimizer.lr": {"kind": "float", "low": 0.001, "high": 0.01, "log": True}}
LIGHT = ["trainer.max_epochs=9", "trainer.threads=1", "tracking.log_model=false"]
MAE = [{"metric": "val/mae", "direction": "minimize"}]


def workers(project: Path) -> None:
    """Compare the trials per hour of two workers with those of one worker that has all cores."""
    write_sweep(
        project, "pace", experiment="temperature_lstm", objectives=MAE, space=SPACE, sampler={"kind": "random"}, n_trials=20
    )
    ratios = []
    for turn in range(5):
        rates = {}
        for number in (1, 2):
            name = f"pace{turn}{number}"
            sweep(project, "sweep=pace", f"name={name}", f"workers={number}", "trainer.max_epochs=20", "tracking.log_model=false")
            done = trials(project, name)
            first = min(trial.datetime_start for trial in done if trial.datetime_start)
            last = max(trial.datetime_complete for trial in done if trial.datetime_complete)
            rates[number] = len(done) / (last - first).total_seconds() * 3600
        ratios.append(rates[2] / rates[1])
        print(f"trials per hour: one worker {rates[1]:.0f}, two {rates[2]:.0f}: {ratios[-1]:.2f} times", flush=True)
    print(f"two workers / one: {statistics.median(ratios):.2f}")


def overhead(project: Path) -> None:
    """Print the time of a trial that is not training: before its first step, and in total. The first trial is omitted.

    The time before the first step includes a few milliseconds between the training and the end of the run. The rest of the total
    is the sync to MLflow.
    """
    write_sweep(
        project, "cost", experiment="temperature_lstm", objectives=MAE, space=SPACE, sampler={"kind": "random"}, n_trials=12
    )
    sweep(project, "sweep=cost", "workers=1", *SERIES)
    children = {int(run.data.tags["trial"]): run for run in runs(project, "cost") if "trial" in run.data.tags}
    until_first_step, total = [], []
    for trial in trials(project, "cost")[1:]:
        assert trial.duration is not None
        assert trial.datetime_start is not None
        run = children[trial.number]
        trained = float(run.data.tags["train_seconds"])
        until_first_step.append(run.info.end_time / 1000 - trial.datetime_start.timestamp() - trained)
        total.append(trial.duration.total_seconds() - trained)
    for what, seconds in (("from its start to its first step", until_first_step), ("in addition to training", total)):
        print(f"{what}, a trial takes {statistics.median(seconds):.2f} s (largest {max(seconds):.2f} s)", flush=True)


def pruning(project: Path) -> None:
    """Compare the shipped sweep of Fashion-MNIST with a random search that has three times the epochs and no pruning, five times.

    Both search the shipped space, on 4,000 training images and 2,000 for val. Of the shipped sweep, the trials
    count that finished before its epochs were used up.
    """
    shipped = yaml.safe_load((project / "conf" / "sweep" / "fashion_mnist_cnn.yaml").read_text())
    write_sweep(
        project, "random", **shipped | {"sampler": {"kind": "random"}, "pruner": {"kind": "none"}, "first": [], "n_trials": 20}
    )
    overrides = ["workers=1", "window.limit=4000", "window.val_size=2000", *LIGHT]
    gains = []
    for seed in range(5):
        sampled = f"sweep.sampler.seed={seed}"
        sweep(project, "sweep=random", f"name=random{seed}", sampled, *overrides)
        sweep(project, "sweep=fashion_mnist_cnn", f"name=shipped{seed}", sampled, "n_trials=34", *overrides)
        full = trials(project, f"random{seed}")
        budget = sum(len(trial.intermediate_values) for trial in full) // 3
        used, ended = 0, []
        for trial in trials(project, f"shipped{seed}"):
            used += len(trial.intermediate_values)
            if used > budget:
                break
            ended += [trial.value] if trial.state.name == "COMPLETE" and trial.value is not None else []
        assert used > budget, "too few trials for the budget"
        best, found_early = max(trial.value for trial in full if trial.value is not None), max(ended)
        gains.append(found_early - best)
        print(
            f"random, {3 * budget} epochs: {best:.4f}; shipped, {budget} epochs: {found_early:.4f}, {len(ended)} to the end",
            flush=True,
        )
    print(f"shipped - random: {statistics.median(gains):+.4f}, median of {len(gains)}", flush=True)


def kills(project: Path) -> None:
    """Kill the driver or its worker twenty times, and compare the trials with those of an undisturbed sweep."""
    write_sweep(project, "base", n_trials=20)
    longer = ["workers=1", "trainer.max_epochs=20", *QUICK]
    sweep(project, "sweep=base", "name=undisturbed", *longer)
    done = kill_at_random(project, ["sweep=base", "name=killed", *longer], 20, 12, random.Random(0))
    same = outcomes(project, "killed") == outcomes(project, "undisturbed")
    states = Counter(trial.state.name for trial in trials(project, "killed"))
    finished = [
        run.data.tags["trial"] for run in runs(project, "killed") if run.info.status == "FINISHED" and "trial" in run.data.tags
    ]
    print(
        f"killed {done} times: {dict(states)}, {len(finished)} runs of {len(set(finished))} trials finished, "
        f"the trials {'are the same' if same else 'DIFFER'}",
        flush=True,
    )


def many_workers(project: Path) -> None:
    """Run eight workers on one study and one tracking store."""
    write_sweep(project, "crowd", n_trials=48, sampler={"kind": "random"})
    began = time.monotonic()
    sweep(project, "sweep=crowd", "workers=8", "trainer.max_epochs=1", *QUICK)
    done = trials(project, "crowd")
    children = [run for run in runs(project, "crowd") if "trial" in run.data.tags]
    doubled = len(children) - len({run.data.tags["trial"] for run in children})
    logs = "".join(file.read_text("utf-8", "replace") for file in (project / "mlruns" / "sweeps" / "crowd").glob("*.log"))
    locked = len(re.findall("database is locked", logs + "".join(str(trial.user_attrs) for trial in done)))
    finished = sum(trial.state.name == "COMPLETE" for trial in done)
    print(
        f"eight workers: {finished} of 48 trials finished in {time.monotonic() - began:.0f} s, {doubled} doubled, "
        f"{48 - len(children)} lost, {locked} times 'database is locked'",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    counts = {"overhead": overhead, "workers": workers, "many-workers": many_workers, "kills": kills, "pruning": pruning}
    parser.add_argument("--only", choices=counts)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = clone(Path(folder) / "clone")
        for name, count in counts.items():
            if args.only in (None, name):
                count(project)


if __name__ == "__main__":
    main()
