"""Downloads from a server that misbehaves, and archives that mean harm."""

import hashlib
import io
import random
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from hw3 import archives
from hw3.archives import download, extract, unpack
from hw3.errors import InputError


def _zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CONTENT = _zip_bytes({"data/noise.bin": random.Random(0).randbytes(300_000)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Server(ThreadingHTTPServer):
    """Answers by the path asked for, and keeps a list of (path, Range header)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.seen: dict[str, int] = {}

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        name, wanted = self.path.strip("/"), self.headers.get("Range")
        self.server.requests.append((name, wanted))
        visit = self.server.seen[name] = self.server.seen.get(name, 0) + 1
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if name == "missing":
            return self.send_error(404)
        if name == "busy-once" and visit == 1:
            return self.send_error(503)
        if name == "page":
            return self._send(200, b"<html>Please log in</html>")
        if name == "ignores-range":
            return self._send(200, CONTENT, stop=HALF if visit == 1 else None)
        if name == "wrong-range" and start:
            return self._send(206, CONTENT, span=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
        if start >= len(CONTENT):
            return self._send(416, b"", span=f"bytes */{len(CONTENT)}")
        body = CONTENT[start:]
        broken = name == "always-breaks" or (name != "whole" and visit == 1)
        stop = min(len(body) // 2, 100_000) if broken else None
        if start:
            span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            return self._send(206, body, span=span, stop=stop)
        return self._send(200, body, stop=stop)

    def _send(self, status: int, body: bytes, span: str = "", stop: int | None = None) -> None:
        """Announce the whole body, send it up to `stop`, close the connection."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body[:stop])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(archives, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def test_whole_download_prints_its_hash(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = download(server.url("whole"), tmp_path / "new" / "data.zip")
    assert path.read_bytes() == CONTENT
    assert SHA256 in capsys.readouterr().out
    assert not _part(path).exists()


def test_finished_file_is_checked_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(CONTENT)
    download(server.url("whole"), path, sha256=SHA256.upper(), size=len(CONTENT))
    with pytest.raises(InputError, match=f"delete {re.escape(str(path))}"):
        download(server.url("whole"), path, sha256="0" * 64)
    assert path.exists()
    assert server.requests == []


def test_broken_transfer_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    path = download(server.url("breaks-once"), tmp_path / "data.zip", sha256=SHA256)
    assert path.read_bytes() == CONTENT
    (_, first), (_, second) = server.requests
    assert first is None
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 100_000


def test_part_is_kept_and_the_next_call_resumes(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with pytest.raises(InputError, match="run again: it resumes"):
        download(server.url("always-breaks"), path)
    assert len(server.requests) == 4
    kept = _part(path).read_bytes()
    assert len(kept) > 100_000 and kept == CONTENT[: len(kept)]
    assert not path.exists()
    download(server.url("whole"), path, sha256=SHA256, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("whole", f"bytes={len(kept)}-")


def test_complete_part_is_only_renamed(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    _part(path).write_bytes(CONTENT)
    assert download(server.url("whole"), path, sha256=SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["ignores-range", "wrong-range", "busy-once"])
def test_awkward_servers_are_coped_with(server: Server, tmp_path: Path, name: str) -> None:
    path = download(server.url(name), tmp_path / "data.zip", sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_overlong_part_starts_over(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    _part(path).write_bytes(CONTENT + b"more")
    assert download(server.url("whole"), path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "expected", "complaint"),
    [
        ("whole", {"sha256": "0" * 64}, f"SHA-256 {SHA256} instead of {'0' * 64}"),
        ("whole", {"size": len(CONTENT) + 1}, f"{len(CONTENT)} bytes instead of"),
        ("page", {}, "not a zip file"),
    ],
)
def test_wrong_content_is_deleted(
    server: Server, tmp_path: Path, name: str, expected: dict[str, object], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        download(server.url(name), tmp_path / "data.zip", **expected)
    assert list(tmp_path.iterdir()) == []


def test_refusal_is_not_retried_and_keeps_the_part(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    _part(path).write_bytes(CONTENT[:HALF])
    with pytest.raises(InputError, match="404"):
        download(server.url("missing"), path)
    assert len(server.requests) == 1
    assert _part(path).read_bytes() == CONTENT[:HALF]


@pytest.mark.parametrize("url", ["no address", "http://127.0.0.1:1/", "ftp://127.0.0.1/x"])
def test_impossible_addresses(server: Server, tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="check address"):
        download(url, tmp_path / "data.zip")


def _archive(tmp_path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = tmp_path / "data.zip"
    path.write_bytes(_zip_bytes(members, method))
    return path


def _files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_extract_merges_into_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "set" / "own").mkdir(parents=True)
    (folder / "set" / "own" / "note.txt").write_bytes(b"mine")
    (folder / "set" / "gt.txt").write_bytes(b"old")
    archive = _archive(tmp_path, {"set/": b"", "set/gt.txt": b"new", "set/00/00.ppm": b"cut"})
    assert extract(archive, folder) == folder
    assert _files(folder) == {
        "set/own/note.txt": b"mine",
        "set/gt.txt": b"new",
        "set/00/00.ppm": b"cut",
    }


@pytest.mark.parametrize(
    "name",
    ["../out.txt", "in/../../out.txt", "/out.txt", "..\\out.txt", "C:\\out.txt", "C:out.txt"],
)
def test_member_that_leaves_the_folder(tmp_path: Path, name: str) -> None:
    archive = _archive(tmp_path, {"good.txt": b"good", name: b"bad"})
    with pytest.raises(InputError, match=r"data\.zip: 1 fault.*\n.*would leave the folder"):
        extract(archive, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        member = zipfile.ZipInfo("link")
        member.create_system, member.external_attr = 3, (kind | 0o777) << 16
        opened.writestr(member, "/etc")
        opened.writestr("link/passwd", "bad")
    with pytest.raises(InputError, match="'link' is a link or device"):
        extract(archive, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [archive]


def test_declared_bomb(tmp_path: Path) -> None:
    archive = _archive(tmp_path, {"a": bytes(600), "b": bytes(600)})
    with pytest.raises(InputError, match="unpacks to 1200 bytes, the bound is 1000"):
        extract(archive, tmp_path / "folder", max_bytes=1000)
    assert list(tmp_path.iterdir()) == [archive]
    assert _files(extract(archive, tmp_path / "folder", max_bytes=1200)) == {
        "a": bytes(600),
        "b": bytes(600),
    }


def test_lying_member_yields_no_more_than_it_declares(tmp_path: Path) -> None:
    content = bytes(5_000_000)
    archive = _archive(tmp_path, {"bomb": content})

    def forge(true: int, false: int) -> None:
        true_bytes, false_bytes = (number.to_bytes(4, "little") for number in (true, false))
        assert archive.read_bytes().count(true_bytes) == 2
        archive.write_bytes(archive.read_bytes().replace(true_bytes, false_bytes))

    forge(len(content), 10)
    with pytest.raises(InputError, match=r"CRC.*fetch it again"):
        extract(archive, tmp_path / "folder", max_bytes=1000)
    assert _files(tmp_path / "folder") == {}
    forge(zlib.crc32(content), zlib.crc32(bytes(10)))
    assert _files(extract(archive, tmp_path / "folder", max_bytes=1000)) == {"bomb": bytes(10)}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a/gt.txt", "A/GT.TXT", "a\\gt.txt", "./a//gt.txt"])
def test_duplicate_names(tmp_path: Path, second: str) -> None:
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a/gt.txt", "one")
        opened.writestr(second, "two")
    with pytest.raises(InputError, match="has the name of another"):
        extract(archive, tmp_path / "folder")


def test_all_faults_are_named(tmp_path: Path) -> None:
    archive = _archive(tmp_path, {"../a": b"", "/b": b"", "c": bytes(11)}, zipfile.ZIP_LZMA)
    with pytest.raises(InputError) as caught:
        extract(archive, tmp_path / "folder", max_bytes=10)
    for text in ("unpacks to 11", "'../a' would leave", "'/b' would leave", "'c' is compressed by"):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html></html>", CONTENT[:HALF], CONTENT[:-30], CONTENT[HALF:]],
    ids=["empty", "page", "first half", "end cut off", "second half"],
)
def test_no_whole_zip(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "data.zip"
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"data\.zip: not unpacked .*fetch it again"):
        extract(archive, tmp_path / "folder")


def test_damage_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    archive = _archive(tmp_path, {"good.txt": b"good", "noise": CONTENT}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[HALF] ^= 255
    archive.write_bytes(content)
    with pytest.raises(InputError, match="not unpacked"):
        extract(archive, tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


def test_missing_archive_and_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        extract(tmp_path / "data.zip", tmp_path / "folder")
    archive = _archive(tmp_path, {"set/gt.txt": b""})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "set").write_bytes(b"a file")
    with pytest.raises(InputError, match="not unpacked"):
        extract(archive, tmp_path / "folder")
    assert _files(tmp_path / "folder") == {"set": b"a file"}


@pytest.mark.parametrize("blocked", ["set/a", "set/b/note.txt"])
def test_if_anything_is_in_the_way_nothing_is_merged(tmp_path: Path, blocked: str) -> None:
    """A file where a folder is to be, or a folder where a file is to be."""
    members = {f"{number}.txt": b"new" for number in range(20)}
    archive = _archive(tmp_path, members | {"set/a/0.ppm": b"new", "set/b": b"new"})
    path = tmp_path / "folder" / blocked
    path.parent.mkdir(parents=True)
    path.write_bytes(b"old")
    in_the_way = re.escape(str(tmp_path / "folder" / blocked[:5]))
    with pytest.raises(InputError, match=f"not unpacked into .*: {in_the_way} is in the way, move"):
        extract(archive, tmp_path / "folder")
    assert _files(tmp_path / "folder") == {blocked: b"old"}


def test_a_data_set_is_unpacked_once_and_never_mixed_with_another_copy(tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    first.write_bytes(_zip_bytes({"roads/0.ppm": b"one", "roads/1.ppm": b"one"}))
    second.write_bytes(_zip_bytes({"roads/0.ppm": b"two"}))
    folder = tmp_path / "data"
    assert unpack(first, folder, "roads") == folder
    (folder / "roads/1.ppm").write_bytes(b"kept, since nothing is unpacked again")
    assert unpack(first, folder, "roads") == folder
    assert (folder / "roads/1.ppm").read_bytes().startswith(b"kept")
    with pytest.raises(InputError, match=r"roads is there already, and not from .*second\.zip"):
        unpack(second, folder, "roads")
    assert (folder / "roads/0.ppm").read_bytes() == b"one"


def test_an_archive_of_something_else_does_not_pass_for_the_data_set_there(tmp_path: Path) -> None:
    archive, folder = tmp_path / "holiday.zip", tmp_path / "data"
    archive.write_bytes(_zip_bytes({"holiday/photo.txt": b"sea"}))
    (folder / "roads").mkdir(parents=True)
    with pytest.raises(InputError, match="roads is there already"):
        unpack(archive, folder, "roads")
    assert not (folder / "holiday").exists()
