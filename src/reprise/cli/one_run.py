"""What is done with one run: watched, looked at, asked, run again."""

import shlex
import signal
from pathlib import Path

import click
from rich.console import Console

from reprise import config as configs
from reprise.cli.common import (
    UserPath,
    console,
    optional_run_argument,
    overrides_argument,
    project,
    run_argument,
    say,
    suggest,
    write,
    write_json,
)
from reprise.completion import Override
from reprise.errors import Stopped


@click.command()
@optional_run_argument
@click.argument("overrides", nargs=-1, type=Override(), metavar="[tracking.uri=ADDRESS]")
def watch(run: str | None, overrides: tuple[str, ...]) -> None:
    """Show how a training goes: curves, rate and remaining time.

    RUN may be trained on another machine: then the tracking store is asked. Without RUN, the newest that goes on here. Not on a
    terminal it is a line an epoch. Ctrl-C ends the watching, not the training.

    Exit codes: 0 the run finished, 2 it failed or was stopped, and why.
    """
    paths = project()
    from reprise.analysis import sync, watch

    named = run if run and "=" not in run else None
    if run and not named:
        overrides = (run, *overrides)
    try:
        watch.run(paths, named, sync.address(paths, overrides), console)
    except Stopped as stopped:
        if stopped.exit_code != 128 + signal.SIGINT:
            raise


@click.command()
@run_argument
@click.argument("path", type=UserPath(path_type=Path))
@click.option("--out", type=UserPath(file_okay=False, path_type=Path), help="Folder to write to; else one in the run directory.")
@click.option("--json", "as_json", is_flag=True, help="Print every answer as JSON; what is left out, on stderr.")
def predict(run: str, path: Path, out: Path | None, as_json: bool) -> None:
    """Predict the classes of pictures with a RUN.

    PATH is a picture, a folder of them, or a CSV table with the columns file and label.
    Prints mistakes first and a row per class; writes predictions.csv (the true class and every probability) and predictions.png.
    Pictures may be PNG, JPEG, BMP, WebP, GIF or TIFF, of any size. The true class is known where a folder is named as it.
    Pictures that the run was trained on are recognised, and their accuracy is stated apart.
    """
    paths = project()
    from reprise.analysis import predict, predict_view
    from reprise.analysis.trained import open_run

    opened = open_run(paths, run)
    folder = out or opened.run_dir / "predictions" / path.resolve().stem
    answers = predict.run(opened, path, folder, Console(stderr=True, markup=False, emoji=False) if as_json else console)
    if as_json:
        write_json(answers.rows())
    else:
        predict_view.show(answers, folder, console)
        picture = answers.rows()[0]["file"]
        suggest((shlex.join(["reprise", "explain", run, "--image", picture]), "draws what the network sees in it"))


@click.command()
@run_argument
@click.option("--image", required=True, type=UserPath(path_type=Path), help="The picture.")
@click.option("--out", type=UserPath(file_okay=False, path_type=Path), help="Folder to write to; else one in the run directory.")
def explain(run: str, image: Path, out: Path | None) -> None:
    """Draw what a RUN sees in a picture of your own.

    Filters, feature maps of every convolution, what speaks for the two likeliest classes (integrated gradients), layer table.
    """
    paths = project()
    from reprise.analysis import explain
    from reprise.analysis.trained import open_run

    opened = open_run(paths, run)
    explain.run(opened, image, out or opened.run_dir / "explain" / image.stem, console)
    suggest((f"reprise compare {opened.config.name}", "ranks its settings among others"))


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, and nothing else.")
def lineage(run: str, as_json: bool) -> None:
    """Show the whole way of a RUN, from raw files to metrics.

    Raw files with their hashes, arrays, windows, config, code (commit, patch), packages, machine, weights, metrics.
    """
    import tempfile

    paths = project()
    from reprise.analysis import lineage
    from reprise.tracking import record

    with tempfile.TemporaryDirectory() as scratch:
        found = record.read(paths.store, run, configs.tracking_config(paths.root), Path(scratch))
        described = lineage.describe(found)
    if as_json:
        write_json(described)
    else:
        lineage.show(described, console)
        suggest((f"reprise reproduce {run}", "trains it again and compares every weight"))


@click.command()
@run_argument
@click.option("--alias", default="champion", show_default=True, help="What it is to be called in the registry.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="Loss that is accepted of a smaller model, in units of the metric.",
)
@click.option("--force", metavar="REASON", help="Register it whatever the judgement; the reason is kept.")
def register(run: str, alias: str, margin: float | None, force: str | None) -> None:
    """Put the model of a RUN into MLflow's registry, if it is better.

    The registered model is called as the data set, and one version of it holds the alias. RUN takes it when its val metric, over
    all seeds of its config, is better than the holder's; or when it has fewer parameters, and the 95 % interval shows that it
    loses no more than a margin: 5 % of the holder's error (of 1 - accuracy, or of the MAE), or --margin. Else it is refused
    with the figures. Of single seeds nothing can be told: train some, seeds=5.

    Load it: mlflow.pyfunc.load_model("models:/DATA@champion").
    """
    from reprise.analysis import register

    model = register.run(project(), run, alias, force, console, margin)
    suggest((f"reprise predict {model} PICTURES", "classifies with it"), (f"reprise lineage {model}", "what it was made from"))


@click.command()
@run_argument
@click.option(
    "--tolerance", type=click.FloatRange(min=0), help="Judge metrics by this, absolute or relative, instead of bit for bit."
)
@click.option("--env", "environment", is_flag=True, help="Make a virtual environment of the packages the run had (takes long).")
@click.option("--trust", is_flag=True, help="Run the code of a RUN that was not made in this project; without it, see it first.")
def reproduce(run: str, tolerance: float | None, environment: bool, trust: bool) -> None:
    """Run a RUN again, and compare weights and metrics.

    Code: the run's commit and what was not committed of it. Data: hashes are checked; what is missing or another is made afresh
    by that code. Config: as it was recorded. On the same machine the same bits come out; on another one metrics are judged by a
    tolerance, which is said.

    A RUN from a shared tracking store is somebody else's code. Its patch is shown first, and nothing is run without --trust.

    Exit codes: 0 the same, 3 different (the first tensor and epoch are named), 2 it cannot be run again, and why.
    """
    paths = project()
    from reprise.analysis import reproduce

    verdict = reproduce.run(paths, run, tolerance, environment, trust, console)
    if verdict.surroundings:
        write(f"reproduce  bits may differ: {verdict.surroundings}")
    if verdict.identical:
        write(f"reproduce  identical: weights bit for bit, every metric exactly; run {verdict.new}")
    elif verdict.within is not None:
        write(f"reproduce  the same within {verdict.within:g}: {verdict.difference}; run {verdict.new}")
    else:
        say(f"different: {verdict.difference}; run {verdict.new}")
        raise click.exceptions.Exit(3)
    suggest((f"reprise register {run}", "registers its model, if it is better than the present one"))


@click.command()
@click.option("--steps", default=20, show_default=True, type=click.IntRange(min=1), help="Of training, in each process.")
@overrides_argument
def certify(steps: int, overrides: tuple[str, ...]) -> None:
    """Prove that an experiment trains the same bits twice.

    Its first steps are trained in two fresh processes.

    One gathers batches in the thread that trains, the other in a thread of the loader. Every weight is compared after every step.
    The certificate becomes tags of the runs of these settings, on this machine: those that are, and those to come.

    Exit codes: 0 bit-equal, 3 different (the first step and tensor are named).
    """
    paths = project()
    config = configs.compose(paths.root, overrides)
    from reprise.analysis import certify

    certificate = certify.run(config, paths, steps, console)
    if certificate.difference:
        say(f"different: {certificate.difference}")
        raise click.exceptions.Exit(3)
    write(f"certify  {config.name}: {certificate.words}")
    suggest((shlex.join(["reprise", "train", *overrides]), "trains it"))
