"""What the server needs of a modality: read the body of a request, and answer it."""

import json
import threading
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reprise import cpus
from reprise.serving.limits import RequestError

JSON = "application/json"
BYTES = "application/octet-stream"
Payload = dict[str, Any]
READING = threading.BoundedSemaphore(cpus.available())
"""Bodies are decoded at most as many at a time as there are CPUs: decoding takes many times the memory of the body."""


class Answerer(Protocol):
    """Answers requests with one model. Its methods are called from many threads."""

    kind: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    """Content types of the body; `image/*` stands for all that begin so."""
    schema: ClassVar[dict[str, Any]]
    """JSON schema of the body as JSON."""

    def describe(self) -> Payload:
        """Return what the model takes and returns: classes, or channels, units, lookback and horizon."""
        ...

    def example(self) -> Sequence[Tensor]:
        """Return raw inputs of one sample, to run the model once before it is used."""
        ...

    def answer(self, body: bytes, is_json: bool, with_history: bool) -> Payload:
        """Return `predictions`, a row per sample or forecast step, and `notes` on what was read.

        Raises:
            RequestError: if the body cannot be answered.
            UserError: likewise; its message says what to correct.

        """
        ...


def parse_json(body: bytes, key: str) -> Any:
    """Return the value of the only key of a JSON object.

    Raises:
        RequestError: if the body is no such object.

    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RequestError(400, f"the body is no JSON: {reason}"[:200]) from None
    if not isinstance(content, dict) or list(content) != [key]:
        found = f"the keys {', '.join(map(str, content))}" if isinstance(content, dict) else "no object"
        raise RequestError(422, f'the body has {found[:100]}; write {{"{key}": …}}')
    return content[key]


def demand_finite(answers: npt.NDArray[np.float64]) -> None:
    """Raise RequestError if an answer is not finite: values far outside of the training data overflow."""
    if not np.isfinite(answers).all():
        raise RequestError(422, "the model has no finite answer: the values are too large")


def classified(classes: Sequence[str], probabilities: npt.NDArray[np.float64]) -> list[Payload]:
    """Return the row of each sample: class, confidence, and the probability of each class.

    Raises:
        RequestError: if the model has no probabilities, because the values are too large for it.

    """
    demand_finite(probabilities)
    return [
        {
            "class": classes[int(row.argmax())],
            "confidence": float(row.max()),
            "probabilities": dict(zip(classes, row.tolist(), strict=True)),
        }
        for row in probabilities
    ]
