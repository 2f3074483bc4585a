"""Commands for upkeep: doctor, diff."""

import click

from reprise.cli.common import Run, console, overrides_argument, project, suggest, write_json


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
