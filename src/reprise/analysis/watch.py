"""A training on the terminal: curves, rate and remaining time as it goes on; elsewhere a line an epoch."""

import time
from contextlib import nullcontext
from itertools import pairwise
from statistics import fmean
from typing import Any

import plotext
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from reprise.config import TrackingConfig
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.tracking.live_status import LiveStatus, StatusReader, follow, running_names

LOOK_EVERY = 1.0
"""Seconds."""
LOWEST, HIGHEST = 6, 14
"""Lines of a plot, as there is room."""
RECENT = 5
"""Epochs by which the remaining time is judged."""
JUDGED = ("val/accuracy", "val/mae")
"""The metric beside the loss, the first that is there."""
COLOURS = {"train": "orange+", "val": "cyan+"}


def run(paths: ProjectPaths, wanted: str | None, tracking: TrackingConfig, console: Console) -> None:
    """Watch a run until it ends; without a name, the one that was begun last of those that go on here.

    Raises:
        UserError: when nothing goes on, or the run ends as anything but FINISHED.

    """
    if wanted is None:
        names = running_names(paths.store)
        if not names:
            raise UserError("no training goes on here", "name a RUN, or begin one: `reprise train experiment=NAME`")
        wanted = names[0]
        if len(names) > 1:
            console.print(f"watch  {', '.join(names)} go on; this is the newest", highlight=False, soft_wrap=True)
    last = _until_it_ends(follow(paths.store, wanted, tracking), console)
    if last.status != "FINISHED":
        raise UserError(f"{last.name} ended {last.status}{f': {last.why}' if last.why else ''}")


def _until_it_ends(look: StatusReader, console: Console) -> LiveStatus:
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    said = 0
    with live or nullcontext():
        while True:
            seen = look()
            if live:
                live.update(drawn(seen, *console.size), refresh=True)
            else:
                for epoch in range(said + 1, reached(seen) + 1):
                    console.print(line(seen, epoch), highlight=False, soft_wrap=True)
                said = max(said, reached(seen))
            if seen.status != "RUNNING":
                return seen
            time.sleep(LOOK_EVERY)


def reached(seen: LiveStatus) -> int:
    """The last epoch of which val has spoken."""
    return max((points[-1][0] for key, points in seen.metrics.items() if key.startswith("val/")), default=0)


def line(seen: LiveStatus, epoch: int) -> str:
    """One epoch."""
    shown = ("train/loss", "val/loss", *_judged(seen))
    values = {key: {step: value for step, value, _ in seen.metrics.get(key, [])}.get(epoch) for key in shown}
    metrics = "  ".join(f"{key} {value:.4f}" for key, value in values.items() if value is not None)
    return f"{seen.name}  epoch {epoch}/{seen.epochs}  {metrics}"


def drawn(seen: LiveStatus, width: int, height: int) -> Group:
    """A line of facts, and below it the loss and the metric that judges, each over epochs."""
    now = reached(seen)
    facts = [f"[bold]{escape(seen.name)}[/]  {seen.status}", f"epoch {now}/{seen.epochs}"]
    if rate := seen.metrics.get("train/samples_per_second"):
        facts.append(f"{rate[-1][1]:,.0f} samples a second")
    if seen.status == "RUNNING" and (left := remaining(seen)) is not None:
        facts.append(f"about {_duration(left)} left")
    lines = max(LOWEST, min(HIGHEST, (height - 2) // 2))
    plots = [_plot(seen, keys, width, lines) for keys in (["train/loss", "val/loss"], _judged(seen))]
    return Group(Text.from_markup("   ".join(facts)), *filter(None, plots))


def remaining(seen: LiveStatus) -> float | None:
    """Seconds, by the last epochs; None before there are two. Early stopping may make it less."""
    times = [stamp / 1000 for _, _, stamp in seen.metrics.get("val/loss", [])][-RECENT - 1 :]
    if len(times) < 2:
        return None
    pace = fmean(later - earlier for earlier, later in pairwise(times))
    return max(0.0, (seen.epochs - reached(seen)) * pace)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )


def _judged(seen: LiveStatus) -> list[str]:
    return [key for key in JUDGED if key in seen.metrics][:1]


def _plot(seen: LiveStatus, keys: list[str], width: int, height: int) -> Text | None:
    curves: dict[str, Any] = {key: seen.metrics[key] for key in keys if key in seen.metrics}
    if not curves:
        return None
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height)
    for key, points in curves.items():
        epochs, values, _ = zip(*points, strict=True)
        plotext.plot(epochs, values, label=key, marker="braille", color=COLOURS[key.split("/")[0]])
    last = max(points[-1][0] for points in curves.values())
    plotext.xlim(1, max(last, 2))
    plotext.xticks(sorted({round(1 + part * (max(last, 2) - 1) / 4) for part in range(5)}))
    return Text.from_ansi(plotext.build().rstrip())
