"""A worker of a sweep: it takes one trial after the other, trains it, and says how good it was."""

from collections.abc import Iterator
from statistics import fmean

import torch
from optuna.trial import Trial, TrialState
from rich.console import Console

from reprise.config import Config
from reprise.config.sweep import Sweep, as_overrides
from reprise.errors import Pruned, Stopped, UserError, without_login
from reprise.runs import study as studies
from reprise.runs.study import LIMITS, THREADS, Study
from reprise.stages import train
from reprise.stages.places import Places
from reprise.stages.train import Trained
from reprise.tracking import lineage, spool
from reprise.tracking.delivery import PARENT


def work(name: str, places: Places, storage: str | None, parent: str) -> None:
    """Train trials until none is left, or too many have failed."""
    lineage.note_code(places.root)
    threads = torch.get_num_threads()  # this worker's share
    study = studies.load(name, places.store, storage)
    while True:
        with study.take() as trial:
            if trial is None:
                return
            if THREADS not in trial.user_attrs:
                trial.set_user_attr(THREADS, threads)
            _one(study, trial, places, {PARENT: parent, "sweep": name, "trial": str(trial.number)})


def _one(study: Study, trial: Trial, places: Places, tags: dict[str, str]) -> None:
    """One trial to its end, whatever that is. A signal is none: the trial goes on with the next start."""
    sweep = study.sweep
    try:
        chosen = study.choose(trial)
        config = _with_threads(sweep.config(study.folder, chosen), trial.user_attrs[THREADS])
        done = list(_train(sweep, config, trial, places, {**tags, "settings": ", ".join(as_overrides(chosen))}))
        values = [fmean(_measured(places, one, goal.metric) for one in done) for goal in sweep.objectives]
        if not studies.is_finite(values):
            raise UserError(f"it is judged by {', '.join(goal.metric for goal in sweep.objectives)}, which came out as {values}")
        over = [fmean(_measured(places, one, limit.metric) for one in done) - limit.at_most for limit in sweep.limits]
        trial.set_user_attr(LIMITS, over)
        study.optuna.tell(trial, values)
    except Pruned:
        study.optuna.tell(trial, state=TrialState.PRUNED)
    except (KeyboardInterrupt, Stopped):
        raise
    except Exception as error:  # whatever it is, it is this trial's alone
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        studies.fail(study, trial, without_login(reason))
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()


def _with_threads(config: Config, threads: int) -> Config:
    """A worker's share of the cores decides bits: it becomes part of the config, and stays so if another worker goes on."""
    trainer = config.trainer.model_copy(update={"threads": config.trainer.threads or threads})
    return config.model_copy(update={"trainer": trainer})


def _train(sweep: Sweep, config: Config, trial: Trial, places: Places, tags: dict[str, str]) -> Iterator[Trained]:
    """A training a seed. Val is reported to the study after each epoch, or, of several seeds, after each seed."""
    goal = sweep.objectives[0].metric
    done: list[float] = []

    def watch(metrics: dict[str, float], step: int) -> None:
        if sweep.seeds == 1 and goal in metrics and len(sweep.objectives) == 1:
            trial.report(metrics[goal], step)
            if step < config.trainer.max_epochs and trial.should_prune():  # after the last there is nothing to save
                raise Pruned(f"after epoch {step}")

    for turn in range(sweep.seeds):
        seeded = config.model_copy(update={"seed": config.seed + turn, "seeds": 1})
        (one,) = train.run(seeded, places, Console(quiet=True), f"reprise sweep sweep={sweep.name}", also=tags, watch=watch)
        yield one
        if sweep.seeds > 1 and len(sweep.objectives) == 1:
            done.append(_measured(places, one, goal))
            trial.report(done[-1] if sweep.pruner.kind == "wilcoxon" else fmean(done), turn + 1)
            if turn + 1 < sweep.seeds and trial.should_prune():
                raise Pruned(f"after {turn + 1} of {sweep.seeds} seeds")


def _measured(places: Places, trained: Trained, metric: str) -> float:
    """What a training came to: its val metric at its best epoch, its parameters or its seconds."""
    if metric in {"parameters", "train_seconds"}:
        return float(getattr(trained, metric))
    history = spool.read_history(places.home(trained.run_id) / spool.FILE)
    if metric not in history:
        raise UserError(f"a training says no {metric}", f"it says {', '.join(key for key in history if key.startswith('val/'))}")
    return dict(history[metric])[trained.best_epoch]
