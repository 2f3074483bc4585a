"""The subcommands of `reprise`: one short function each, which calls stages/, analysis/ or sweeps/.

PyTorch, Lightning and MLflow take seconds to import. The functions import them late, so that usage errors appear at once.
"""

import click

from reprise.cli import many_runs, new_project, one_run, pipeline, train, upkeep

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class InOrder(click.Group):
    """A group that lists its subcommands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings=SETTINGS)
@click.version_option(package_name="reprise", message="%(package)s %(version)s")
def cli() -> None:
    """Train image and sequence models whose results can be reproduced exactly.

    \b
    The pipeline:   compose -> download -> preprocess -> window -> train -> evaluate -> draw
                    `dvc repro` runs the stages that are out of date for every experiment in conf/pipeline.yaml.
                    `reprise repro` does the same and first repairs dvc.lock if an earlier run was killed.
    By hand:        reprise train experiment=digits_cnn
                    reprise train experiment=fashion_mnist_cnn trainer.max_epochs=1 data.limit=2000
                    A run started by hand never overwrites outputs of the pipeline.
    Your own data:  reprise init FOLDER --from PATH    makes a project outside of a clone
    Your pictures:  reprise train experiment=image_folder data.path=FOLDER
                    reprise predict RUN FOLDER          reprise explain RUN PICTURE
    Your series:    reprise train experiment=forecast_csv data.path=FILE
                    reprise predict RUN FILE            reprise explain RUN FILE
    Inspect:        reprise watch, reprise results, reprise dashboard, reprise runs, reprise lineage RUN
    Use:            reprise export RUN, reprise serve RUN|MODEL@ALIAS
    Compare:        reprise compare [EXPERIMENT ...] [--html FILE]          reprise register RUN
    Reproduce:      reprise reproduce RUN, reprise certify experiment=NAME
    After a change of code:  reprise revalidate
    Upkeep:         reprise doctor, reprise diff RUN_A RUN_B, reprise gc

    RUN is a name or the beginning of an id; `last` is the newest finished training, `last~1` the one before it.
    Set any config key as key=value; `reprise compose experiment=NAME` prints all keys. Tab completion:
    eval "$(_REPRISE_COMPLETE=bash_source reprise)" (or zsh_source, fish_source).

    Exit codes: 0 success, 2 user error (one line on stderr), 3 results differ, 130 and 143 stopped by a signal, 1 bug in reprise.
    REPRISE_DEBUG=1 shows tracebacks.
    """


for command in (
    new_project.init,
    pipeline.compose,
    pipeline.download,
    pipeline.preprocess,
    pipeline.window,
    train.train,
    pipeline.evaluate,
    pipeline.draw,
    pipeline.plugins,
    pipeline.code,
    pipeline.repro,
    pipeline.revalidate,
    one_run.watch,
    many_runs.sweep,
    one_run.predict,
    one_run.explain,
    one_run.export,
    one_run.serve,
    many_runs.results,
    one_run.lineage,
    many_runs.runs,
    many_runs.compare,
    one_run.register,
    one_run.reproduce,
    one_run.certify,
    many_runs.sync,
    many_runs.dashboard,
    upkeep.diff,
    upkeep.doctor,
    upkeep.gc,
):
    command.context_settings = {**SETTINGS, **command.context_settings}  # click caches the help option, even without the group
    cli.add_command(command)
