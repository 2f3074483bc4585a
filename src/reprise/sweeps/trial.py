"""A worker of a sweep: take one trial after another, train it and report its result."""

from collections.abc import Iterator, Mapping
from statistics import fmean

import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState
from rich.console import Console

from reprise.config import Config
from reprise.config.space import as_overrides
from reprise.errors import Pruned, Stopped, UserError, without_login
from reprise.project_paths import ProjectPaths
from reprise.stages import train
from reprise.sweeps import studies
from reprise.sweeps.study import PRUNED_AT, STARTS, THREADS, Study, attribute, fail, is_finite, reset_starts, start_time
from reprise.tracking import event_log, lineage, recovery, resume
from reprise.tracking import run as tracking
from reprise.tracking.links import PARENT_TAG
from reprise.tracking.trained import Trained, read_trained
from reprise.training.learner import MetricCallback


def run_worker(name: str, paths: ProjectPaths, storage: str | None, parent: str) -> None:
    """Train trials until none is left, or too many have failed."""
    threads = torch.get_num_threads()  # this worker's share of the cores
    study = studies.load(name, paths.store, storage)
    lineage.record_code(paths.root, study.sweep.config(study.folder, {}).plugins)
    while True:
        with study.claim_trial() as trial:
            if trial is None:
                return
            if THREADS not in trial.user_attrs:
                trial.set_user_attr(THREADS, threads)
            try:
                _Trial(study, trial, paths, {PARENT_TAG: parent, "sweep": name, "trial": str(trial.number)}).run()
            except UpdateFinishedTrialError:  # no heartbeat for so long that another machine took the trial
                study = studies.load(name, paths.store, storage)  # Optuna's cached trials are from before that


class _Trial:
    """One trial: sample its values, train it, report its result."""

    def __init__(self, study: Study, trial: Trial, paths: ProjectPaths, tags: Mapping[str, str]) -> None:
        self.study, self.sweep, self.trial, self.paths, self.tags = study, study.sweep, trial, paths, tags
        self.goal = study.sweep.objectives[0].metric
        self.by_epoch = len(study.sweep.objectives) == 1 and study.sweep.pruner.kind != "wilcoxon"
        self.scores: list[float] = []
        """First objective of each trained seed."""

    def run(self) -> None:
        """Run the trial until it completes, fails or is pruned. After a signal the next start resumes it."""
        try:
            chosen = self.study.suggest(self.trial)
            config = self._with_threads(self.sweep.config(self.study.folder, chosen))
            with resume.owned_by(f"{self.study.token} {self.trial.number}"):
                self._report(list(self._train(config, ", ".join(as_overrides(chosen)))))
        except Pruned as pruned:
            self._mark_runs_pruned(str(pruned))
            self.study.optuna.tell(self.trial, state=TrialState.PRUNED)
        except (KeyboardInterrupt, Stopped):
            reset_starts(self.trial)
            raise
        except UpdateFinishedTrialError:
            raise
        except Exception as error:  # any error fails this trial only
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            fail(self.study, self.trial, without_login(reason))
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()

    def _with_threads(self, config: Config) -> Config:
        """Put the thread count into the config: it affects result bits, so a worker that resumes the trial must use it."""
        trainer = config.trainer.model_copy(update={"threads": config.trainer.threads or self.trial.user_attrs[THREADS]})
        return config.model_copy(update={"trainer": trainer})

    def _train(self, config: Config, settings: str) -> Iterator[Trained]:
        """Yield a training per seed; do not repeat those that an earlier start finished."""
        if reason := attribute(self.trial, PRUNED_AT):
            raise Pruned(reason)
        run_dirs = (
            recovery.finished_runs(self.paths.store, self._start_time, self.tags) if STARTS in self.trial.user_attrs else ()
        )
        ended = {trained.seed: trained for trained in map(read_trained, run_dirs)}
        epochs = config.trainer.max_epochs

        def watch(metrics: dict[str, float], step: int) -> None:
            reset_starts(self.trial)
            if self.by_epoch and self.goal in metrics:
                self.trial.report(fmean([*self.scores, metrics[self.goal]]), len(self.scores) * epochs + step)
                if step < epochs:  # pruning after the last epoch saves nothing
                    self._prune(f"after epoch {step}" + (f" of seed {len(self.scores)}" if self.scores else ""))

        for turn in range(self.sweep.seeds):
            seeded = config.model_copy(update={"seed": config.seed + turn, "seeds": 1})
            trained = ended.get(seeded.seed) or self._train_one(seeded, settings, watch)
            yield trained
            if len(self.sweep.objectives) == 1:
                self.scores.append(self._measured(trained, self.goal))
                if self.sweep.pruner.kind == "wilcoxon":
                    self.trial.report(self.scores[-1], turn + 1)
                if turn + 1 < self.sweep.seeds:
                    self._prune(f"after {turn + 1} of {self.sweep.seeds} seeds")

    def _train_one(self, config: Config, settings: str, watch: MetricCallback) -> Trained:
        tags = {**self.tags, "settings": settings}
        command = f"reprise sweep sweep={self.sweep.name}"
        self.study.check_same_arrays(self.paths.processed(config.data.name))
        (trained,) = train.run(config, self.paths, Console(quiet=True), command, also=tags, watch=watch)
        return trained

    def _prune(self, when: str) -> None:
        if self.trial.should_prune():
            self.trial.set_user_attr(PRUNED_AT, when)
            raise Pruned(when)

    def _mark_runs_pruned(self, when: str) -> None:
        """Mark every run of the trial as pruned: also those of earlier seeds, and one whose process was killed."""
        for run_dir, run_log in recovery.tagged_runs(self.paths.store, self._start_time, self.tags):
            if "pruned" not in run_log.tags:
                config = self.sweep.config(self.study.folder, {}).tracking
                tracking.open_run_dir(config, self.paths.store, run_dir.name).mark_pruned(when)

    def _report(self, done: list[Trained]) -> None:
        values = [fmean(self._measured(trained, goal.metric) for trained in done) for goal in self.sweep.objectives]
        if not is_finite(values):
            goals = ", ".join(goal.metric for goal in self.sweep.objectives)
            raise UserError(f"its objectives {goals} are not finite: {values}")
        for limit in self.sweep.limits:
            self.trial.set_constraint(
                limit.metric, fmean(self._measured(trained, limit.metric) for trained in done) - limit.at_most
            )
        self.study.optuna.tell(self.trial, values)

    def _measured(self, trained: Trained, metric: str) -> float:
        """Return a result of a training: a val metric at its best epoch, its parameters or its seconds."""
        if metric in {"parameters", "train_seconds"}:
            return float(getattr(trained, metric))
        history = event_log.read_history(self.paths.run_dir(trained.run_id) / event_log.FILE)
        if metric not in history:
            raise UserError(
                f"a training logs no {metric}", f"it logs {', '.join(key for key in history if key.startswith('val/'))}"
            )
        return dict(history[metric])[trained.best_epoch]

    @property
    def _start_time(self) -> int:
        """When the trial was first taken, in milliseconds since 1970."""
        return int(start_time(self.trial) * 1000)
