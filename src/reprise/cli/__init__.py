"""The subcommands of `reprise`: one short function each, which hands on to stages/ and runs/.

Imports stand inside the functions, after what can be complained of without them: PyTorch, Lightning and MLflow take seconds.
"""

import click

from reprise.cli import many_runs, one_run, pipeline

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class InOrder(click.Group):
    """Lists its subcommands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings=SETTINGS)
def cli() -> None:
    """Train image and sequence models so that every number can be run again and comes out the same.

    \b
    The pipeline:   compose -> download -> preprocess -> window -> train -> evaluate -> draw
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
    After a change of code:  reprise revalidate

    Any key of the config can be set as key=value; `reprise compose experiment=NAME` prints them all. Tab completion:
    eval "$(_REPRISE_COMPLETE=bash_source reprise)" (or zsh_source, fish_source).

    Exit codes: 0 done, 2 something to mend (said in one line), 3 run again and found different, 130 and 143 stopped by a signal,
    1 a defect of reprise.
    REPRISE_DEBUG=1 shows tracebacks.
    """


for command in (
    pipeline.compose,
    pipeline.download,
    pipeline.preprocess,
    pipeline.window,
    pipeline.train,
    pipeline.evaluate,
    pipeline.draw,
    pipeline.plugins,
    pipeline.repro,
    pipeline.revalidate,
    one_run.watch,
    many_runs.sweep,
    one_run.predict,
    one_run.explain,
    many_runs.results,
    one_run.lineage,
    many_runs.runs,
    many_runs.compare,
    one_run.register,
    one_run.reproduce,
    one_run.certify,
    many_runs.sync,
    many_runs.dashboard,
):
    cli.add_command(command)
