"""What a sweep has found: its course, and what each setting does."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots

from reprise.figures.style import save


def draw(study: optuna.Study, metrics: Sequence[str], folder: Path) -> None:
    """history.png, slice.png, parallel.png, and, where there is enough to say, importance.png and contour.png; or pareto.png."""
    if len(metrics) > 1:
        _save(lambda: plots.plot_pareto_front(study, target_names=list(metrics)), folder / "pareto.png")
        return
    _save(lambda: plots.plot_optimization_history(study, target_name=metrics[0]), folder / "history.png")
    _save(lambda: plots.plot_slice(study, target_name=metrics[0]), folder / "slice.png", per_setting=3.2)
    _save(lambda: plots.plot_parallel_coordinate(study, target_name=metrics[0]), folder / "parallel.png", width=10)
    if ranked := importances(study):
        _save(lambda: plots.plot_param_importances(study, target_name=metrics[0]), folder / "importance.png")
        if len(ranked) > 1:
            _save(lambda: plots.plot_contour(study, list(ranked)[:2], target_name=metrics[0]), folder / "contour.png")


def importances(study: optuna.Study) -> dict[str, float]:
    """The share of each setting in how much trials differ (fANOVA, Hutter et al. 2014); nothing, where too few have ended."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < 4 or len({trial.value for trial in done}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, float] = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    return found


def _save(plot: Callable[[], Any], file: Path, width: float = 7.5, per_setting: float = 0) -> None:
    with plt.style.context({}), warnings.catch_warnings():  # Optuna sets a style of its own
        warnings.simplefilter("ignore")
        axes = np.atleast_1d(plot())
        figure: Figure = axes.flat[0].figure
        figure.set_size_inches(max(width, per_setting * axes.size), 4.5)
        plt.rcParams["savefig.bbox"] = "tight"
        save(figure, file)
