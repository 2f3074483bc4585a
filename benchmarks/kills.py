"""The fault tests with more kills: of trainings at random times, of checkpoint writers, and of `dvc repro`.

    python benchmarks/kills.py                  50 of each network, 100 on each file system, 50 of `dvc repro`
    python benchmarks/kills.py --trainings 5 --writers 10 --repros 10

Prints how many ended with the same bits, in one MLflow run, with every metric point once.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN, LSTM
from tests.faults.test_checkpoints import kill_writers
from tests.faults.test_kills import KillOutcome, kill_and_restart
from tests.faults.test_repro import kill_until_done, outputs, repro
from tests.pipeline.conftest import clone, make_project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=50)
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--repros", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, command in (("CNN", CNN), ("LSTM", LSTM)):
            fork_server = CliForkServer(make_project(Path(folder) / name))
            outcomes: list[KillOutcome] = kill_and_restart(fork_server, command, args.trainings, random.Random(1))
            fork_server.end()
            for what in ("same_weights", "one_run", "same_points"):
                print(
                    f"{name}: {what.replace('_', ' ')} {sum(getattr(one, what) for one in outcomes)} of {len(outcomes)}",
                    flush=True,
                )
        for scratch in (folder, "/dev/shm"):
            if Path(scratch).is_dir():
                valid = kill_writers(Path(tempfile.mkdtemp(dir=folder)), scratch, args.writers)
                where = "on the same" if scratch == folder else "on another"
                print(f"killed while writing, TMPDIR {where} file system: valid {valid} of {args.writers}", flush=True)
        if args.repros:
            undisturbed, killed = (clone(Path(folder) / name) for name in ("undisturbed", "killed"))
            assert repro(undisturbed).wait() == 0, (undisturbed / "repro.log").read_text()
            times = kill_until_done(killed, args.repros, random.Random(1), longest=12)
            same = "the same bytes" if outputs(killed) == outputs(undisturbed) else "OTHER bytes"
            print(f"`dvc repro` killed {times} times and started again each time: {same}", flush=True)


if __name__ == "__main__":
    main()
