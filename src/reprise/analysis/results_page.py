"""The page of results in Markdown: a table for each kind of task."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from reprise.analysis.result import TITLES, Result, baseline_title, best_baseline, figure
from reprise.stages.summary import Summary
from reprise.tasks import metric_names
from reprise.tasks.metric_names import ACCURACY, MAE, MAE_SCALED, MSE_SCALED

LONG, NOT_BETTER = "†", "‡"
Row = tuple[str, ...]
PREFACE = f"""\
# Results

Made by `reprise results --write docs/results.md` from `data/results/`; not typed.

Mean ± standard deviation over seeds. The epoch was chosen on val; test was evaluated once, by `evaluate`. Most sources of the
published numbers validated on the test set and trained on all other images, which is not done here: our rows set some of the
training images aside for val. The published networks (`mnist_cnn…`, `fashion_mnist_cnn`) keep the published network,
optimizer and batch size, and follow a cosine schedule; the source of each published number is below the table. Rows marked {LONG}
take long: `dvc repro --all-pipelines` makes them; rows from before weights were published by hash are in
[results-long.md](results-long.md). Rows marked {NOT_BETTER} do not beat their best baseline, which is named below the table. The
same kind of processor gives the same weights: their sha256 are listed at the end.
"""


def markdown(titles: Row, rows: Sequence[Row]) -> str:
    """Return a table."""
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def classification(results: Sequence[Result], every: Sequence[Result]) -> str:
    """Return the table of classifications, with their baselines. `every` holds the results that may be baselines."""
    rows = [result for result in results if ACCURACY in result.summary.test]
    names = _baseline_names(rows)
    titles = ("experiment", "data", "published", "test", "val", *map(baseline_title, names), "parameters", "seeds", "epochs")
    return _section("Classification (accuracy)", titles, [_row(one, every, names, [ACCURACY]) for one in rows], rows, every)


def forecasts(results: Sequence[Result], every: Sequence[Result]) -> str:
    """Return the table of forecasts of one target, with errors in its unit and those of the baselines."""
    rows = [result for result in results if result.metric == MAE]
    names, metrics = _baseline_names(rows), list(metric_names.FORECAST_COLUMNS)
    baselines = [f"MAE of {baseline_title(name)}" for name in names]
    errors = ("MAE", "RMSE", "MASE", "coverage of 80 %", "width of 80 %", "MAE on val")
    titles = ("experiment", "data", "unit", "published", *errors, *baselines, *SIZES)
    return _section("Forecasts of one target (test)", titles, [_row(one, every, names, metrics) for one in rows], rows, every)


SIZES = ("parameters", "seeds", "epochs")


def _row(result: Result, every: Sequence[Result], baselines: Sequence[str], metrics: Sequence[str]) -> Row:
    metric, summary = result.metric, result.summary
    unit = [summary.units.get(MAE, "").replace("|", "\\|")] if metric == MAE else []
    return (
        _marked(result, every),
        summary.data,
        *unit,
        str(result.published.get("value", "–")),
        *(result.cell("test", one) for one in metrics),
        result.cell("val", metric),
        *(figure(summary.baselines.get(name, {}).get(metric), metric) for name in baselines),
        f"{summary.parameters:,}",
        str(len(summary.seeds)),
        f"{summary.epochs:.0f}",
    )


def _marked(result: Result, every: Sequence[Result]) -> str:
    best = best_baseline(result, every)
    marks = [LONG] * result.long + [NOT_BETTER] * bool(best and not best.beaten)
    return " ".join([result.name, *marks])


def _baseline_names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.summary.baselines))


def _section(title: str, titles: Row, rows: Sequence[Row], results: Sequence[Result], every: Sequence[Result]) -> str:
    """Return a heading, a table and notes; nothing without rows."""
    if not rows:
        return ""
    notes = [*_notes_on_published(results), *_notes_on_baselines(results, every), *_notes_on_undefined(results)]
    return f"## {title}\n\n{markdown(titles, rows)}" + ("\n" + "".join(f"- {note}\n" for note in notes) if notes else "")


def _notes_on_published(results: Iterable[Result]) -> list[str]:
    return [f"`{one.name}`: {one.published['value']} was published {one.published['note']}." for one in results if one.published]


def _notes_on_baselines(results: Iterable[Result], every: Sequence[Result]) -> list[str]:
    """Return a sentence for each result that does not beat its best baseline."""
    found = [(result, best_baseline(result, every)) for result in results]
    return [
        f"`{result.name}` {NOT_BETTER} does not beat {best.name}: {TITLES[best.metric]} of "
        f"{figure(result.summary.test[best.metric], best.metric)} against {figure(best.value, best.metric)}."
        for result, best in found
        if best and not best.beaten
    ]


def _notes_on_undefined(results: Iterable[Result]) -> list[str]:
    return [f"`{one.name}`: {metric} is undefined: {why}." for one in results for metric, why in one.summary.undefined.items()]


def horizons(results: Sequence[Result], every: Sequence[Result]) -> str:
    """Return the tables of forecasts of several targets: a section per data set, a row per model, a column per horizon."""
    by_data: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.has_several_targets:
            by_data[result.summary.data].append(result)
    return "\n".join(_horizons_of(data, rows, every) for data, rows in by_data.items())


def _horizons_of(data: str, results: Sequence[Result], every: Sequence[Result]) -> str:
    columns = sorted({_horizon(result) for result in results})
    models: dict[str, dict[int, Result]] = defaultdict(dict)
    for result in results:
        models[_model(result)][_horizon(result)] = result
    titles = ("model", "lookback", *map(str, columns), "mean", "seeds")
    parts = [
        f"## Forecasts of all channels of {data} (test, standardised values)\n",
        "A column per horizon in time steps, and their mean. In brackets: published.\n",
    ]
    for metric in (MSE_SCALED, MAE_SCALED):
        rows = _baseline_rows(results, columns, metric)
        rows += [_model_row(name, by_horizon, columns, metric, every) for name, by_horizon in models.items()]
        parts.append(f"{TITLES[metric].split()[0]}:\n\n{markdown(titles, rows)}")
    sources = dict.fromkeys(f"`{_model(one)}`: published {one.published['note']}." for one in results if one.published)
    notes = [*sources, *_notes_on_baselines(results, every), *_notes_on_undefined(results)]
    return "\n".join([*parts, "".join(f"- {note}\n" for note in notes)])


def _horizon(result: Result) -> int:
    return int(result.window.get("horizon") or 0)


def _model(result: Result) -> str:
    """Return the name of an experiment without its horizon: `etth1_nlinear` for `etth1_96_nlinear`."""
    return re.sub(rf"_{_horizon(result)}(?=_|$)", "", result.name)


def _model_row(name: str, results: Mapping[int, Result], columns: Sequence[int], metric: str, every: Sequence[Result]) -> Row:
    def cell(result: Result) -> str:
        best = best_baseline(result, every)
        published = f" ({figure(result.published['value'], metric)})" if result.published and metric == result.metric else ""
        mark = f" {NOT_BETTER}" if metric == result.metric and best and not best.beaten else ""
        return f"{result.cell('test', metric)}{published}{mark}"

    shown = list(results.values())
    marked = f"{name} {LONG}" if any(one.long for one in shown) else name
    lookbacks = ", ".join(dict.fromkeys(str(one.window.get("lookback", "–")) for one in shown))
    seeds = ", ".join(dict.fromkeys(str(len(one.summary.seeds)) for one in shown))
    values = {horizon: one.summary.test.get(metric) for horizon, one in results.items()}
    cells = [cell(results[column]) if column in results else "–" for column in columns]
    published = _mean([results[one].published.get("value") if one in results else None for one in columns], metric)
    bracket = f" ({published})" if published != "–" and metric == shown[0].metric else ""
    return (marked, lookbacks, *cells, _mean([values.get(column) for column in columns], metric) + bracket, seeds)


def _baseline_rows(results: Sequence[Result], columns: Sequence[int], metric: str) -> list[Row]:
    """Return a row per baseline, and per lookback where it depends on the lookback."""
    rows: list[Row] = []
    for name in _baseline_names(results):
        for lookback, values in _by_lookback(results, name, metric).items():
            cells = [values.get(column) for column in columns]
            rows.append(
                (f"*{baseline_title(name)}*", lookback, *(figure(one, metric) for one in cells), _mean(cells, metric), "–")
            )
    return rows


def _by_lookback(results: Sequence[Result], baseline: str, metric: str) -> dict[str, dict[int, float | None]]:
    """Return a metric of a baseline by lookback and horizon; under one dash if it does not depend on the lookback."""
    found: dict[str, dict[int, float | None]] = defaultdict(dict)
    for result in results:
        found[str(result.window.get("lookback", "–"))][_horizon(result)] = result.summary.baselines.get(baseline, {}).get(metric)
    if all(_agree(one, other) for one in found.values() for other in found.values()):
        return {"–": {horizon: value for values in found.values() for horizon, value in values.items()}}
    return found


def _agree(one: Mapping[int, float | None], other: Mapping[int, float | None]) -> bool:
    """Return whether two baselines have horizons in common, and the same values there."""
    common = one.keys() & other.keys()
    return bool(common) and all(one[key] == other[key] for key in common)


def _mean(values: Sequence[float | None], metric: str) -> str:
    known = [value for value in values if value is not None]
    return figure(sum(known) / len(known), metric) if len(known) == len(values) > 1 else "–"


def weights(results: Iterable[Result]) -> str:
    """Return the table of the sha256 of every published weights file, and the kind of processor that trained it."""

    def of(name: str, summary: Summary) -> list[Row]:
        return [(name, seed, sha256, summary.machine) for seed, sha256 in summary.weights.items()]

    rows = [row for result in results for row in of(result.name, result.summary)]
    table = markdown(("experiment", "seed", "sha256 of the weights", "trained on"), rows)
    text = "`data/models/<experiment>/<seed>.safetensors`, as `dvc repro` writes them."
    return f"## Weights\n\n{text}\n\n<details><summary>{len(rows)} files</summary>\n\n{table}\n</details>\n"
