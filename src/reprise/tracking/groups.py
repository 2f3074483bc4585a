"""Parent runs, which group the runs of several seeds, of a `--multirun` or of a sweep, and summarise them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from reprise.config.naming import differences
from reprise.config.schema import Config, TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import descriptions, resume, run_info
from reprise.tracking.descriptions import FOLDS, GROUP, NOTE
from reprise.tracking.event_log import EventLog
from reprise.tracking.links import PARENT_TAG
from reprise.tracking.resume import LockedError, Training
from reprise.tracking.run import Run, create_run, model_name, open_run_dir, recorded_config, recording_outcome

CHILDREN = "children.json"
"""File in a parent's run directory with the ids of its children."""


def start_parent(
    tracking: TrackingConfig, folder: Path, token: str, name: str, content: Mapping[str, Any], tags: Mapping[str, Any]
) -> Run:
    """Return the parent run with this token; create it at the first call. It reaches the store at once.

    `content` becomes its config.json. The tag `group` marks it as a parent.
    """
    known = [run_dir for run_dir in run_info.run_dirs(folder) if run_info.read(run_dir).token == token]
    run = open_run_dir(tracking, folder, known[0].name) if known else create_run(tracking, folder, token, name, content)
    run.resume()
    run.tag(tags)
    run.flush()
    return run


@contextmanager
def open_parent(
    tracking: TrackingConfig, folder: Path, token: str, name: str, content: Mapping[str, Any], tags: Mapping[str, Any]
) -> Iterator[Run]:
    """Open the parent run with this token, and end it with the outcome of the block. Arguments are those of `parent`.

    The process holds a lock meanwhile: if it dies, the run is recovered like every stale run. If another process has the run
    open (a sweep on several machines that share disks), that process holds the lock.
    """
    with ExitStack() as stack:
        state = None
        with suppress(LockedError):
            state = stack.enter_context(resume.lock_training(folder, resume.training_key("parent", token), 0))
            state.token(resume.PARENT_KEY, token)
        run = start_parent(tracking, folder, token, name, content, tags)
        if state:
            state.record_run_id(resume.PARENT_KEY, run.id)
        try:
            with recording_outcome(run):
                yield run
        finally:
            if state and run.event_log.status != "RUNNING":  # a full disk can keep the final status from being recorded
                state.forget()


@contextmanager
def open_seeds_parent(config: Config, folder: Path, training: Training, tags: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tags for the runs of several seeds. Afterwards log their mean and standard deviation in the parent run.

    If an earlier start of `training` created a parent run, resume it.
    """
    seeds, token = config.every_seed, training.token(resume.PARENT_KEY)
    about = {GROUP: "seeds", "experiment": config.name, "data": config.data.name, "model": model_name(config), "seeds": seeds}
    parts = [] if "trial" in tags or tags.get("origin") == "pipeline" else differences(folder.parent, config)
    name = "-".join([config.name, *parts, f"{len(seeds)}seeds", token[:4]])
    run = start_parent(config.tracking, folder, token, name, recorded_config(config), {**tags, **about})
    training.record_run_id(resume.PARENT_KEY, run.id)
    with recording_outcome(run):
        yield {**tags, PARENT_TAG: run.id}
        record_children(run, [str(training.run_id(seed)) for seed in seeds])


def record_children(run: Run, children: Sequence[str]) -> None:
    """Record the children of a parent run and summarise their results."""
    store.write_json(run.run_dir / CHILDREN, list(children))
    _summarise(run)


def update_parents(tracking: TrackingConfig, folder: Path, *run_ids: str) -> None:
    """Update the summaries of all parents of runs whose results changed (they were evaluated), each once."""
    for parent_id in dict.fromkeys(EventLog(folder / "runs" / run_id).tags.get(PARENT_TAG, "") for run_id in run_ids):
        if (folder / "runs" / parent_id / CHILDREN).is_file():
            run = open_run_dir(tracking, folder, parent_id)
            _summarise(run)
            run.flush()
            update_parents(tracking, folder, parent_id)


def runs_of_folds(folder: Path, run_id: str) -> list[str]:
    """Return the trainings of the parent of several folds, in their order; empty for other runs."""
    run_dir = folder / "runs" / run_id
    if EventLog(run_dir).tags.get(GROUP) != FOLDS or not (run_dir / CHILDREN).is_file():
        return []
    children = [run_dir.parent / str(child) for child in store.read_json(run_dir / CHILDREN)]
    seeds = [store.read_json(child / CHILDREN) if (child / CHILDREN).is_file() else [child.name] for child in children]
    return [str(run) for fold in seeds for run in fold]


def headline(folder: Path, run_id: str) -> str:
    """Return the monitored metric of a run on val, and on test if known."""
    event_log = EventLog(folder / "runs" / run_id)
    return descriptions.headline(event_log.tags["monitor"], event_log.figures)


def check_is_training(run_dir: Path) -> None:
    """Raise `UserError` if the run directory belongs to a parent run; its message names the children."""
    if (run_dir / CHILDREN).is_file():
        names = [_described_run(run_dir.parent / child).name for child in store.read_json(run_dir / CHILDREN)]
        raise UserError(
            f"{_described_run(run_dir).name} is the parent of {len(names)} runs", f"name one of them: {', '.join(names)}"
        )


def check_is_no_trial(run_dir: Path) -> None:
    """Raise `UserError` if the run directory belongs to a trial.

    Only the best trial of a sweep is evaluated on the test split, after it was trained as an experiment.
    """
    tags = EventLog(run_dir).tags
    if "trial" in tags:
        hint = f"train the best as an experiment, `reprise train experiment={tags['sweep']}_tuned`, and evaluate that"
        raise UserError(
            f"{_described_run(run_dir).name} is a trial of sweep {tags['sweep']}: trials are not evaluated on the test split",
            hint,
        )


def _summarise(run: Run) -> None:
    """Write the parent's description with a table of its children: the mean over seeds, or the best job."""
    children = [_described_run(run.run_dir.parent / child) for child in store.read_json(run.run_dir / CHILDREN)]
    tags = run.event_log.tags
    lead = f"**{tags['experiment']}** on {tags['data']}: {len(children)}"
    commands = [(tags["mlflow.source.name"], "repeats all of them")]
    if tags[GROUP] in {"seeds", FOLDS}:
        run.tag({key: children[0].tags[key] for key in ("monitor", "mode")})
        means = _means([child.figures for child in children])
        run.log_summary(means)
        commands.append((f"reprise reproduce {children[0].name}", "repeats one, bit for bit"))
        rows = [(child.name, child.figures) for child in children]
        lead += f" {tags[GROUP]}: {descriptions.headline(children[0].tags['monitor'], means)}."
        run.tag({NOTE: descriptions.of_group(lead, rows, commands, means)})
    else:
        lead += " jobs."
        if best := _best(children):
            lead += f" The best by {best.tags['monitor']} is `{best.tags['settings']}`."
            commands.append((best.tags["mlflow.source.name"], "repeats the best"))
        rows = [(f"`{child.tags['settings']}` {child.name}", child.figures) for child in children]
        run.tag({NOTE: descriptions.of_group(lead, rows, commands)})


def _means(figures: Sequence[descriptions.Figures]) -> dict[str, float]:
    """Return mean and standard deviation of the metrics that all runs have. A run may itself be a mean over seeds."""
    means: dict[str, float] = {}
    for name in figures[0]:
        if not descriptions.is_spread(name) and all(name in run for run in figures):
            values = [run[name] for run in figures]
            means[name] = fmean(values)
            if len(values) > 1:  # else the other folds are still to be trained
                means[descriptions.spread_of(name)] = stdev(values)
    return means


def _best(jobs: Sequence[descriptions.DescribedRun]) -> descriptions.DescribedRun | None:
    """Return the best job, or None if jobs monitor different metrics."""
    monitor, mode = (jobs[0].tags[key] for key in ("monitor", "mode"))
    if any(job.tags["monitor"] != monitor for job in jobs):
        return None
    return (max if mode == "max" else min)(jobs, key=lambda job: job.figures[f"{descriptions.BEST}{monitor}"])


def _described_run(run_dir: Path) -> descriptions.DescribedRun:
    event_log = EventLog(run_dir)
    return descriptions.DescribedRun(run_dir.name, run_info.read(run_dir).name, event_log.tags, event_log.figures)
