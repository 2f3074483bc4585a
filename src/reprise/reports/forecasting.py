"""Figures of evaluated forecasts. Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels."""

import hashlib
import re
from pathlib import Path

import numpy as np

from reprise.data.modalities.series.arrays import Meta
from reprise.figures import forecasting
from reprise.figures.drawing import drawing
from reprise.figures.style import save
from reprise.figures.text import literal
from reprise.reports.evaluated import Evaluated
from reprise.tasks.kept_predictions import Forecasts
from reprise.tasks.task import Task


def write(folder: Path, run: Evaluated, task: Task) -> None:
    """Draw, per target channel, forecasts with the truth, residuals, and the error at each step of the horizon."""
    meta, kept = run.windows.meta, run.predictions
    assert isinstance(meta, Meta)
    assert isinstance(kept, Forecasts)
    truth, predicted = (task.postprocess(values.double()).numpy() for values in (kept.targets, kept.predictions))
    baselines = task.baselines(run.windows)
    naive = {name.replace("_", " "): task.postprocess(baseline(kept.rows)).numpy() for name, baseline in baselines.items()}
    first_steps = run.windows.indices("test") + meta.lookback
    time = np.array(run.windows.array("time")).view("datetime64[ns]")[
        first_steps[kept.rows.numpy()][:, None] + np.arange(meta.horizon)
    ]
    count = forecasting.window_count(len(truth)) + (f" of {len(first_steps):,}" if len(truth) < len(first_steps) else "")
    for number, (channel, unit) in enumerate(zip(meta.targets, meta.units, strict=True)):
        suffix = f"_{file_part(channel)}" if len(meta.targets) > 1 else ""
        title = f"{run.name}: {literal(channel)}"
        series = (time, truth[..., number], predicted[..., number])
        with drawing(f"forecast{suffix}.png"):
            figure = forecasting.forecast(*series, naive["repeat last"][..., number], channel, unit, title)
            save(figure, folder / f"forecast{suffix}.png")
        with drawing(f"residuals{suffix}.png"):
            save(forecasting.residuals(*series, unit, title), folder / f"residuals{suffix}.png")
        errors = {
            kind: np.abs(values[..., number] - truth[..., number]).mean(axis=0)
            for kind, values in {"forecast": predicted, **naive}.items()
        }
        with drawing(f"error_by_step{suffix}.png"):
            figure = forecasting.error_by_step(errors, unit, f"{title}\n{count}")
            save(figure, folder / f"error_by_step{suffix}.png")


def file_part(channel: str) -> str:
    """Return the name of a channel for use in a file name: special characters replaced, and a hash added if it changed."""
    plain = re.sub(r"[^\w.-]+", "_", channel)[:60]
    return plain if plain == channel else f"{plain}_{hashlib.sha256(channel.encode('utf-8', 'replace')).hexdigest()[:6]}"
