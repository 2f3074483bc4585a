"""Who may take an alias, judged by figures alone; tests/tracking/test_registry.py does it with models."""

from pathlib import Path

import numpy as np
import pytest

from reprise.config import tracking_config
from reprise.runs import register
from reprise.stages.places import Places
from reprise.tracking import listing
from tests.runs.trainings import write

LUCK = np.random.default_rng(0).normal(0, 0.004, (2, 5))
GAP = 0.05


@pytest.mark.parametrize(
    ("gap", "seeds", "parameters", "passes", "said"),
    [
        (0, 5, 20_000, True, "is not distinguishable"),
        (0, 5, 38_282, False, "is not distinguishable"),
        (0, 5, 50_000, False, "is not distinguishable"),
        (GAP, 5, 50_000, True, "is better (p "),
        (-GAP, 5, 20_000, False, "is worse (p "),
        (GAP, 1, 20_000, True, "is not to be told"),
        (GAP, 1, 50_000, False, "is not to be told"),
        (-GAP, 1, 20_000, False, "is not to be told"),
    ],
)
def test_the_better_and_the_smaller_of_equals_pass(
    project: Path, gap: float, seeds: int, parameters: int, passes: bool, said: str
) -> None:
    ours, theirs = (
        [
            write(project / "mlruns", seed, [0.8, mean + luck[seed]], config={"optimizer.lr": lr}, tags={"parameters": str(size)})
            for seed in range(seeds)
        ]
        for lr, mean, luck, size in (("0.01", 0.9 + gap, LUCK[0], parameters), ("0.001", 0.9, LUCK[1], 38_282))
    )
    rows = {row.id: row for row in listing.read(project / "mlruns", tracking_config(project), [], None)}
    verdict = register.judge(Places(project), rows[ours[0]], rows[theirs[0]], "champion", list(rows.values()))
    assert verdict.passes == passes, verdict.words
    assert said in verdict.words
    assert f"{parameters:,} parameters" in verdict.words


def test_a_run_on_other_data_of_the_same_name_takes_no_alias(project: Path) -> None:
    """The config is the same, so nothing but the hash tells the two apart."""
    theirs = [write(project / "mlruns", seed, [0.8, 0.9 + LUCK[0][seed]]) for seed in range(5)]
    added = {"sha256.processed": "f" * 64, "sha256.val": "f" * 64}
    ours = [write(project / "mlruns", seed, [0.8, 0.99 + LUCK[1][seed]], tags=added) for seed in range(5)]
    rows = {row.id: row for row in listing.read(project / "mlruns", tracking_config(project), [], None)}
    verdict = register.judge(Places(project), rows[ours[0]], rows[theirs[0]], "champion", list(rows.values()))
    assert not verdict.passes
    assert verdict.words.startswith("it was measured on digits (samples ffffffff), the champion")
