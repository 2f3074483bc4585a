"""Raw files from wherever they can be had: a mirror, https, a Debian package, an installed Python package."""

import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from urllib.parse import urlsplit

from reprise.errors import UserError

BLOCK = 1 << 20
TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes."""


class Unavailable(Exception):  # noqa: N818 -- no error yet: the next source may have it
    """A source does not have the file, or not the right one; the message says why."""


class Progress(Protocol):
    """What a download reports to: bytes so far and bytes in all (None: unknown)."""

    def __call__(self, done: int, total: int | None) -> None:
        """Report."""
        ...


@dataclass
class Fetcher:
    """Fetches the files of one data set from a list of sources, each a folder-like prefix, tried in order.

    A prefix is a folder, `http(s)://…/`, `debian:PACKAGE/FOLDER/` or `package:MODULE/FOLDER/`.
    """

    sources: Sequence[str]
    dead: dict[str, str] = field(default_factory=dict)
    """Hosts that could not be reached: not asked again for the next file."""

    def fetch(self, published: str, sha256: str, target: Path, progress: Progress) -> str:
        """Put the decompressed file at `target` and say which source it came from.

        It is written under temporary names and renamed only when its sha256 is right.

        Raises:
            UserError: one message with each source and why it failed.

        """
        target.parent.mkdir(parents=True, exist_ok=True)
        failures = []
        for source in self.sources:
            try:
                self._from(source, published, sha256, target, progress)
            except Unavailable as why:
                failures.append(f"{_shown(source)}{published}: {why}")
            except OSError as error:
                raise UserError(f"cannot write {target}: {error.strerror or error}") from None
            else:
                return f"{_shown(source)}{published}"
        raise UserError(
            f"no source has {target.name}: {' | '.join(failures)}",
            "set REPRISE_MIRROR to a folder or URL that holds it as <data set>/<file>",
        )

    def _from(self, source: str, published: str, sha256: str, target: Path, progress: Progress) -> None:
        scheme, _, rest = source.partition(":")
        if scheme in {"http", "https"}:
            part = target.with_name(f".{target.name}.{hashlib.sha256(source.encode()).hexdigest()[:8]}.part")
            self._download(f"{source}{published}", part, progress)
            try:
                _settle(part, published, sha256, target)
            finally:
                part.unlink(missing_ok=True)
        elif scheme == "debian":
            _settle(_debian_file(rest, published), published, sha256, target)
        elif scheme == "package":
            _settle(_package_file(rest, published), published, sha256, target)
        else:
            _settle(Path(source) / published, published, sha256, target)

    def _download(self, url: str, part: Path, progress: Progress) -> None:
        """Bring `part` up to the whole file, asking only for what it lacks where the server can do that."""
        import requests  # late: 0.2 s, and a mirror folder needs none of it

        host = urlsplit(url).netloc
        if host in self.dead:
            raise Unavailable(self.dead[host])
        have = part.stat().st_size if part.exists() else 0
        try:
            with requests.get(url, headers=_request_headers(have), stream=True, timeout=TIMEOUT) as answer:
                if answer.status_code == 416:  # the part is no beginning of this file
                    part.unlink()
                    raise Unavailable("the part already here does not fit; it was dropped, try again")
                if answer.status_code not in {200, 206}:
                    raise Unavailable(f"HTTP {answer.status_code}")
                resumed = answer.status_code == 206
                length = answer.headers.get("Content-Length")
                total = int(length) + (have if resumed else 0) if length else None
                with part.open("ab" if resumed else "wb") as stream:
                    _copy(answer.iter_content(BLOCK), stream, have if resumed else 0, total, progress)
        except requests.ConnectionError as error:
            self.dead[host] = f"{host} cannot be reached"
            raise Unavailable(_reason(error, self.dead[host])) from None
        except requests.RequestException as error:
            raise Unavailable(f"broke off: {error}") from None


def _request_headers(have: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # the file as it lies there, so that its length is known
    return {**headers, "Range": f"bytes={have}-"} if have else headers


def _copy(blocks: Iterator[bytes], stream: BinaryIO, done: int, total: int | None, progress: Progress) -> None:
    for block in blocks:
        stream.write(block)
        done += len(block)
        progress(done, total)
    if total is not None and done < total:
        raise Unavailable(f"broke off after {done} of {total} bytes; the next try goes on from there")


def _reason(error: Exception, unreachable: str) -> str:
    return "broke off; the next try goes on from there" if "IncompleteRead" in str(error) else unreachable


def _settle(file: Path, published: str, sha256: str, target: Path) -> None:
    """Decompress into a temporary file beside the target, compare the hash, and only then give it the target's name."""
    if not file.is_file():
        raise Unavailable("no such file")
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    draft = Path(name)
    try:
        found = hashlib.sha256()
        with os.fdopen(handle, "wb") as out, _open(file, published) as stream:
            while block := stream.read(BLOCK):
                found.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if found.hexdigest() != sha256:
            raise Unavailable(f"wrong content: sha256 {found.hexdigest()[:12]}…, not {sha256[:12]}…")
        draft.chmod(0o644)
        draft.replace(target)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unavailable(f"truncated or damaged: {error}") from None
    finally:
        draft.unlink(missing_ok=True)


def _open(file: Path, published: str) -> BinaryIO:
    """The decompressed content."""
    try:
        return cast("BinaryIO", gzip.open(file)) if published.endswith(".gz") else file.open("rb")
    except OSError as error:
        raise Unavailable(error.strerror or str(error)) from None


def _package_file(place: str, published: str) -> Path:
    """A file inside an installed Python package, which is not imported for it."""
    module, _, folder = place.partition("/")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise Unavailable(f"the Python package {module} is not installed")
    return Path(found.submodule_search_locations[0]) / folder / published


def _debian_file(place: str, published: str) -> Path:
    """A file of a Debian package, fetched with apt as any user and without touching the system's own state."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("needs apt-get and dpkg-deb")
    package, _, folder = place.partition("/")
    cache = Path(tempfile.gettempdir()) / f"reprise-debian-{os.getuid()}"
    unpacked = cache / package
    if not unpacked.is_dir():
        _unpack_debian(package, cache, unpacked)
    return unpacked / folder / published


def _unpack_debian(package: str, cache: Path, unpacked: Path) -> None:
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise Unavailable(f"{cache} belongs to somebody else")
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        private = [f"-oDir::State::lists={work / 'lists'}", f"-oDir::Cache={work / 'cache'}", "-oDebug::NoLocking=1"]
        private += ["-oAPT::Sandbox::User=", "-oDir::State::status=/dev/null"]
        for made in ("lists/partial", "cache/archives/partial"):
            (work / made).mkdir(parents=True)
        for command in (["apt-get", *private, "-qq", "update"], ["apt-get", *private, "-qq", "download", package]):
            outcome = subprocess.run(command, cwd=work, capture_output=True, text=True)
            if outcome.returncode:
                raise Unavailable(f"{' '.join([command[0], *command[-2:]])} failed: {outcome.stderr.strip().splitlines()[-1:]}")
        archive = next(work.glob("*.deb"), None)
        if archive is None:
            raise Unavailable(f"apt-get has no package {package}")
        subprocess.run(["dpkg-deb", "-x", archive, work / "tree"], check=True, capture_output=True)
        (work / "tree").replace(unpacked)


def _shown(source: str) -> str:
    """A source as it may be printed: without a password."""
    parts = urlsplit(source)
    return source.replace(f"{parts.username}:{parts.password}@", "") if parts.password else source
