"""What the dashboard says in words: Markdown for a run, for the parent of several, for a data set. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROUP = "group"
"""The tag of a run that is no training but stands for several: seeds, multirun, sweep or comparison."""
BEST = "best/"
"""Before the name of a metric: its value at the epoch whose weights are kept."""
SHOWN = 5
"""Runs that a data set names."""
LONGEST = 8000
"""The most characters that MLflow keeps of a description."""
SCALED = "_scaled"
"""Of metrics in standard deviations of the training split: a table leaves them out where it has the same in units."""
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """One run, as others speak of it."""

    id: str
    name: str
    tags: Mapping[str, str]
    figures: Figures
    """By name: `best/val/accuracy`, `test/accuracy`."""


def spread_of(name: str) -> str:
    """The name of the standard deviation of a metric: `test/accuracy` has `test_std/accuracy`."""
    return name.replace("/", "_std/", 1)


def of_run(name: str, tags: Mapping[str, str], figures: Figures) -> str:
    """What a training came to, how to repeat it, what it was made from. MLflow shows the first lines until one asks for more."""
    came = headline(tags.get("monitor", ""), figures)
    settings = f" with `{tags['settings']}`" if "settings" in tags else ""
    given_up = f" Given up {tags['pruned']}: other trials promise more." if "pruned" in tags else ""
    lead = f"**{tags['experiment']}**, seed {tags['seed']}{settings}{f': {came}' if came else ''}.{given_up}"
    commands = [(tags["mlflow.source.name"], "began it")]
    if not given_up:
        commands.insert(0, (f"reprise reproduce {name}", "runs it again, bit for bit"))
    if "trial" not in tags and not any(key.startswith("test/") for key in figures):
        commands.append((f"reprise evaluate {name}", "opens the test split for it"))
    epoch = f"Weights are those of epoch {tags['best_epoch']}, the best on val. " if "best_epoch" in tags else ""
    size = (
        f"{int(tags['parameters']):,} parameters, {float(tags['train_seconds']):.0f} s" if "parameters" in tags else tags["data"]
    )
    patch = " and `lineage/uncommitted.patch`" if tags.get("git.dirty") == "true" else ""
    opened = int(tags.get("test_opened", 0))
    test = f"The test split was opened {'once' if opened == 1 else f'{opened} times'} for it. " if opened else ""
    made = f"{epoch}{test}{tags['model']}, {size} on {tags['device']}. Made from commit `{tags['git.commit'][:12]}`{patch}."
    return _page(lead, _commands(commands), _splits(figures, tags), made)


def of_group(
    lead: str,
    runs: Sequence[tuple[str, Figures]],
    commands: Sequence[tuple[str, str]],
    means: Figures | None = None,
    about: str = "",
) -> str:
    """Runs beside each other, and, of the seeds of one config, their mean and standard deviation. One may itself be a parent."""
    names = _shown({name for _, figures in runs for name in figures})
    titles = ["", *map(_title, names)]
    rows = [[_one_cell(label), *(_mean(figures, name) for name in names)] for label, figures in runs]
    last = [["**mean ± standard deviation**", *(_mean(means, name) for name in names)]] if means else []

    def page(shown: int) -> str:
        more = f"… and {len(rows) - shown} more." if shown < len(rows) else ""
        return _page(lead, _commands(commands), _table(titles, rows[:shown] + last), more, about)

    return next(said for shown in range(len(rows), -1, -1) if len(said := page(shown)) <= LONGEST or not shown)


def of_dataset(dataset: Mapping[str, Any], best: Sequence[Line], page: str) -> str:
    """The best run so far, a few more, what the data are and whose. MLflow shows the first line until one asks.

    `page` lists them all.
    """
    monitor, source = dataset["monitor"], dataset["homepage"]
    test = monitor.replace(f"{BEST}val/", "test/")
    lead = ""
    if best:
        came = headline(monitor.removeprefix(BEST), best[0].figures)
        lead = f"The best run so far: `reprise reproduce {best[0].name}` makes {came} again."
    run_dir = f"[{re.sub(r'^https?://', '', source)}]({source})" if source else ""
    facts = ", ".join(
        filter(
            None, [dataset["title"], run_dir, dataset["citation"], f"licence: {dataset['licence']}" if dataset["licence"] else ""]
        )
    )
    rows = [
        [run.name, _figure(run.figures.get(monitor)), _figure(run.figures.get(test)), f"`{run.tags['mlflow.source.name']}`"]
        for run in best[:SHOWN]
    ]
    table = _table(["run", "val", "test", "began by"], rows) if rows else ""
    how = (
        "One run is one training of one seed; several seeds stand under a parent with their mean. Metrics are by epoch; "
        f"`{BEST}…` is the epoch whose weights are kept, chosen on val, and `test/…` is opened once, by `reprise evaluate`. "
        "Each run says in its description what it came to, and the command that repeats it; figures are among its artifacts."
    )
    return _page(lead, table, f"[All runs, the best first]({page})", facts, how)


def headline(monitor: str, figures: Figures) -> str:
    """What val judges by, on val and on test."""
    names = f"{BEST}{monitor}", monitor.replace("val/", "test/")
    return ", ".join(f"{_title(name)} {_mean(figures, name)}" for name in names if name in figures)


def _splits(figures: Figures, tags: Mapping[str, str]) -> str:
    """A row for val at the best epoch, for test and for each baseline; a column a metric. Below, why some are undefined."""
    parts: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        part, _, metric = name.removeprefix(BEST).partition("/")
        if metric:
            parts.setdefault(part, {})[metric] = value
    if not parts:
        return ""
    undefined = {key.removeprefix("undefined."): reason for key, reason in tags.items() if key.startswith("undefined.")}
    metrics = without_scaled(dict.fromkeys([*(metric for row in parts.values() for metric in row), *undefined]))
    titles = [_cell(f"{metric}, {tags[f'unit.{metric}']}" if f"unit.{metric}" in tags else metric) for metric in metrics]
    rows = [[part.replace("_", " "), *(_figure(row.get(metric)) for metric in metrics)] for part, row in parts.items()]
    reasons = "".join(
        f"\n{_cell(metric)} is undefined: {_cell(undefined[metric])}.\n" for metric in metrics if metric in undefined
    )
    return _table(["", *titles], rows) + reasons


def _shown(names: set[str]) -> list[str]:
    """Of many figures, those that tell runs apart: val first."""
    kept = without_scaled([name for name in names if not re.search(r"^baseline_|_std/", name)])
    return sorted(kept, key=lambda name: (not name.startswith(BEST), name))


def without_scaled(names: Iterable[str]) -> list[str]:
    """Metrics but those that are there in units too. Of several targets, only scaled errors are pooled."""
    known = list(names)
    return [name for name in known if not name.endswith(SCALED) or name.removesuffix(SCALED) not in known]


def _cell(text: str) -> str:
    """A name or unit of the user's in a cell of a Markdown table."""
    return re.sub(r"([|`$<\\\[\]])", r"\\\1", " ".join(text.split()))


def _one_cell(label: str) -> str:
    """A label in Markdown, on one line, in which no character ends the cell."""
    return " ".join(label.split()).replace("|", r"\|")


def _title(name: str) -> str:
    return name.removeprefix(BEST).replace("/", " ")


def _mean(means: Figures, name: str) -> str:
    spread = means.get(spread_of(name))
    return _figure(means.get(name)) + ("" if spread is None else f" ± {_figure(spread)}")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [titles, ["---"] * len(titles), *rows])


def _commands(commands: Sequence[tuple[str, str]]) -> str:
    """Commands to copy, each with what it does."""
    return "```\n" + "".join(f"{command}    # {does}\n" for command, does in commands) + "```"


def _page(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
