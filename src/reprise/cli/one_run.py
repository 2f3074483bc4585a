"""Commands on one run: watch, predict, explain, export, serve, lineage, register, reproduce, certify."""

import shlex
import signal
from pathlib import Path
from typing import Literal

import click
from rich.console import Console

from reprise import config as configs
from reprise.cli.common import (
    Run,
    UserPath,
    console,
    device_option,
    heavy_imports,
    optional_run_argument,
    overrides_argument,
    print_message,
    project,
    run_argument,
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
    """Show the progress of a training: curves, rate and remaining time.

    Without RUN, watch the newest run in progress on this machine. A run on another machine is read from the tracking store.
    If stdout is not a terminal, print one line per epoch. Ctrl-C ends the watching, not the training.

    Exit codes: 0 the run finished, 2 it failed or was stopped (with the reason).
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
@click.option("--out", type=UserPath(file_okay=False, path_type=Path), help="Output folder; default: inside the run directory.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print all predictions as JSON; notes go to stderr.")
def predict(run: str, path: Path, out: Path | None, device: str, as_json: bool) -> None:
    """Predict classes, or forecast a series, with the model of a RUN.

    PATH of a series is a CSV or Parquet file with the columns of the run, in the same format. Forecast the time steps after its
    last row. Write predictions.csv (time, forecast and the bounds of the 80 % interval) and predictions.png.

    PATH of pictures is a picture, a folder of pictures, or a CSV table with the columns file and label. Print wrong predictions
    first, then one row per class. Write predictions.csv (true class and all probabilities) and predictions.png. Pictures may be
    PNG, JPEG, BMP, WebP, GIF or TIFF, of any size. If a folder has the name of a class, that is the true class of its pictures.
    The accuracy on pictures from the training data is reported separately.

    PATH of sequences is a .ts or CSV file, with or without classes. The output is that of pictures.
    """
    paths = project()
    with heavy_imports():
        from reprise.inference.by_kind import predict_on
        from reprise.inference.device import on_device
        from reprise.inference.trained_run import open_run

    opened = on_device(open_run(paths, run), device)
    folder = out or opened.output_folder / "predictions" / path.resolve().stem
    predict, show = predict_on(opened.config.data.kind)
    predictions = predict(opened, path, folder, Console(stderr=True, markup=False, emoji=False) if as_json else console)
    if as_json:
        write_json(predictions.rows())
        return
    show(predictions, folder, console)
    if opened.config.data.kind == "images":
        picture = predictions.rows()[0]["file"]
        suggest((shlex.join(["reprise", "explain", run, picture]), "draws what the network sees in it"))
    else:
        explain = shlex.join(["reprise", "explain", run, str(path)])
        suggest((explain, "shows on which channels and time steps a prediction is based"))


@click.command()
@run_argument
@click.argument("path", type=UserPath(path_type=Path))
@click.option("--sample", help="Number of the sequence in the file, or name of the series; default: the first.")
@click.option("--target", help="Channel whose forecast is explained; default: the first.")
@click.option("--out", type=UserPath(file_okay=False, path_type=Path), help="Output folder; default: inside the run directory.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; notes go to stderr.")
def explain(run: str, path: Path, sample: str | None, target: str | None, out: Path | None, device: str, as_json: bool) -> None:
    """Show what in its input the model of a RUN bases a prediction on.

    PATH of a picture: draw the first filters, the feature maps of every convolution, the attribution (integrated gradients) of
    the two most likely classes, and the layer table.

    PATH of sequences (.ts, CSV) or of a series (CSV, Parquet), as for `predict`: attribute the predicted class of a sequence, or
    the forecast after the last row, to channels and time steps. Integrated gradients are used or, for models without useful
    gradients, occlusion of segments. Print the share of each channel and the steps with half of it. Write attribution.csv,
    attribution.png, and importance.png: the mean absolute attribution over many sequences or windows of the file.
    """
    paths = project()
    with heavy_imports():
        from reprise.inference.by_kind import explain_on
        from reprise.inference.device import on_device
        from reprise.inference.trained_run import open_run

    opened = on_device(open_run(paths, run), device)
    folder = out or opened.output_folder / "explain" / path.resolve().stem
    explain, show = explain_on(opened.config.data.kind)
    notes = Console(stderr=True, markup=False, emoji=False) if as_json else console
    explained = explain(opened, path, folder, notes, sample, target)
    if as_json:
        write_json(explained.described())
        return
    show(explained, folder, console)
    suggest((f"reprise compare {opened.config.name}", "ranks its settings among others"))


@click.command()
@run_argument
@click.option("--to", type=click.Choice(["onnx", "pt2"]), default="onnx", show_default=True, help="Format of the model.")
@click.option("--int8", is_flag=True, help="Also write an ONNX model with 8-bit integers.")
@click.option("--out", type=UserPath(file_okay=False, path_type=Path), help="Output folder; default: inside the run directory.")
def export(run: str, to: Literal["onnx", "pt2"], int8: bool, out: Path | None) -> None:
    """Export the model of a RUN for programs without reprise.

    Write a folder with the model, from raw inputs to answers, its signature (shapes, classes or units), an example with its
    answer, a program that reads files, and a README. An ONNX model needs numpy and onnxruntime, for pictures also Pillow; a pt2
    model needs PyTorch.

    The answers are compared with those of the original on the whole val split; nothing is written if they differ. With --int8,
    accuracy and speed of both models are printed.
    """
    paths = project()
    with heavy_imports():
        from reprise.inference.export import folder
        from reprise.inference.trained_run import open_run

    opened = open_run(paths, run)
    target = out or opened.output_folder / "export" / to
    folder.run(opened, to, int8, target, console)
    console.print(f"export  {target}", highlight=False, markup=False, soft_wrap=True)


@click.command()
@click.argument("run", metavar="RUN|MODEL@ALIAS")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: a free one.")
@click.option("--max-mb", default=16.0, show_default=True, type=click.FloatRange(0.001, 1024), help="Largest body, in MiB.")
@click.option("--max-batch", default=256, show_default=True, type=click.IntRange(1), help="Most samples in a request.")
@click.option("--max-megapixels", default=25.0, show_default=True, type=click.FloatRange(0.001, 80), help="Largest picture.")
@click.option("--poll", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between looks at the alias.")
@device_option
def serve(run: str, host: str, port: int, max_mb: float, max_batch: int, max_megapixels: float, poll: float, device: str) -> None:
    """Answer predictions over HTTP with a run or registered model.

    RUN is as for `predict`. MODEL@ALIAS is a registered model, such as digits@champion.

    \b
    curl -H 'Content-Type: image/png' --data-binary @7.png http://127.0.0.1:8000/predict
    curl -H 'Content-Type: text/csv' --data-binary @new.csv http://127.0.0.1:8000/predict

    The body is a picture, a CSV or Parquet file of a series, or a .ts or CSV file of sequences; several pictures are sent as
    JSON. http://127.0.0.1:8000 is a page to drop a file on, /docs describes the interface, /metrics counts for Prometheus, and
    /health and /ready answer while the server runs. A request that cannot be answered gets a status of 4xx and one line.

    When the alias moves, the new model is loaded, and later requests get it. SIGTERM and Ctrl-C stop the server after the
    requests in progress are answered.

    The server has no passwords and no encryption: on another --host, put a proxy with both in front of it.
    """
    paths = project()
    with heavy_imports():
        from reprise.serving.limits import Limits
        from reprise.serving.server import serve

    limits = Limits(body=round(max_mb * 2**20), batch=max_batch, pixels=round(max_megapixels * 1e6))
    served = run if "@" in run else Run().convert(run, None, None)  # an alias is followed, a version is a run
    serve(paths, served, host, port, limits, poll, console, device)


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def lineage(run: str, as_json: bool) -> None:
    """Show the lineage of a RUN, from raw files to metrics.

    Show raw files with their hashes, arrays, windows, config, code (commit, patch), packages, machine, weights and metrics.
    """
    import tempfile

    paths = project()
    from reprise.analysis import lineage
    from reprise.tracking import record

    with tempfile.TemporaryDirectory() as scratch:
        recorded = record.read(paths.store, run, configs.tracking_config(paths.root), Path(scratch))
        described = lineage.describe(recorded)
    if as_json:
        write_json(described)
    else:
        lineage.show(described, console)
        suggest((f"reprise reproduce {run}", "trains it again and compares every weight"))


@click.command()
@run_argument
@click.option("--alias", default="champion", show_default=True, help="Registry alias to assign.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="Metric loss accepted for a smaller model, in units of the metric.",
)
@click.option("--force", metavar="REASON", help="Register it even if it is not better; REASON is recorded.")
def register(run: str, alias: str, margin: float | None, force: str | None) -> None:
    """Register the model of a RUN in MLflow if it beats the champion.

    The registered model has the name of the data set; one version holds the alias. RUN gets the alias if its val metric, over all
    seeds of its config, is better than that of the current version. It also gets it with fewer parameters, if the 95 % interval
    shows a loss of at most a margin: --margin, or 5 % of the current error (1 - accuracy, or the MAE). Otherwise the command
    refuses and prints the numbers. Single seeds cannot be compared: train several (seeds=5).

    To load the model: mlflow.pyfunc.load_model("models:/DATA@champion").
    """
    with heavy_imports():
        from reprise.analysis import register

    model = register.run(project(), run, alias, force, console, margin)
    suggest(
        (f"reprise evaluate {model}", "evaluates it on the test split"), (f"reprise lineage {model}", "what it was made from")
    )


@click.command()
@run_argument
@click.option("--tolerance", type=click.FloatRange(min=0), help="Compare metrics within this absolute or relative tolerance.")
@click.option("--env", "environment", is_flag=True, help="Install the packages of the run in a new virtual environment (slow).")
@click.option("--trust", is_flag=True, help="Run the code of a RUN from another project. Without it, the code is only shown.")
def reproduce(run: str, tolerance: float | None, environment: bool, trust: bool) -> None:
    """Train a RUN again and compare weights and metrics.

    Code: the commit of the run and its uncommitted changes. Data: hashes are checked; missing or different data is made again by
    that code. Config: as recorded. On the same machine, all bits must be equal. On another machine, metrics are compared within
    a tolerance, which is printed.

    A RUN from a shared tracking store contains code by others. Its patch is shown, and nothing runs without --trust.

    Exit codes: 0 the same, 3 different (with the first tensor and epoch), 2 it cannot be run again (with the reason).
    """
    paths = project()
    with heavy_imports():
        from reprise.analysis import reproduce

    verdict = reproduce.run(paths, run, tolerance, environment, trust, console)
    if verdict.surroundings:
        write(f"reproduce  bits may differ: {verdict.surroundings}")
    if verdict.identical:
        write(f"reproduce  identical: weights bit for bit, every metric exactly; run {verdict.new}")
    elif verdict.within is not None:
        write(f"reproduce  the same within {verdict.within:g}: {verdict.difference}; run {verdict.new}")
    else:
        print_message(f"different: {verdict.difference}; run {verdict.new}")
        raise click.exceptions.Exit(3)
    suggest((f"reprise register {run}", "registers its model, if it is better than the present one"))


@click.command()
@click.option("--steps", default=20, show_default=True, type=click.IntRange(min=1), help="Training steps in each process.")
@overrides_argument
def certify(steps: int, overrides: tuple[str, ...]) -> None:
    """Check that an experiment trains bit-identically twice.

    Train the first steps in two new processes: one gathers batches in the training thread, the other in a loader thread. Compare
    every weight after every step. The certificate becomes tags of all present and future runs of these settings on this machine.

    Exit codes: 0 bit-identical, 3 different (with the first step and tensor).
    """
    paths = project()
    config = configs.compose(paths.root, overrides)
    with heavy_imports():
        from reprise.analysis import certify

    certificate = certify.run(config, paths, steps, console)
    if certificate.difference:
        print_message(f"different: {certificate.difference}")
        raise click.exceptions.Exit(3)
    write(f"certify  {config.name}: {certificate.words}")
    suggest((shlex.join(["reprise", "train", *overrides]), "trains it"))
