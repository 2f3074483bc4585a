"""Which run may take an alias, decided by metric values. tests/tracking/test_registry.py registers real models."""

from pathlib import Path

import numpy as np
import pytest

from reprise.analysis import register
from reprise.analysis.compare import Group, Table, ranked
from reprise.config import tracking_config
from reprise.project_paths import ProjectPaths
from reprise.tracking import listing
from tests.analysis.trainings import rows, write_run

NOISE = np.random.default_rng(0).normal(0, 0.004, (2, 30))[:, :5]
GAP = 0.05


@pytest.mark.parametrize(
    ("gap", "seeds", "parameters", "passes", "message"),
    [
        (0, 5, 20_000, True, "it loses at most 0.0033, the margin is 0.005"),
        (-0.003, 5, 20_000, False, "it may lose 0.00"),
        (0, 5, 38_282, False, "is not distinguishable"),
        (0, 5, 50_000, False, "is not distinguishable"),
        (GAP, 5, 50_000, True, "is better (p "),
        (-GAP, 5, 20_000, False, "is worse (p "),
        (GAP, 1, 20_000, False, "a single seed of it and of the holder"),
        (GAP, 1, 50_000, False, "is not comparable"),
        (-GAP, 1, 20_000, False, "is not comparable"),
    ],
)
def test_a_better_run_or_a_smaller_one_that_is_not_inferior_passes(
    project: Path, gap: float, seeds: int, parameters: int, passes: bool, message: str
) -> None:
    candidate, holder = (
        [
            write_run(
                project / "mlruns", seed, [0.8, mean + noise[seed]], config={"optimizer.lr": lr}, tags={"parameters": str(size)}
            )
            for seed in range(seeds)
        ]
        for lr, mean, noise, size in (("0.01", 0.9 + gap, NOISE[0], parameters), ("0.001", 0.9, NOISE[1], 38_282))
    )
    known = {row.id: row for row in listing.read(project / "mlruns", tracking_config(project), [], None)}
    verdict = register.judge(ProjectPaths(project), known[candidate[0]], known[holder[0]], "champion", list(known.values()))
    assert verdict.passes == passes, verdict.reason
    assert message in verdict.reason
    assert f"{parameters:,} parameters" in verdict.reason


def test_a_run_on_different_data_with_the_same_name_takes_no_alias(project: Path) -> None:
    """The configs are equal; only the hashes differ."""
    holder = [write_run(project / "mlruns", seed, [0.8, 0.9 + NOISE[0][seed]]) for seed in range(5)]
    added = {"sha256.processed": "f" * 64, "sha256.val": "f" * 64}
    candidate = [write_run(project / "mlruns", seed, [0.8, 0.99 + NOISE[1][seed]], tags=added) for seed in range(5)]
    known = {row.id: row for row in listing.read(project / "mlruns", tracking_config(project), [], None)}
    verdict = register.judge(ProjectPaths(project), known[candidate[0]], known[holder[0]], "champion", list(known.values()))
    assert not verdict.passes
    assert verdict.reason.startswith("it was measured on digits (samples ffffffff), the champion")


def candidate_and_holder(candidate: list[float], holder: list[float], higher: bool = True) -> tuple[Table, Group, Group]:
    pair = [
        ranked("digits", "val/accuracy", rows(values, **{"optimizer.lr": lr})).groups[0]
        for lr, values in (("1", candidate), ("2", holder))
    ]
    return Table("digits", "val/accuracy", higher, pair, []), pair[0], pair[1]


def test_a_smaller_model_that_may_lose_more_than_the_margin_is_refused() -> None:
    """An earlier rule gave the alias of 0.941 ± 0.001 to seeds of 0.88 and 0.945, which are not distinguishable from it."""
    table, new, old = candidate_and_holder([0.88, 0.945], [0.940, 0.941, 0.942, 0.941, 0.941])
    verdict = register._verdict(table, new, old, "the champion", (20_000, 38_282), register.margin_of(table, old, None))
    assert not verdict.passes
    assert "is not distinguishable" in verdict.reason
    assert "more than the margin of 0.0029" in verdict.reason
    assert register._verdict(table, new, old, "the champion", (20_000, 38_282), 0.5).passes  # with --margin 0.5


def test_the_margin_is_a_share_of_the_holders_error() -> None:
    table, _, old = candidate_and_holder([0.9, 0.9], [0.94, 0.96])
    assert register.margin_of(table, old, None) == pytest.approx(0.05 * 0.05)
    assert register.margin_of(table, old, 0.01) == 0.01
    table, _, old = candidate_and_holder([0.9, 0.9], [1.9, 2.1], higher=False)
    assert register.margin_of(table, old, None) == pytest.approx(0.05 * 2)
