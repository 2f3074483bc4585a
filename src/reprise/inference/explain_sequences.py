"""explain on a file of sequences: what speaks for the predicted class rather than for the second most likely one.

Shapes: `B` batch, `T` time steps, `C` channels, `K` classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from reprise.data.modalities.sequences.arrays import Meta
from reprise.errors import UserError
from reprise.figures import attribution as figures
from reprise.figures.style import save
from reprise.inference import explained
from reprise.inference.attribution import Attribution, Method, attribute, recurrent_gradients
from reprise.inference.explained import Explained
from reprise.inference.predict_sequences import Data, Inputs, read
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.tasks.classification import Classification


def run(run: TrainedRun, path: Path, out: Path, console: Console, sample: str | None, target: str | None) -> Explained:
    """Explain one sequence of a `.ts` or CSV file, and many on average; write attribution.csv and figures to `out`.

    `sample` is the number of the sequence in the file, by default 1.

    Raises:
        UserError: if the file cannot be read, or has no such sequence.

    """
    predictor, meta = Predictor.from_run(run), run.windows.meta
    assert isinstance(meta, Meta)
    assert isinstance(run.config.data, Data)
    if not isinstance(predictor.task, Classification):
        raise UserError(f"{run.trained.name} does not predict classes", "name a run with task=classification")
    if target is not None:
        raise UserError(f"--target {target}: a classification has no target channels", "leave it out")
    inputs = read(path, run.config.data, meta, console)
    chosen = _chosen(sample, len(inputs.truth), path)
    result = explain(predictor, meta, inputs, chosen, path.name)
    result.write_table(out)
    _draw(result, run.trained.name, out)
    return result


def explain(predictor: Predictor, meta: Meta, inputs: Inputs, chosen: int, file: str) -> Explained:
    """Return the attributions of the sequence with index `chosen`, and those of many sequences on average."""
    raw, names, length = predictor.move(inputs.raw(meta.masked)), meta.classes, int(inputs.lengths[chosen])
    predictor.requires_grad_(False)
    first = slice(chosen, chosen + 1)
    found = _attribute(predictor, len(meta.channels), [part[first] for part in raw], None)
    rows = explained.evenly_spaced(len(inputs.truth), explained.most_samples(found))
    many = _attribute(predictor, len(meta.channels), [part[torch.from_numpy(rows)] for part in raw], found.method)
    with torch.no_grad():
        probabilities, classes = (part[0].tolist() for part in predictor(*(part[first] for part in raw)).double().topk(2))
    answer, other = (names[number] for number in classes)
    truth = inputs.truth[chosen]
    longest = max(length, int(inputs.lengths[rows].max()))
    return Explained(
        sample=f"sequence {chosen + 1} of {file}: {answer}, {100 * probabilities[0]:.1f} %"
        + (f" (true class: {truth})" if truth not in {"", answer} else ""),
        score=f"what speaks for {answer} and against {other}, {100 * probabilities[1]:.1f} %",
        method=f"{found.method} of the difference of the two logits; baseline: the mean of each channel in the training split",
        channels=meta.channels,
        steps=list(range(1, longest + 1)),
        step="step",
        times=[],
        values=inputs.values[chosen, :length].astype(np.float64),
        attributions=found.values[0, 0, :length, : len(meta.channels)],
        importance=np.abs(many.values[:, 0, :longest, : len(meta.channels)]).mean(axis=0),
        samples=len(rows),
        noun="sequences",
    )


def _attribute(predictor: Predictor, channels: int, raw: Sequence[Tensor], method: Method | None) -> Attribution:
    """Return attributions of the logit of the most likely class minus that of the second, `[B, 1, T, C]`.

    The input after the channels, the mask of steps, is the same in the baseline.
    """
    inputs = predictor.transform(*raw)

    def logits(batch: Tensor) -> Tensor:
        return predictor.task.decode(predictor.network(batch), batch)

    with torch.no_grad():
        classes = logits(inputs).topk(2).indices

    def score(batch: Tensor, samples: Tensor) -> Tensor:
        both = logits(batch).gather(1, classes[samples])
        return both[:, :1] - both[:, 1:]

    baselines = torch.zeros_like(inputs)
    baselines[..., channels:] = inputs[..., channels:]
    with recurrent_gradients(predictor.network):
        return attribute(score, inputs, baselines, method)


def _draw(result: Explained, name: str, out: Path) -> None:
    title = f"{name}: {result.sample}\n{result.score}"
    steps = np.arange(1.0, len(result.values) + 1)
    save(figures.attributed(explained.panels(result), steps, title, "against ← attribution → for"), out / explained.FIGURE)
    heading = f"{name}: mean absolute attribution over {result.samples} sequences"
    save(figures.importance(result.importance, result.channels, result.steps, "time step", heading), out / explained.IMPORTANCE)


def _chosen(sample: str | None, count: int, path: Path) -> int:
    """Return the index of the sequence to explain."""
    number = int(sample) if sample and sample.isascii() and sample.isdecimal() else 1 if sample is None else 0
    if not 1 <= number <= count:
        raise UserError(f"--sample {sample}: {path.name} has the sequences 1 to {count:,}", "give the number of one of them")
    return number - 1
