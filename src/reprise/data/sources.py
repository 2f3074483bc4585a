"""Raw files from wherever they can be had: a mirror, https, a Debian package, an installed Python package."""

import glob
import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from reprise.errors import UserError, without_login

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

    A prefix is a folder, `http(s)://…/`, `debian:PACKAGE/FOLDER/` or `package:MODULE/FOLDER/`. Downloads that broke off are
    kept beside the target to be gone on with, so one process at a time may fetch into a folder; the stage sees to that.
    """

    sources: Sequence[str]
    stale_runs: dict[str, str] = field(default_factory=dict)
    """Hosts that could not be reached: not asked again for the next file."""

    def fetch(self, published: str, sha256: str, target: Path, progress: Progress) -> str:
        """Put the decompressed file at `target` and say which source it came from.

        It is written under temporary names and renamed only when its sha256 is right.

        Raises:
            UserError: one message with each source and why it failed.

        """
        failures = []
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for source in self.sources:
                try:
                    self._from(source, published, sha256, target, progress)
                except Unavailable as why:
                    failures.append(f"{source}{published}: {why}")
                else:
                    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
                        left.unlink()
                    return without_login(f"{source}{published}")
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}") from None
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
                part.unlink()
        elif scheme == "debian":
            _settle(_debian_file(rest, published), published, sha256, target)
        elif scheme == "package":
            _settle(_package_file(rest, published), published, sha256, target)
        else:
            _settle(Path(source).expanduser() / published, published, sha256, target)

    def _download(self, url: str, part: Path, progress: Progress) -> None:
        """Bring `part` up to the whole file, asking only for what it lacks where the server can do that."""
        import requests  # late: 0.2 s, and a mirror folder needs none of it
        from urllib3.exceptions import HTTPError

        host = "/".join(url.split("/")[:3])
        if host in self.stale_runs:
            raise Unavailable(self.stale_runs[host])
        have = part.stat().st_size if part.exists() else 0
        try:
            answer = requests.get(url, headers=_request_headers(have), stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout):
            self.stale_runs[host] = "the server cannot be reached"
            raise Unavailable(self.stale_runs[host]) from None
        except requests.RequestException as error:
            raise Unavailable(str(error)) from None
        with answer:
            if answer.status_code == 416 and have:  # the part is the whole file already, or no beginning of it: begin anew
                part.unlink()
                return self._download(url, part, progress)
            if answer.status_code not in {200, 206}:
                raise Unavailable(f"HTTP {answer.status_code}")
            have = have if answer.status_code == 206 else 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as stream:
                try:  # the bytes as they lie there, whatever encoding a server says they have
                    for block in answer.raw.stream(BLOCK, decode_content=False):
                        stream.write(block)
                        progress(stream.tell(), total)
                except HTTPError:
                    of = f" of {total}" if total else ""
                    raise Unavailable(f"broke off after {stream.tell()}{of} bytes; the next try goes on from there") from None
        return None


def _request_headers(have: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # so that the length is known
    return {**headers, "Range": f"bytes={have}-"} if have else headers


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
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # of a parent that is missing, or a module without a spec
        found = None
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
        _call("apt-get", *private, "-qq", "update", cwd=work)
        _call("apt-get", *private, "-qq", "download", package, cwd=work)
        archive = next(work.glob("*.deb"), None)
        if archive is None:
            raise Unavailable(f"apt-get has no package {package}")
        _call("dpkg-deb", "-x", str(archive), "tree", cwd=work)
        try:
            (work / "tree").rename(unpacked)
        except OSError:
            if not unpacked.is_dir():  # else another process was first
                raise


def _call(*command: str, cwd: Path) -> None:
    outcome = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if outcome.returncode:
        said = (outcome.stderr.strip() or f"exit code {outcome.returncode}").splitlines()[-1]
        raise Unavailable(f"{' '.join([command[0], *command[-2:]])} failed: {said}")
