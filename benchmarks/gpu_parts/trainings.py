"""Trainings as `reprise train` runs them, without a tracked run."""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from gpu_parts.bench import FEW, KINDS, ROOT, SMALL, TARGETS, Bench, Results
from reprise.config import Config
from reprise.data.loader import move_to_device
from reprise.errors import UserError
from reprise.inference.predictor import Predictor
from reprise.training import compilation
from reprise.training.fingerprint import FIRST_STEPS
from reprise.training.fit import Fitted, Training

PROCESSES = 3
"""Seeds whose whole process is timed."""


def data(bench: Bench) -> Results:
    """Prepare the arrays and windows of all parts: the later ones only open them."""
    for name, overrides in [*KINDS.items(), *((name, experiment) for name, (_, experiment) in TARGETS.items())]:
        started = time.perf_counter()
        config = bench.kind(name) if name in KINDS else bench.config(*overrides)
        bench.windows(config)
        yield name, {"seconds": time.perf_counter() - started}


def trainings(bench: Bench) -> Results:
    """Train each kind of network as `reprise train` does, in each number format; the CNN also again, and in variants."""
    short = ["trainer.max_epochs=2", "data.limit=16384"]
    variants = {
        f"{name} {precision}": [*short, f"trainer.precision={precision}"] for name in KINDS for precision in _formats(bench)
    }
    cnn = [*short, "trainer.precision=float32"]
    variants |= {
        "CNN float32, again": cnn,
        "CNN float32, not deterministic": [*cnn, "trainer.deterministic=false"],
        "CNN float32, streamed": [*cnn, "trainer.preload_to_device=false"],
        "CNN float32, augmented": [*cnn, "augment=clothes"],
        "CNN float32, in parts": [*cnn, "trainer.accumulate=4"],
    }
    if bench.smoke_test:
        compilation.BACKEND = "eager"
    else:
        variants["CNN fp16, in parts"] = [*short, "trainer.precision=fp16", "trainer.accumulate=4"]
    variants |= {f"{name} float32, compiled": [*short, "trainer.precision=float32", "trainer.compile=true"] for name in KINDS}
    for variant, overrides in variants.items():
        yield variant, _train(bench, bench.kind(variant.split(" ")[0], *overrides))


def _formats(bench: Bench) -> list[str]:
    return ["float32", "bf16"] if bench.smoke_test else ["float32", "tf32", "bf16", "fp16"]


def _train(bench: Bench, config: Config, callbacks: Sequence[pl.Callback] = ()) -> dict[str, Any]:
    """Train, with nondeterministic operations if there are no others, and return what was measured; an error as text."""
    for deterministic in dict.fromkeys([config.trainer.deterministic, "warn"]):
        trainer = config.trainer.model_copy(update={"deterministic": deterministic})
        try:
            with tempfile.TemporaryDirectory() as folder:
                fitted, training = _fit(bench, config.model_copy(update={"trainer": trainer}), Path(folder), callbacks)
                row = training.history[-1]
                return {
                    "samples_per_second": row["train/samples_per_second"],
                    "seconds": fitted.seconds,
                    "epochs": fitted.epochs,
                    f"val/{training.task.monitor}": row[f"val/{training.task.monitor}"],
                    "sha256": hashlib.sha256(fitted.weights.read_bytes()).hexdigest(),
                    "deterministic": deterministic,
                    "nondeterministic": fitted.nondeterministic,
                    "peak_memory": fitted.peak_memory,
                }
        except (UserError, RuntimeError) as caught:
            error = f"{type(caught).__name__}: {caught}"
            if "deterministic" not in error:
                break
    return {"error": error}


def _fit(bench: Bench, config: Config, folder: Path, callbacks: Sequence[pl.Callback] = ()) -> tuple[Fitted, Training]:
    training = Training(config, bench.windows(config))
    training.trainer.callbacks += list(callbacks)  # type: ignore[attr-defined]
    return training.fit(folder), training


def waits(bench: Bench) -> Results:
    """Train with operations that wait for the GPU forbidden, from the step after the fingerprints on."""
    sys.path.insert(0, str(ROOT))
    from tests.training.waiting import ForbidWaiting

    experiments = {
        "augmented images": (["experiment=fashion_mnist_best"], [FEW]),
        "sequences": (KINDS["LSTM"], SMALL["LSTM"]),
        "series": (KINDS["PatchTST"], SMALL["PatchTST"]),
        "one target of a series": (["experiment=etth1_96_nlinear", "window.targets=[OT]"], []),
    }
    for name, (overrides, small) in experiments.items():
        forbidden = ForbidWaiting(0 if bench.smoke_test else FIRST_STEPS + 1)
        config = bench.config(*overrides, "trainer.max_epochs=1", *(small if bench.smoke_test else []))
        row = _train(bench, config, [forbidden])
        yield name, {"steps": forbidden.steps, "error": row.get("error")}


def tests(bench: Bench) -> Results:
    """Run the tests that other machines skip."""
    files = ["tests/training/test_gpu.py", "tests/data/test_loader.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    yield "tests", {"exit_code": done.returncode, "end": (done.stdout + done.stderr)[-2000:]}


def distributed(bench: Bench) -> Results:
    """Train with DDP and with FSDP2 in one process."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    for strategy in ("ddp", "fsdp"):
        overrides = [f"trainer.strategy={strategy}", "trainer.max_epochs=1", "trainer.precision=float32"]
        yield strategy, _train(bench, bench.kind("CNN", *overrides))
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def fashion_mnist(bench: Bench) -> Results:
    """Measure the seconds to the target on Fashion-MNIST."""
    yield from _to_target(bench, "fashion_mnist")


def mnist(bench: Bench) -> Results:
    """Measure the seconds to the target on MNIST."""
    yield from _to_target(bench, "mnist")


def _to_target(bench: Bench, name: str) -> Results:
    """Train seeds and measure their accuracy on test; then whole processes, from the command to the printed accuracy."""
    started, seeds = time.perf_counter(), range(1 if bench.smoke_test else 10)
    yield "target", TARGETS[name][0]
    for seed in seeds:
        if time.perf_counter() - started < bench.budget / 2:
            yield f"seed {seed}", once(bench, name, seed)
    for seed in seeds[:PROCESSES]:
        if time.perf_counter() - started < bench.budget * 0.8:
            command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--once", name, "--seed", str(seed)]
            begun = time.perf_counter()
            done = subprocess.run(
                [*command, "--work", str(bench.folder), *(["--smoke-test"] if bench.smoke_test else [])],
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.perf_counter() - begun
            yield f"process of seed {seed}", {"seconds": seconds, "printed": (done.stdout or done.stderr)[-500:]}


def once(bench: Bench, name: str, seed: int) -> dict[str, float]:
    """Train one seed, and return the seconds of the training and the accuracy on test."""
    config = bench.config(*TARGETS[name][1], f"seed={seed}", *([FEW] if bench.smoke_test else []))
    with tempfile.TemporaryDirectory() as folder:
        fitted, training = _fit(bench, config, Path(folder))
        windows = bench.windows(config)
        predictor = Predictor.from_weights(config, windows.meta, fitted.weights, name).to(bench.device)
    split = move_to_device(windows.test(), bench.device, True)
    count = 256 if bench.smoke_test else len(split)
    with torch.inference_mode():
        hits = [
            (predictor(*split.raw(rows)).argmax(-1) == split.gather(rows).targets).sum()
            for rows in torch.split(torch.arange(count, device=bench.device), config.trainer.eval_batch_size)
        ]
    accuracy = int(torch.stack(hits).sum()) / count
    return {"seconds": fitted.seconds, "val": training.history[-1]["val/accuracy"], "test": accuracy}
