"""Write runs into a real tracking store without training, and make rows as the store returns them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, RunTag

from reprise.tracking import backend
from reprise.tracking.listing import Row

CONFIG = {
    "data.name": "digits",
    "window.val_size": "0.2",
    "window.test_size": "0.2",
    "model.dropout": "0.3",
    "optimizer.lr": "0.001",
}


def write_run(
    store: Path,
    seed: int,
    history: Sequence[float],
    *,
    experiment: str = "digits_cnn",
    metric: str = "val/accuracy",
    status: str = "FINISHED",
    tags: dict[str, str] | None = None,
    once: dict[str, float] | None = None,
    config: dict[str, str] | None = None,
) -> str:
    """Write a run with one value of a metric per epoch, and return its id. The highest value is the best. `once`: other metrics."""
    client = backend.connect(backend.local_address(store), store)
    params = {**CONFIG, **(config or {}), "name": experiment, "seed": str(seed), "seeds": "1"}
    data = params["data.name"]
    existing = client.get_experiment_by_name(data)
    run = client.create_run(
        existing.experiment_id if existing else client.create_experiment(data), run_name=f"{experiment}-seed{seed}"
    )
    facts = {
        "experiment": experiment,
        "data": data,
        "seed": seed,
        "parameters": 38282,
        "train_seconds": 2.5,
        "peak_memory": 4e8,
        **{f"sha256.{part}": data.encode().hex().ljust(64, "0") for part in ("processed", "val", "test")},
    }
    if history and status == "FINISHED":
        facts["best_epoch"] = 1 + int(np.argmax(history))
    now = int(1000 * time.time())
    points = [Metric(metric, value, now, step) for step, value in enumerate(history, 1)]
    points += [Metric(key, value, now, 0) for key, value in {"train/samples_per_second": 5000.0, **(once or {})}.items()]
    client.log_batch(
        run.info.run_id,
        points,
        [Param(key, value) for key, value in params.items()],
        [RunTag(key, str(value)) for key, value in {**facts, **(tags or {})}.items()],
    )
    client.update_run(run.info.run_id, "RUNNING") if status == "RUNNING" else client.set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def rows(values: Any, **config: str) -> list[Row]:
    """Return the rows of a group as the store would: one value of val/accuracy per seed, `[S]`."""
    params = {**CONFIG, **config}
    return [
        Row(f"{config}{seed}", f"run-seed{seed}", "FINISHED", 0, {"seed": str(seed)}, params, {}, {"val/accuracy": float(value)})
        for seed, value in enumerate(values)
    ]
