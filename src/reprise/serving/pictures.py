"""Answer requests with pictures: the file itself, or several in base64."""

import base64
import binascii
import io
from typing import Any, ClassVar

import numpy as np
import torch

from reprise.data.modalities.images.decoding import FORMATS, MOST_TILES, Pixels, decode, mean_of_inputs, tile_starts
from reprise.data.modalities.images.folder import decoding_of
from reprise.inference.compute import Compute, probabilities
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.serving.answerer import BYTES, JSON, READING, Payload, classified, parse_json
from reprise.serving.limits import Limits, RequestError
from reprise.tasks.classification import Classification

TOGETHER = 4
"""Pictures of a request may have so many times the pixels of the largest one: base64 of a single colour is small."""


class Pictures:
    """Classifies pictures. They are decoded, and cut into tiles, as `reprise predict` does."""

    kind: ClassVar[str] = "images"
    types: ClassVar[tuple[str, ...]] = ("image/*", BYTES, JSON)
    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "required": ["pictures"],
        "properties": {"pictures": {"type": "array", "items": {"type": "string", "format": "byte"}}},
    }

    def __init__(self, run: TrainedRun, predictor: Predictor, compute: Compute, limits: Limits) -> None:
        assert isinstance(predictor.task, Classification)
        self._decoding = decoding_of(run.config.data, run.windows.input_shape)
        self._classes, self._compute, self._limits = list(predictor.task.classes), compute, limits

    def describe(self) -> Payload:
        """Return the classes, the size of the input, and how pictures are brought to it: pad, stretch, crop or tiles."""
        height, width, channels = self._decoding.shape
        return {
            "classes": self._classes,
            "height": height,
            "width": width,
            "channels": channels,
            "resize": self._decoding.resize,
        }

    def example(self) -> list[torch.Tensor]:
        """Return a black picture."""
        return [torch.zeros(1, *self._decoding.shape, dtype=torch.uint8)]

    def answer(self, body: bytes, is_json: bool, with_history: bool) -> Payload:
        """Return a row per picture."""
        contents = self._from_json(body) if is_json else [body]
        named = [(f"picture {number}: " if is_json else "", content) for number, content in enumerate(contents, 1)]
        if sum(self._pixels(*one) for one in named) > TOGETHER * self._limits.pixels:
            raise RequestError(413, f"the pictures have more than {TOGETHER * self._limits.pixels:,} pixels in all")
        inputs = [self._decode(*one) for one in named]
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

    def _decode(self, where: str, content: bytes) -> Pixels:
        with READING:
            try:
                return decode(content, self._decoding).inputs
            except ValueError as error:
                raise RequestError(422, f"{where}{error}"[:300]) from None

    def _tiles(self, height: int, width: int) -> int:
        """Return the number of tiles of a picture."""
        sides = zip((height, width), self._decoding.shape[:2], strict=True)
        rows, columns = (len(tile_starts(length, tile, self._decoding.overlap)) for length, tile in sides)
        return rows * columns

    def _pixels(self, where: str, content: bytes) -> int:
        """Return the pixels of a picture by its header, before memory for them is taken; 0 if it has none. Refuse too many."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                width, height = opened.size
        except Image.DecompressionBombError as error:
            raise RequestError(413, f"{where}{error}") from None
        except Exception:  # `decode` names the problem
            return 0
        if width * height > self._limits.pixels:
            raise RequestError(413, f"{where}{width:,} x {height:,} pixels, and a picture may have {self._limits.pixels:,}")
        if self._decoding.resize == "tiles" and (tiles := self._tiles(height, width)) > MOST_TILES:
            raise RequestError(
                413, f"{where}{width:,} x {height:,} pixels are {tiles:,} tiles, and a picture may have {MOST_TILES:,}"
            )
        return int(width * height)
