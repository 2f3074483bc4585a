"""Answer requests with pictures: the file itself, or several in base64."""

import base64
import binascii
import io
from typing import Any, ClassVar

import numpy as np
import torch

from reprise.data.modalities.images.decoding import FORMATS, Pixels, decode, mean_of_inputs
from reprise.data.modalities.images.folder import decoding_of
from reprise.inference.compute import Compute, probabilities
from reprise.inference.trained_run import TrainedRun
from reprise.serving.answerer import BYTES, JSON, READING, Payload, classified, parse_json
from reprise.serving.limits import Limits, RequestError


class Pictures:
    """Classifies pictures. They are decoded, and cut into tiles, as `reprise predict` does."""

    kind: ClassVar[str] = "images"
    types: ClassVar[tuple[str, ...]] = ("image/*", BYTES, JSON)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["pictures"],
        "properties": {"pictures": {"type": "array", "items": {"type": "string", "format": "byte"}}},
    }

    def __init__(self, run: TrainedRun, classes: list[str], compute: Compute, limits: Limits) -> None:
        self._decoding = decoding_of(run.config.data, run.windows.input_shape)
        self._classes, self._compute, self._limits = classes, compute, limits

    def describe(self) -> Payload:
        """Return the classes and the size that pictures are scaled to."""
        height, width, channels = self._decoding.shape
        return {"classes": self._classes, "height": height, "width": width, "channels": channels}

    def example(self) -> list[torch.Tensor]:
        """Return a black picture."""
        return [torch.zeros(1, *self._decoding.shape, dtype=torch.uint8)]

    def answer(self, body: bytes, is_json: bool, with_history: bool) -> Payload:
        """Return a row per picture."""
        contents = self._from_json(body) if is_json else [body]
        inputs = [self._decode(content, f"picture {number}: " if is_json else "") for number, content in enumerate(contents, 1)]
        of_inputs = probabilities(self._compute, [torch.from_numpy(np.concatenate(inputs))])
        answered = mean_of_inputs(of_inputs, [len(one) for one in inputs])
        return {"predictions": classified(self._classes, answered), "notes": []}

    def _from_json(self, body: bytes) -> list[bytes]:
        texts = parse_json(body, "pictures")
        if not isinstance(texts, list) or not texts:
            raise RequestError(422, "pictures is no list of base64 texts with at least one")
        if len(texts) > self._limits.batch:
            raise RequestError(413, f"{len(texts):,} pictures, and a request may have {self._limits.batch}")
        try:
            return [base64.b64decode(text.encode("ascii"), validate=True) for text in texts]
        except (AttributeError, UnicodeEncodeError, binascii.Error):
            raise RequestError(422, "pictures holds something other than base64 texts") from None

    def _decode(self, content: bytes, where: str) -> Pixels:
        with READING:
            self._check_pixels(content, where)
            try:
                return decode(content, self._decoding).inputs
            except ValueError as error:
                raise RequestError(422, f"{where}{error}"[:300]) from None

    def _check_pixels(self, content: bytes, where: str) -> None:
        """Refuse a picture by its header, before memory for its pixels is taken."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                width, height = opened.size
        except Image.DecompressionBombError as error:
            raise RequestError(413, f"{where}{error}") from None
        except Exception:  # `decode` names the problem
            return
        if width * height > self._limits.pixels:
            raise RequestError(413, f"{where}{width:,} x {height:,} pixels, and a picture may have {self._limits.pixels:,}")
