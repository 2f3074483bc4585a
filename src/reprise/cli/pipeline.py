"""The commands that run stages, by hand or from DVC, and `dvc repro` itself. `train` has a file of its own."""

import os
from collections.abc import Sequence

import click

from reprise import config as configs
from reprise import terminal
from reprise.cli import jobs
from reprise.cli.common import (
    composed,
    console,
    heavy_imports,
    optional_run_argument,
    overrides_argument,
    pipeline_option,
    project,
    suggest,
    write,
)
from reprise.cli.jobs import DASHBOARD, without_address
from reprise.completion import Override
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths


@click.command()
@overrides_argument
def compose(overrides: tuple[str, ...]) -> None:
    """Print the resolved config of an experiment. Without arguments, write the configs of the pipeline.

    \b
    reprise compose experiment=temperature_lstm optimizer.lr=0.003     prints
    reprise compose                                                     writes data/config/<experiment>.yaml
    """
    from reprise.stages import compose as stage

    paths = project()
    if overrides:
        write(configs.render(configs.compose(paths.root, overrides), escape=not terminal.shows_unicode()), end=False)
    else:
        stage.run(paths, console)
    train = f"reprise train {without_address(overrides)}" if overrides else "dvc repro"
    suggest((train, "trains it" if overrides else "makes all that is out of date"))


@click.command()
@click.argument("name")
def plugins(name: str) -> None:
    """Hash the source files of a plugin listed in conf/pipeline.yaml.

    DVC runs this command when the files change. It writes the hashes to data/plugins/NAME.json; DVC then trains the experiments
    that use the plugin again.
    """
    from reprise.stages import plugins as stage

    stage.run(name, project(), console)


@click.command()
def code() -> None:
    """Hash the installed code of each stage. Used by dvc.yaml of a project outside of a clone.

    DVC runs this command each time. It writes the hashes to data/code.json; after an upgrade of reprise, DVC then reruns the
    stages whose code changed.
    """
    from reprise.stages import code as stage

    stage.run(project(), console)


@click.command()
@overrides_argument
def download(overrides: tuple[str, ...]) -> None:
    """Download the files of a data set and check their sha256. Select it by data=NAME or an experiment.

    Sources in order: REPRISE_MIRROR (a folder or URL with <data set>/<file>), then the sources in conf/data/NAME.yaml.
    Interrupted downloads resume.
    """
    from reprise.stages import download

    paths = project()
    download.run(_data(paths, overrides), paths, console)
    suggest((f"reprise preprocess {without_address(overrides)}", "turns the files into arrays"))


@click.command()
@overrides_argument
def preprocess(overrides: tuple[str, ...]) -> None:
    """Convert raw files to arrays in data/processed/<data set>/. Select it by data=NAME or an experiment.

    By hand, raw files that are missing or older than conf/data/NAME.yaml are downloaded first.
    """
    from reprise.stages import freshness, preprocess

    paths = project()
    make = preprocess.run if "DVC_STAGE" in os.environ else freshness.make  # DVC has run download
    data = _data(paths, overrides)
    make(data, paths, console)
    names_experiment = any(item.startswith("experiment=") for item in overrides)
    words = without_address(overrides) if names_experiment else f"experiment=NAME {without_address(overrides)}"
    suggest((f"reprise train {words}", "trains on them"))


@click.command()
@pipeline_option
@overrides_argument
def window(pipeline: str | None, overrides: tuple[str, ...]) -> None:
    """Split into train, val and test, and audit the splits for leaks. Fit the statistics on train only.

    By hand, windows for settings outside the pipeline are written under mlruns/windows/.
    """
    paths = project()
    config = composed(paths, pipeline, overrides)
    from reprise.stages import freshness, window

    if not pipeline:
        freshness.arrays(config.data, paths, console)
    window.run(config, paths, console, None if pipeline else window.folder_for(config, paths))
    suggest((f"reprise train {without_address(overrides)}", "trains on these windows"))


@click.command()
@pipeline_option
@optional_run_argument
@click.argument("overrides", nargs=-1, type=Override(), metavar="[key=value ...]")
@click.option("--json", "as_json", is_flag=True, help="Print only the metrics of a RUN, as JSON.")
def evaluate(pipeline: str | None, run: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Evaluate a trained RUN on the test split. Log metrics and figures to the same MLflow run.

    RUN is a run id or a prefix of it, a run name, or a registered model (models:/NAME@ALIAS). Keys of trainer and tracking
    can be set (trainer=ddp_cpu). With the parent run of several folds, each of them is evaluated. experiment=NAME in place of
    RUN evaluates the runs that the pipeline trained.
    """
    paths = project()
    if pipeline or (run and "=" in run):
        name = pipeline or configs.compose(paths.root, [str(run)]).name
        if overrides or (pipeline and run):
            raise UserError("runs of the pipeline are evaluated with its own settings", "name a RUN to set keys of trainer")
        with heavy_imports():
            from reprise.stages import compose, evaluate

        config = compose.load(name, paths)
        evaluate.pipeline(config, paths, console)
        if run:
            with heavy_imports():
                from reprise.stages import draw

            draw.pipeline(config, paths, console)
    elif run:
        with heavy_imports():
            from reprise.stages import evaluate
            from reprise.tracking import groups
            from reprise.tracking import run as tracking

        if folds := groups.runs_of_folds(paths.store, tracking.find(paths.store, run)):
            jobs.evaluate_folds(paths, run, folds, overrides, as_json)
            return
        run_id, config = evaluate.recorded(paths, run, overrides)
        groups.check_is_no_trial(paths.run_dir(run_id))
        evaluate.by_hand(config, run_id, paths, console, as_json)
        if not as_json:
            suggest((f"reprise compare {config.name}", "ranks it among other settings"), DASHBOARD)
    else:
        raise UserError("no run named", "use `reprise evaluate RUN` or `reprise evaluate experiment=NAME`")


@click.command()
@click.option("--pipeline", metavar="EXPERIMENT", required=True, help="An experiment of conf/pipeline.yaml that was evaluated.")
def draw(pipeline: str) -> None:
    """Draw the figures and tables of an evaluated experiment again.

    Read the weights and saved predictions, write to data/results/EXPERIMENT/figures/, and log to the runs on the dashboard.
    `reprise evaluate RUN` draws the figures of a single run.
    """
    paths = project()
    with heavy_imports():
        from reprise.stages import compose
        from reprise.stages import draw as stage

    stage.pipeline(compose.load(pipeline, paths), paths, console)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Run the stages of up to N experiments at the same time."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENT OF dvc repro ...]")
def repro(jobs: int, arguments: tuple[str, ...]) -> None:
    """Run `dvc repro`, after repairing dvc.lock if necessary.

    DVC writes dvc.lock in place, so a kill can leave a truncated file that DVC refuses to read. This command repairs the file
    first, without computing finished stages again.

    \b
    reprise repro --jobs 2                      two experiments of dvc.yaml at a time
    reprise repro --jobs 2 --all-pipelines      also those of long/dvc.yaml

    The results do not depend on --jobs. If a stage fails, experiments that are running are finished, and no other one starts.
    """
    from reprise.stages import repro

    repro.run(project(), arguments, jobs, console)


@click.command()
@click.argument("stages", nargs=-1, metavar="[STAGE ...]")
def revalidate(stages: tuple[str, ...]) -> None:
    """Check that changed code does not change the outputs of a stage.

    If the outputs are the same, DVC need not run the stage again.

    \b
    reprise revalidate                        all stages where only files under src/ changed
    reprise revalidate train@digits_cnn       one STAGE, named as in `dvc status`

    Arrays, windows and metrics are computed again and compared file by file. For a training, the weights after each of the first
    steps are compared with those recorded by the original training. A stage that passes is committed with `dvc commit`. If a
    stage differs, the first difference is printed and the exit code is 3: run `dvc repro`.
    """
    from reprise.analysis import revalidate

    if not revalidate.run(project(), stages, console):
        raise click.exceptions.Exit(3)


def _data(paths: ProjectPaths, overrides: Sequence[str]) -> configs.DataConfig:
    if not overrides:
        raise UserError("no data set named", f"add data=NAME, one of {', '.join(configs.choices(paths.root, 'data'))}")
    first, *keys = sorted(overrides, key=lambda item: not item.startswith("data="))
    if first.startswith("data=") and all(item.startswith("data.") for item in keys):
        return configs.compose_dataset(paths.root, first.removeprefix("data="), keys)
    return configs.compose(paths.root, overrides).data
