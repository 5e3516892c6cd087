"""The downloader against a server on loopback that behaves, breaks off, lies or is not there."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from esrgan_ext.errors import DownloadError
from esrgan_ext.weights import download as module
from esrgan_ext.weights.download import cache_folder, download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()

FORM = """<html><body><form id="download-form" action="/file" method="get">
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="7">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a b">
</form></body></html>"""


class Server(ThreadingHTTPServer):
    """Serves CONTENT under /file; how it fails is set by the tests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.break_off_after: list[int] = []  # bytes sent by the next connections
        self.status: list[int] = []  # answers of the next connections
        self.page: str | None = None  # sent in place of a file that was not confirmed
        self.requests: list[tuple[str, str | None]] = []  # path and Range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.status:
            return self.send_error(server.status.pop(0))
        if server.page is not None and "confirm=t" not in self.path:
            return self.send_page(server.page)
        start = 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_off_after:
            body = body[: server.break_off_after.pop(0)]
        self.wfile.write(body)
        return None

    def send_page(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(module, "CHUNK_BYTES", 1 << 14)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights.pth"


def part_of(target: Path) -> Path:
    return target.with_name("weights.pth.part")


def test_a_file_arrives_whole_with_progress(server: Server, target: Path) -> None:
    reports: list[tuple[int, int]] = []
    result = download(
        server.url, target, SHA256, progress=lambda done, total: reports.append((done, total))
    )
    assert result == target
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()
    assert reports[0] == (0, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert len(reports) > 10


def test_a_file_that_is_there_is_not_fetched_again(server: Server, target: Path) -> None:
    download(server.url, target, SHA256)
    download(server.url, target, SHA256)
    assert len(server.requests) == 1


def test_a_damaged_file_is_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT[:-1] + b"x")
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_broken_connections_are_resumed_where_they_broke(server: Server, target: Path) -> None:
    server.break_off_after = [300_000, 200_000]
    reports: list[int] = []
    download(server.url, target, SHA256, progress=lambda done, _: reports.append(done))
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=300000-", "bytes=500000-"]
    assert reports == sorted(reports)


def test_too_many_broken_connections_keep_what_arrived(server: Server, target: Path) -> None:
    server.break_off_after = [100_000] * module.ATTEMPTS
    with pytest.raises(DownloadError, match=r"broke off.*400,000 bytes are kept"):
        download(server.url, target, SHA256)
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:400_000]
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] == ("/file", "bytes=400000-")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_keeps_what_arrived(
    server: Server, target: Path, error: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        if done > 100_000:
            raise error

    with pytest.raises(error):
        download(server.url, target, SHA256, progress=stop)
    kept = part_of(target).stat().st_size
    assert 100_000 < kept < len(CONTENT)
    assert not target.exists()
    download(server.url, target, SHA256)
    assert server.requests[-1] == ("/file", f"bytes={kept}-")
    assert target.read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_again(server: Server, target: Path) -> None:
    server.ranges = False
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT[:1000])
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/file", "bytes=1000-")]


def test_a_complete_part_is_only_renamed(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(CONTENT)
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("wrong", [b"of another file", CONTENT + b"and more"])
def test_a_part_of_another_file_is_thrown_away(server: Server, target: Path, wrong: bytes) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(wrong)
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(server: Server, target: Path) -> None:
    server.content = CONTENT[:-1] + b"\0"
    with pytest.raises(DownloadError, match="not the published one.*" + SHA256):
        download(server.url, target, SHA256)
    assert not target.exists()
    assert not part_of(target).exists()


@pytest.mark.parametrize("status", [404, 403, 410])
def test_refusals_are_reported_at_once(server: Server, target: Path, status: int) -> None:
    server.status = [status] * 9
    with pytest.raises(DownloadError, match=f"answers {status}"):
        download(server.url, target, SHA256)
    assert len(server.requests) == 1
    assert not target.exists()


def test_a_server_in_trouble_is_asked_again(server: Server, target: Path) -> None:
    server.status = [503, 500]
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_a_server_in_lasting_trouble_is_reported(server: Server, target: Path) -> None:
    server.status = [503] * 9
    with pytest.raises(DownloadError, match="answers 503"):
        download(server.url, target, SHA256)
    assert len(server.requests) == module.ATTEMPTS


def test_nobody_listening_is_reported(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    with pytest.raises(DownloadError, match=r"cannot be reached.*online"):
        download(url, target, SHA256)
    assert not target.exists()


def test_an_unknown_host_is_reported(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(DownloadError, match=r"cannot be reached.*name resolution"):
        download("http://weights.invalid/file", target, SHA256)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_other_kinds_of_addresses_are_refused(target: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="only http and https"):
        download(url, target, SHA256)


def test_the_question_about_virus_scans_is_answered(server: Server, target: Path) -> None:
    server.page = FORM
    server.break_off_after = [1000]
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    confirmed = "/file?id=7&confirm=t&uuid=a+b"
    assert server.requests == [
        ("/file", None),
        (confirmed, None),
        ("/file", "bytes=1000-"),
        (confirmed, "bytes=1000-"),
    ]


@pytest.mark.parametrize("page", ["<html>Quota exceeded</html>", "", "<form id='search'></form>"])
def test_a_web_page_is_not_taken_for_the_file(server: Server, target: Path, page: str) -> None:
    server.page = page
    with pytest.raises(DownloadError, match="web page in place of the file"):
        download(server.url, target, SHA256)
    assert not target.exists()


def test_a_full_disk_is_reported(server: Server, target: Path) -> None:
    target.parent.mkdir()
    os.symlink("/dev/full", part_of(target))
    with pytest.raises(DownloadError, match=r"the disk is full.*ESRGAN_CACHE_DIR"):
        download(server.url, target, SHA256)
    assert not target.exists()


def test_too_little_space_is_noticed_before_the_start(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="the disk is full"):
        download(server.url, target, SHA256, size_bytes=1 << 60)
    assert server.requests == []


def test_a_cache_folder_that_cannot_be_made_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match=r"cannot be written.*ESRGAN_CACHE_DIR"):
        download(server.url, tmp_path / "file" / "weights.pth", SHA256)


def test_two_at_once_fetch_the_file_once(server: Server, target: Path) -> None:
    results: list[Path] = []

    def fetch() -> None:
        results.append(download(server.url, target, SHA256))

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [target] * 4
    assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ESRGAN_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("ESRGAN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in cache_folder().parents
