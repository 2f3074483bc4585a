"""Counters of the server in the text format of Prometheus.

Source: Prometheus, Exposition formats, text format 0.0.4.
"""

import resource
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from reprise.serving.model import ServedModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of latencies, in seconds."""


class Metrics:
    """Counts of requests by path and status, and a histogram of their latencies by path. Used by the event loop alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.in_flight = 0
        self.predictions = self.reloads = self.failed_reloads = 0
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests[path, status] += 1
        self._buckets.setdefault(path, [0] * (len(BOUNDS) + 1))[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[path] += seconds  # type: ignore[assignment]

    def text(self, model: ServedModel) -> str:
        """Return all metrics."""
        return "".join(f"{line}\n" for line in self._lines(model))

    def _lines(self, model: ServedModel) -> Iterator[str]:
        yield from _head("reprise_requests_total", "counter", "Requests by path and status.")
        for (path, status), count in sorted(self.requests.items()):
            yield f'reprise_requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _head("reprise_request_seconds", "histogram", "Time from the first byte to the end of the answer.")
        for path, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
                total += count
                yield f'reprise_request_seconds_bucket{{path="{path}",le="{bound}"}} {total}'
            yield f'reprise_request_seconds_sum{{path="{path}"}} {self._seconds[path]}'
            yield f'reprise_request_seconds_count{{path="{path}"}} {total}'
        for name, kind, value, words in (
            ("requests_in_flight", "gauge", self.in_flight, "Requests that are not answered yet."),
            ("predictions_total", "counter", self.predictions, "Rows of predictions."),
            ("batches_total", "counter", model.batcher.batches, "Batches that the present model has computed."),
            ("samples_total", "counter", model.batcher.samples, "Samples in these batches."),
            ("reloads_total", "counter", self.reloads, "Models loaded because the alias moved."),
            ("failed_reloads_total", "counter", self.failed_reloads, "Attempts to look up or load a model that failed."),
            ("resident_memory_bytes", "gauge", resident_memory(), "Memory of the process."),
        ):
            yield from _head(f"reprise_{name}", kind, words)
            yield f"reprise_{name} {value}"
        yield from _head("reprise_model_info", "gauge", "The present model.")
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in model.identity.as_dict().items())
        yield f"reprise_model_info{{{labels}}} 1"


def resident_memory() -> int:
    """Return the resident memory of this process in bytes: now, on Linux; elsewhere its peak."""
    file = Path("/proc/self/statm")
    if file.is_file():
        return int(file.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
