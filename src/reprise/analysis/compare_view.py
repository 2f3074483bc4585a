"""A comparison as a table in the terminal, and as JSON."""

import math
import re
from collections import Counter
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from reprise.analysis.compare import SPEED, Comparison, ComparisonQuery, Group, PairwiseTest, Table
from reprise.analysis.significance import MOST_SEEDS

NAMED = 3
"""The most config keys in a row of the terminal; JSON and the HTML page have all."""
ONE_SEED = "one seed: no test is possible"
NO_SPREAD = "no spread to judge by"


def described(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON data."""
    query = comparison.query
    return {
        "experiments": list(query.experiments),
        "filter": query.expression,
        "by": list(query.by),
        "tables": [_described(table) for table in comparison.tables],
        "left_out": [{"id": run.id, "name": run.name, "why": run.reason} for run in comparison.excluded],
    }


def _described(table: Table) -> dict[str, Any]:
    tests = {result.first: result for result in table.tests}
    names = labels(table)
    groups = [
        {
            "rank": rank + 1,
            "name": group.name,
            "label": names[rank],
            "config": {key: group.config.get(key) for key in table.differing},
            "mean": group.mean,
            "std": group.std,
            "interval": group.interval,
            "n": len(group.runs),
            "seeds": sorted({seed for _, seed in group.runs}),
            "parameters": group.cost("parameters"),
            "train_seconds": group.cost("train_seconds"),
            "samples_per_second": group.cost(SPEED),
            "peak_memory": group.cost("peak_memory"),
            "code_versions": group.versions,
            "words": verdict(table, rank),
            "beside": _test(tests[rank]) if rank in tests else None,
            "runs": [
                {"id": row.id, "name": row.name, "seed": seed, "value": value} for (_, seed), (row, value) in group.runs.items()
            ],
        }
        for rank, group in enumerate(table.groups)
    ]
    head = {
        "data": table.data,
        "metric": table.metric,
        "higher_is_better": table.higher_is_better,
        "only_of_evaluated_runs": table.is_of_test,
    }
    return {**head, "differing": table.differing, "groups": groups}


def _test(result: PairwiseTest) -> dict[str, Any]:
    content = {
        "rank": result.second + 1,
        "verdict": result.verdict,
        "p_holm": result.p_holm,
        "more_seeds": result.more_seeds,
    }
    if result.test is None:
        return {**content, "test": None}
    test = result.test
    return {
        **content,
        "test": test.kind,
        "gap": test.gap,
        "interval": [test.low, test.high],
        "t": test.t,
        "df": test.df,
        "p": test.p,
    }


def labels(table: Table) -> list[str]:
    """Return a label per group: its experiment and, if groups share it, the settings that distinguish most of them."""
    shared = {name for name, count in Counter(group.name for group in table.groups).items() if count > 1}
    alike = [group for group in table.groups if group.name in shared]
    keys: list[str] = []

    def distinct(key: str) -> int:
        return len({(group.name, *(group.config.get(one) for one in [*keys, key])) for group in alike})

    while len(keys) < NAMED and (unused := [key for key in table.differing if key not in keys]):
        best = max(unused, key=distinct)
        if distinct(best) == (distinct(keys[-1]) if keys else len(shared)):
            break
        keys.append(best)
    return [
        " ".join([group.name, *(f"{key.partition('.')[2] or key}={group.config.get(key, '–')}" for key in sorted(keys))])
        if group.name in shared
        else group.name
        for group in table.groups
    ]


def verdict(table: Table, rank: int) -> str:
    """Return, as text, how a group compares with the next tested group of the ranking; the last one, with the one before."""
    if len(table.groups[rank].runs) < 2:
        return ONE_SEED
    for test in table.tests:
        if test.first == rank:
            other = test.second
            return f"{test.verdict} than {other + 1}" if test.verdict != "not distinguishable" else _undecided(test, other)
    for test in table.tests:
        if test.second == rank:
            opposite = {"better": "worse", "worse": "better"}
            other = test.first
            return f"{opposite[test.verdict]} than {other + 1}" if test.verdict in opposite else _undecided(test, other)
    return "nothing to compare with"


def _undecided(test: PairwiseTest, other: int) -> str:
    if test.test is None:
        return f"not distinguishable from {other + 1}: {NO_SPREAD}"
    if test.more_seeds is None:
        return f"not distinguishable from {other + 1}: the gap is too small for {MOST_SEEDS} seeds"
    return f"not distinguishable from {other + 1}: {test.more_seeds} more seed{'s' * (test.more_seeds > 1)} would tell"


def show(comparison: Comparison, console: Console) -> None:
    """Print a table per data set, and the number of excluded runs by reason."""
    if not comparison.tables:
        console.print(_empty_message(comparison.query, len(comparison.excluded)), soft_wrap=True)
    if len(comparison.tables) > 1:
        console.print(
            f"mixed data sets: {len(comparison.tables)} tables, which cannot be compared with each other\n", highlight=False
        )
    for table in comparison.tables:
        _show(table, console)
    for reason, count in Counter(run.reason for run in comparison.excluded).most_common():
        console.print(f"left out  {count} run{'s' * (count > 1)}: {reason}", style="dim", highlight=False, markup=False)


def _empty_message(query: ComparisonQuery, runs: int) -> str:
    if runs:
        return "nothing to compare: no finished training has this metric"
    return "no run is like that" if query.expression or query.experiments else "the store is empty; `reprise train` creates a run"


def _show(table: Table, console: Console) -> None:
    decimals = _decimals(table)
    direction = "higher" if table.higher_is_better else "lower"
    only = "; evaluated runs only" if table.is_of_test else ""
    console.print(Text.assemble((table.data, "bold"), f"  {table.metric}, {direction} is better{only}"), highlight=False)
    figures = _new_table("#", "experiment", "mean ± std", "95 % interval", "n", "against the next")
    costs = _new_table("#", "a run", "parameters", "training", "samples/s", "memory", "config, where not as in 1")
    names = labels(table)
    for rank, group in enumerate(table.groups):
        spread = "" if group.std is None else f" ± {group.std:.{decimals}f}"
        low_high = "–" if group.interval is None else "–".join(f"{bound:.{decimals}f}" for bound in group.interval)
        figure = f"{group.mean:.{decimals}f}{spread}"
        figures.add_row(str(rank + 1), Text(names[rank]), figure, low_high, str(len(group.runs)), verdict(table, rank))
        costs.add_row(
            str(rank + 1),
            next(iter(group.runs.values()))[0].id[:8],
            *_costs(group),
            Text(_settings(table.groups[0], group, table.differing)),
        )
    console.print(figures, Padding(costs, (1, 0)))
    if any(group.versions > 1 for group in table.groups):
        mixed = ", ".join(str(rank + 1) for rank, group in enumerate(table.groups) if group.versions > 1)
        console.print(f"not all runs of {mixed} are of the same code\n", highlight=False)


def _new_table(*titles: str) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    for title in titles[:-1]:
        shown.add_column(
            title, justify="left" if title == "experiment" else "right", no_wrap=title != "experiment", overflow="fold"
        )
    shown.add_column(titles[-1], overflow="fold")
    return shown


def _costs(group: Group) -> list[str]:
    parameters, seconds, speed, memory = map(group.cost, ("parameters", "train_seconds", SPEED, "peak_memory"))
    return [
        "–" if parameters is None else f"{parameters:,.0f}",
        "–" if seconds is None else f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s",
        "–" if speed is None else f"{speed:,.0f}",
        "–" if memory is None else f"{memory / 1e6:,.0f} MB",
    ]


def _settings(first: Group, group: Group, differing: list[str]) -> str:
    """Return the settings in which a group differs from the first; of lists (the blocks of a network), only the name."""
    other = [key for key in differing if group.config.get(key) != first.config.get(key)]
    lists = dict.fromkeys(name for key in other if (name := _list_of(key)))
    plain = [f"{key} {first.config.get(key, '–')}→{group.config.get(key, '–')}" for key in other if not _list_of(key)]
    named = [*lists, *plain]
    return ", ".join(named[:NAMED]) + (f", +{len(named) - NAMED}" if len(named) > NAMED else "")


def _list_of(key: str) -> str | None:
    """Return `model.blocks` for `model.blocks.0.filters`; None for a key that is in no list."""
    match = re.match(r"(.+?)\.\d+(\.|$)", key)
    return match and match[1]


def _decimals(table: Table) -> int:
    """Return the number of decimals that shows four digits of the best mean."""
    best = abs(table.groups[0].mean)
    return min(8, max(0, 3 - math.floor(math.log10(best)))) if best else 4
