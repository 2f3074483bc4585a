"""Windows of a series: throughput against a per-sample Dataset, and peak memory on a long series.

    python benchmarks/windows.py [--rounds 3] [--rows 10_000_000]

Throughput: one epoch of shuffled training batches on the device, of etth1 (7 channels, lookback 336, horizon 96; 1 channel,
lookback 96, horizon 24) and of the daily temperature (4 channels).
- reprise: the loader of a training.
- per-sample: a Dataset that slices one window and standardises it, with a DataLoader of 0 and of 2 workers. The faster counts.
Each round measures all variants in turn; the ratio is that of the medians. On a CPU, copies bound the loader: the longer the
window, the smaller the ratio.

Memory: peak resident memory of the stage `window` and of a training (its first steps) on a series of `--rows`
steps and 8 channels, lookback 336, horizon 96. That of the same process on a short series is subtracted: Python and PyTorch
alone take more than the series. Resident memory counts pages of memory-mapped files.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from report import Ratio, report
from reprise import config as configs
from reprise.config import Config
from reprise.data import store
from reprise.data.loader import TrainLoader, move_to_device
from reprise.data.modalities.series.tensors import SeriesWindows
from reprise.data.windows import open_windows
from reprise.project_paths import ProjectPaths
from reprise.stages import window
from reprise.stages.prepare import prepare
from reprise.training.fit import Training

LOOKBACK, HORIZON, BATCH, CHANNELS, SHORT, STEPS = 336, 96, 128, 8, 50_000, 50
EVALUATED = 5_000
"""Steps of val and of test: nearly all of the series is to train on, and validation is short."""
MEBIBYTE = 2**20


class PerSample(Dataset[tuple[Tensor, Tensor]]):
    """A Dataset as in tutorials: one window at a time, standardised on each access."""

    def __init__(self, split: SeriesWindows) -> None:
        self.values, self.starts = np.array(split.values[:, split.columns]), split.starts.tolist()
        self.mean, self.std = self.values.mean(axis=0), self.values.std(axis=0)
        self.lookback, self.horizon = split.lookback, split.horizon

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = self.starts[index]
        rows = (self.values[start : start + self.lookback + self.horizon] - self.mean) / self.std
        return torch.from_numpy(rows[: self.lookback]), torch.from_numpy(rows[self.lookback :])


def seconds_of(batches: TrainLoader | DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Return the seconds of one epoch of batches on the device."""
    began = time.perf_counter()
    for inputs, targets, *_ in batches:
        inputs.to(device), targets.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def throughput(rounds: int, experiment: str, *overrides: str) -> list[Ratio]:
    """Return the throughput of windows relative to a per-sample Dataset, with no workers and with two."""
    root = configs.project_root()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        paths = ProjectPaths(Path(scratch))
        (paths.root / "conf").symlink_to(root / "conf")
        config = configs.compose(root, [f"experiment={experiment}", *overrides])
        train, _ = prepare(config, paths, Console(quiet=True)).learning()
    assert isinstance(train, SeriesWindows)
    own = TrainLoader(move_to_device(train, device, True), BATCH, 0, device)
    sliced = PerSample(train)
    variants: dict[str, TrainLoader | DataLoader[tuple[Tensor, Tensor]]] = {"reprise": own}
    for workers in (0, 2):
        variants[f"per-sample, {workers} workers"] = DataLoader(sliced, BATCH, shuffle=True, num_workers=workers)
    measured: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, batches in variants.items():
            seconds = seconds_of(batches, device)
            if turn:  # the first round warms up
                measured[name].append(seconds)
    shape = f"{train.lookback} + {train.horizon} steps x {len(train.columns)} channels"
    facts = {
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    own_seconds = measured.pop("reprise")
    return [
        Ratio(
            f"windows a second of {shape}, reprise / {name}",
            [other / own for own, other in zip(own_seconds, seconds, strict=True)],
            "throughput",
            goal="at least 50",
            facts=facts,
        )
        for name, seconds in measured.items()
    ]


def long_config(root: Path) -> Config:
    sizes = [f"window.lookback={LOOKBACK}", f"window.horizon={HORIZON}", "window.season=24"]
    sizes += [f"window.val_size={EVALUATED}", f"window.test_size={EVALUATED}"]
    return configs.compose(root, ["experiment=forecast_csv", "model=nlinear", "data.path=none", *sizes, "trainer.threads=1"])


def make_series(folder: Path, rows: int) -> None:
    """Write the arrays of a random walk, block by block."""
    draws = np.random.Generator(np.random.PCG64(0))
    meta = {"channels": [{"name": f"c{one}", "unit": ""} for one in range(CHANNELS)], "frequency": "s", "kind": "series"}
    with store.publish(folder) as draft:
        values = np.lib.format.open_memmap(draft / "values.npy", "w+", np.float32, (rows, CHANNELS))
        for start in range(0, rows, 2**18):
            values[start : start + 2**18] = draws.normal(size=(min(2**18, rows - start), CHANNELS)).cumsum(axis=0)
        del values
        store.write_array(draft / "time.npy", np.arange(rows, dtype=np.int64) * 10**9)
        store.write_json(draft / "meta.json", {**meta, "name": "csv"})


def run_part(part: str, folder: Path) -> None:
    """Run the stage `window`, or the first steps of a training, on the series below the folder."""
    paths = ProjectPaths(folder)
    config = long_config(configs.project_root())
    if part == "window":
        window.run(config, paths, Console(quiet=True))
    else:
        Training(config, open_windows(paths.windows(config.name), paths.processed(config.data.name))).first_steps(STEPS)


def peak_of(part: str, folder: Path) -> int:
    """Return the peak resident memory of a forked process that runs a part, in bytes."""

    def child() -> None:
        run_part(part, folder)
        peak.value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    context = multiprocessing.get_context("fork")  # modules are loaded already: a process of its own, but a quick one
    peak = context.Value("q", 0)
    process = context.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0, f"{part} failed"
    return int(peak.value)


def memory(rows: int) -> list[Ratio]:
    """Return the peak memory of a long series above that of a short one, relative to the size of the series."""
    peaks: dict[tuple[str, int], int] = {}
    for length in (SHORT, rows):
        with tempfile.TemporaryDirectory() as scratch:
            paths = ProjectPaths(Path(scratch))
            make_series(paths.processed("csv"), length)
            for part in ("window", "train"):
                peaks[part, length] = peak_of(part, Path(scratch))
    size = 4 * rows * CHANNELS
    facts = {"rows": rows, "channels": CHANNELS, "MiB": round(size / MEBIBYTE)}
    return [
        Ratio(
            f"memory of {what} / size of the series",
            [(peaks[part, rows] - peaks[part, SHORT]) / size],
            "peak memory",
            None,
            goal,
            facts,
        )
        for part, what, goal in (("window", "the stage window", ""), ("train", "a training", "at most 1.5"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000_000, help="steps of the long series")
    options = parser.parse_args()
    ratios = memory(options.rows)  # first: the peak of a forked process is at least what its parent holds
    ratios += throughput(options.rounds, "etth1_96_nlinear")
    ratios += throughput(options.rounds, "etth1_96_nlinear", "window.inputs=[OT]", "window.lookback=96", "window.horizon=24")
    ratios += throughput(options.rounds, "temperature_lstm", "window.calendar=[]")
    report("windows", ratios, f"python benchmarks/windows.py --rounds {options.rounds}")


if __name__ == "__main__":
    main()
