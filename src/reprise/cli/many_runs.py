"""What is done with many runs: searched, compared, listed, delivered, shown."""

import shlex
from pathlib import Path

import click

from reprise import parent_watchdog
from reprise.cli.common import UserPath, console, project, suggest, write_json
from reprise.completion import Override
from reprise.errors import UserError


@click.command()
@click.argument("words", nargs=-1, type=Override(), metavar="sweep=NAME [resume] [workers=N] [launcher=NAME] [key=value ...]")
@click.option("--worker", "parent", hidden=True)
def sweep(words: tuple[str, ...], parent: str | None) -> None:
    """Search for the best settings of an experiment.

    \b
    reprise sweep sweep=temperature_lstm                                      a space of conf/sweep/
    reprise sweep sweep=fashion_mnist_cnn n_trials=20 sweep.seeds=3 trainer.max_epochs=5
    reprise sweep sweep=grid experiment=digits_cnn optimizer.lr=0.001,0.003 trainer.batch_size=32,64
    reprise sweep sweep=temperature_lstm resume                               say how it stands, then go on
    reprise sweep sweep=temperature_lstm resume n_trials=60                   with more trials, or sweep.max_failures=20

    Started again after a kill it goes on: the number of trials is exact, and those that were interrupted go on from their
    checkpoints.

    \b
    workers=N      train at the same time; else one for each core or GPU
    launcher=...   where: local (this machine), ray, slurm; launcher.KEY=value sets what Ray or submitit know by that name
    storage=URL    database of the sweep, else mlruns/sweeps.db; say the same on other machines, and they share the trials.
                   An address with a password belongs into REPRISE_STORAGE.

    The test split stays shut. The best settings become conf/experiment/NAME_tuned.yaml.
    """
    if parent:
        parent_watchdog.end_with_parent()
    from reprise.config.sweep import read_resumed, read_sweep
    from reprise.sweeps import launchers

    paths = project()
    asked, rest = launchers.asked([word for word in words if word != "resume"])
    if "resume" not in words:
        wanted = read_sweep(paths.root, rest)
        from reprise.sweeps import driver

        driver.run(wanted, asked, paths, console)
        return
    resumed = read_resumed(rest)
    if parent:
        from reprise.sweeps import trial

        trial.work(resumed.name, paths, asked.storage, parent)
    else:
        from reprise.sweeps import driver

        driver.resume(resumed, asked, paths, console)


@click.command()
@click.option("--write", type=UserPath(dir_okay=False, path_type=Path), help="Write Markdown to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print all metrics as JSON.")
def results(write: Path | None, as_json: bool) -> None:
    """Show the results of the pipeline, as a table, Markdown or JSON."""
    from reprise.analysis.results import Results

    found = Results.read(project())
    if as_json:
        write_json(found.by_experiment)
    elif write:
        found.write(write)
    else:
        found.show(console)
    if not as_json and not write:
        suggest(("reprise compare", "ranks all settings, with their spread over seeds"), ("reprise runs", "lists every run"))


@click.command()
@click.option("--data-hash", metavar="HASH", help="Runs that read arrays or windows of this hash (or DVC's of them).")
@click.option("--config-hash", metavar="HASH", help="Runs of this config; `reprise lineage RUN` shows the hashes.")
@click.option("--commit", metavar="HASH", help="Runs made from this commit.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, and nothing else.")
def runs(data_hash: str | None, config_hash: str | None, commit: str | None, as_json: bool) -> None:
    """List runs, or those that came from certain data or code.

    The newest first. Of a hash, its beginning is enough; `reprise lineage RUN` shows them.
    """
    from dataclasses import asdict

    asked = {"data": data_hash, "sha256.config": config_hash, "git.commit": commit}
    paths = project()
    from reprise.analysis import lineage

    found = lineage.search(paths, {name: start for name, start in asked.items() if start is not None})
    if as_json:
        write_json([asdict(line) for line in found])
    else:
        console.print(lineage.table(found) if found else "no such run")
    if found and not as_json:
        suggest((f"reprise lineage {found[0].id[:8]}", "shows what the newest was made from"), ("reprise compare", "ranks them"))


@click.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT ...]")
@click.option(
    "--filter", "expression", metavar="EXPRESSION", help="Runs that this is true of, in the language of MLflow's search."
)
@click.option("--by", metavar="KEY,...", help="Group by these keys or sections of the config alone, as model,data.")
@click.option("--metric", metavar="NAME", help="val/accuracy, test/mae, ...; else the main one of val.")
@click.option("--html", type=UserPath(dir_okay=False, path_type=Path), help="Write a page that needs nothing but a browser.")
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
    paths = project()
    from reprise.analysis import compare_view
    from reprise.analysis.compare import ComparisonQuery, compare

    sections = tuple(part.strip() for part in by.split(",") if part.strip()) if by else ()
    found = compare(paths, ComparisonQuery(experiments, expression, sections, metric))
    if as_json:
        write_json(compare_view.described(found))
    else:
        compare_view.show(found, console)
    if found.tables and not as_json:
        (best, _), *_ = found.tables[0].groups[0].runs.values()
        suggest((f"reprise register {best.id[:8]}", f"registers the model of {best.name}, if it is better than the present one"))
    if html and not found.tables:
        raise UserError("nothing to compare: no page is written", "train first; runs are left out for the reasons above")
    if html:
        from reprise.analysis import compare_page  # late: MLflow, to keep the page

        options = [("--filter", expression), ("--by", by), ("--metric", metric), ("--html", str(html))]
        said = [word for option, value in options if value for word in (option, value)]
        compare_page.write(found, shlex.join(["reprise", "compare", *experiments, *said]), paths, html)
        if not as_json:
            console.print(f"compare  {html} is written, and kept as a run on the dashboard", highlight=False, soft_wrap=True)


@click.command()
@click.argument("overrides", nargs=-1, type=Override(), metavar="[tracking.uri=ADDRESS]")
def sync(overrides: tuple[str, ...]) -> None:
    """Deliver to the tracking store what waits in the run directories.

    A training goes on when the store is away; what it says waits in its run directory. The next `reprise train` delivers it too.
    """
    from reprise.analysis.sync import run

    run(project(), overrides, console)
    suggest(("reprise runs", "lists every run"))


@click.command()
@click.option("--port", default=5000, show_default=True)
@click.option("--open/--no-open", "opened", default=True, help="Open it in a browser, where there is a display.")
def dashboard(port: int, opened: bool) -> None:
    """Open MLflow's dashboard over all runs. It listens on this machine only (127.0.0.1).

    Each data set has a table of its runs, the best first: the selecting metric, test metrics, parameters, time, seed, model, and
    the settings in which runs differ.
    """
    from reprise.analysis.dashboard import serve

    serve(project(), port, opened, console)
