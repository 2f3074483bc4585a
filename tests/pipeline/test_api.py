"""The Python interface does what the commands do."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reprise
from reprise import api
from tests.pipeline.conftest import run_in

PROGRAM = """
import json, sys
import numpy as np
import reprise

run = reprise.train("digits_cnn", "trainer.max_epochs=2", "seed=5", "trainer.progress=false")
before = sorted(run.metrics)
test = run.evaluate()
pixels = np.zeros((3, 8, 8, 1), np.uint8)
compared = reprise.compare("digits_cnn")
print(json.dumps({
    "name": run.name, "before": before, "test": test, "epochs": list(run.history.index), "columns": list(run.history.columns),
    "figures": sorted(run.figures), "probabilities": run.predict(pixels).tolist(), "parameters": sum(p.numel() for p in run.model.parameters()),
    "again": reprise.run(run.id[:10]).name, "runs": reprise.runs()["name"].tolist(), "seeds": compared["seeds"].tolist(),
    "mean": compared["mean"].tolist(),
}))
"""  # fmt: skip


def test_a_program_trains_evaluates_predicts_and_compares(project: Path) -> None:
    done = run_in(project, sys.executable, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"val/accuracy", "val/loss"} <= set(found["before"])
    assert not [key for key in found["before"] if key.startswith("test/")]
    assert 0 < found["test"]["test/accuracy"] <= 1
    assert found["epochs"] == [1, 2]
    assert {"train/loss", "val/accuracy"} <= set(found["columns"])
    assert "confusion_matrix" in found["figures"]
    assert np.sum(found["probabilities"], axis=1) == pytest.approx([1, 1, 1])
    assert found["parameters"] == 38_282
    assert found["again"] == found["name"]
    assert found["name"] in found["runs"]
    assert found["seeds"] == [[5]]
    assert len(found["mean"]) == 1


def test_the_interface_is_typed_and_documented() -> None:
    for name in reprise.__all__:
        member = getattr(reprise, name)
        assert member.__doc__, name
    for function in (api.train, api.train_seeds, api.run, api.runs, api.compare, api.Run.predict, api.Run.evaluate):
        assert inspect.signature(function).return_annotation is not inspect.Signature.empty
    with pytest.raises(AttributeError, match="no attribute 'traim'"):
        reprise.traim  # noqa: B018


def test_importing_reprise_is_cheap() -> None:
    program = "import sys, reprise; print([name for name in ('torch', 'pandas', 'mlflow', 'pydantic') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
