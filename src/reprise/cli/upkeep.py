"""Commands for upkeep: doctor, diff, gc."""

import shlex

import click

from reprise.cli.common import Run, console, overrides_argument, project, suggest, write_json
from reprise.errors import UserError


@click.command()
@click.option("--port", default=5000, show_default=True, help="Port of the dashboard.")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
@overrides_argument
def doctor(port: int, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Find faults of installation, machine, project and tracking store.

    Examine packages, config, devices, threads, memory, disk, data, code, DVC, tracking store, runs, locks, mirror and port. Each
    finding has a code and a fix. With experiment=NAME, examine its config, data and devices; otherwise those of `dvc repro`.
    Nothing is changed.

    Exit codes: 0 no errors (there may be warnings), 2 errors to fix.
    """
    paths = project()
    from reprise.analysis import doctor

    checks = doctor.examine(paths, overrides, port)
    if as_json:
        write_json(doctor.described(checks))
    else:
        doctor.show(checks, console)
    if doctor.has_errors(checks):
        raise click.exceptions.Exit(2)


@click.command()
@click.argument("first", metavar="RUN_A", type=Run())
@click.argument("second", metavar="RUN_B", type=Run())
@click.option("--patch", is_flag=True, help="Print the difference of the code as a patch.")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def diff(first: str, second: str, patch: bool, as_json: bool) -> None:
    """Show what differs between two runs.

    Compare config, data, code, packages, machine and metrics.

    What can change the weights comes first; names and display settings are dimmed. Code is compared with its uncommitted changes
    and plugins. The cost (time and memory) does not count as a difference.
    """
    paths = project()
    from reprise.analysis import diff as analysis
    from reprise.analysis import diff_view

    difference = analysis.diff(paths, first, second)
    if as_json:
        write_json(diff_view.described(difference))
    elif patch:
        diff_view.show_patch(difference, console)
    else:
        diff_view.show(difference, console)
        if difference.patch:
            suggest((f"reprise diff {first} {second} --patch", "prints the difference of the code"))


@click.command()
@click.argument("what", required=False, type=click.Choice(["runs", "checkpoints", "windows", "cache"]))
@click.option("--older-than", "age", metavar="AGE", help="Runs that started longer ago than 12h, 30d, 8w.")
@click.option("--failed", is_flag=True, help="Runs that failed or were stopped.")
@click.option("--not-best", is_flag=True, help="Runs that are not the best of their experiment and data set on val.")
@click.option("--not-registered", is_flag=True, help="Runs that no registered model was made from.")
@click.option("--yes", is_flag=True, help="Delete. Without it, only show what would be deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def gc(what: str | None, age: str | None, failed: bool, not_best: bool, not_registered: bool, yes: bool, as_json: bool) -> None:
    """Show what runs and caches take on disk, and delete what you name.

    \b
    reprise gc                                        what each part of the project takes
    reprise gc runs --failed --older-than 30d         what would be deleted: runs that meet all conditions
    reprise gc runs --failed --older-than 30d --yes   deletes them, on disk and in MLflow
    reprise gc checkpoints --failed --yes             only their checkpoints; these trainings then start from scratch
    reprise gc windows --yes                          windows outside of the pipeline that no run was trained on
    reprise gc cache --yes                            files of the DVC cache that no commit refers to

    Runs are kept if they are in use, or if something refers to them: a registered model, weights in data/models/, a sweep, a
    group of seeds or jobs that stays, or another run that stays. After a kill, the same command finishes.
    """
    paths = project()
    from reprise.analysis import cleanup
    from reprise.analysis.cleanup import usage, view
    from reprise.analysis.cleanup.selection import Filters, parse_age

    filters = Filters(parse_age(age) if age else None, failed, not_best, not_registered)
    if what is None:
        if yes or not filters.is_empty:
            raise UserError("gc: nothing named", "name runs, checkpoints, windows or cache")
        parts = usage.usage(paths)
        write_json(view.described_usage(parts)) if as_json else view.show_usage(parts, console)
        return
    outcome = cleanup.collect(paths, what, filters, dry=not yes)
    write_json(view.described(outcome)) if as_json else view.show(outcome, console)
    if outcome.dry and outcome.deleted and not as_json:
        flags = {"--failed": failed, "--not-best": not_best, "--not-registered": not_registered}
        options = [*(["--older-than", age] if age else []), *(flag for flag, is_set in flags.items() if is_set)]
        suggest((shlex.join(["reprise", "gc", what, *options, "--yes"]), "deletes them"))
