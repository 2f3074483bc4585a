"""The command line: one short function a subcommand, which hands on to stages/ and runs/.

Imports stand inside the functions, after what can be complained of without them: PyTorch, Lightning and MLflow take seconds.
"""

import errno
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from rich.console import Console

from reprise import config as configs
from reprise import orphans, ranks
from reprise.completion import Override
from reprise.errors import Notice, Stopped, UserError
from reprise.stages.places import Places

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
SURROUNDINGS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG, errno.ENOTDIR}
"""Errors of the operating system that are the user's to mend: no room, no permission, a broken disk, a file for a folder."""
console = Console()


class InOrder(click.Group):
    """Lists its subcommands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they stand in this file."""
        return list(self.commands)


overrides_argument = click.argument("overrides", nargs=-1, type=Override(), metavar="experiment=NAME [key=value ...]")
pipeline_option = click.option(
    "--pipeline", metavar="NAME", help="Do what dvc.yaml asks for: read data/config/NAME.yaml, write under data/."
)


@click.group(cls=InOrder, context_settings=SETTINGS)
def cli() -> None:
    """Train image and sequence models so that every number can be run again and comes out the same.

    \b
    The pipeline:   compose -> download -> preprocess -> window -> train -> evaluate
                    `dvc repro` runs it for every experiment in conf/pipeline.yaml, and only what changed; `reprise repro` is
                    the same, and goes on where one was killed.
    By hand:        reprise train experiment=digits_cnn
                    reprise train experiment=fashion_mnist_cnn trainer.max_epochs=1 data.limit=2000
                    A run by hand is a run of its own; it overwrites nothing that the pipeline made.
    Your pictures:  reprise train experiment=image_folder data.path=FOLDER
                    reprise predict RUN FOLDER          reprise explain RUN --image PICTURE
    See:            reprise watch, reprise results, reprise dashboard, reprise runs, reprise lineage RUN
    Compare:        reprise compare [EXPERIMENT ...] [--html FILE]          reprise register RUN
    Run again:      reprise reproduce RUN, reprise certify experiment=NAME

    Any key of the config can be set as key=value; `reprise compose experiment=NAME` prints them all. Tab completion:
    eval "$(_REPRISE_COMPLETE=bash_source reprise)" (or zsh_source, fish_source).

    Exit codes: 0 done, 2 something to mend (said in one line), 3 run again and found different, 130 and 143 stopped by a signal,
    1 a defect of reprise.
    REPRISE_DEBUG=1 shows tracebacks.
    """


@cli.command()
@overrides_argument
def compose(overrides: tuple[str, ...]) -> None:
    """Print the resolved config of an experiment. Without arguments, write those of the pipeline.

    \b
    reprise compose experiment=temperature_lstm optimizer.lr=0.003     prints
    reprise compose                                                     writes data/config/<experiment>.yaml
    """
    from reprise.stages import compose as stage

    places = _places()
    if overrides:
        click.echo(configs.render(configs.compose(places.root, overrides)), nl=False)
    else:
        stage.run(places, console)


@cli.command()
@overrides_argument
def download(overrides: tuple[str, ...]) -> None:
    """Fetch the files of a data set, sha256 checked. Name it by data=NAME or by an experiment.

    Tried in order: REPRISE_MIRROR (a folder or URL holding <data set>/<file>), then the sources in conf/data/NAME.yaml.
    A download that broke off goes on where it stopped.
    """
    from reprise.stages import download

    places = _places()
    download.run(_data(places, overrides), places, console)


@cli.command()
@overrides_argument
def preprocess(overrides: tuple[str, ...]) -> None:
    """Turn files into arrays. They go to data/processed/<data set>/; name it by data=NAME or by an experiment."""
    from reprise.stages import preprocess

    places = _places()
    preprocess.run(_data(places, overrides), places, console)


@cli.command()
@pipeline_option
@overrides_argument
def window(pipeline: str | None, overrides: tuple[str, ...]) -> None:
    """Split into train, val and test, and audit that nothing leaks. Statistics are fitted on train alone.

    By hand, windows for other settings than the pipeline's go under mlruns/windows/.
    """
    places = _places()
    config = _config(places, pipeline, overrides)
    from reprise.stages import window

    window.run(config, places, console, None if pipeline else window.folder_for(config, places))


@cli.command()
@pipeline_option
@click.option("--recorded", type=click.Path(exists=True, dir_okay=False, path_type=Path), hidden=True)
@click.option("--reproduces", hidden=True)
@click.option(
    "--multirun", "-m", is_flag=True, help="Train every combination of a=1,2, range(…) and choice(…), one after the other."
)
@overrides_argument
def train(
    pipeline: str | None, recorded: Path | None, reproduces: str | None, multirun: bool, overrides: tuple[str, ...]
) -> None:
    """Train an experiment, one MLflow run a seed. Kept is the best epoch by the validation metric.

    \b
    reprise train experiment=digits_cnn                                   seconds, no network needed
    reprise train experiment=fashion_mnist_cnn optimizer.lr=0.003         any key can be set
    reprise train experiment=fashion_mnist_cnn trainer.max_epochs=1 data.limit=2000      a quick try
    reprise train experiment=temperature_lstm seed=7 seeds=3              seeds 7, 8 and 9 (or seeds=[7,9]), a run each
    reprise train experiment=digits_cnn model=cnn optimizer=sgd scheduler=one_cycle      whole groups
    reprise train experiment=digits_cnn trainer=ddp_cpu trainer.devices=2                two processes
    reprise train --multirun experiment=digits_cnn optimizer.lr=0.001,0.003              one after the other

    \b
    Often set:  trainer.max_epochs, trainer.batch_size, trainer.precision (auto, float32, bf16, fp16),
                trainer.patience (early stopping), trainer.gradient_clip, optimizer.lr, scheduler=cosine, seed
    Devices:    trainer=auto|cpu|gpu|ddp|ddp_cpu|fsdp, trainer.devices, trainer.num_nodes

    Data that is not there yet is fetched. The run's home is mlruns/runs/<run id>/; the dashboard shows it. Several seeds, and the
    jobs of a --multirun, stand under one parent there, which says their mean and standard deviation, or the best of them.
    """
    places = _places()
    if multirun:
        _multirun(places, overrides)
        return
    config = configs.load_recorded(recorded, places.root) if recorded else _config(places, pipeline, overrides)
    from reprise.stages import train

    command = f"dvc repro train@{pipeline}" if pipeline else f"reprise train {_without_address(overrides)}"
    if reproduces:
        command = f"reprise reproduce {reproduces}"
    tags = {"reproduces": reproduces} if reproduces else {}
    train.run(config, places, console, command, publish=pipeline is not None, also=tags)


@cli.command()
@pipeline_option
@click.argument("run", required=False)
@click.argument("overrides", nargs=-1, type=Override(), metavar="[key=value ...]")
@click.option("--json", "as_json", is_flag=True, help="Print all metrics of a RUN as JSON, and nothing else.")
def evaluate(pipeline: str | None, run: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Measure a trained RUN on the test split. Metrics and figures go into the same MLflow run.

    RUN is a run's id, the beginning of it, or its name. Keys of trainer and tracking may be set (trainer=ddp_cpu).
    With experiment=NAME in place of RUN: the runs that the pipeline trained.
    """
    places = _places()
    if pipeline or (run and "=" in run):
        name = pipeline or configs.compose(places.root, [str(run)]).name
        if overrides or (pipeline and run):
            raise UserError("the pipeline's runs are evaluated as the pipeline says", "name a RUN to set keys of trainer")
        from reprise.stages import compose, evaluate

        config = compose.load(name, places)
        evaluate.pipeline(config, places, console)
    elif run:
        from reprise.stages import evaluate

        run_id, config = evaluate.recorded(places, run, overrides)
        evaluate.by_hand(config, run_id, places, console, as_json)
    else:
        raise UserError("no run named", "say `reprise evaluate RUN` or `reprise evaluate experiment=NAME`")


@cli.command()
@click.argument("run", required=False)
@click.argument("overrides", nargs=-1, type=Override(), metavar="[tracking.uri=ADDRESS]")
def watch(run: str | None, overrides: tuple[str, ...]) -> None:
    """Show how a training goes: curves, rate and remaining time.

    RUN may be trained on another machine: then the tracking store is asked. Without RUN, the newest that goes on here. Not on a
    terminal it is a line an epoch. Ctrl-C ends the watching, not the training.

    Exit codes: 0 the run finished, 2 it failed or was stopped, and why.
    """
    places = _places()
    from reprise.runs import sync, watch

    named = run if run and "=" not in run else None
    if run and not named:
        overrides = (run, *overrides)
    try:
        watch.run(places, named, sync.address(places, overrides), console)
    except Stopped as stopped:
        if stopped.exit_code != 128 + signal.SIGINT:
            raise


@cli.command()
@click.argument("words", nargs=-1, type=Override(), metavar="sweep=NAME [resume] [workers=N] [launcher=NAME] [key=value ...]")
@click.option("--worker", "parent", hidden=True)
def sweep(words: tuple[str, ...], parent: str | None) -> None:
    """Search for the best settings of an experiment.

    \b
    reprise sweep sweep=temperature_lstm                                      a space of conf/sweep/
    reprise sweep sweep=fashion_mnist_cnn n_trials=20 sweep.seeds=3 trainer.max_epochs=5
    reprise sweep sweep=grid experiment=digits_cnn optimizer.lr=0.001,0.003 trainer.batch_size=32,64
    reprise sweep sweep=temperature_lstm resume                               say how it stands, then go on

    Started again after a kill it goes on: the number of trials is exact, and those that were interrupted go on from their
    checkpoints.

    \b
    workers=N      train at the same time; else one for each core or GPU
    launcher=...   where: local (this machine), ray, slurm; launcher.KEY=value sets what Ray or submitit know by that name
    storage=URL    database of the sweep, else mlruns/sweeps.db; say the same on other machines, and they share the trials.
                   An address with a password belongs into REPRISE_STORAGE.

    The test split stays shut. The best settings become conf/experiment/NAME_tuned.yaml.
    """
    from reprise.config.sweep import read_sweep
    from reprise.runs import launchers

    places = _places()
    asked, rest = launchers.asked([word for word in words if word != "resume"])
    resume = "resume" in words
    name = rest[0].removeprefix("sweep=") if len(rest) == 1 and rest[0].startswith("sweep=") else None
    if resume and name is None:
        raise UserError("resume goes on with a sweep as it was begun", "say `reprise sweep sweep=NAME resume`")
    wanted = None if resume else read_sweep(places.root, rest)
    if parent:
        from reprise.runs import trial

        trial.work(str(name), places, asked.storage, parent)
        return
    from reprise.runs import sweep

    if wanted:
        sweep.run(wanted, asked, places, console)
    else:
        sweep.resume(str(name), asked, places, console)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENT OF dvc repro ...]")
def repro(arguments: tuple[str, ...]) -> None:
    """Run `dvc repro`, also after one that was killed.

    DVC writes dvc.lock in place, so a kill can leave half of one, which it then refuses to read. This puts it right first; what
    was computed is not computed again.
    """
    from reprise.stages import repro

    repro.run(_places(), arguments, console)


@cli.command()
@click.argument("run")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to; else one in the run's home.")
@click.option("--json", "as_json", is_flag=True, help="Print every answer as JSON; what is left out, on stderr.")
def predict(run: str, path: Path, out: Path | None, as_json: bool) -> None:
    """Say what a RUN takes a picture, or a folder of them, for.

    Prints classes with confidence; writes predictions.csv and predictions.png. Pictures may be PNG, JPEG, BMP or WebP, of any
    size. Where their folders are called as the classes are, it says how many were right.
    """
    import json

    places = _places()
    from reprise.runs import predict
    from reprise.runs.trained import open_run

    opened = open_run(places, run)
    folder = out or opened.home / "predictions" / path.resolve().stem
    answers = predict.run(opened, path, folder, Console(stderr=True) if as_json else console)
    if as_json:
        click.echo(json.dumps(answers.rows(), indent=2, ensure_ascii=False))
    else:
        predict.show(answers, folder, console)


@cli.command()
@click.argument("run")
@click.option("--image", required=True, type=click.Path(path_type=Path), help="The picture.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to; else one in the run's home.")
def explain(run: str, image: Path, out: Path | None) -> None:
    """Draw what a RUN sees in a picture of your own.

    Filters, feature maps of every convolution, what speaks for the two likeliest classes (integrated gradients), layer table.
    """
    places = _places()
    from reprise.runs import explain
    from reprise.runs.trained import open_run

    opened = open_run(places, run)
    explain.run(opened, image, out or opened.home / "explain" / image.stem, console)


@cli.command()
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Write Markdown to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print all metrics as JSON.")
def results(write: Path | None, as_json: bool) -> None:
    """Show the results of the pipeline, as a table, Markdown or JSON."""
    import json

    from reprise.runs.results import Results

    found = Results.read(_places())
    if as_json:
        click.echo(json.dumps(found.by_experiment, indent=2))
    elif write:
        found.write(write)
    else:
        found.show(console)


@cli.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, and nothing else.")
def lineage(run: str, as_json: bool) -> None:
    """Show the whole way of a RUN, from raw files to metrics.

    Raw files with their hashes, arrays, windows, config, code (commit, patch), packages, machine, weights, metrics.
    """
    import json
    import tempfile

    places = _places()
    from reprise.runs import lineage
    from reprise.tracking import record

    with tempfile.TemporaryDirectory() as scratch:
        found = record.read(places.store, run, configs.tracking_config(places.root), Path(scratch))
        described = lineage.describe(found)
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        lineage.show(described, console)


@cli.command()
@click.option("--data-hash", metavar="HASH", help="Runs that read arrays or windows of this hash (or DVC's of them).")
@click.option("--config-hash", metavar="HASH", help="Runs of this config; `reprise lineage RUN` shows the hashes.")
@click.option("--commit", metavar="HASH", help="Runs made from this commit.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, and nothing else.")
def runs(data_hash: str | None, config_hash: str | None, commit: str | None, as_json: bool) -> None:
    """List runs, or those that came from certain data or code.

    The newest first. Of a hash, its beginning is enough; `reprise lineage RUN` shows them.
    """
    import json
    from dataclasses import asdict

    asked = {"data": data_hash, "sha256.config": config_hash, "git.commit": commit}
    places = _places()
    from reprise.runs import lineage

    found = lineage.search(places, {name: start for name, start in asked.items() if start is not None})
    if as_json:
        click.echo(json.dumps([asdict(line) for line in found], indent=2, ensure_ascii=False))
    else:
        console.print(lineage.table(found) if found else "no such run")


@cli.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT ...]")
@click.option(
    "--filter", "expression", metavar="EXPRESSION", help="Runs that this is true of, in the language of MLflow's search."
)
@click.option("--by", metavar="KEY,...", help="Group by these keys or sections of the config alone, as model,data.")
@click.option("--metric", metavar="NAME", help="val/accuracy, test/mae, ...; else the main one of val.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page that needs nothing but a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON, and nothing else.")
def compare(
    experiments: tuple[str, ...], expression: str | None, by: str | None, metric: str | None, html: Path | None, as_json: bool
) -> None:
    """Rank settings by their runs, and tell a difference from luck.

    \b
    reprise compare                                                     all that was trained, a table for each data set
    reprise compare temperature_lstm temperature_gru --metric mae
    reprise compare --by model,optimizer --html compare.html
    reprise compare --filter 'params.`optimizer.lr` = "0.001" and tags.device = "cpu"'

    Runs that differ in nothing but the seed are one group: mean ± standard deviation and 95 % interval over seeds. Each is tested
    against the next of the ranking (t test, paired by seed; Holm's correction): better, worse, or not distinguishable, and how
    many seeds more would tell. A figure is that of val at the run's best epoch; test/… only of runs that `evaluate` opened.

    The page of --html is kept as a run of its own on the dashboard.
    """
    import json

    places = _places()
    from reprise.runs import compare_view
    from reprise.runs.compare import Asked, compare

    sections = tuple(part.strip() for part in by.split(",") if part.strip()) if by else ()
    found = compare(places, Asked(experiments, expression, sections, metric))
    if as_json:
        click.echo(json.dumps(compare_view.described(found), indent=2, ensure_ascii=False))
    else:
        compare_view.show(found, console)
    if html and found.tables:
        from reprise.runs import compare_page  # late: MLflow, to keep the page

        options = [("--filter", expression), ("--by", by), ("--metric", metric), ("--html", str(html))]
        said = [word for option, value in options if value for word in (option, value)]
        compare_page.write(found, shlex.join(["reprise", "compare", *experiments, *said]), places, html)
        if not as_json:
            console.print(f"compare  {html} is written, and kept as a run on the dashboard", highlight=False, soft_wrap=True)


@cli.command()
@click.argument("run")
@click.option("--alias", default="champion", show_default=True, help="What it is to be called in the registry.")
@click.option("--force", metavar="REASON", help="Register it whatever the judgement; the reason is kept.")
def register(run: str, alias: str, force: str | None) -> None:
    """Put the model of a RUN into MLflow's registry, if it is better.

    The registered model is called as the data set, and one version of it holds the alias. RUN takes it when its val metric, over
    all seeds of its config, is better than the holder's, or not distinguishable from it with fewer parameters. Else it is refused
    with the figures. Of single seeds nothing can be told: train some, seeds=5.

    Load it: mlflow.pyfunc.load_model("models:/DATA@champion").
    """
    from reprise.runs import register

    register.run(_places(), run, alias, force, console)


@cli.command()
@click.argument("run")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), help="Judge metrics by this, absolute or relative, instead of bit for bit."
)
@click.option("--env", "environment", is_flag=True, help="Make a virtual environment of the packages the run had (takes long).")
def reproduce(run: str, tolerance: float | None, environment: bool) -> None:
    """Run a RUN again, and compare weights and metrics.

    Code: the run's commit and what was not committed of it. Data: hashes are checked; what is missing or another is made afresh
    by that code. Config: as it was recorded. On the same machine the same bits come out; on another one metrics are judged by a
    tolerance, which is said.

    Exit codes: 0 the same, 3 different (the first tensor and epoch are named), 2 it cannot be run again, and why.
    """
    places = _places()
    from reprise.runs import reproduce

    verdict = reproduce.run(places, run, tolerance, environment, console)
    if verdict.surroundings:
        click.echo(f"reproduce  the machine is another, bits may differ: {verdict.surroundings}")
    if verdict.identical:
        click.echo(f"reproduce  identical: weights bit for bit, every metric exactly; run {verdict.new}")
    elif verdict.within is not None:
        click.echo(f"reproduce  the same within {verdict.within:g}: {verdict.difference}; run {verdict.new}")
    else:
        _say(f"different: {verdict.difference}; run {verdict.new}")
        raise click.exceptions.Exit(3)


@cli.command()
@click.option("--steps", default=20, show_default=True, type=click.IntRange(min=1), help="Of training, in each process.")
@overrides_argument
def certify(steps: int, overrides: tuple[str, ...]) -> None:
    """Prove that an experiment trains the same bits twice.

    Its first steps are trained in two fresh processes.

    One gathers batches in the thread that trains, the other in a thread of the loader. Every weight is compared after every step.
    The certificate becomes tags of the runs of these settings, on this machine: those that are, and those to come.

    Exit codes: 0 bit-equal, 3 different (the first step and tensor are named).
    """
    places = _places()
    config = configs.compose(places.root, overrides)
    from reprise.runs import certify

    certificate = certify.run(config, places, steps, console)
    if certificate.difference:
        _say(f"different: {certificate.difference}")
        raise click.exceptions.Exit(3)
    click.echo(f"certify  {config.name}: {certificate.words}")


@cli.command()
@click.argument("overrides", nargs=-1, type=Override(), metavar="[tracking.uri=ADDRESS]")
def sync(overrides: tuple[str, ...]) -> None:
    """Deliver to the tracking store what waits in the homes of runs.

    A training goes on when the store is away; what it says waits in its home. The next `reprise train` delivers it too.
    """
    from reprise.runs.sync import run

    run(_places(), overrides, console)


@cli.command()
@click.option("--port", default=5000, show_default=True)
def dashboard(port: int) -> None:
    """Open MLflow's dashboard over all runs. It listens on this machine only (127.0.0.1)."""
    from reprise.runs.dashboard import serve

    serve(_places(), port, console)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line; the only place where an exception becomes an exit code."""
    warnings.showwarning = _warn  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if "DVC_STAGE" in os.environ or ranks.has_parent():
        orphans.end_with_parent()
    try:
        outcome = cli.main(args=None if arguments is None else list(arguments), prog_name="reprise", standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0  # of `Exit`, which click turns into what it returns
    except click.exceptions.Exit as asked:
        code = asked.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _say(str(UserError(error.format_message().rstrip("."), f"see `{context.command_path if context else 'reprise'} --help`")))
        code = 2
    except UserError as error:
        if os.environ.get("REPRISE_DEBUG") == "1":
            raise
        _say(str(error))
        code = 2
    except Stopped as stopped:
        _say(str(stopped))
        code = stopped.exit_code
    except OSError as error:
        if error.errno not in SURROUNDINGS or os.environ.get("REPRISE_DEBUG") == "1":
            raise
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
        code = 2
    sys.exit(code)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """What the user should know is one line; a warning of a library stays as it is."""
    if issubclass(category, Notice):
        _say(str(message))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _say(message: str) -> None:
    if ranks.has_parent():
        ranks.tell_parent(message)
    elif ranks.is_first():
        click.echo(f"reprise: {message}", err=True)


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)  # once is enough: what follows is the closing of books
    raise Stopped(signum)


def _places() -> Places:
    return Places(configs.project_root())


def _config(places: Places, pipeline: str | None, overrides: Sequence[str]) -> configs.Config:
    if pipeline is None:
        return configs.compose(places.root, overrides)
    if overrides:
        raise UserError("--pipeline takes its config from data/config/", "set keys in conf/, or leave --pipeline away")
    from reprise.stages import compose

    return compose.load(pipeline, places)


def _multirun(places: Places, overrides: Sequence[str]) -> None:
    every = configs.expand(overrides)
    shared = set.intersection(*map(set, every))
    composed = [configs.compose(places.root, job) for job in every]  # all of them before the first is trained
    from reprise.runs import multirun

    jobs = [
        multirun.Job(
            config, f"reprise train {_without_address(job)}", _without_address([item for item in job if item not in shared])
        )
        for config, job in zip(composed, every, strict=True)
    ]
    multirun.run(jobs, places, console, f"reprise train --multirun {_without_address(overrides)}")


def _without_address(overrides: Sequence[str]) -> str:
    """Overrides as they were typed, but for where runs are written down: an address can hold a password."""
    return shlex.join(item for item in overrides if not item.lstrip("+~").startswith("tracking"))


def _data(places: Places, overrides: Sequence[str]) -> configs.DataConfig:
    if not overrides:
        raise UserError("no data set named", f"add data=NAME, one of {', '.join(configs.choices(places.root, 'data'))}")
    first, *keys = sorted(overrides, key=lambda item: not item.startswith("data="))
    if first.startswith("data=") and all(item.startswith("data.") for item in keys):
        return configs.compose_dataset(places.root, first.removeprefix("data="), keys)
    return configs.compose(places.root, overrides).data


if __name__ == "__main__":
    main()
