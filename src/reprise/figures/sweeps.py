"""Figures of a sweep: optimisation history, and the effect of each setting."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from reprise.figures.style import LITERAL, save

Shares = Mapping[str, float]
"""Importance of each setting, largest first."""


def draw(study: optuna.Study, goals: Sequence[str], importances: Mapping[str, Shares], folder: Path) -> None:
    """Write the figures of a study's completed trials to `folder`.

    history.png, slice.png and parallel.png; importance.png and contour.png for objectives in `importances`. With several
    objectives, there is one file for each (history_val_accuracy.png), and pareto.png for two or three.
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return
    if len(goals) in {2, 3}:
        _save(lambda: plots.plot_pareto_front(study, target_names=list(goals)), folder / "pareto.png")
    for number, goal in enumerate(goals):
        one: dict[str, Any] = {"target": _value(number) if len(goals) > 1 else None, "target_name": goal}
        end = f"_{goal.replace('/', '_')}.png" if len(goals) > 1 else ".png"
        _save(partial(plots.plot_optimization_history, study, **one), folder / f"history{end}")
        _save(partial(plots.plot_slice, study, **one), folder / f"slice{end}", per_setting=3.2)
        _save(partial(plots.plot_parallel_coordinate, study, **one), folder / f"parallel{end}", width=10)
        if ranked := list(importances.get(goal, {})):
            _save(partial(plots.plot_param_importances, study, **one), folder / f"importance{end}")
            if len(ranked) > 1:
                _save(partial(plots.plot_contour, study, ranked[:2], **one), folder / f"contour{end}")


def importances(study: optuna.Study, goals: Sequence[str]) -> dict[str, Shares]:
    """Return the importance of each setting by objective (fANOVA, Hutter et al. 2014).

    An objective is omitted if fewer than four trials are complete or all have the same value.
    """
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    result: dict[str, Shares] = {}
    for number, goal in enumerate(goals):
        if len(completed) >= 4 and len({trial.values[number] for trial in completed}) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
                result[goal] = optuna.importance.get_param_importances(study, evaluator=evaluator, target=_value(number))
    return result


def _value(number: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[number])


def _save(plot: Callable[[], Any], file: Path, width: float = 7.5, per_setting: float = 0) -> None:
    with plt.style.context(LITERAL), warnings.catch_warnings():  # Optuna sets its own style
        warnings.simplefilter("ignore")
        axes = np.atleast_1d(plot())
        for axis in (one for each in axes.flat[0].figure.axes for one in (each.xaxis, each.yaxis)):
            if axis.get_scale() == "log":  # its default labels are formulas
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
        figure: Figure = axes.flat[0].figure
        figure.set_size_inches(max(width, per_setting * axes.size), 4.5)
        plt.rcParams["savefig.bbox"] = "tight"
        save(figure, file)
