"""The command that makes a project."""

import tempfile
from pathlib import Path

import click

from reprise.cli.common import UserPath, console, suggest
from reprise.completion import Override


@click.command()
@click.argument("folder", type=UserPath(path_type=Path))
@click.option("--from", "source", type=UserPath(path_type=Path), help="Your data: a folder of pictures, or a file.")
@click.argument("overrides", nargs=-1, type=Override(), metavar="[data.KEY=value ...]")
def init(folder: Path, source: Path | None, overrides: tuple[str, ...]) -> None:
    """Make a project in a new FOLDER with an experiment on your data.

    \b
    reprise init flowers --from ~/pictures/flowers         one folder per class
    reprise init sales --from sales.csv                    a series, or several, to forecast: CSV or Parquet
    reprise init gestures --from GESTURES_TRAIN.ts         labelled sequences: .ts, or CSV with one sequence in each row
    reprise init sales --from sales.csv data.time=month data.target=sales        where the table leaves a choice

    The data is read once to see what it holds. Broken and duplicate files are left out and gaps are filled: each such choice is
    printed and written to conf/data/. The data itself is not copied. For few colour pictures, the experiment starts from a
    network trained on ImageNet; its weights (17 MB) are downloaded. A project holds only its own settings; all others are those
    of reprise.
    """
    from reprise.projects import own_data, pretrained, preview, scaffold

    with tempfile.TemporaryDirectory(prefix="reprise-init-") as scratch:
        own = own_data.read(source, overrides, console) if source else None
        chosen = pretrained.choose(own, overrides, Path(scratch), console) if own else None
        name = scaffold.write(folder, chosen, Path(scratch) / "data" / "raw")
    for line in preview.findings(own) if own else ():
        console.print(f"init  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"init  {folder} is made", highlight=False, markup=False, soft_wrap=True)
    steps = [(f"cd {folder}", "the project")]
    if name:
        steps += [
            ("reprise repro", "reads the data, trains and evaluates"),
            ("reprise dashboard", "shows the run in the browser"),
        ]
    suggest(*steps)
