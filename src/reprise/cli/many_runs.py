"""Commands on many runs: sweep, results, runs, compare, sync, dashboard."""

import shlex
from pathlib import Path

import click

from reprise import parent_watchdog
from reprise.cli.common import UserPath, console, heavy_imports, project, suggest, write_json
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
    reprise sweep sweep=temperature_lstm resume                               print its status, then continue
    reprise sweep sweep=temperature_lstm resume n_trials=60                   with more trials, or sweep.max_failures=20

    After a kill, start the sweep again: the number of trials stays exact, and interrupted trials resume from their checkpoints.

    \b
    workers=N      number of trials trained in parallel; default: one per core or GPU
    launcher=...   local (this machine), ray or slurm; launcher.KEY=value is passed to Ray or submitit
    storage=URL    database of the sweep; default: mlruns/sweeps.db. Machines that use the same URL share the trials.
                   Put an address with a password into REPRISE_STORAGE.

    A sweep never evaluates on the test split. It writes the best settings to conf/experiment/NAME_tuned.yaml.
    """
    if parent:
        parent_watchdog.end_with_parent()
    from reprise.config.sweep import read_resumed, read_sweep
    from reprise.sweeps import launchers

    paths = project()
    launch, rest = launchers.parse_request([word for word in words if word != "resume"])
    if "resume" not in words:
        config = read_sweep(paths.root, rest)
        from reprise.sweeps import driver

        driver.run(config, launch, paths, console)
        return
    resumed = read_resumed(rest)
    if parent:
        with heavy_imports():
            from reprise.sweeps import trial

        trial.run_worker(resumed.name, paths, launch.storage, parent)
    else:
        from reprise.sweeps import driver

        driver.resume(resumed, launch, paths, console)


@click.command()
@click.option("--write", type=UserPath(dir_okay=False, path_type=Path), help="Write a Markdown table to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print all metrics as JSON.")
def results(write: Path | None, as_json: bool) -> None:
    """Show the results of the pipeline as a table, Markdown or JSON."""
    from reprise.analysis.results import Results

    table = Results.read(project())
    if as_json:
        write_json(table.by_experiment)
    elif write:
        table.write(write)
    else:
        table.show(console)
    if not as_json and not write:
        suggest(("reprise compare", "ranks all settings, with their spread over seeds"), ("reprise runs", "lists every run"))


@click.command()
@click.option("--data-hash", metavar="HASH", help="Runs that read arrays or windows with this hash (ours or DVC's).")
@click.option("--config-hash", metavar="HASH", help="Runs with this config hash.")
@click.option("--commit", metavar="HASH", help="Runs of this Git commit.")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def runs(data_hash: str | None, config_hash: str | None, commit: str | None, as_json: bool) -> None:
    """List runs, newest first; filter them by data, config or code.

    A prefix of a hash is enough; `reprise lineage RUN` shows the hashes of a run.
    """
    from dataclasses import asdict

    requested = {"data": data_hash, "sha256.config": config_hash, "git.commit": commit}
    paths = project()
    from reprise.analysis import lineage

    matches = lineage.search(paths, {name: start for name, start in requested.items() if start is not None})
    if as_json:
        write_json([asdict(line) for line in matches])
    else:
        console.print(lineage.table(matches) if matches else "no such run")
    if matches and not as_json:
        newest = f"reprise lineage {matches[0].id[:8]}"
        suggest((newest, "shows what the newest was made from"), ("reprise compare", "ranks them"))


@click.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT ...]")
@click.option("--filter", "expression", metavar="EXPRESSION", help="Only runs that match this MLflow search expression.")
@click.option("--by", metavar="KEY,...", help="Group only by these config keys or sections, e.g. model,data.")
@click.option("--metric", metavar="NAME", help="val/accuracy, test/mae, ...; default: the main val metric.")
@click.option("--html", type=UserPath(dir_okay=False, path_type=Path), help="Write a self-contained HTML page.")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def compare(
    experiments: tuple[str, ...], expression: str | None, by: str | None, metric: str | None, html: Path | None, as_json: bool
) -> None:
    """Rank settings over their runs and test whether they differ.

    \b
    reprise compare                                                     all runs, one table per data set
    reprise compare temperature_lstm temperature_gru --metric mae
    reprise compare --by model,optimizer --html compare.html
    reprise compare --filter 'params.`optimizer.lr` = "0.001" and tags.device = "cpu"'

    Runs that differ only in the seed form a group: mean ± standard deviation and 95 % interval over seeds. Each group is tested
    against the next one in the ranking (t test, paired by seed; Holm's correction): better, worse, or not distinguishable, with
    the number of additional seeds needed. Values are val metrics at the best epoch; test/… exists only for evaluated runs.

    The page written by --html is also saved as a run on the dashboard.
    """
    paths = project()
    with heavy_imports():
        from reprise.analysis import compare_view
        from reprise.analysis.compare import ComparisonQuery, compare

    sections = tuple(part.strip() for part in by.split(",") if part.strip()) if by else ()
    comparison = compare(paths, ComparisonQuery(experiments, expression, sections, metric))
    if as_json:
        write_json(compare_view.described(comparison))
    else:
        compare_view.show(comparison, console)
    if comparison.tables and not as_json:
        (best, _), *_ = comparison.tables[0].groups[0].runs.values()
        suggest((f"reprise register {best.id[:8]}", f"registers the model of {best.name}, if it is better than the present one"))
    if html and not comparison.tables:
        raise UserError("nothing to compare: no page is written", "train first; runs are left out for the reasons above")
    if html:
        from reprise.analysis import compare_page  # late: MLflow, to keep the page

        options = [("--filter", expression), ("--by", by), ("--metric", metric), ("--html", str(html))]
        arguments = [word for option, value in options if value for word in (option, value)]
        compare_page.write(comparison, shlex.join(["reprise", "compare", *experiments, *arguments]), paths, html)
        if not as_json:
            console.print(f"compare  {html} is written, and kept as a run on the dashboard", highlight=False, soft_wrap=True)


@click.command()
@click.argument("overrides", nargs=-1, type=Override(), metavar="[tracking.uri=ADDRESS]")
def sync(overrides: tuple[str, ...]) -> None:
    """Sync the event logs of all runs to the tracking store.

    If the store is down, training continues and its metrics stay in the event log. The next `reprise train` syncs them too.
    """
    from reprise.analysis.sync import run

    run(project(), overrides, console)
    suggest(("reprise runs", "lists every run"))


@click.command()
@click.option("--port", default=5000, show_default=True, help="Port of the dashboard.")
@click.option("--open/--no-open", "opened", default=True, help="Open it in a browser if there is a display.")
def dashboard(port: int, opened: bool) -> None:
    """Open the MLflow dashboard of all runs. It listens on this machine only (127.0.0.1).

    Each data set has a table of its runs, best first: the monitored metric, test metrics, parameters, time, seed, model, and the
    settings in which the runs differ.
    """
    from reprise.analysis.dashboard import serve

    serve(project(), port, opened, console)
