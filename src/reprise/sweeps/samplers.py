"""Optuna's samplers and pruners, as a sweep asks for them."""

import warnings
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from reprise.config.sweep import Sweep


def make_sampler(sweep: Sweep, number: int, turn: int) -> BaseSampler:
    """The sampler as it stands before the draw of a trial that has this turn."""
    wanted, seed = sweep.sampler, (sweep.sampler.seed * 100_003 + number) * 1_009 + turn

    alone = optuna.samplers.RandomSampler(seed=seed)  # for a key that is not drawn together with the others
    kinds: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(n_startup_trials=wanted.startup, seed=seed, multivariate=True, group=True),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(
            n_startup_trials=max(1, wanted.startup), seed=seed, independent_sampler=alone, warn_independent_sampling=False
        ),
        "gp": lambda: optuna.samplers.GPSampler(n_startup_trials=max(1, wanted.startup), seed=seed),
        "random": lambda: alone,
        "grid": lambda: alone,  # every value waits with its trial
        "sobol": lambda: optuna.samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=wanted.seed, independent_sampler=alone, warn_independent_sampling=False
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: BaseSampler = kinds[wanted.kind]()
    return made


def make_pruner(sweep: Sweep, epochs: int) -> BasePruner:
    """What decides when a trial is given up; `epochs` are those of one that is not."""
    wanted = sweep.pruner
    first = max(1, wanted.warmup)
    kinds: dict[str, Any] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=wanted.startup, n_warmup_steps=wanted.warmup),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(first, max(first, epochs), wanted.reduction),
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=wanted.reduction),
        "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(n_startup_steps=2),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: BasePruner = kinds[wanted.kind]()
    return made
