"""The command itself: the alias moves while clients ask, and a signal stops the server after the requests in progress."""

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import open_run
from reprise.project_paths import ProjectPaths
from reprise.tracking.published_weights import read_published
from tests.cli_fork_server import user_environment
from tests.pipeline.conftest import pipeline_project, run_in
from tests.serving.malformed import head
from tests.serving.running import TOLERANCE, ask

__all__ = ["pipeline_project"]
pytestmark = pytest.mark.long
CLIENTS, PICTURES = 8, 16
Serve = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def serve(pipeline_project: Path) -> Iterator[Serve]:
    """Start `reprise serve`, and return the process and its port."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-P", "-m", "reprise", "serve", *words]
        process = subprocess.Popen(
            command, cwd=pipeline_project, env=user_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:(\d+)$", process.stdout.readline())
        assert found
        return process, int(found[1])

    yield start
    for process in started:
        with process:
            process.kill()


def contents(project: Path) -> list[bytes]:
    pixels = np.load(project / "data" / "processed" / "digits" / "train" / "images.npy")[:PICTURES]
    streams = [io.BytesIO() for _ in pixels]
    for one, stream in zip(pixels, streams, strict=True):
        Image.fromarray(one[:, :, 0]).save(stream, "PNG")
    return [stream.getvalue() for stream in streams]


def expected(project: Path, run: str) -> np.ndarray[Any, Any]:
    pixels = np.load(project / "data" / "processed" / "digits" / "train" / "images.npy")[:PICTURES]
    with torch.inference_mode():
        return Predictor.from_run(open_run(ProjectPaths(project), run))(torch.from_numpy(pixels)).numpy()


def register(project: Path, run: str, *words: str) -> None:
    done = run_in(project, "reprise", "register", run, *words)
    assert done.returncode == 0, done.stderr


def test_no_answer_is_lost_or_wrong_while_the_alias_moves(pipeline_project: Path, serve: Serve) -> None:
    train = ["experiment=digits_cnn", "trainer.max_epochs=1", "seed=5", "trainer.threads=1", "name=other"]
    assert run_in(pipeline_project, "reprise", "train", *train).returncode == 0
    (first,) = (one.name for one in read_published(ProjectPaths(pipeline_project), "digits_cnn"))
    second = open_run(ProjectPaths(pipeline_project), "last").trained.name
    answers = {"1": expected(pipeline_project, first), "2": expected(pipeline_project, second)}
    assert np.abs(answers["1"] - answers["2"]).max() > 0.01
    register(pipeline_project, first)
    process, port = serve("digits@champion", "--port=0", "--poll=0.2")
    pictures, moved, ended = contents(pipeline_project), threading.Event(), threading.Event()
    wrong: list[Any] = []
    count = [0] * CLIENTS

    def client(number: int) -> None:
        while not ended.is_set():
            one = count[number] % PICTURES
            status, answer = ask(port, "/predict", pictures[one], "image/png")
            count[number] += 1
            found = list(answer["predictions"][0]["probabilities"].values()) if status == 200 else []
            version = answer.get("model", {}).get("version")
            if status != 200 or np.abs(found - answers[version][one]).max() > TOLERANCE:
                wrong.append((status, answer))
            if version == "2":
                moved.set()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    register(pipeline_project, second, "--force", "test")
    assert moved.wait(60)
    ended.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(count) > 0
    assert ask(port, "/ready")[1]["model"]["version"] == "2"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert f"digits@champion is now version 2, {second}" in out


def test_a_signal_stops_the_server_after_the_request_in_progress(pipeline_project: Path, serve: Serve) -> None:
    process, port = serve("digits_cnn", "--port=0")
    refused = run_in(pipeline_project, "reprise", "serve", "digits_cnn", f"--port={port}")
    assert refused.returncode == 2
    assert refused.stderr == f"reprise: cannot serve on 127.0.0.1:{port}: Address already in use; choose another with --port\n"
    (picture,) = contents(pipeline_project)[:1]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head("image/png", f"Content-Length: {len(picture)}") + picture[:20])
        while ask(port, "/metrics")[1].count("reprise_requests_in_flight 2") != 1:  # this request and the other
            pass
        process.send_signal(signal.SIGTERM)
        while True:  # until the server takes no further connections
            try:
                ask(port, "/health")
            except OSError:
                break
        connection.sendall(picture[20:])
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert re.fullmatch(r"serve  stopped after \d+ requests\n", out)
