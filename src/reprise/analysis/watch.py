"""Show a running training: curves, throughput and remaining time on a terminal, otherwise a line per epoch."""

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
from reprise.project_paths import ProjectPaths
from reprise.tasks import metric_names
from reprise.tracking.live_status import LiveStatus, StatusReader, follow, running_names

POLL_SECONDS = 1.0
"""Seconds between two updates."""
LOWEST, HIGHEST = 6, 14
"""The smallest and the largest number of lines of a plot."""
RECENT = 5
"""The number of last epochs from which the remaining time is estimated."""
COLOURS = {"train": "orange+", "val": "cyan+"}


def run(paths: ProjectPaths, name: str | None, tracking: TrackingConfig, console: Console) -> None:
    """Show a run until it ends; without a name, the newest running training of this project.

    Raises:
        UserError: when no training is running, or the run ends with a status other than FINISHED.

    """
    if name is None:
        names = running_names(paths.store)
        if not names:
            raise UserError("no training is running here", "name a RUN, or start one: `reprise train experiment=NAME`")
        name = names[0]
        if len(names) > 1:
            console.print(f"watch  {', '.join(names)} are running; this is the newest", highlight=False, soft_wrap=True)
    last = _follow(follow(paths.store, name, tracking), console)
    if last.status != "FINISHED":
        raise UserError(f"{last.name} ended {last.status}{f': {last.why}' if last.why else ''}")


def _follow(read_status: StatusReader, console: Console) -> LiveStatus:
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    printed = 0
    with live or nullcontext():
        while True:
            status = read_status()
            if live:
                live.update(render(status, *console.size), refresh=True)
            else:
                for epoch in range(printed + 1, last_epoch(status) + 1):
                    console.print(line(status, epoch), highlight=False, soft_wrap=True)
                printed = max(printed, last_epoch(status))
            if status.status != "RUNNING":
                return status
            time.sleep(POLL_SECONDS)


def last_epoch(status: LiveStatus) -> int:
    """Return the last epoch with val metrics; 0 if there is none."""
    return max((points[-1][0] for key, points in status.metrics.items() if key.startswith("val/")), default=0)


def line(status: LiveStatus, epoch: int) -> str:
    """Return the metrics of one epoch as a line of text."""
    shown = ("train/loss", "val/loss", *_main_metric(status))
    values = {key: {step: value for step, value, _ in status.metrics.get(key, [])}.get(epoch) for key in shown}
    metrics = "  ".join(f"{key} {value:.4f}" for key, value in values.items() if value is not None)
    return f"{status.name}  epoch {epoch}/{status.epochs}  {metrics}"


def render(status: LiveStatus, width: int, height: int) -> Group:
    """Return a line of facts, and below it plots of the loss and the main metric over epochs."""
    now = last_epoch(status)
    facts = [f"[bold]{escape(status.name)}[/]  {status.status}", f"epoch {now}/{status.epochs}"]
    if rate := status.metrics.get("train/samples_per_second"):
        facts.append(f"{rate[-1][1]:,.0f} samples a second")
    if status.status == "RUNNING" and (left := remaining(status)) is not None:
        facts.append(f"about {_duration(left)} left")
    lines = max(LOWEST, min(HIGHEST, (height - 2) // 2))
    plots = [_plot(status, keys, width, lines) for keys in (["train/loss", "val/loss"], _main_metric(status))]
    return Group(Text.from_markup("   ".join(facts)), *filter(None, plots))


def remaining(status: LiveStatus) -> float | None:
    """Return the remaining seconds, estimated from the last epochs; None before the second. Early stopping may shorten it."""
    times = [stamp / 1000 for _, _, stamp in status.metrics.get("val/loss", [])][-RECENT - 1 :]
    if len(times) < 2:
        return None
    pace = fmean(later - earlier for earlier, later in pairwise(times))
    return max(0.0, (status.epochs - last_epoch(status)) * pace)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )


def _main_metric(status: LiveStatus) -> list[str]:
    """Return the metric that is plotted in addition to the loss, if there is one."""
    return [f"val/{name}" for name in metric_names.MAIN if name != metric_names.LOSS and f"val/{name}" in status.metrics][:1]


def _plot(status: LiveStatus, keys: list[str], width: int, height: int) -> Text | None:
    curves: dict[str, Any] = {key: status.metrics[key] for key in keys if key in status.metrics}
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
