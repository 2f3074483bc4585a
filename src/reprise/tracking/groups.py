"""Parents: the run that others stand under, those of several seeds, of a `--multirun`, of a sweep; and what they come to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from reprise.config.naming import special
from reprise.config.schema import Config, TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import descriptions, resume
from reprise.tracking.descriptions import GROUP
from reprise.tracking.event_log import EventLog
from reprise.tracking.mlflow_sync import NOTE, PARENT
from reprise.tracking.resume import Training
from reprise.tracking.run import Run, ending, model, open_new, open_run_dir, recorded

CHILDREN = "children.json"
"""In a parent's run directory: the ids of the runs under it."""


def parent(
    tracking: TrackingConfig, folder: Path, token: str, name: str, content: Mapping[str, Any], tags: Mapping[str, Any]
) -> Run:
    """The run that others stand under: made at the first call with this token, found at the next. It is in the store at once.

    `content` is kept as its config.json. The tag `group` sets it apart from trainings.
    """
    known = [file.parent for file in (folder / "runs").glob("*/run.json") if store.read_json(file).get("token") == token]
    run = open_run_dir(tracking, folder, known[0].name) if known else open_new(tracking, folder, token, name, content)
    run.resume()
    run.tag(tags)
    run.flush()
    return run


@contextmanager
def of_seeds(config: Config, folder: Path, training: Training, tags: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tags for the runs of several seeds, under a parent that ends with their mean and standard deviation.

    It goes on with the parent of an earlier start of `training`.
    """
    seeds, token = config.every_seed, training.token(resume.PARENT)
    about = {GROUP: "seeds", "experiment": config.name, "data": config.data.name, "model": model(config), "seeds": seeds}
    words = [] if "trial" in tags or tags.get("origin") == "pipeline" else special(folder.parent, config)
    name = "-".join([config.name, *words, f"{len(seeds)}seeds", token[:4]])
    run = parent(config.tracking, folder, token, name, recorded(config), {**tags, **about})
    training.opened(resume.PARENT, run.id)
    with ending(run):
        yield {**tags, PARENT: run.id}
        gather(run, [str(training.run_id(seed)) for seed in seeds])


def gather(run: Run, children: Sequence[str]) -> None:
    """Let a parent say what the runs under it came to."""
    store.write_json(run.run_dir / CHILDREN, list(children))
    _tell(run)


def heard(tracking: TrackingConfig, folder: Path, run_id: str) -> None:
    """A run has something new to say (it was evaluated): so have those above it."""
    above = EventLog(folder / "runs" / run_id).tags.get(PARENT, "")
    if (folder / "runs" / above / CHILDREN).is_file():
        run = open_run_dir(tracking, folder, above)
        _tell(run)
        run.flush()
        heard(tracking, folder, above)


def demand_training(run_dir: Path) -> None:
    """Refuse the run directory of a parent, naming the runs under it."""
    if (run_dir / CHILDREN).is_file():
        names = [_line(run_dir.parent / child).name for child in store.read_json(run_dir / CHILDREN)]
        raise UserError(f"{_line(run_dir).name} stands for {len(names)} runs", f"name one of them: {', '.join(names)}")


def demand_no_trial(run_dir: Path) -> None:
    """Refuse the run directory of a trial: of a sweep, the test split is opened for the best alone, trained as an experiment."""
    tags = EventLog(run_dir).tags
    if "trial" in tags:
        hint = f"train the best as an experiment, `reprise train experiment={tags['sweep']}_tuned`, and evaluate that"
        raise UserError(f"{_line(run_dir).name} is a trial of sweep {tags['sweep']}, for which the test split stays shut", hint)


def _tell(run: Run) -> None:
    """What all seeds come to, or the best of all jobs; and a table."""
    children = [_line(run.run_dir.parent / child) for child in store.read_json(run.run_dir / CHILDREN)]
    tags = run.event_log.tags
    lead = f"**{tags['experiment']}** on {tags['data']}: {len(children)}"
    commands = [(tags["mlflow.source.name"], "makes them all")]
    if tags[GROUP] == "seeds":
        run.tag({key: children[0].tags[key] for key in ("monitor", "mode")})
        means = _means([child.figures for child in children])
        run.log_once(means)
        commands.append((f"reprise reproduce {children[0].name}", "makes one again, bit for bit"))
        rows = [(child.name, child.figures) for child in children]
        lead += f" seeds: {descriptions.headline(children[0].tags['monitor'], means)}."
        run.tag({NOTE: descriptions.of_group(lead, rows, commands, means)})
    else:
        lead += " jobs."
        if best := _best(children):
            lead += f" The best by {best.tags['monitor']} is `{best.tags['settings']}`."
            commands.append((best.tags["mlflow.source.name"], "makes the best"))
        rows = [(f"`{child.tags['settings']}` {child.name}", child.figures) for child in children]
        run.tag({NOTE: descriptions.of_group(lead, rows, commands)})


def _means(figures: Sequence[descriptions.Figures]) -> dict[str, float]:
    """Of what every seed says."""
    means: dict[str, float] = {}
    for name in figures[0]:
        if all(name in one for one in figures):
            values = [one[name] for one in figures]
            means |= {name: fmean(values), descriptions.spread_of(name): stdev(values)}
    return means


def _best(jobs: Sequence[descriptions.Line]) -> descriptions.Line | None:
    """The best job, where all are judged alike."""
    monitor, mode = (jobs[0].tags[key] for key in ("monitor", "mode"))
    if any(job.tags["monitor"] != monitor for job in jobs):
        return None
    return (max if mode == "max" else min)(jobs, key=lambda job: job.figures[f"{descriptions.BEST}{monitor}"])


def _line(run_dir: Path) -> descriptions.Line:
    event_log = EventLog(run_dir)
    return descriptions.Line(run_dir.name, store.read_json(run_dir / "run.json")["name"], event_log.tags, event_log.figures)
