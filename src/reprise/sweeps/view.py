"""How a sweep goes: a table that is redrawn on a terminal, elsewhere a line for each trial that ends."""

import time
from collections import Counter
from datetime import timedelta
from typing import Self

from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from reprise.config.space import Choice, FloatRange, IntRange, as_overrides, written
from reprise.sweeps.study import ERROR, GIVEN_UP, OVER, Study, StudySnapshot
from reprise.tracking.descriptions import of_group


def valued(study: Study, trial: FrozenTrial) -> str:
    """What a trial came to, by objective."""
    return ", ".join(f"{goal.metric} {value:.4g}" for goal, value in zip(study.sweep.objectives, trial.values, strict=True))


def note(study: Study) -> str:
    """What the dashboard says of a sweep: its best trials, its space, and the commands that go on with it or train the best."""
    sweep, standing = study.sweep, study.look()
    goals = [goal.metric for goal in sweep.objectives]
    upwards = sweep.objectives[0].direction == "maximize"
    trials = sorted(standing.of(TrialState.COMPLETE), key=lambda trial: trial.values[0], reverse=upwards)
    rows = [
        (f"trial {trial.number}: `{' '.join(as_overrides(trial.params))}`", dict(zip(goals, trial.values, strict=True)))
        for trial in trials
    ]
    pruned, failed = (len(standing.of(state)) for state in (TrialState.PRUNED, TrialState.FAIL))
    best = ", ".join(valued(study, trial) for trial in study.best())
    lead = f"Sweep **{sweep.name}** of {sweep.experiment}, {sweep.n_trials} trials: {len(trials)} trained to their end, "
    lead += f"{pruned} given up, {failed} failed." + (f" The best: {best}." if best else "")
    commands = [(f"reprise sweep sweep={sweep.name} resume", "says how it stands, and goes on if it did not end")]
    if best:
        commands.insert(0, (f"reprise train experiment={sweep.name}_tuned", "trains what it found"))
    space = "; ".join(f"`{key}` {_described(part)}" for key, part in sweep.space.items())
    return of_group(lead, rows, commands, about=f"The space, as `sweep.yaml` says it: {space[:3000]}.")


def _described(part: FloatRange | IntRange | Choice) -> str:
    """A part of the space in words."""
    if isinstance(part, Choice):
        words = ", ".join(map(written, part.values))
    else:
        words = f"{part.low:g} to {part.high:g}" + (" on a scale of powers" if part.log else "")
    return words + (f" where {', '.join(as_overrides(part.when))}" if part.when else "")


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

    def update(self, standing: StudySnapshot) -> None:
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
            TrialState.PRUNED: lambda: f"given up {trial.user_attrs.get(GIVEN_UP)}",
        }.get(trial.state, lambda: f"failed: {trial.user_attrs.get(ERROR)}")()
        return f"{len(self.ended)}/{self.study.sweep.n_trials}  trial {trial.number}: {came}  ({_settings(trial)})"

    def _table(self, standing: StudySnapshot) -> Table:
        over = standing.of(*OVER)
        counts = Counter(trial.state for trial in over)
        best = self.study.best()
        pruned, failed = counts[TrialState.PRUNED], counts[TrialState.FAIL]
        table = Table(
            "trial",
            "epoch",
            self.study.sweep.objectives[0].metric,
            "settings",
            box=SIMPLE_HEAD,
            expand=True,
            title=f"{self.study.sweep.name}: {len(over)} of {self.study.sweep.n_trials} trials, "
            f"{pruned} given up, {failed} failed; {self._left(len(over))}",
            caption=f"best: {valued(self.study, best[0])} with {_settings(best[0])}" if best else None,
        )
        for trial in standing.of(TrialState.RUNNING):
            step = max(trial.intermediate_values, default=0)
            said = f"{trial.intermediate_values[step]:.4f}" if step else "–"
            table.add_row(str(trial.number), str(step), said, _settings(trial))
        return table

    def _left(self, over: int) -> str:
        """How much longer, by the pace of the trials that have ended since."""
        if over == self.before:
            return "time left not known yet"
        seconds = (time.monotonic() - self.began) / (over - self.before) * (self.study.sweep.n_trials - over)
        return f"about {timedelta(seconds=round(seconds))} left"


def _settings(trial: FrozenTrial) -> str:
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in trial.params.items()}
    return ", ".join(f"{key}={value}" for key, value in shown.items())
