"""Progress and description of a sweep."""

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
from reprise.sweeps.study import ENDED, ERROR, PRUNED_AT, Study, StudySnapshot, attribute
from reprise.tracking.descriptions import of_group


def format_objectives(study: Study, trial: FrozenTrial) -> str:
    """Return the objectives of a trial with their values."""
    return ", ".join(f"{goal.metric} {value:.4g}" for goal, value in zip(study.sweep.objectives, trial.values, strict=True))


def describe(study: Study) -> str:
    """Return the sweep's description for the dashboard: best trials, space, and commands to resume it or train the best."""
    sweep, snapshot = study.sweep, study.snapshot()
    goals = [goal.metric for goal in sweep.objectives]
    upwards = sweep.objectives[0].direction == "maximize"
    trials = sorted(snapshot.in_state(TrialState.COMPLETE), key=lambda trial: trial.values[0], reverse=upwards)
    rows = [
        (f"trial {trial.number}: `{' '.join(as_overrides(trial.params))}`", dict(zip(goals, trial.values, strict=True)))
        for trial in trials
    ]
    pruned, failed = (len(snapshot.in_state(state)) for state in (TrialState.PRUNED, TrialState.FAIL))
    best = ", ".join(format_objectives(study, trial) for trial in study.best())
    lead = f"Sweep **{sweep.name}** of {sweep.experiment}, {sweep.n_trials} trials: {len(trials)} trained to their end, "
    lead += f"{pruned} pruned, {failed} failed." + (f" The best: {best}." if best else "")
    commands = [(f"reprise sweep sweep={sweep.name} resume", "prints its state, and resumes it if unfinished")]
    if best:
        commands.insert(0, (f"reprise train experiment={sweep.name}_tuned", "trains the best config"))
    space = "; ".join(f"`{key}` {_described(part)}" for key, part in sweep.space.items())
    return of_group(lead, rows, commands, about=f"The space, from `sweep.yaml`: {space[:3000]}.")


def _described(part: FloatRange | IntRange | Choice) -> str:
    """Describe one part of the search space."""
    if isinstance(part, Choice):
        text = ", ".join(map(written, part.values))
    else:
        text = f"{part.low:g} to {part.high:g}" + (" on a log scale" if part.log else "")
    return text + (f" where {', '.join(as_overrides(part.when))}" if part.when else "")


class View:
    """Progress of a sweep: a live table on a terminal, elsewhere a line for each trial that ends."""

    def __init__(self, study: Study, console: Console) -> None:
        self.study, self.console = study, console
        self.start = time.monotonic()
        self.ended = {trial.number for trial in study.snapshot().in_state(*ENDED)}
        self.before = len(self.ended)
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, snapshot: StudySnapshot) -> None:
        """Show the current state."""
        if self.live:
            self.live.update(self._table(snapshot), refresh=True)
            return
        for trial in snapshot.in_state(*ENDED):
            if trial.number not in self.ended:
                self.ended.add(trial.number)
                self.console.print(f"sweep  {self._line(trial)}", highlight=False, soft_wrap=True)

    def _line(self, trial: FrozenTrial) -> str:
        result = {
            TrialState.COMPLETE: lambda: format_objectives(self.study, trial),
            TrialState.PRUNED: lambda: f"pruned {attribute(trial, PRUNED_AT)}",
        }.get(trial.state, lambda: f"failed: {trial.user_attrs.get(ERROR)}")()
        return f"{len(self.ended)}/{self.study.sweep.n_trials}  trial {trial.number}: {result}  ({_settings(trial)})"

    def _table(self, snapshot: StudySnapshot) -> Table:
        ended = snapshot.in_state(*ENDED)
        counts = Counter(trial.state for trial in ended)
        best = self.study.best()
        pruned, failed = counts[TrialState.PRUNED], counts[TrialState.FAIL]
        table = Table(
            "trial",
            "epoch",
            self.study.sweep.objectives[0].metric,
            "settings",
            box=SIMPLE_HEAD,
            expand=True,
            title=f"{self.study.sweep.name}: {len(ended)} of {self.study.sweep.n_trials} trials, "
            f"{pruned} pruned, {failed} failed; {self._time_left(len(ended))}",
            caption=f"best: {format_objectives(self.study, best[0])} with {_settings(best[0])}" if best else None,
        )
        for trial in snapshot.in_state(TrialState.RUNNING):
            step = max(trial.intermediate_values, default=0)
            value = f"{trial.intermediate_values[step]:.4f}" if step else "–"
            table.add_row(str(trial.number), str(step), value, _settings(trial))
        return table

    def _time_left(self, ended: int) -> str:
        """Estimate the remaining time from the trials that have ended since this view started."""
        if ended == self.before:
            return "time left not known yet"
        seconds = (time.monotonic() - self.start) / (ended - self.before) * (self.study.sweep.n_trials - ended)
        return f"about {timedelta(seconds=round(seconds))} left"


def _settings(trial: FrozenTrial) -> str:
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in trial.params.items()}
    return ", ".join(f"{key}={value}" for key, value in shown.items())
