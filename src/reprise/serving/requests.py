"""Receive the bodies of requests within limits, and count requests."""

import asyncio
import contextlib
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reprise.serving.limits import Limits, RequestError
from reprise.serving.metrics import Metrics

DRAINED = 4
"""Times the limit of the body that is read of a larger one, and discarded: the client then reads the answer, not a reset."""
HELD = 256 * 2**20
"""Bytes of bodies in memory at one time."""


class Bodies:
    """Receives bodies of requests. Their total size in memory is bounded."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._held = limits, 0

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body of a request.

        Raises:
            RequestError: if it is empty, too large, too slow, or too many others are being received.

        """
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._limits.seconds):
                    await self._receive(request, body)
            except TimeoutError:
                raise RequestError(408, f"the body did not arrive within {self._limits.seconds:g} s") from None
            if not body:
                raise RequestError(400, "the body is empty")
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        announced = int(request.headers.get("content-length", 0))  # the server has checked that it is a number
        if announced > DRAINED * self._limits.body:
            raise RequestError(413, self._too_large())
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > self._limits.body:
                if received > DRAINED * self._limits.body:
                    break
                continue
            if self._held + len(chunk) > HELD:
                raise RequestError(429, "too many requests at a time; try again")
            body += chunk
            self._held += len(chunk)
        if received > self._limits.body:
            raise RequestError(413, self._too_large())

    def _too_large(self) -> str:
        return f"the body is larger than {self._limits.body / 2**20:g} MiB"


class Counting:
    """ASGI middleware: count requests and their latencies, and answer only requests for this host.

    Args:
        app: the application.
        metrics: what counts.
        paths: the paths of the application; all others count as one.
        hosts: names of this host that a request may be for, so that no web page reaches the server under a name of its own (DNS
            rebinding); None: any.

    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str], hosts: frozenset[str] | None) -> None:
        self._app, self._metrics, self._paths, self._hosts = app, metrics, paths, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, started, status = scope["path"] if scope["path"] in self._paths else "other", time.perf_counter(), 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight += 1
        try:
            if self._hosts is not None and _host(scope) not in self._hosts:
                await _refuse(send_counted, 400, "the header Host names another host")
            else:
                await self._app(scope, receive, send_counted)
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.in_flight -= 1
            self._metrics.observe(path, status or 499, time.perf_counter() - started)


def names_of_host(host: str) -> frozenset[str] | None:
    """Return the names that requests may be for: those of this machine if the address is a loopback address, else None (any)."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return frozenset({host, "localhost", "127.0.0.1", "::1"}) if is_loopback else None


def _host(scope: MutableMapping[str, Any]) -> str:
    value = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    name = value.partition("]")[0].removeprefix("[") if value.startswith("[") else value.partition(":")[0]
    return str(name).lower()


async def _refuse(send: Callable[[Message], Awaitable[None]], status: int, message: str) -> None:
    content = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
