"""Requests that cannot be answered get a status of 4xx and one line; the server goes on, and its memory does not grow."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.serving.metrics import resident_memory
from tests.pipeline.conftest import pipeline_project
from tests.serving import malformed
from tests.serving.running import Running, serving

__all__ = ["pipeline_project"]
GROWTH = 8 * 2**20
"""Bytes that memory may grow by while all requests are sent again: less than one body, picture or table that is kept."""


@pytest.fixture(scope="module")
def pictures(pipeline_project: Path) -> Iterator[Running]:
    with serving(pipeline_project, "digits_cnn") as server:
        yield server


@pytest.fixture(scope="module")
def series(pipeline_project: Path) -> Iterator[Running]:
    with serving(pipeline_project, "temperature_lstm") as server:
        yield server


def statuses(server: Running, requests: list[malformed.Request]) -> dict[str, int | None]:
    return {name: send(server) for name, send in requests}


def check(server: Running, requests: list[malformed.Request], good: tuple[bytes, str], slow: int) -> None:
    """Send all requests, and those that take no time again while memory is measured."""
    names = [name for name, _ in requests]
    assert len(set(names)) == len(names)
    answered = statuses(server, requests)
    wrong = {name: status for name, status in answered.items() if status is not None and not 400 <= status < 500}
    assert wrong == {}
    assert sum(status == 408 for status in answered.values()) == slow
    quick = [(name, send) for name, send in requests if answered[name] != 408]
    statuses(server, quick)
    gc.collect()
    before = resident_memory()
    statuses(server, quick)
    gc.collect()
    assert resident_memory() - before < GROWTH
    assert server.predict(*good)
    deadline = time.monotonic() + 30
    while server.metrics.in_flight and time.monotonic() < deadline:  # the client has the answer before it is counted
        time.sleep(0.001)
    assert server.metrics.in_flight == 0
    assert not any(status >= 500 for _, status in server.metrics.requests)


def test_a_server_of_pictures_refuses_what_it_cannot_answer(pictures: Running) -> None:
    requests = [*malformed.for_any_server(), *malformed.for_pictures()]
    assert len(requests) >= 90
    check(pictures, requests, (malformed.picture("PNG"), "image/png"), slow=2)


def test_a_server_of_a_series_refuses_what_it_cannot_answer(series: Running, pipeline_project: Path) -> None:
    table = pipeline_project / "data" / "raw" / "seattle_weather" / "seattle-weather.csv"
    requests = list(malformed.for_series(table))
    assert len(requests) >= 45
    check(series, requests, (table.read_bytes(), "text/csv"), slow=0)


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"x", "text/html", 415, "the content type is text/html; this model reads image/*, application/octet-stream, application/json"),
        (b"", "image/png", 400, "the body is empty"),
        (b"x", "image/png", 422, "no picture"),
        (malformed.png(30_000, 30_000), "image/png", 413, "exceeds limit"),
        (malformed.png(1001, 1000), "image/png", 413, "1,001 x 1,000 pixels, and a picture may have 1,000,000"),
        (bytes(2**20 + 1), "image/png", 413, "the body is larger than 1 MiB"),
        (b'{"pictures": ["eA=="]}', "application/json", 422, "picture 1: no picture"),
        (b"[", "application/json", 400, "the body is no JSON: "),
    ],
)  # fmt: skip
def test_the_message_says_what_is_wrong_in_one_line(pictures: Running, body: bytes, kind: str, status: int, message: str) -> None:
    found, answer = pictures.ask("/predict", body, kind)
    assert found == status
    assert list(answer) == ["error"]
    assert message in answer["error"]
    assert "\n" not in answer["error"]
