"""MNIST's files fetched from servers on this machine, and from every way they can fail."""

import contextlib
import gzip
import hashlib
import http.server
import threading
from pathlib import Path

import pytest
from idx_files import IMAGES, LABEL_FILE, LABELS, PACKED, assert_ours, put

from minigan.data import download, load
from minigan.data.download import Source
from minigan.kernels.runtime.files import cache_root
from minigan.utils import progress


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGAN_DATA", raising=False)


FILES = {f"{IMAGES}.gz": PACKED, f"{LABELS}.gz": gzip.compress(LABEL_FILE)}


class Mirror(http.server.ThreadingHTTPServer):
    """Serves FILES below /mnist/; it fails in the ways that its attributes name."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges, self.cut, self.missing, self.spoilt = True, None, False, False
        self.endless = False
        self.requests = []  # (file, Range header or None)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/mnist/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mirror, name, byte_range = self.server, Path(self.path).name, self.headers["Range"]
        mirror.requests.append((name, byte_range))
        if mirror.missing:
            return self.send_error(404)
        content = FILES[name]
        if mirror.endless:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # The client hangs up.
                while True:
                    self.wfile.write(bytes(1 << 16))
        if mirror.spoilt:
            content = bytes([content[0] ^ 1]) + content[1:]
        start = 0
        if byte_range and mirror.ranges:
            start = int(byte_range.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : mirror.cut])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def mirrors(monkeypatch):
    servers = [Mirror(), Mirror()]
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    source = Source(tuple(server.url for server in servers), md5)
    monkeypatch.setitem(download.SOURCES, "mnist", source)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


def kept():
    folder = cache_root() / "data" / "mnist"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_downloads_once(mirrors, capfd, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(progress, "LINE_SECONDS", 0.0)
        assert_ours(load("mnist", progress=True))
    assert IMAGES in capfd.readouterr().err
    assert kept() == FILES
    assert_ours(load("mnist"))
    assert capfd.readouterr() == ("", "")
    assert mirrors[0].requests == [(name, None) for name in FILES]
    assert mirrors[1].requests == []


@pytest.mark.parametrize("way", ["missing", "spoilt"])
def test_the_second_mirror_helps(mirrors, way):
    setattr(mirrors[0], way, True)
    assert_ours(load("mnist"))
    assert [name for name, _ in mirrors[1].requests] == list(FILES)
    assert kept() == FILES


def test_a_folder_without_the_files_is_named_when_the_download_fails(
    mirrors, monkeypatch, tmp_path
):
    for mirror in mirrors:
        mirror.missing = True
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="download failed") as caught:
        load("mnist")
    assert f"neither {tmp_path} (MINIGAN_DATA) nor its folder mnist has any of" in str(caught.value)


def test_a_server_that_sends_without_end_does_not_fill_the_disk(mirrors, monkeypatch):
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 200_000)
    for mirror in mirrors:
        mirror.endless = True
    with pytest.raises(FileNotFoundError, match="sent more than 200,000 bytes"):
        load("mnist")
    assert kept() == {}
    mirrors[1].endless = False
    assert_ours(load("mnist"))
    assert kept() == FILES


def test_the_second_mirror_continues_what_the_first_cut_off(mirrors):
    mirrors[0].cut = 40
    assert_ours(load("mnist"))
    assert mirrors[1].requests[0] == (f"{IMAGES}.gz", "bytes=40-")
    assert kept() == FILES


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("length", [1, 100, len(PACKED), len(PACKED) + 7])
def test_a_partial_file_is_continued_or_replaced(mirrors, ranges, good, length):
    """Whatever lies in .part, a server with or without ranges: the file comes out whole."""
    part = cache_root() / "data" / "mnist" / f"{IMAGES}.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((PACKED + bytes(9) if good else bytes(99999))[:length])
    mirrors[0].ranges = ranges
    assert_ours(load("mnist"))
    assert kept() == FILES
    whole = good and length == len(PACKED)
    first = (f"{LABELS}.gz", None) if whole else (f"{IMAGES}.gz", f"bytes={length}-")
    assert mirrors[0].requests[0] == first
    if not ranges or (good and length < len(PACKED)):
        assert len(mirrors[0].requests) == 1 + (not whole)
    assert mirrors[1].requests == []


def test_a_failure_says_what_to_do_by_hand_and_leaves_nothing_half(mirrors):
    mirrors[0].missing = mirrors[1].spoilt = True
    with pytest.raises(FileNotFoundError, match=r"404.*wrong checksum") as error:
        load("mnist")
    message = str(error.value)
    assert "\n" not in message
    for name in FILES:
        assert f"{name} (MD5 {download.SOURCES['mnist'].md5[name]})" in message
    assert str(cache_root() / "data" / "mnist") in message
    assert mirrors[0].url in message
    assert mirrors[1].url in message
    assert kept() == {}


def test_a_cut_download_is_continued_by_the_next_call(mirrors):
    mirrors[0].cut, mirrors[1].missing = 40, True
    with pytest.raises(FileNotFoundError, match=f"40 of {len(PACKED)} bytes|IncompleteRead"):
        load("mnist")
    mirrors[0].cut = None
    assert_ours(load("mnist"))
    assert mirrors[0].requests[1] == (f"{IMAGES}.gz", "bytes=40-")


def test_a_server_that_is_gone(mirrors, monkeypatch):
    source = download.SOURCES["mnist"]
    for server in mirrors:
        server.shutdown()
        server.server_close()
    monkeypatch.setitem(download.SOURCES, "mnist", Source(source.mirrors, source.md5))
    with pytest.raises(FileNotFoundError, match="download failed"):
        load("mnist")


def test_only_what_is_missing_is_fetched(mirrors):
    put(cache_root() / "data" / "mnist", labels=None)
    assert_ours(load("mnist"))
    assert mirrors[0].requests == [(f"{LABELS}.gz", None)]


def test_a_cache_that_cannot_be_written(mirrors, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError, match="cannot write there"):
        load("mnist")


def test_many_at_once_download_once(mirrors):
    results = []
    workers = [threading.Thread(target=lambda: results.append(load("mnist"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert sorted(name for name, _ in mirrors[0].requests) == sorted(FILES)
