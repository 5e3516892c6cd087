"""Downloads a file once: resumable, hash-checked, renamed into place only when complete.

An interrupted download leaves `NAME.part`, and the next try continues from there. A lock keeps
two processes from writing the same file. Which files there are is the catalogue's business.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from filelock import FileLock

from esrgan_ext import __version__
from esrgan_ext.errors import DownloadError

Progress = Callable[[int, int], object]
"""Called with (bytes done, bytes in all); the second is 0 while unknown. May raise to stop."""

CHUNK_BYTES = 1 << 18  # small enough for a smooth bar, large enough to cost nothing
TIMEOUT_SECONDS = 30.0
ATTEMPTS = 4  # the later ones go on where the connection broke
PAUSE_SECONDS = 1.0  # before the second attempt, doubled each time

# Failures that a second attempt may not meet; being offline or refused is none of them.
_PASSING = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, TimeoutError)


def cache_folder() -> Path:
    """Where downloaded weights are kept: `ESRGAN_CACHE_DIR`, else the user's cache folder."""
    chosen = os.environ.get("ESRGAN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path  # imported here: it costs start-up time

    return user_cache_path("esrgan-ext", appauthor=False) / "models"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    destination: Path,
    sha256: str,
    *,
    size_bytes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch `url` into `destination`.

    Parameters
    ----------
    url : str
        http or https. A web page in place of the file (Google Drive's question whether one
        wants a file that it did not scan for viruses) is answered with yes.
    destination : Path
        Its folder is made where needed. A file that is there already and has the right hash is
        kept.
    sha256 : str
        Hash of the whole file, in hexadecimal; or its first digits, where only those are published
        (eight, in the names of PyTorch's files).
    size_bytes : int, optional
        Where known, checked against the free disk space before the start.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    DownloadError
        Offline, refused, not found, broken off too often, wrong content, or no space. What was
        received is kept in `NAME.part` unless it is known to be wrong.
    """
    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{destination}.lock"):
            if destination.is_file() and file_sha256(destination).startswith(sha256):
                return destination
            _require_space(part, size_bytes)
            _fetch(url, part, sha256, size_bytes or 0, progress)
            os.replace(part, destination)
    except OSError as error:
        raise _disk_error(error, destination) from error
    return destination


def _fetch(url: str, part: Path, sha256: str, total: int, progress: Progress | None) -> None:
    resumed = part.exists() and part.stat().st_size > 0
    _fetch_with_retries(url, part, total, progress)
    found = file_sha256(part)
    if not found.startswith(sha256) and resumed:
        # What was there before may have been of another file; once more from the beginning.
        part.unlink()
        _fetch_with_retries(url, part, total, progress)
        found = file_sha256(part)
    if not found.startswith(sha256):
        part.unlink()
        raise DownloadError(
            f"{url}: the file received is not the published one (SHA-256 {found}, expected "
            f"{sha256}{'...' if len(sha256) < 64 else ''}); it was removed. Try again, or fetch "
            "the file by other means and pass its path"
        )


def _fetch_with_retries(url: str, part: Path, total: int, progress: Progress | None) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _receive(url, part, total, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 or attempt == ATTEMPTS:
                raise DownloadError(
                    f"{url}: the server answers {error.code} {error.reason}"
                ) from error
        except urllib.error.URLError as error:
            if attempt == ATTEMPTS or not isinstance(error.reason, _PASSING):
                raise DownloadError(
                    f"{url}: cannot be reached ({error.reason}). Is this machine online? "
                    "A file fetched elsewhere can be put into ./models or passed by its path"
                ) from error
        except (HTTPException, ssl.SSLError, *_PASSING) as error:
            if attempt == ATTEMPTS:
                kept = part.stat().st_size if part.exists() else 0
                raise DownloadError(
                    f"{url}: the connection broke off ({error}); {kept:,} bytes are kept, and "
                    "the next try continues from there"
                ) from error
        time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))


def _receive(url: str, part: Path, total: int, progress: Progress | None) -> None:
    """One connection: append to `part` what it lacks."""
    done = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, done)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:  # 416: `part` is complete, or longer than the file
            raise
        error.close()
        if _total_of(error.headers.get("Content-Range")) == done:
            return
        part.unlink()
        done = 0
        response = _open(url, done)
    with response:
        if response.status != 206:  # the server does not resume
            done = 0
        length = response.headers.get("Content-Length")
        if length is not None:
            total = done + int(length)
        with part.open("ab" if done else "wb") as file:
            if progress is not None:
                progress(done, total)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, max(total, done))
            file.flush()
            os.fsync(file.fileno())
        if length is not None and done < total:
            raise ConnectionAbortedError(f"{done:,} of {total:,} bytes received")


def _open(url: str, start: int) -> HTTPResponse:
    headers = {"User-Agent": f"esrgan-ext/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: only http and https addresses can be downloaded")
    request = urllib.request.Request(url, headers=headers)
    response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    if response.headers.get_content_type() != "text/html":
        return response
    with response:
        page = response.read(1 << 20).decode("utf-8", "replace")
    confirmed = _confirmation_url(page, response.url)
    if confirmed is None or confirmed == url:
        raise DownloadError(f"{url}: the server sent a web page in place of the file")
    request = urllib.request.Request(confirmed, headers=headers)
    response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise DownloadError(
            f"{url}: the server sends web pages in place of the file; its download limit may be "
            "reached. Try again later, or fetch it in a browser and pass its path"
        )
    return response


class _DownloadForm(HTMLParser):
    """Finds Google Drive's form `download-form` and its hidden fields."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        if tag == "form" and values.get("id") == "download-form":
            self.action, self.inside = values.get("action", ""), True
        elif tag == "input" and self.inside and values.get("type") == "hidden":
            self.fields[values.get("name", "")] = values.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False


def _confirmation_url(page: str, base: str) -> str | None:
    form = _DownloadForm()
    form.feed(page)
    if form.action is None:
        return None
    address = urllib.parse.urlsplit(urllib.parse.urljoin(base, form.action))
    query = dict(urllib.parse.parse_qsl(address.query)) | form.fields
    return urllib.parse.urlunsplit(address._replace(query=urllib.parse.urlencode(query)))


def _total_of(content_range: str | None) -> int | None:
    """The N of ``bytes */N``."""
    total = (content_range or "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _require_space(part: Path, size_bytes: int | None) -> None:
    missing = (size_bytes or 0) - (part.stat().st_size if part.exists() else 0)
    if missing > shutil.disk_usage(part.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_error(error: OSError, destination: Path) -> DownloadError:
    if error.errno == errno.ENOSPC:
        reason = "the disk is full"
    else:
        reason = f"it cannot be written: {error.strerror or error}"
    return DownloadError(
        f"{destination}: {reason}. Another folder can be chosen with the environment variable "
        "ESRGAN_CACHE_DIR"
    )
