"""The server under load, beside torch, ONNX and int8 on the same pictures, in one run.

    python benchmarks/serving.py RUN [--seconds 60] [--clients 32]     # in a project, on an idle machine

Prints JSON: for 32 clients that each send one picture after another, requests per second, the 50th and the 99th percentile of the
latency, and how many answers were wrong (a probability that differs by more than 1e-5 from that of the original on the same
picture); samples per second of requests with a batch of pictures; samples per second of the models alone, one by one and in
batches. `relative` gives all rates as multiples of torch one by one. Clients and server share the processors of one machine.
"""

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np

PICTURES, BATCH, TOLERANCE = 64, 64, 1e-5
PROCESSES = 2
"""Of clients: one Python process sends too few requests."""
Bodies = list[tuple[bytes, str]]
Load = list[tuple[float, bool]]
"""Latency and whether the answer was right, by request."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run that classifies pictures")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    arguments = parser.parse_args()
    contents, expected, alone = models(arguments.run)
    server = subprocess.Popen(
        [sys.executable, "-m", "reprise", "serve", arguments.run, "--port=0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout
    port = int(re.findall(r"http://\S+:(\d+)", server.stdout.readline())[0])
    try:
        single = under_load(port, [(content, "image/png") for content in contents], expected, arguments)
        several = batches(port, contents, arguments.seconds / 6)
    finally:
        server.send_signal(signal.SIGTERM)
    figures = {**alone, "server_one_by_one": single["requests_per_second"], "server_batches_of_64": several}
    base = alone["torch_one_by_one"]
    relative = {name: round(value / base, 3) for name, value in figures.items()}
    print(json.dumps({"server": single, "samples_per_second": figures, "relative": relative, "stopped": server.wait()}, indent=2))


def models(name: str) -> tuple[list[bytes], np.ndarray, dict[str, float]]:
    """Return pictures of val as PNG files, their probabilities, and samples per second of the models alone."""
    import torch
    from PIL import Image

    from reprise import config
    from reprise.inference.export import graphs, int8, runners
    from reprise.inference.predictor import Predictor
    from reprise.inference.trained_run import open_run
    from reprise.project_paths import ProjectPaths

    run = open_run(ProjectPaths(config.project_root()), name)
    predictor = Predictor.from_run(run)
    train, val = run.windows.learning()
    inputs = runners.raw_inputs(predictor, val, torch.arange(256) % len(val))
    contents = []
    for pixels in inputs["pixels"][:PICTURES]:
        stream = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG")
        contents.append(stream.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        onnx, small = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        graphs.write_onnx(predictor, {key: part[:2] for key, part in inputs.items()}, onnx)
        int8.quantize(onnx, small, predictor, train)
        every = {
            "torch": runners.torch_runner(predictor),
            "onnx": runners.onnx_runner(onnx),
            "int8": runners.onnx_runner(small),
        }
        rates = {
            f"{name}_one_by_one": rate(runner, {key: part[:1] for key, part in inputs.items()}) for name, runner in every.items()
        }
        rates |= {f"{name}_batches_of_256": rate(runner, inputs) for name, runner in every.items()}
        expected = every["torch"]({key: part[:PICTURES] for key, part in inputs.items()})
    return contents, expected, rates


def rate(runner: Callable[[dict[str, np.ndarray]], object], inputs: dict[str, np.ndarray]) -> float:
    runner(inputs)
    started, count, size = time.perf_counter(), 0, len(next(iter(inputs.values())))
    while (seconds := time.perf_counter() - started) < 3:
        runner(inputs)
        count += size
    return round(count / seconds, 1)


def under_load(port: int, bodies: Bodies, expected: np.ndarray, arguments: argparse.Namespace) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    results: Queue[Load] = context.Queue()
    share = arguments.clients // PROCESSES
    work = (port, bodies, expected.astype(float).tolist(), share, arguments.seconds, results)
    started = [context.Process(target=clients, args=work) for _ in range(PROCESSES)]
    for one in started:
        one.start()
    found: Load = [entry for _ in started for entry in results.get()]
    for one in started:
        one.join()
    latencies = np.array([latency for latency, _ in found])
    return {
        "clients": share * PROCESSES,
        "seconds": arguments.seconds,
        "requests": len(found),
        "wrong_answers": sum(not right for _, right in found),
        "requests_per_second": round(len(found) / arguments.seconds, 1),
        "p50_ms": round(float(np.percentile(latencies, 50)) * 1000, 2),
        "p99_ms": round(float(np.percentile(latencies, 99)) * 1000, 2),
    }


def clients(port: int, bodies: Bodies, expected: list[list[float]], count: int, seconds: float, results: Queue[Load]) -> None:
    """Send requests from threads until the time is over."""
    found: list[Load] = [[] for _ in range(count)]
    end = time.perf_counter() + seconds
    threads = [threading.Thread(target=client, args=(port, bodies, expected, first, end, found[first])) for first in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put([entry for one in found for entry in one])


def client(port: int, bodies: Bodies, expected: list[list[float]], first: int, end: float, found: Load) -> None:
    connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=60), first
    while time.perf_counter() < end:
        number = (number + 1) % len(bodies)
        body, kind = bodies[number]
        started = time.perf_counter()
        connection.request("POST", "/predict", body, {"Content-Type": kind})
        response = connection.getresponse()
        content = response.read()
        latency = time.perf_counter() - started
        right = response.status == 200 and close(json.loads(content)["predictions"][0]["probabilities"], expected[number])
        found.append((latency, right))


def close(answer: dict[str, float], expected: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(answer.values(), expected, strict=True)) < TOLERANCE


def batches(port: int, contents: list[bytes], seconds: float) -> float:
    """Return samples per second of one client that sends all pictures in each request."""
    body = json.dumps({"pictures": [base64.b64encode(content).decode() for content in contents[:BATCH]]})
    connection, count, started = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        count += BATCH
    return round(count / passed, 1)


if __name__ == "__main__":
    main()
