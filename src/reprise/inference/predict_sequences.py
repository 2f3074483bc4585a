"""predict: classify the sequences of a file with a trained network and, if they have classes, compare with them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from reprise.config.modalities.sequences import OwnSequences, PublishedSequences
from reprise.data.modalities.sequences import files
from reprise.data.modalities.sequences.arrays import Meta
from reprise.data.sequence_arrays import Sequences, Values
from reprise.data.sequence_csv import read_sequence_csv
from reprise.data.splits import SPLITS
from reprise.data.tsfile import read_ts
from reprise.data.windows import Windows, open_windows
from reprise.errors import UserError
from reprise.figures import classification
from reprise.figures.style import save
from reprise.inference.answers import FIGURE, NEW, SHOWN, Answers
from reprise.inference.compute import classifier, probabilities
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.reports.classification import drawable
from reprise.tasks.classification import Classification

Data = OwnSequences | PublishedSequences


@dataclass(frozen=True)
class Inputs:
    """The sequences of a file, as the run reads them: `float32 [sample, T, C]`, 0 after their end."""

    values: Values
    lengths: npt.NDArray[np.int64]
    truth: list[str]
    """The true class of each sequence; "" if the file has none."""

    def raw(self, masked: bool) -> tuple[torch.Tensor, ...]:
        """Return the raw inputs of the predictor."""
        values = torch.from_numpy(self.values)
        return (values, torch.from_numpy(self.lengths)) if masked else (values,)


def run(run: TrainedRun, path: Path, out: Path, console: Console) -> Answers:
    """Predict the class of each sequence of a `.ts` or CSV file; write predictions.csv and .png to `out`.

    Raises:
        UserError: if the file cannot be read, or its sequences have other channels or more steps than those of the run.

    """
    predictor, meta, data = Predictor.from_run(run), run.windows.meta, run.config.data
    assert isinstance(meta, Meta)
    assert isinstance(data, Data)
    if not isinstance(predictor.task, Classification):
        raise UserError(f"{run.trained.name} does not predict classes", "name a run with task=classification")
    inputs = read(path, data, meta, console)
    raw = inputs.raw(meta.masked)
    size = run.config.trainer.eval_batch_size
    batches = zip(*(torch.split(part, size) for part in raw), strict=True)
    answered = np.concatenate([probabilities(classifier(predictor), batch) for batch in batches])
    names = [str(number) for number in range(1, len(inputs.truth) + 1)]
    splits = _splits(run.windows, inputs, console)
    answers = Answers(meta.classes, names, inputs.truth, answered, splits, "sequences", "sequence")
    answers.write_table(out)
    rows = answers.by_interest()[:SHOWN]
    more = f": {len(rows)} of {len(names):,} sequences" if len(names) > SHOWN else ""
    shown = drawable([part[rows] for part in raw])
    titles = [f"sequence {names[row]}" for row in rows]
    truth = [inputs.truth[row] for row in rows]
    title = f"{run.trained.name}{more}"
    figure = classification.file_predictions(shown, answered[rows], meta.classes, titles, title, truth, meta.channels)
    save(figure, out / FIGURE)
    return answers


def read(path: Path, data: Data, meta: Meta, console: Console) -> Inputs:
    """Return the sequences of a file, with the classes of the run in place of the labels of the file.

    A file without classes is read as well: a `.ts` file with `@classLabel false`, or a CSV without a column of classes.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file", "name a .ts or CSV file")
    found = parse(path.read_bytes(), str(path), path.suffix.lower() == ".ts", data, meta)
    inputs, notes = complete(found, str(path), data, meta)
    for note in notes:
        _report(console, f"{path}: {note}")
    return inputs


def parse(content: bytes, name: str, is_ts: bool, data: Data, meta: Meta) -> Sequences:
    """Return the sequences of the content of a `.ts` or CSV file. `name` is for messages."""
    if is_ts:
        return read_ts(content, name, labelled=False)
    labels = list(dict.fromkeys([*meta.classes, *_names(data)]))
    column, separator, decimal = ("first", "auto", "auto") if isinstance(data, PublishedSequences) else _dialect(data)
    channels = len(meta.channels)
    try:
        found = read_sequence_csv(content, name, column, channels, labels, separator, decimal)
        if meta.masked or found.values.shape[1] == meta.input_shape[0]:
            return found
        problem = None
    except UserError as error:
        problem = error
    try:
        return read_sequence_csv(content, name, "none", channels, None, separator, decimal)
    except UserError:
        if problem:
            raise problem from None
        raise


def complete(found: Sequences, name: str, data: Data, meta: Meta) -> tuple[Inputs, list[str]]:
    """Return sequences as the run reads them, with its classes and without missing values, and notes on what was filled.

    Raises:
        UserError: if they have other channels or more steps than those of the run, or the run refuses missing values.

    """
    names = {**{name: name for name in meta.classes}, **_names(data)}
    truth = [names.get(found.classes[label], found.classes[label]) for label in found.labels.tolist()]
    _check_shape(found, name, meta)
    gaps = found.missing_values()
    if gaps and data.missing == "refuse":
        raise UserError(f"{name}: {gaps:,} values are missing", "write them; the run was trained with data.missing=refuse")
    notes = [f"{gaps:,} missing values were interpolated, as in the training data"] if gaps else []
    values = np.zeros((len(truth), *meta.input_shape[:1], found.values.shape[2]), np.float32)
    values[:, : found.values.shape[1]] = files.complete(found.values, found.lengths, name)
    return Inputs(values, found.lengths, truth), notes


def _names(data: Data) -> dict[str, str]:
    """Return the names of the classes by their labels in the files."""
    return data.classes if isinstance(data, PublishedSequences) else {}


def _dialect(data: OwnSequences) -> tuple[str, str, str]:
    return data.label, data.separator, data.decimal


def _check_shape(found: Sequences, name: str, meta: Meta) -> None:
    steps, channels = meta.input_shape[0], found.values.shape[2]
    if channels != len(meta.channels):
        raise UserError(f"{name}: {channels} channels; the run reads {len(meta.channels)}: {', '.join(meta.channels)}")
    wrong = np.flatnonzero(found.lengths > steps if meta.masked else found.lengths != steps)
    if len(wrong):
        limit = f"at most {steps:,}" if meta.masked else f"{steps:,}"
        raise UserError(f"{name}: sequence {wrong[0] + 1} has {found.lengths[wrong[0]]:,} steps; the run reads {limit}")


def _splits(windows: Windows, inputs: Inputs, console: Console) -> list[str]:
    """Return train, val, test or `NEW` for each sequence, recognised by its values; "" if the data of the run are gone."""
    try:
        same = open_windows(windows.folder, windows.arrays)
        known: dict[bytes, str] = {}
        for split in SPLITS:
            part = same.meta.array_folder(split)
            values, lengths = (same.array(f"{part}{name}") for name in ("values", "lengths"))
            for sample in same.indices(split).tolist():
                known.setdefault(_key(values[sample], int(lengths[sample])), split)
    except UserError as error:
        _report(console, f"cannot tell which of these sequences the run was trained on: {error}")
        return [""] * len(inputs.truth)
    return [known.get(_key(*one), NEW) for one in zip(inputs.values, inputs.lengths.tolist(), strict=True)]


def _key(values: Values, length: int) -> bytes:
    return np.ascontiguousarray(values[:length] + np.float32(0)).tobytes()  # -0.0 becomes 0.0


def _report(console: Console, text: str) -> None:
    console.print(f"predict  {text}", highlight=False, markup=False, soft_wrap=True)
