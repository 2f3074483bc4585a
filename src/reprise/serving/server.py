"""Run the server: bind the address, load the model, answer until a signal stops the process."""

import contextlib
import logging
import math
import socket
import warnings

import uvicorn
from fastapi import FastAPI
from rich.console import Console

from reprise.errors import Stopped, UserError
from reprise.project_paths import ProjectPaths
from reprise.serving.alias import AliasWatch, load_alias, parse_alias
from reprise.serving.app import build
from reprise.serving.limits import Limits
from reprise.serving.metrics import Metrics
from reprise.serving.model import ModelHolder, load
from reprise.serving.requests import names_of_host

BACKLOG = 2048
"""Connections that wait to be accepted."""


def serve(
    paths: ProjectPaths, name: str, host: str, port: int, limits: Limits, poll: float, console: Console, device: str = "cpu"
) -> None:
    """Serve a run, or the registered model `NAME@ALIAS`, until SIGTERM or SIGINT.

    Requests in progress are then answered. While an alias is served, the registry is asked every `poll` seconds for its version.

    Raises:
        UserError: if the address is in use, or there is no such run, model or device.

    """

    def report(text: str) -> None:
        console.print(f"serve  {text}", highlight=False, markup=False, soft_wrap=True)

    alias = parse_alias(name)
    with contextlib.closing(bind(host, port)) as listening:
        model = load_alias(paths, alias, limits, device) if alias else load(paths, name, limits, device)
        holder, metrics = ModelHolder(model), Metrics()
        app = build(holder, metrics, limits, names_of_host(host))
        server = http_server(app, limits)
        _prepare_process()
        with contextlib.ExitStack() as stack:
            if alias:
                stack.callback(AliasWatch(paths, alias, holder, limits, poll, metrics, report).stop)
            address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
            version = f", version {model.identity.version} of {model.identity.model}" if alias else ""
            listening.listen(BACKLOG)
            report(f"{model.identity.run}{version}, on {address}")
            with contextlib.suppress(Stopped):  # raised by the signal that has stopped the server
                server.run(sockets=[listening])
        report(f"stopped after {sum(metrics.requests.values()):,} requests")


def http_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """Return the server of an application. On a signal, it waits for requests in progress, at most as long as a body may take."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(limits.seconds) + 1,
    )
    return uvicorn.Server(config)


def _prepare_process() -> None:
    """Report only errors of the server, and no pictures that are large but allowed."""
    from PIL import Image

    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is no HTTP
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address.

    It names its protocol: asyncio sets `TCP_NODELAY` only on sockets that do. An answer is sent in two parts, and without the
    option the second waits 40 ms for the acknowledgement of the first.

    Raises:
        UserError: if the address is in use or does not exist.

    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        hint = "choose another with --port" if isinstance(error, OSError) and error.errno else "check --host"
        raise UserError(f"cannot serve on {host}:{port}: {error.strerror or error}", hint) from None
    return bound
