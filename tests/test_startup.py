"""Start of commands: environment variables set before torch is imported, late imports, garbage collection."""

import gc
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reprise
from reprise.cli.common import heavy_imports

ROOT = Path(__file__).resolve().parents[1]
CHECK = "import os, sys; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"
TRAIN = """
import hashlib, reprise, torch
torch.set_num_threads(2)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 30 * 30, 10))
optimizer = torch.optim.SGD(network.parameters(), 0.1)
for _ in range(5):
    network(torch.randn(16, 3, 32, 32)).square().mean().backward()
    optimizer.step()
print(hashlib.sha256(b"".join(weight.detach().numpy().tobytes() for weight in network.parameters())).hexdigest())
"""


def stdout_of(script: str, *options: str, **environment: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    command = [sys.executable, *options, "-c", script]
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, reprise.SPIN_COUNT), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_gomp_spincount_is_set_unless_the_user_sets_it_or_a_wait_policy(environment: dict[str, str], expected: str) -> None:
    assert stdout_of(f"import reprise; {CHECK}", **environment) == expected


@pytest.mark.parametrize("entry", ["reprise.__main__", "reprise.training.trainer"])
def test_every_entry_point_sets_gomp_spincount_before_libgomp_is_loaded(entry: str) -> None:
    """libgomp prints the values that it reads when it is loaded."""
    script = f"import importlib, os; importlib.import_module('{entry}'); import torch"
    command = [sys.executable, "-c", script]
    inherited = {key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    environment = inherited | {"OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{reprise.SPIN_COUNT}'" in done.stderr


def test_gomp_spincount_does_not_change_the_weights() -> None:
    digests = {stdout_of(TRAIN, GOMP_SPINCOUNT=count, OMP_NUM_THREADS="2") for count in (reprise.SPIN_COUNT, "100000")}
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.sha256().hexdigest())


def test_stages_that_prepare_data_import_neither_torch_nor_lightning_nor_mlflow(tmp_path: Path) -> None:
    commands = [[stage, "experiment=temperature_lstm"] for stage in ("download", "preprocess", "window")]
    script = f"""
import contextlib, sys
from reprise.__main__ import main
for command in {[["init", str(tmp_path / "project")], *commands]}:
    with contextlib.suppress(SystemExit):
        main(command)
    os.chdir({str(tmp_path / "project")!r})
print(sorted({{"torch", "pytorch_lightning", "mlflow"}} & set(sys.modules)), os.listdir("mlruns/windows") != [])
"""
    assert stdout_of(f"import os{script}").splitlines()[-1] == "[] True"


def test_to_find_nothing_out_of_date_takes_no_numeric_library() -> None:
    """Each of them would take longer to import than the check of all stages."""
    script = "import sys; import reprise.__main__, reprise.stages.repro, dvc.repo; print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    assert stdout_of(script) == "[]"


def test_imports_run_without_garbage_collection_and_stay_out_of_later_collections() -> None:
    before = gc.get_freeze_count()
    try:
        with heavy_imports():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
