"""What a person sees while a network trains: a bar on a terminal, a line an epoch elsewhere."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

REFRESH = 0.5
"""Seconds between two drawings of the bar: drawing at every step would cost more than a small network."""


class EpochProgress(pl.Callback):
    """One bar over the whole training, its remaining time, and the latest metrics."""

    def __init__(self, console: Console, title: str, monitor: str) -> None:
        self.console = console
        self.title = title
        self.live = console.is_terminal
        self.shown = ("train/loss", f"val/{monitor}") if self.live else ("train/loss", "val/loss", f"val/{monitor}")
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn()]
        columns += [TimeRemainingColumn(compact=True), TextColumn("{task.fields[metrics]}")]
        self.bar = Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not self.live, expand=True)
        self.row = TaskID(0)
        self.drawn = 0.0
        self.began = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.row = self.bar.add_task(self.title, total=trainer.estimated_stepping_batches, metrics="")
        self.bar.start()
        self.began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Draw, unless it was done a moment ago."""
        if self.live and (now := time.monotonic()) - self.drawn > REFRESH:
            self.drawn = now
            self.bar.update(self.row, completed=trainer.global_step, description=self._where(trainer), refresh=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's metrics."""
        metrics = "  ".join(
            f"{name} {float(trainer.callback_metrics[name]):.4f}" for name in self.shown if name in trainer.callback_metrics
        )
        if self.live:
            self.bar.update(self.row, metrics=metrics, refresh=True)
        else:
            seconds = time.monotonic() - self.began
            self.console.print(f"{self._where(trainer)}  {metrics}  {seconds:.1f} s", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away."""
        self.bar.stop()

    def _where(self, trainer: pl.Trainer) -> str:
        return f"{self.title}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
