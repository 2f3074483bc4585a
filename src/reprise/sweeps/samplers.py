"""Create Optuna's samplers and pruners from the settings of a sweep."""

import warnings
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from reprise.config.sweep import Sweep


def make_sampler(sweep: Sweep, number: int, turn: int) -> BaseSampler:
    """Return the sampler, seeded by the sweep's seed, the trial's number and the turn (the position of the draw in the trial)."""
    settings, seed = sweep.sampler, (sweep.sampler.seed * 100_003 + number) * 1_009 + turn

    independent = optuna.samplers.RandomSampler(seed=seed)  # for keys that are not drawn jointly
    kinds: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(n_startup_trials=settings.startup, seed=seed, multivariate=True, group=True),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(
            n_startup_trials=max(1, settings.startup), seed=seed, independent_sampler=independent, warn_independent_sampling=False
        ),
        "gp": lambda: optuna.samplers.GPSampler(n_startup_trials=max(1, settings.startup), seed=seed),
        "random": lambda: independent,
        "grid": lambda: independent,  # the values are enqueued with each trial
        "sobol": lambda: optuna.samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=settings.seed, independent_sampler=independent, warn_independent_sampling=False
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: BaseSampler = kinds[settings.kind]()
    return sampler


def make_pruner(sweep: Sweep, epochs: int) -> BasePruner:
    """Return the pruner. `epochs` is the number of epochs of a trial that is not pruned."""
    settings = sweep.pruner
    first = max(1, settings.warmup)
    kinds: dict[str, Any] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=settings.warmup),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(first, max(first, epochs), settings.reduction),
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=settings.reduction),
        "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(n_startup_steps=2),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner: BasePruner = kinds[settings.kind]()
    return pruner
