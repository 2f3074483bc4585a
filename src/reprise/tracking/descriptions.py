"""Descriptions for the dashboard, in Markdown: of a run, of a parent of several runs, of a data set. Pure functions."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reprise.tracking.entries import DatasetInfo

GROUP = "group"
"""The tag of a parent run, which is not a training but groups several: seeds, folds, multirun, sweep or comparison."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""
FOLDS = "folds"
"""Its value for the folds of a rolling-origin evaluation."""
BEST = "best/"
"""Prefix of a metric's name: its value at the epoch whose weights are kept."""
SHOWN = 5
"""Number of runs in the description of a data set."""
LONGEST = 8000
"""The most characters that MLflow keeps of a description."""
LINKS = 800
"""Characters of it for the links that are added when it is sent."""
SCALED = "_scaled"
"""Suffix of metrics in standard deviations of the training split. Tables omit them if they hold the same metric in units."""
Figures = Mapping[str, float]


@dataclass(frozen=True)
class DescribedRun:
    """A run in a list or table."""

    id: str
    name: str
    tags: Mapping[str, str]
    figures: Figures
    """By name: `best/val/accuracy`, `test/accuracy`."""


def spread_of(name: str) -> str:
    """Return the name of a metric's standard deviation: `test_std/accuracy` for `test/accuracy`."""
    return name.replace("/", "_std/", 1)


def is_spread(name: str) -> bool:
    """Return whether a name is that of a standard deviation."""
    return name.partition("/")[0].endswith("_std")


def of_run(name: str, tags: Mapping[str, str], figures: Figures) -> str:
    """Describe a training: results, commands that repeat it, origin. The lead comes first, as MLflow folds long descriptions."""
    result = headline(tags.get("monitor", ""), figures)
    settings = f" with `{tags['settings']}`" if "settings" in tags else ""
    pruned = f" Pruned {tags['pruned']}: other trials promise more." if "pruned" in tags else ""
    lead = f"**{tags['experiment']}**, seed {tags['seed']}{settings}{f': {result}' if result else ''}.{pruned}"
    commands = [(tags["mlflow.source.name"], "began it")]
    if not pruned:
        commands.insert(0, (f"reprise reproduce {name}", "runs it again, bit for bit"))
    if "trial" not in tags and not any(key.startswith("test/") for key in figures):
        commands.append((f"reprise evaluate {name}", "evaluates it on the test split"))
    epoch = f"Weights are those of epoch {tags['best_epoch']}, the best on val. " if "best_epoch" in tags else ""
    size = (
        f"{int(tags['parameters']):,} parameters, {float(tags['train_seconds']):.0f} s" if "parameters" in tags else tags["data"]
    )
    patch = " and `lineage/uncommitted.patch`" if tags.get("git.dirty") == "true" else ""
    evaluations = int(tags.get("test_opened", 0))
    test = f"Evaluated on the test split {'once' if evaluations == 1 else f'{evaluations} times'}. " if evaluations else ""
    origin = f"{epoch}{test}{tags['model']}, {size} on {tags['device']}. Made from commit `{tags['git.commit'][:12]}`{patch}."
    return _page(lead, _commands(commands), _splits(figures, tags), origin)


def of_group(
    lead: str,
    runs: Sequence[tuple[str, Figures]],
    commands: Sequence[tuple[str, str]],
    means: Figures | None = None,
    about: str = "",
) -> str:
    """Describe a group of runs in a table, with `means` and standard deviations if they are seeds of one config."""
    names = _shown({name for _, figures in runs for name in figures})
    titles = ["", *map(_title, names)]
    rows = [[_one_cell(label), *(_mean(figures, name) for name in names)] for label, figures in runs]
    last = [["**mean ± standard deviation**", *(_mean(means, name) for name in names)]] if means else []

    def page(shown: int) -> str:
        more = f"… and {len(rows) - shown} more." if shown < len(rows) else ""
        return _page(lead, _commands(commands), _table(titles, rows[:shown] + last), more, about)

    return next(text for shown in range(len(rows), -1, -1) if len(text := page(shown)) <= LONGEST - LINKS or not shown)


def of_dataset(dataset: DatasetInfo, best: Sequence[DescribedRun], page: str, charts: str) -> str:
    """Describe a data set: the best runs so far, source, citation and licence.

    `page` is the address of the list of all runs, `charts` that of their charts.

    The best run comes first, as MLflow folds long descriptions.
    """
    monitor, source = dataset.monitor, dataset.homepage
    test = monitor.replace(f"{BEST}val/", "test/")
    lead = ""
    if best:
        result = headline(monitor.removeprefix(BEST), best[0].figures)
        lead = f"The best run so far: `reprise reproduce {best[0].name}` repeats it: {result}."
    homepage = f"[{re.sub(r'^https?://', '', source)}]({source})" if source else ""
    facts = ", ".join(
        filter(
            None,
            [dataset.title, homepage, dataset.citation, f"licence: {dataset.licence}" if dataset.licence else ""],
        )
    )
    rows = [
        [run.name, _figure(run.figures.get(monitor)), _figure(run.figures.get(test)), f"`{run.tags['mlflow.source.name']}`"]
        for run in best[:SHOWN]
    ]
    table = _table(["run", "val", "test", "began by"], rows) if rows else ""
    how = (
        "A run is one training with one seed; a parent run groups several seeds and holds their mean. Metrics are per epoch; "
        f"`{BEST}…` is the epoch whose weights are kept, chosen on val; `test/…` comes from `reprise evaluate`. "
        "The description of a run holds its results and the command that repeats it; figures are among its artifacts."
    )
    return _page(lead, table, f"[All runs, the best first]({page}), and their [charts]({charts})", facts, how)


def headline(monitor: str, figures: Figures) -> str:
    """Return the monitored metric on val, and on test if known."""
    names = f"{BEST}{monitor}", monitor.replace("val/", "test/")
    return ", ".join(f"{_title(name)} {_mean(figures, name)}" for name in names if name in figures)


def _splits(figures: Figures, tags: Mapping[str, str]) -> str:
    """Return a table of metrics for val (best epoch), test and each baseline, and the reasons why some are undefined."""
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
    """Return the metrics to compare runs by, val first: no baselines, no standard deviations."""
    kept = without_scaled([name for name in names if not re.search(r"^baseline_|_std/", name)])
    return sorted(kept, key=lambda name: (not name.startswith(BEST), name))


def without_scaled(names: Iterable[str]) -> list[str]:
    """Drop scaled metrics that exist in units too. Errors pooled over several targets exist only scaled, so they stay."""
    known = list(names)
    return [name for name in known if not name.endswith(SCALED) or name.removesuffix(SCALED) not in known]


def _cell(text: str) -> str:
    """Escape a user's name or unit for a cell of a Markdown table."""
    return re.sub(r"([|`$<\\\[\]])", r"\\\1", " ".join(text.split()))


def _one_cell(label: str) -> str:
    """Put a Markdown label on one line and escape `|`, which would end the cell."""
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
    """Return a code block of commands, each with a comment."""
    return "```\n" + "".join(f"{command}    # {comment}\n" for command, comment in commands) + "```"


def _page(*parts: str) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
