"""A comparison as a table of the terminal, and as JSON."""

import math
import re
from collections import Counter
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Shown
from rich.text import Text

from reprise.analysis.compare import SPEED, Comparison, ComparisonQuery, Group, PairwiseTest, Table
from reprise.analysis.significance import MOST_SEEDS

NAMED = 3
"""Keys of the config that a row of the terminal shows; JSON and the page have all."""
ONE_SEED = "one seed: nothing can be told"
NO_SPREAD = "no spread to judge by"


def described(comparison: Comparison) -> dict[str, Any]:
    """All of it, as JSON has it."""
    asked = comparison.asked
    return {
        "experiments": list(asked.experiments),
        "filter": asked.expression,
        "by": list(asked.by),
        "tables": [_described(table) for table in comparison.tables],
        "left_out": [{"id": run.id, "name": run.name, "why": run.why} for run in comparison.left_out],
    }


def _described(table: Table) -> dict[str, Any]:
    beside = {one.first: one for one in table.beside}
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
            "words": words(table, rank),
            "beside": _beside(beside[rank]) if rank in beside else None,
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


def _beside(one: PairwiseTest) -> dict[str, Any]:
    found = {"rank": one.second + 1, "verdict": one.verdict, "p_holm": one.p_holm, "more_seeds": one.more_seeds}
    if one.test is None:
        return {**found, "test": None}
    test = one.test
    return {
        **found,
        "test": test.kind,
        "gap": test.gap,
        "interval": [test.low, test.high],
        "t": test.t,
        "df": test.df,
        "p": test.p,
    }


def labels(table: Table) -> list[str]:
    """Return what each group is called: its experiment and, where several share it, the settings that tell most of them apart."""
    shared = {name for name, count in Counter(group.name for group in table.groups).items() if count > 1}
    alike = [group for group in table.groups if group.name in shared]
    keys: list[str] = []

    def told(more: str) -> int:
        return len({(group.name, *(group.config.get(key) for key in [*keys, more])) for group in alike})

    while len(keys) < NAMED and (left := [key for key in table.differing if key not in keys]):
        best = max(left, key=told)
        if told(best) == (told(keys[-1]) if keys else len(shared)):
            break
        keys.append(best)
    return [
        " ".join([group.name, *(f"{key.partition('.')[2] or key}={group.config.get(key, '–')}" for key in sorted(keys))])
        if group.name in shared
        else group.name
        for group in table.groups
    ]


def words(table: Table, rank: int) -> str:
    """What a group is beside the next of the ranking that can be judged; of the last one, beside the one before."""
    if len(table.groups[rank].runs) < 2:
        return ONE_SEED
    for one in table.beside:
        if one.first == rank:
            return f"{one.verdict} than {one.second + 1}" if one.verdict != "not distinguishable" else _undecided(one, one.second)
    for one in table.beside:
        if one.second == rank:
            opposite = {"better": "worse", "worse": "better"}
            return f"{opposite[one.verdict]} than {one.first + 1}" if one.verdict in opposite else _undecided(one, one.first)
    return "nothing to compare with"


def _undecided(one: PairwiseTest, other: int) -> str:
    if one.test is None:
        return f"not distinguishable from {other + 1}: {NO_SPREAD}"
    if one.more_seeds is None:
        return f"not distinguishable from {other + 1}: the gap is too small for {MOST_SEEDS} seeds"
    return f"not distinguishable from {other + 1}: {one.more_seeds} more seed{'s' * (one.more_seeds > 1)} would tell"


def show(comparison: Comparison, console: Console) -> None:
    """Print a table for each data set, and how many runs are in none, and why."""
    if not comparison.tables:
        console.print(_no_op(comparison.asked, len(comparison.left_out)), soft_wrap=True)
    if len(comparison.tables) > 1:
        console.print(f"mixed data sets: {len(comparison.tables)} tables, whose figures cannot be compared\n", highlight=False)
    for table in comparison.tables:
        _show(table, console)
    for why, count in Counter(run.why for run in comparison.left_out).most_common():
        console.print(f"left out  {count} run{'s' * (count > 1)}: {why}", style="dim", highlight=False, markup=False)


def _no_op(asked: ComparisonQuery, runs: int) -> str:
    if runs:
        return "nothing to compare: no finished training has such figures"
    return "no run is like that" if asked.expression or asked.experiments else "the store is empty; `reprise train` makes a run"


def _show(table: Table, console: Console) -> None:
    decimals = _decimals(table)
    direction = "higher" if table.higher_is_better else "lower"
    opened = "; of runs that `evaluate` opened alone" if table.is_of_test else ""
    console.print(Text.assemble((table.data, "bold"), f"  {table.metric}, {direction} is better{opened}"), highlight=False)
    figures = _empty("#", "experiment", "mean ± std", "95 % interval", "n", "beside the next")
    costs = _empty("#", "a run", "parameters", "training", "samples/s", "memory", "config, where not as in 1")
    names = labels(table)
    for rank, group in enumerate(table.groups):
        spread = "" if group.std is None else f" ± {group.std:.{decimals}f}"
        low_high = "–" if group.interval is None else "–".join(f"{bound:.{decimals}f}" for bound in group.interval)
        figure = f"{group.mean:.{decimals}f}{spread}"
        figures.add_row(str(rank + 1), Text(names[rank]), figure, low_high, str(len(group.runs)), words(table, rank))
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


def _empty(*titles: str) -> Shown:
    shown = Shown(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
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
    """What a group's config says otherwise than the first; lists (the blocks of a network) by their name alone."""
    other = [key for key in differing if group.config.get(key) != first.config.get(key)]
    lists = dict.fromkeys(name for key in other if (name := _list_of(key)))
    plain = [f"{key} {first.config.get(key, '–')}→{group.config.get(key, '–')}" for key in other if not _list_of(key)]
    named = [*lists, *plain]
    return ", ".join(named[:NAMED]) + (f", +{len(named) - NAMED}" if len(named) > NAMED else "")


def _list_of(key: str) -> str | None:
    """`model.blocks` of `model.blocks.0.filters`; None of a key that is in no list."""
    found = re.match(r"(.+?)\.\d+(\.|$)", key)
    return found and found[1]


def _decimals(table: Table) -> int:
    """So many that the best figure shows four digits."""
    best = abs(table.groups[0].mean)
    return min(8, max(0, 3 - math.floor(math.log10(best)))) if best else 4
