"""The HTTP interface: predictions, health, metrics, and two pages."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from reprise.errors import UserError
from reprise.serving.answerer import JSON, Answerer, Payload
from reprise.serving.limits import Limits, RequestError
from reprise.serving.metrics import CONTENT_TYPE, Metrics
from reprise.serving.model import ModelHolder
from reprise.serving.requests import Bodies, Counting

PAGES = Path(__file__).with_name("page")
THREADS = 64
"""Requests whose bodies are decoded or whose answers are awaited at one time."""
PATHS = frozenset({"/", "/predict", "/model", "/health", "/ready", "/metrics", "/docs", "/openapi.json"})
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src blob: data:"
SAFE = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
ERROR_STATUSES = {
    400: "The body is empty, incomplete or no JSON.",
    408: "The body did not arrive in time.",
    413: "The body, a picture, a table or the number of samples is too large.",
    415: "The model does not read this content type.",
    422: "The content cannot be answered: a damaged picture, a missing column, another frequency, a value that is no number.",
    429: "Too many requests at a time.",
}
"""The statuses of requests that are not answered, each with one line of text under the key `error`."""
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def build(holder: ModelHolder, metrics: Metrics, limits: Limits, hosts: frozenset[str] | None) -> FastAPI:
    """Return the application.

    Args:
        holder: the model.
        metrics: counters.
        limits: limits of a request.
        hosts: names of this host that requests may be for; None: any.

    """
    app = FastAPI(title="reprise", description=_summary(holder), docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(Counting, metrics=metrics, paths=PATHS, hosts=hosts)
    _add_errors(app)
    _add_page(app, "/", "index.html")
    _add_page(app, "/docs", "docs.html")
    _add_status(app, holder, metrics)
    bodies, threads = Bodies(limits), anyio.CapacityLimiter(THREADS)
    answerer = holder.current.answerer

    responses: dict[int | str, dict[str, Any]] = {status: _described(words) for status, words in ERROR_STATUSES.items()}
    responses[200] = {"description": "The model, a row per sample or forecast step, and notes on what was read."}

    @app.post("/predict", openapi_extra=_body_schema(answerer), responses=responses)
    async def predict(request: Request, history: bool = False) -> JSONResponse:
        """Answer the body of the request. With `history=true`, a forecast comes with the values before it."""
        is_json = _content_type(request, answerer) == JSON
        async with bodies.receive(request) as body:
            with holder.use() as model:
                work = partial(model.answerer.answer, body, is_json, history)
                answer: Payload = await anyio.to_thread.run_sync(work, limiter=threads)
        metrics.predictions += len(answer["predictions"])
        return JSONResponse({"model": model.identity.as_dict(), **answer})

    schema = app.openapi()
    schema.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR
    return app


def _add_status(app: FastAPI, holder: ModelHolder, metrics: Metrics) -> None:
    @app.get("/model")
    async def model() -> dict[str, Any]:
        """Return what the model is, takes and returns."""
        return holder.current.describe()

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Return `ok` while the process lives."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """Return the model that answers. The server listens only after it has loaded one."""
        return {"status": "ready", "model": holder.current.identity.as_dict()}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def exposed() -> Response:
        """Return counters and latencies in the text format of Prometheus."""
        return Response(metrics.text(holder.current), media_type=CONTENT_TYPE)


def _add_page(app: FastAPI, path: str, file: str) -> None:
    content = (PAGES / file).read_text("utf-8")

    @app.get(path, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(content, headers=SAFE)


def _add_errors(app: FastAPI) -> None:
    """Answer every error with one line in JSON."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return _error(error.status, str(error))

    @app.exception_handler(UserError)
    async def unusable(_: Request, error: UserError) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _error(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> JSONResponse:
        return _error(400, "the connection was closed before the body was complete")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return _error(500, "an error of the server; its log has the details")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    encodable = message[:500].encode("utf-8", "backslashreplace").decode()  # JSON may hold halves of surrogate pairs
    return JSONResponse({"error": encodable}, status, headers)


def _content_type(request: Request, answerer: Answerer) -> str:
    """Return the content type of the body. Raise RequestError if the model does not read it."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if any(given == one or (one.endswith("/*") and given.startswith(one[:-1])) for one in answerer.types):
        return given
    accepted = ", ".join(answerer.types)
    raise RequestError(415, f"the content type is {given[:60] or 'missing'}; this model reads {accepted}")


def _described(words: str) -> dict[str, Any]:
    return {"description": words, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _body_schema(answerer: Answerer) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {one: {"schema": answerer.schema} if one == JSON else binary for one in answerer.types}
    return {"requestBody": {"required": True, "content": content}}


def _summary(holder: ModelHolder) -> str:
    return {
        "images": "Classes of pictures, with probabilities.",
        "sequences": "Classes of sequences, with probabilities.",
        "series": "The forecast after the last row of a series, with intervals.",
    }[holder.current.answerer.kind]
