"""metrics.json: the results of an experiment over its seeds."""

import statistics
from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from reprise.data.contracts import Contract

Values = dict[str, float | None]
"""Metrics by name; None if undefined."""


class Summary(Contract):
    """The content of metrics.json: means over seeds, standard deviations, baselines, and what trained the weights."""

    test: Values
    test_std: Values
    """None of a single seed."""
    val: Values
    val_std: Values
    baselines: dict[str, Values] = Field(default={})
    """Metrics on test of the predictions that need no training, by name."""
    units: dict[str, str] = Field(default={})
    undefined: dict[str, str] = Field(default={})
    """Metrics that are undefined on these data, with the reason."""
    data: str
    seeds: list[int]
    parameters: int
    epochs: float
    """Mean over seeds."""
    weights: dict[str, str] = Field(default={})
    """The sha256 of the published weights, by seed."""
    machine: str = ""
    """The kind of processor or GPU, and the number of threads, that trained them."""


def over_seeds(
    by_seed: Sequence[Mapping[str, float]], undefined: Mapping[str, str], reduce: Callable[[list[float]], float | None]
) -> Values:
    """Return each metric reduced over seeds. Undefined metrics are None."""
    return {name: reduce([metrics[name] for metrics in by_seed]) for name in by_seed[0]} | dict.fromkeys(undefined)


def spread(values: list[float]) -> float | None:
    """Return the standard deviation; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None
