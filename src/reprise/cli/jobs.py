"""Several trainings of one command: the jobs of `--multirun`, and the folds of a rolling-origin evaluation."""

import shlex
from collections.abc import Mapping, Sequence

from reprise import config as configs
from reprise.cli.common import console, heavy_imports, suggest
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths

DASHBOARD = "reprise dashboard", "shows all runs in the browser"


def multirun(paths: ProjectPaths, overrides: Sequence[str]) -> None:
    """Train every combination of the overrides in sequence."""
    command = f"reprise train --multirun {without_address(overrides)}"
    config = _run_jobs(paths, configs.expand(overrides), command, "multirun")[0]
    suggest((f"reprise compare {config.name}", "ranks the jobs"), DASHBOARD)


def folds(paths: ProjectPaths, overrides: Sequence[str], count: int) -> None:
    """Train each fold of a rolling-origin evaluation in sequence."""
    combinations = [[*overrides, f"window.fold={fold}"] for fold in range(count)]
    _, parent = _run_jobs(paths, combinations, f"reprise train {without_address(overrides)}", "folds")
    suggest((f"reprise evaluate {parent}", "measures every fold on its test block"), DASHBOARD)


def _run_jobs(paths: ProjectPaths, combinations: Sequence[Sequence[str]], command: str, group: str) -> tuple[configs.Config, str]:
    """Train the jobs with these overrides. Return the config of the first, and the name of the parent run."""
    shared = set.intersection(*map(set, combinations))
    composed = [configs.compose(paths.root, job) for job in combinations]  # check all before training the first
    with heavy_imports():
        from reprise.analysis import multirun as group_of_jobs
        from reprise.tracking import lineage

    for config in composed:
        lineage.record_code(paths.root, config.plugins)
    jobs = [
        group_of_jobs.Job(
            config, f"reprise train {without_address(job)}", without_address([item for item in job if item not in shared])
        )
        for config, job in zip(composed, combinations, strict=True)
    ]
    return composed[0], group_of_jobs.run(jobs, paths, console, command, group)


def evaluate_folds(paths: ProjectPaths, parent: str, folds: Sequence[str], overrides: Sequence[str], as_json: bool) -> None:
    """Evaluate each fold on its test block, and print the mean over folds with its standard deviation."""
    from reprise.stages import evaluate
    from reprise.tracking import run as tracking

    if as_json:
        raise UserError(f"{parent} is the parent of {len(folds)} runs", f"name one of them: {', '.join(folds)}")
    configs_of_runs = {run_id: evaluate.recorded(paths, run_id, overrides)[1] for run_id in folds}
    _evaluate(paths, configs_of_runs, tracking.find(paths.store, parent), "folds")
    suggest(DASHBOARD)


def evaluate_runs(paths: ProjectPaths, run_ids: Sequence[str], tracking: configs.TrackingConfig) -> None:
    """Evaluate the runs of one training, one per seed. If there are several, also print the mean over seeds."""
    from reprise.stages import evaluate
    from reprise.tracking.event_log import EventLog
    from reprise.tracking.links import PARENT_TAG

    recorded = {run_id: evaluate.recorded(paths, run_id, [])[1] for run_id in run_ids}
    runs = {run_id: config.model_copy(update={"tracking": tracking}) for run_id, config in recorded.items()}
    parent = EventLog(paths.run_dir(run_ids[0])).tags.get(PARENT_TAG)
    _evaluate(paths, runs, parent, "seeds")


def _evaluate(paths: ProjectPaths, runs: Mapping[str, configs.Config], parent: str | None, of: str) -> None:
    """Evaluate runs, print the mean over them from their parent run, if any, and draw their figures."""
    from reprise.stages import evaluate
    from reprise.tracking import groups, run_info

    drawings = [evaluate.measure(config, run_id, paths, console) for run_id, config in runs.items()]
    if parent:
        mean = groups.headline(paths.store, parent)
        name = run_info.read(paths.run_dir(parent)).name
        console.print(f"evaluate  {name}: mean of the {of}: {mean}", highlight=False, soft_wrap=True)
    for draw in drawings:
        draw()


def without_address(overrides: Sequence[str]) -> str:
    """Return the overrides as typed, without those of `tracking`: an address can contain a password."""
    return shlex.join(item for item in overrides if not item.lstrip("+~").startswith("tracking"))
