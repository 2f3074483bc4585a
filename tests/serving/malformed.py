"""Requests that cannot be answered, by name, for a server of pictures and one of a series."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.serving.running import LIMITS, Running

Request = tuple[str, Callable[[Running], int | None]]
"""A name, and a function that sends the request and returns the status; None if the client did not wait for it."""
JSON, CSV, PNG, PARQUET = "application/json", "text/csv", "image/png", "application/vnd.apache.parquet"
DEEP = b"[" * 100_000


def sent(name: str, body: bytes, kind: str | None, **headers: str) -> Request:
    return name, lambda server: server.ask("/predict", body, kind, **headers)[0]


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """Return a grey PNG with the size in its header, and whatever rows follow."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(stream, form, **options)
    return stream.getvalue()


def for_any_server() -> Iterator[Request]:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW"):
        yield f"method {method}", lambda server, method=method: server.ask("/predict", method=method)[0]  # type: ignore[misc]
    for path in ("/predict/", "/Predict", "//predict", "/../etc/passwd", "/%00", "/predict%2f..", "/" + "a" * 9000, "/admin"):
        yield f"path {path[:20]}", lambda server, path=path: server.ask(path, b"x", PNG)[0]  # type: ignore[misc]
    yield "post to health", lambda server: server.ask("/health", b"x", PNG)[0]
    for kind in (
        None,
        "text/html",
        "multipart/form-data; boundary=x",
        "application/xml",
        "images/png",
        "*/*",
        "é/ö",
        "a" * 500,
    ):
        yield sent(f"content type {(kind or 'none')[:20]}", b"123", kind)
    yield sent("host of a stranger", b"123", PNG, Host="evil.example")
    for name, content in (
        ("empty", b""),
        ("text", b"hello"),
        ("null", b"null"),
        ("number", b"1"),
        ("list", b"[]"),
        ("empty object", b"{}"),
        ("other key", b'{"x": 1}'),
        ("two keys", b'{"pictures": [], "rows": []}'),
        ("cut off", b'{"rows": ['),
        ("no UTF-8", b"\xff\xfe\x00"),
        ("deep", DEEP),
        ("deep objects", b'{"rows":' * 5000),
        ("huge number", b'{"rows": ' + b"9" * 10_000 + b"}"),
        ("NaN", b"NaN"),
        ("lone surrogate", b'{"\\ud800": 1}'),
    ):
        yield sent(f"JSON {name}", content, JSON)
    yield "a body that is too large", lambda server: server.ask("/predict", bytes(LIMITS.body + 1), PNG)[0]
    yield "a body that is far too large", lambda server: server.raw(head(PNG, f"Content-Length: {10**12}"))
    yield "an endless body in chunks", lambda server: server.raw(head(PNG, "Transfer-Encoding: chunked"), *[chunked(2**18)] * 17)
    yield "a wrong query", lambda server: server.ask("/predict?history=perhaps", b"x", JSON)[0]
    for name, parts in (
        ("no HTTP", [b"hello\r\n\r\n"]),
        ("no host", [b"POST /predict HTTP/1.1\r\n\r\n"]),
        ("a negative length", [head(PNG, "Content-Length: -1")]),
        ("two lengths", [head(PNG, "Content-Length: 1", "Content-Length: 2"), b"xx"]),
        ("a length in words", [head(PNG, "Content-Length: many")]),
        ("a wrong chunk", [head(PNG, "Transfer-Encoding: chunked"), b"zz\r\n"]),
        ("a header without end", [b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000]),
        ("no body, no length", [head(PNG)]),
        ("a slow body", [head(PNG, "Content-Length: 10"), b"x"]),
        ("a slow body in chunks", [head(PNG, "Transfer-Encoding: chunked"), b"1\r\nx\r\n"]),
    ):
        yield name, lambda server, parts=parts: server.raw(*parts)  # type: ignore[misc]
    yield "gone before the body", lambda server: server.raw(head(PNG, "Content-Length: 10"), b"x", close=True)
    yield "gone in the header", lambda server: server.raw(b"POST /pre", close=True)


def head(kind: str, *more: str) -> bytes:
    return "\r\n".join(["POST /predict HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *more, "", ""]).encode()


def chunked(size: int) -> bytes:
    return b"%x\r\n" % size + bytes(size) + b"\r\n"


def for_pictures() -> Iterator[Request]:
    good = picture("PNG")
    for name, content in (
        ("empty", b""),
        ("text", b"this is no picture"),
        ("zeros", bytes(1000)),
        ("PNG cut off", good[:60]),
        ("PNG header only", good[:33]),
        ("PNG signature only", good[:8]),
        ("PNG with a flipped byte", good[:50] + bytes([good[50] ^ 255]) + good[51:]),
        ("PNG without pixels", png(8, 8)),
        ("PNG of no width", png(0, 8)),
        ("PNG bomb", png(30_000, 30_000, bytes(1000))),
        ("PNG of many pixels", png(1001, 1000, bytes(1000))),
        ("PNG of one row", png(2_000_000, 1)),
        ("JPEG cut off", picture("JPEG")[:200]),
        ("GIF cut off", picture("GIF")[:20]),
        ("BMP cut off", picture("BMP")[:60]),
        ("TIFF cut off", picture("TIFF")[:100]),
        ("WebP cut off", picture("WEBP")[:30]),
        ("TIFF of floats", tiff_of_floats()),
        ("PDF", b"%PDF-1.7\n%%EOF"),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("PPM", b"P6 2 2 255\n" + bytes(12)),
    ):
        yield sent(f"picture {name}", content, PNG)
    large = base64.b64encode(png(1000, 1000, bytes(1001 * 1000))).decode()
    bomb = base64.b64encode(png(30_000, 30_000)).decode()
    for name, value in (
        ("no list", "abc"),
        ("none", []),
        ("numbers", [1, 2]),
        ("null", [None]),
        ("not base64", ["%%%"]),
        ("no ASCII", ["ä"]),
        ("base64 of text", [base64.b64encode(b"text").decode()]),
        ("one bad of two", [base64.b64encode(good).decode(), ""]),
        ("too many", [base64.b64encode(good).decode()] * (LIMITS.batch + 1)),
        ("bomb", [bomb]),
        ("many large ones", [large] * 5),
        ("nested", [[base64.b64encode(good).decode()]]),
        ("pixels", [[[0, 1], [2, float("nan")]]]),
    ):
        yield sent(f"pictures {name}", json.dumps({"pictures": value}).encode(), JSON)
    yield sent("a CSV for pictures", b"a,b\n1,2\n", CSV)


def tiff_of_floats() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(stream, "TIFF")
    return stream.getvalue()


def for_series(table: Path) -> Iterator[Request]:
    text = table.read_text()
    header, *rows = text.splitlines()
    frame = pd.read_csv(table).tail(40)

    def changed(row: int, cell: int, value: str) -> str:
        cells = rows[row].split(",")
        cells[cell] = value
        return "\n".join([header, *rows[:row], ",".join(cells), *rows[row + 1 :]])

    for name, content in (
        ("empty", ""),
        ("header only", header),
        ("one row", f"{header}\n{rows[0]}"),
        ("too few rows", "\n".join([header, *rows[:5]])),
        ("no header", "\n".join(rows[:40])),
        ("a row missing", "\n".join([header, *rows[:20], *rows[21:60]])),
        ("a row twice", "\n".join([header, *rows[:20], rows[19], *rows[20:60]])),
        ("newest first", "\n".join([header, *rows[60:0:-1]])),
        ("every other row", "\n".join([header, *rows[:120:2]])),
        ("a text", changed(-3, 2, "warm")),
        ("NaN", changed(-3, 2, "NaN")),
        ("infinity", changed(-3, 2, "inf")),
        ("an empty cell", changed(-3, 2, "")),
        ("a huge number", changed(-3, 2, "1e39")),
        ("a number that overflows", changed(-3, 2, "1e308")),
        ("no date", changed(-3, 0, "yesterday")),
        ("the 31st of June", changed(-3, 0, "2015-06-31")),
        ("year 300000", changed(-3, 0, "300000-01-01")),
        ("too many cells", changed(-3, 2, "1,2,3")),
        ("an open quotation mark", changed(-3, 2, '"1')),
        ("a column missing", frame.drop(columns="wind").to_csv(index=False)),
        ("a column twice", "\n".join(",".join([row, row.split(",")[1]]) for row in [header, *rows[:40]])),
        ("zero bytes", "\x00" * 500),
        ("one long line", "1," * 200_000),
        ("many short lines", "1\n" * 20_000),
        ("HTML", "<html><body>404</body></html>"),
        ("picture", png(8, 8).decode("latin-1")),
    ):
        yield sent(f"series {name}", content.encode("latin-1"), CSV)
    for name, table_content in (
        ("cut off", parquet(frame)[:-40]),
        ("magic only", b"PAR1"),
        ("magic twice", b"PAR1" + bytes(100) + b"PAR1"),
        ("huge footer", b"PAR1" + bytes(20) + struct.pack("<I", 2**31 - 1) + b"PAR1"),
        ("too many cells", parquet(pd.DataFrame({"a": np.zeros(LIMITS.cells + 1)}))),
        ("a text stored once", text_stored_once()),
        ("no time", parquet(frame.drop(columns="date"))),
        ("lists", parquet(pd.DataFrame({"date": frame["date"], "wind": [[1.0]] * len(frame)}))),
    ):
        yield sent(f"Parquet {name}", table_content, PARQUET)
    for name, value in (
        ("no list", "abc"),
        ("none", []),
        ("numbers", [1, 2]),
        ("empty row", [{}]),
        ("other columns", [{"date": "2015-01-01"}, {"day": "2015-01-02"}]),
        ("a list in a cell", [{"date": "2015-01-01", "wind": [1]}] * 30),
        ("NaN", [{**row, "wind": float("nan")} for row in frame.to_dict("records")]),
        ("a text", [{**row, "wind": "strong"} for row in frame.to_dict("records")]),
        ("a huge whole number", [{**row, "wind": 10**300} for row in frame.to_dict("records")]),
    ):
        yield sent(f"rows {name}", json.dumps({"rows": value}).encode(), JSON)
    yield sent("a picture for a series", picture("PNG"), PNG)


def text_stored_once() -> bytes:
    """Return a small table whose texts, written out, take 5 GB."""
    texts = pa.DictionaryArray.from_arrays(np.zeros(50_000, np.int32), ["x" * 100_000])
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": texts}), stream)
    return stream.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()
