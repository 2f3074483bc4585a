"""Everything that is measured on a GPU, in one run of under 12 minutes, as one JSON file.

    python benchmarks/gpu.py --out gpu.json              # needs a GPU, and REPRISE_MIRROR with mnist, fashion-mnist and ett
    python benchmarks/gpu.py --out gpu.json --smoke-test   # all parts on the CPU with few samples: two minutes

Each part runs in a process of its own with a time limit, so that a failure costs only that part; its results are in the file as
soon as they are there. The package need not be installed. Without MLflow and DVC all parts run: they train with
`reprise.training.fit`, and record nothing. The parts are functions in gpu_parts/.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {
    "data": 60,
    "machine": 45,
    "networks": 90,
    "trainings": 150,
    "waits": 50,
    "tests": 60,
    "distributed": 40,
    "mnist": 80,
    "fashion_mnist": 160,
    "stacked": 60,
    "answers": 40,
}
"""Seconds of each part at most, in the order of their execution."""
SMOKE_TEST_LIMIT = 300.0
"""Seconds of each part of a smoke test at most, which may run on a busy machine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--smoke-test", action="store_true", help="run on the CPU with few samples")
    parser.add_argument("--seconds", type=float, default=560.0, help="of all parts at most; the last ones get what is left")
    parser.add_argument("--only", nargs="*", choices=LIMITS, default=list(LIMITS), help="the parts to run, besides data")
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        run_once(asked)
    elif asked.part:
        run_part(asked)
    elif asked.out is None:
        parser.error("--out is missing")
    else:
        run_all(asked)


def run_all(asked: argparse.Namespace) -> None:
    """Run the parts one after the other, and write the file after each."""
    found: dict[str, Any] = {"smoke_test": asked.smoke_test, "parts": {}}
    ends = time.monotonic() + asked.seconds
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "conf").symlink_to(ROOT / "conf")
        for part in LIMITS:
            if part != "data" and part not in asked.only:
                continue
            limit = SMOKE_TEST_LIMIT if asked.smoke_test else min(LIMITS[part], ends - time.monotonic())
            row = guarded(part, work, limit, asked.smoke_test) if limit > 0 else {"status": "no time left"}
            found["parts"][part] = row
            asked.out.write_text(json.dumps(found, indent=2) + "\n")
            print(f"{part}: {row['status']}, {row.get('seconds', 0):.0f} s", flush=True)
            for error in [row["error"]] if row.get("error") else []:
                print(f"  {error.strip().splitlines()[-1]}", flush=True)


def guarded(part: str, work: Path, limit: float, smoke_test: bool) -> dict[str, Any]:
    """Run a part in a process group of its own, which is killed after `limit` seconds. Return its results so far."""
    out = work / f"{part}.jsonl"
    command = [sys.executable, __file__, "--part", part, "--out", str(out), "--work", str(work)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, *(["--smoke-test"] if smoke_test else [])],
            env=os.environ | {"PYTHONPATH": path, "PART_LIMIT": str(limit)},
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        errors.seek(0)
        said = errors.read()[-3000:]
    lines = out.read_text().splitlines() if out.exists() else []
    results = dict(json.loads(line) for line in lines)
    status = "ok" if code == 0 else "timed out" if code is None else "failed"
    return {"status": status, "seconds": time.monotonic() - started, "results": results, "error": said if code else None}


def run_part(asked: argparse.Namespace) -> None:
    """Run one part in this process, and append each result to the file."""
    from gpu_parts import measures, trainings
    from gpu_parts.bench import Bench

    module = measures if hasattr(measures, asked.part) else trainings
    bench = Bench(asked.work, asked.smoke_test, float(os.environ["PART_LIMIT"]))
    with asked.out.open("a") as stream:
        for result in getattr(module, asked.part)(bench):
            stream.write(json.dumps(result) + "\n")
            stream.flush()


def run_once(asked: argparse.Namespace) -> None:
    """Train and evaluate one seed, and print what came out: a whole process."""
    from gpu_parts import trainings
    from gpu_parts.bench import Bench

    print(json.dumps(trainings.once(Bench(asked.work, asked.smoke_test, 0.0), asked.once, asked.seed)))


if __name__ == "__main__":
    main()
