"""Answer requests with sequences: a .ts or CSV file, or arrays in JSON."""

from typing import Any, ClassVar

import numpy as np
import torch

from reprise.data.modalities.sequences.arrays import Meta
from reprise.data.sequence_arrays import UNKNOWN, Sequences, pack
from reprise.inference.compute import Compute, probabilities
from reprise.inference.predict_sequences import Data, complete, parse
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.serving.answerer import BYTES, JSON, READING, Payload, classified, parse_json
from reprise.serving.limits import Limits, RequestError

NAME = "the body"
BYTES_A_VALUE = 64
"""More than a number in a file takes; longer lines are refused before they are parsed."""


class LabelledSequences:
    """Classifies sequences. Files are read as `reprise predict` does."""

    kind: ClassVar[str] = "sequences"
    types: ClassVar[tuple[str, ...]] = ("text/csv", "text/plain", BYTES, JSON)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["sequences"],
        "properties": {
            "sequences": {
                "type": "array",
                "description": "Each sequence is a list of time steps, and each step a list with a value for each channel.",
                "items": {"type": "array", "items": {"type": "array", "items": {"type": ["number", "null"]}}},
            }
        },
    }

    def __init__(self, run: TrainedRun, predictor: Predictor, compute: Compute, limits: Limits) -> None:
        meta, data = run.windows.meta, run.config.data
        assert isinstance(meta, Meta)
        assert isinstance(data, Data)
        self._meta, self._data, self._compute, self._limits = meta, data, compute, limits

    def describe(self) -> Payload:
        """Return classes, channels, and the number of time steps."""
        steps = {"most_steps" if self._meta.masked else "steps": self._meta.input_shape[0]}
        return {"classes": self._meta.classes, "channels": self._meta.channels, **steps}

    def example(self) -> list[torch.Tensor]:
        """Return a sequence of zeros."""
        steps = self._meta.input_shape[0]
        values = torch.zeros(1, steps, len(self._meta.channels))
        return [values, torch.tensor([steps])] if self._meta.masked else [values]

    def answer(self, body: bytes, is_json: bool, with_history: bool) -> Payload:
        """Return a row per sequence, with its true class if the file has it."""
        with READING:
            found = self._from_json(body) if is_json else self._from_file(body)
            inputs, notes = complete(found, NAME, self._data, self._meta)
        answered = probabilities(self._compute, inputs.raw(self._meta.masked))
        rows = classified(self._meta.classes, answered)
        numbered = [
            {"sequence": number, **({"true": true} if true else {}), **row}
            for number, (true, row) in enumerate(zip(inputs.truth, rows, strict=True), 1)
        ]
        return {"predictions": numbered, "notes": [f"{note[0].upper()}{note[1:]}." for note in notes]}

    def _from_file(self, body: bytes) -> Sequences:
        """Check the lines first: a file with one long sequence is padded to many times its size."""
        lines = body.splitlines()
        longest = BYTES_A_VALUE * (self._meta.input_shape[0] * len(self._meta.channels) + 1)
        is_ts = body.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in {b"@", b"#", b"%"}
        if is_ts:
            lines = [line for line in lines if line.strip() and line[:1] not in b"#%@"]
        self._check_count(len(lines) - (not is_ts))  # a CSV may have a header
        if max(map(len, lines), default=0) > longest:
            raise RequestError(413, f"a line has {max(map(len, lines)):,} bytes, and may have {longest:,}")
        return parse(body, NAME, is_ts, self._data, self._meta)

    def _from_json(self, body: bytes) -> Sequences:
        given = parse_json(body, "sequences")
        if not isinstance(given, list) or not given:
            raise RequestError(422, "sequences is no list with at least one sequence")
        self._check_count(len(given))
        try:
            with np.errstate(over="ignore"):  # infinite values are refused below
                samples = [np.array(sequence, np.float32) for sequence in given]  # null becomes NaN: missing
        except (ValueError, TypeError, OverflowError):
            raise RequestError(422, "a sequence is no list of time steps with a number for each channel") from None
        steps, channels = self._meta.input_shape[0], len(self._meta.channels)
        for number, sample in enumerate(samples, 1):
            if sample.ndim != 2 or sample.shape[1] != channels or not 0 < len(sample) <= steps:
                shown = ", ".join(map(str, sample.shape))
                raise RequestError(422, f"sequence {number} has the shape [{shown}]; the model reads [{steps}, {channels}]")
            if np.isinf(sample).any():
                raise RequestError(422, f"sequence {number} has values that are not finite")
        return pack(samples, [UNKNOWN] * len(samples), [UNKNOWN], [])

    def _check_count(self, count: int) -> None:
        if count > self._limits.batch:
            raise RequestError(413, f"{count:,} sequences, and a request may have {self._limits.batch}")
