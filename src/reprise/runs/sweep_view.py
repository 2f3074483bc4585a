"""How a sweep goes: a table that is redrawn on a terminal, elsewhere a line for each trial that ends."""

import time
from collections import Counter
from typing import Self

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from reprise.config.sweep import as_overrides
from reprise.runs.study import ERROR, OVER, Standing, Study


def valued(study: Study, trial: FrozenTrial) -> str:
    """What a trial came to, by objective."""
    return ", ".join(f"{goal.metric} {value:.4g}" for goal, value in zip(study.sweep.objectives, trial.values, strict=True))


class View:
    """How a sweep goes: a table on a terminal, elsewhere a line for each trial that ends."""

    def __init__(self, study: Study, console: Console) -> None:
        self.study, self.console = study, console
        self.began = time.monotonic()
        self.ended = {trial.number for trial in study.look().of(*OVER)}
        self.before = len(self.ended)
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, standing: Standing) -> None:
        """Show what is new."""
        if self.live:
            self.live.update(self._table(standing), refresh=True)
            return
        for trial in standing.of(*OVER):
            if trial.number not in self.ended:
                self.ended.add(trial.number)
                self.console.print(f"sweep  {self._line(trial)}", highlight=False, soft_wrap=True)

    def _line(self, trial: FrozenTrial) -> str:
        came = {
            TrialState.COMPLETE: lambda: valued(self.study, trial),
            TrialState.PRUNED: lambda: f"given up after {max(trial.intermediate_values, default=0)}",
        }.get(trial.state, lambda: f"failed: {trial.user_attrs.get(ERROR)}")()
        return f"trial {trial.number + 1} of {self.study.sweep.n_trials}: {came}  ({', '.join(as_overrides(trial.params))})"

    def _table(self, standing: Standing) -> Table:
        over = standing.of(*OVER)
        counts = Counter(trial.state for trial in over)
        left = self.study.sweep.n_trials - len(over)
        pace = (time.monotonic() - self.began) / max(1, len(over) - self.before)
        best = self.study.best()
        table = Table(
            "trial",
            "epoch",
            self.study.sweep.objectives[0].metric,
            "settings",
            title=f"{self.study.sweep.name}: {len(over)} of {self.study.sweep.n_trials} trials",
            caption=f"best {valued(self.study, best[0]) if best else '–'}; given up {counts[TrialState.PRUNED]}, "
            f"failed {counts[TrialState.FAIL]}; about {left * pace / 60:.0f} min left",
        )
        for trial in standing.of(TrialState.RUNNING):
            step = max(trial.intermediate_values, default=0)
            said = f"{trial.intermediate_values[step]:.4f}" if step else "–"
            table.add_row(str(trial.number + 1), str(step), said, ", ".join(as_overrides(trial.params)))
        return table
