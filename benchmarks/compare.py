"""`reprise compare` over 1,000 runs: its time against a plain search by MLflow, and its rate of false positives.

    python benchmarks/compare.py                           all of it, some five minutes on two cores
    python benchmarks/compare.py --only false-positives    or speed, page, trained (needs Fashion-MNIST)

The runs are copies of one with the config of digits_cnn, 30 epochs of 17 metrics: 200 settings, five seeds each. Machines are
noisy: read the ratios.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.analysis.page import Page
from tests.analysis.trainings import rows, write_run
from tests.pipeline.conftest import ROOT, make_project

from reprise.analysis.compare import ranked
from reprise.config import compose
from reprise.config.compose import leaves
from reprise.tracking.run import recorded_config

SETTINGS, SEEDS, EPOCHS, METRICS = 200, 5, 30, 17
DRAWS = 2000
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")
SEARCH = "from mlflow import MlflowClient; print(len(MlflowClient({uri!r}).search_runs(['1'], max_results=50000)))"


def make_store(project: Path, count: int) -> None:
    """Write `count` finished runs into a store created by MLflow: one by its client, the others as copies of its rows."""
    config = {
        key: json.dumps(value).strip('"') for key, value in leaves(recorded_config(compose(ROOT, ["experiment=digits_cnn"])))
    }
    history = 0.98 - 0.5 * np.exp(-np.arange(EPOCHS) / 5)
    others = {f"val/other{number}": 0.5 for number in range(METRICS - 1)}
    first = write_run(project / "mlruns", 0, list(history), once=others, config=config)
    generator = np.random.default_rng(0)
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as store, store:
        for number in range(METRICS - 1):
            for epoch in range(1, EPOCHS + 1):
                store.execute("INSERT INTO metrics VALUES (?, 0.5, 1, ?, ?, 0)", (f"val/other{number}", first, epoch))
        columns = {table: [row[1] for row in store.execute(f"PRAGMA table_info({table})")] for table in TABLES}
        for number in range(1, count):
            run, seed, setting = uuid.uuid4().hex, number % SEEDS, number // SEEDS
            for table, names in columns.items():
                values = ", ".join("?1" if name == "run_uuid" else f'"{name}"' for name in names)
                store.execute(f"INSERT INTO {table} SELECT {values} FROM {table} WHERE run_uuid = ?2", (run, first))
            noise = 0.002 * generator.normal() + 0.0001 * setting
            store.execute("UPDATE metrics SET value = value + ? WHERE run_uuid = ? AND key = 'val/accuracy'", (noise, run))
            for table in ("tags", "params"):
                store.execute(f"UPDATE {table} SET value = ? WHERE run_uuid = ? AND key = 'seed'", (str(seed), run))
            lr = f"{0.0001 * (1 + setting):.4f}"
            store.execute("UPDATE params SET value = ? WHERE run_uuid = ? AND key = 'optimizer.lr'", (lr, run))


def seconds(project: Path, *command: str) -> float:
    """Return the shortest of three times of a whole process."""
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, cwd=project, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return min(taken)


def time_commands(project: Path) -> None:
    compare = (sys.executable, "-m", "reprise", "compare")
    plain = seconds(project, sys.executable, "-c", SEARCH.format(uri=f"sqlite:///{project / 'mlruns' / 'mlflow.db'}"))
    print(f"MLflow's plain search of 1,000 runs               {plain:5.2f} s")
    for name, options in {
        "": (),
        "--json": ("--json",),
        "--metric val/other3": ("--metric", "val/other3"),
        "--filter, true of all": ("--filter", "metrics.`val/accuracy` > 0"),
        "--html": ("--html", "page.html"),
    }.items():
        taken = seconds(project, *compare, *options)
        print(f"reprise compare {name:33s} {taken:5.2f} s, {taken / plain:.2f} of the plain search")


def time_page(project: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "reprise", "compare", "--html", "page.html"], cwd=project, check=True, capture_output=True
    )
    with tempfile.TemporaryDirectory() as profile, Page(project / "page.html", Path(profile)) as opened:
        opened.show()
        painted = opened.execute("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
        loaded = opened.execute("return performance.getEntriesByType('navigation')[0].loadEventEnd")
        print(
            f"the page, {opened.file.stat().st_size / 1e6:.1f} MB, is painted after {painted:.0f} ms, ready after {loaded:.0f} ms"
        )
        for what, script in {
            "sorts by the figure": "document.querySelectorAll('#groups thead button')[2].click()",
            "filters": "at('filter').value = '0.001'; filter()",
        }.items():
            timed = f"const began = performance.now(); {script}; document.body.offsetHeight; return performance.now() - began"
            print(f"the page {what} in {opened.execute(timed):.0f} ms")


def compare_real_trainings(project: Path) -> None:
    """Train on 4,000 images of Fashion-MNIST: one setting twice (other seeds, a key without effect) and a worse one."""
    overrides = ["experiment=fashion_mnist_cnn", "window.limit=4000", "trainer.max_epochs=12", "tracking.log_model=false"]
    reprise = (sys.executable, "-m", "reprise")
    for settings in (
        ["seeds=[0,1,2,3,4]"],
        ["seeds=[5,6,7,8,9]", "trainer.patience=100"],
        ["seeds=[0,1,2,3,4]", "model.blocks=[]"],
    ):
        subprocess.run([*reprise, "train", *overrides, *settings], cwd=project, check=True, capture_output=True)
    output = subprocess.run([*reprise, "compare", "--json"], cwd=project, check=True, capture_output=True).stdout
    (table,) = json.loads(output)["tables"]
    for group in table["groups"]:
        convolutions = "no convolution" if group["config"]["model.blocks"] == "[]" else "dropout 0.3"
        setting = f"{convolutions}, patience {group['config']['trainer.patience']}"
        print(f"{group['rank']}. {group['mean']:.4f} ± {group['std']:.4f} over {group['n']} seeds, {setting}: {group['words']}")


def false_positives() -> None:
    """Print the share of comparisons of equal configs that find a difference. The level is 0.05."""
    generator = np.random.default_rng(0)
    for count in (2, 3, 5, 10):
        findings = [finds_a_difference(generator.normal(0.98, 0.002, (count, SEEDS))) for _ in range(DRAWS)]
        share, error = np.mean(findings), np.std(findings) / DRAWS**0.5
        print(f"{count:2d} equal configs, {SEEDS} seeds each: {share:.4f} ± {error:.4f} of {DRAWS} comparisons find a difference")


def finds_a_difference(values: np.ndarray) -> bool:
    """`figures` are `[group, seed]`."""
    trained = [row for group, drawn in enumerate(values) for row in rows(drawn, **{"optimizer.lr": str(group)})]
    return any(one.verdict != "not distinguishable" for one in ranked("digits", "val/accuracy", trained).tests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("false-positives", "speed", "page", "trained"))
    only = parser.parse_args().only
    selected = {only} if only else {"false-positives", "trained", "speed", "page"}
    with tempfile.TemporaryDirectory() as folder:
        if "false-positives" in selected:
            false_positives()
        if "trained" in selected:
            compare_real_trainings(make_project(Path(folder) / "trained"))
        if not selected & {"speed", "page"}:
            return
        project = make_project(Path(folder) / "clone")
        make_store(project, SETTINGS * SEEDS)
        if "speed" in selected:
            time_commands(project)
        if "page" in selected:
            time_page(project)


if __name__ == "__main__":
    main()
