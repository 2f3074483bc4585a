"""Training progress on the console: a progress bar on a terminal, otherwise one line per epoch."""

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

REFRESH = 0.5
"""Seconds between two updates of the bar. An update at every step costs more than a step of a small network."""


class EpochProgress(pl.Callback):
    """Shows one progress bar for the whole training, the remaining time and the latest metrics."""

    def __init__(self, console: Console, title: str, monitor: str) -> None:
        self.console = console
        self.title = title
        self.is_terminal = console.is_terminal
        names = ["train/loss", *([] if self.is_terminal else ["val/loss"]), f"val/{monitor}"]
        self.shown = list(dict.fromkeys(names))  # the monitored metric may be the loss
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn()]
        columns += [TimeRemainingColumn(compact=True), TextColumn("{task.fields[metrics]}")]
        self.bar = Progress(
            *columns, console=console, transient=True, auto_refresh=False, disable=not self.is_terminal, expand=True
        )
        self.task_id = TaskID(0)
        self.last_update = 0.0
        self.started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.task_id = self.bar.add_task(self.title, total=trainer.estimated_stepping_batches, metrics="")
        self.bar.start()
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Update the bar if the last update is more than `REFRESH` seconds ago."""
        if self.is_terminal and (now := time.monotonic()) - self.last_update > REFRESH:
            self.last_update = now
            self.bar.update(self.task_id, completed=trainer.global_step, description=self._position(trainer), refresh=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the metrics of the epoch."""
        metrics = "  ".join(
            f"{name} {float(trainer.callback_metrics[name]):.4f}" for name in self.shown if name in trainer.callback_metrics
        )
        if self.is_terminal:
            self.bar.update(self.task_id, metrics=metrics, refresh=True)
        else:
            seconds = time.monotonic() - self.started
            self.console.print(f"{self._position(trainer)}  {metrics}  {seconds:.1f} s", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self.bar.stop()

    def _position(self, trainer: pl.Trainer) -> str:
        return f"{self.title}  epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
