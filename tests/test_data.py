"""Servers that misbehave, archives that mean harm, pictures that are not what they seem."""

import io
import os
import random
import re
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from hw3 import data
from hw3.data import InputError, download, outputs, pictures, read_picture, unpack


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CONTENT = zip_bytes({"roads/0.ppm": random.Random(0).randbytes(300_000)})
HALF = len(CONTENT) // 2
LENGTHS, PLACES = ["abc", "-5", "1e3", ""], ["http://", "http://[::1", "ftp://x/y", "//", ""]
NONSENSE = {f"length{n}": (200, {"Content-Length": own}) for n, own in enumerate(LENGTHS)}
NONSENSE |= {f"redirect{n}": (302, {"Location": own}) for n, own in enumerate(PLACES)}


class Handler(BaseHTTPRequestHandler):
    """Answers by the name asked for; the server keeps a list of (name, Range header)."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        name, wanted = self.path.strip("/"), self.headers.get("Range")
        self.server.requests.append((name, wanted))
        visit = [own for own, _ in self.server.requests].count(name)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if name == "missing" or (name == "busy-once" and visit == 1):
            return self.send_error(404 if name == "missing" else 503)
        if name == "page":
            return self.answer(200, {}, b"<html>Please log in</html>")
        if name in NONSENSE:
            return self.answer(*NONSENSE[name])
        if name == "ignores-range":
            return self.answer(200, {}, stop=HALF if visit == 1 else None)
        if start >= len(CONTENT):
            return self.answer(416, {"Content-Range": f"bytes */{len(CONTENT)}"}, b"")
        first = 0 if name == "wrong-range" else start
        span = {"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        stop = None if name == "whole" or visit > 1 else 100_000
        if name in ("breaks", "dies"):
            stop = 20_000 if name == "breaks" or visit == 1 else 0
        self.answer(206 if start else 200, span if start else {}, CONTENT[first:], stop)

    def answer(self, status: int, headers: dict, body=CONTENT, stop: int | None = None) -> None:
        """Announce the whole body, send it up to `stop`, close the connection."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:stop])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(data, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.url = [], f"http://127.0.0.1:{server.server_port}/"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data.zip"


def part_with(path: Path, content: bytes) -> Path:
    path.parent.mkdir()
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    return part


def test_what_is_there_is_not_fetched_again_but_checked(server, path) -> None:
    assert download(server.url + "whole", path).read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    download(server.url + "whole", path)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(InputError, match=f"not a zip file; delete {re.escape(str(path))}"):
        download(server.url + "whole", path)
    assert path.exists() and len(server.requests) == 1


def test_a_connection_that_breaks_again_and_again_gets_there(server, path) -> None:
    assert download(server.url + "breaks", path).read_bytes() == CONTENT
    assert 15 <= len(server.requests) <= 25


def test_part_is_kept_and_the_next_call_resumes(server, path) -> None:
    with pytest.raises(InputError, match="run again: it resumes"):
        download(server.url + "dies", path)
    assert len(server.requests) == 4  # the first brought something
    kept = path.with_name("data.zip.part").read_bytes()
    assert 16_000 < len(kept) <= 20_000 and kept == CONTENT[: len(kept)]
    assert not path.exists()
    download(server.url + "whole", path)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("whole", f"bytes={len(kept)}-")


LEFT = {"complete": CONTENT, "overlong": CONTENT + b"more"}


@pytest.mark.parametrize("name", [*LEFT, "ignores-range", "wrong-range", "busy-once"])
def test_what_a_call_left_and_awkward_servers_are_coped_with(server, path, name) -> None:
    part_with(path, LEFT.get(name, b""))
    assert download(server.url + name, path).read_bytes() == CONTENT


def test_wrong_content_is_deleted(server, path) -> None:
    with pytest.raises(InputError, match="not a zip file; it was deleted"):
        download(server.url + "page", path)
    assert list(path.parent.iterdir()) == []


def test_refusal_is_not_retried_and_keeps_the_part(server, path) -> None:
    part = part_with(path, CONTENT[:HALF])
    with pytest.raises(InputError, match="404"):
        download(server.url + "missing", path)
    assert len(server.requests) == 1
    assert part.read_bytes() == CONTENT[:HALF]


IMPOSSIBLE = ["no address", "http://127.0.0.1:1/", "ftp://127.0.0.1/x"]


@pytest.mark.parametrize("place", [*IMPOSSIBLE, *NONSENSE])
def test_nonsense_is_one_line(server, path, place) -> None:
    with pytest.raises(InputError, match="check address") as caught:
        download(server.url + place if place in NONSENSE else place, path)
    assert "\n" not in str(caught.value)


ROADS = {"roads/0.ppm": b"one", "roads/gt.txt": b"two"}


def archive_of(folder: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "data.zip"
    path.write_bytes(zip_bytes(members, method))
    return path


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: own.read_bytes() for name, own in names.items() if "sha256" not in name}


@pytest.mark.parametrize("above", ["", "a/", "a/b/", "a\\b\\"])
def test_the_data_sets_folder_alone_is_laid_out(tmp_path: Path, above: str) -> None:
    own = {f"{above}{name}": content for name, content in ROADS.items()}
    if "\\" in above:  # as Windows' own zips have them
        own = {name.replace("/", "\\"): content for name, content in own.items()}
    names = ["roads.txt", "other/0.ppm", "0.ppm", "z/z/roads/0.ppm", f"{above}note.txt"]
    names += [".", f"{above}roads/x/", f"{above}roads/roads/0.ppm", f"{above}roads/roads/1.ppm"]
    archive = archive_of(tmp_path, dict.fromkeys(names, b"") | own)
    assert unpack(archive, tmp_path / "data", "roads") == tmp_path / "data"
    assert files(tmp_path / "data") == ROADS
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["roads"]


def test_a_folder_in_a_folder_of_its_own_name(tmp_path: Path) -> None:
    mac = {"__MACOSX/roads/._0.ppm": b"note", "roads/readme.txt": b""}
    archive = archive_of(tmp_path, mac | {f"roads/{name}": own for name, own in ROADS.items()})
    assert files(unpack(archive, tmp_path / "data", "roads")) == ROADS


@pytest.mark.parametrize(
    ("members", "what"),
    [
        (["0.ppm", "gt.txt"], "holds pictures at its top, and no folder roads"),
        (["TestIJCNN2013.zip", "TestIJCNN2013/0.ppm"], "holds TestIJCNN2013, which is only a part"),
        (["all/roads.zip", "readme.txt"], r"holds another archive, roads\.zip; unpack it, and"),
        (["roads/gt.txt"], "holds roads, and no folder roads with pictures"),
        (["a/b/c/roads/0.ppm"], "holds a, and no"),
        (["two\nlines/0.txt"], r"holds two\\nlines, and no"),
        ([], "holds nothing"),
    ],
)
def test_an_archive_of_something_else_is_named(tmp_path: Path, members: list, what: str) -> None:
    archive = archive_of(tmp_path, dict.fromkeys(members, b"content"))
    with pytest.raises(InputError, match=rf"data\.zip: {what}"):
        unpack(archive, tmp_path / "data", "roads")
    assert list(tmp_path.iterdir()) == [archive]


OUTSIDE = ["../out", "in/../../out", "/out", "..\\out", "C:\\out", "C:out"]
SAME = ["roads/gt.txt", "Roads/GT.TXT", "roads\\gt.txt", "./roads//gt.txt"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [
        *((name, 0, "would leave the folder") for name in OUTSIDE),
        *((name, 0, "has the name of another") for name in SAME),
        *(("link", kind, "is a link") for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO)),
    ],
)
def test_hostile_members(tmp_path: Path, name: str, kind: int, fault: str) -> None:
    archive = archive_of(tmp_path, ROADS)
    with zipfile.ZipFile(archive, "a") as opened:
        member = zipfile.ZipInfo(name)
        member.create_system, member.external_attr = 3, (kind | 0o777) << 16
        opened.writestr(member, "/etc")
    with pytest.raises(InputError, match=rf"data\.zip: \d fault.*\n.*{fault}"):
        unpack(archive, tmp_path / "data", "roads")
    assert list(tmp_path.iterdir()) == [archive]


def test_all_faults_are_named(tmp_path: Path) -> None:
    members = {"../a": b"", "/b": b"", "c": bytes(11)}
    archive = archive_of(tmp_path, members, zipfile.ZIP_LZMA)
    with pytest.raises(InputError) as caught:
        unpack(archive, tmp_path / "data", "roads", max_bytes=10)
    for text in ("unpacks to 11", "'../a' would leave", "'/b' would leave", "'c' is compressed by"):
        assert text in str(caught.value)


def test_lying_member_yields_no_more_than_it_declares(tmp_path: Path) -> None:
    content = bytes(5_000_000)
    archive = archive_of(tmp_path, {"roads/0.ppm": content})

    def forge(true: int, false: int) -> None:
        true_bytes, false_bytes = (number.to_bytes(4, "little") for number in (true, false))
        assert archive.read_bytes().count(true_bytes) == 2
        archive.write_bytes(archive.read_bytes().replace(true_bytes, false_bytes))

    forge(len(content), 10)
    with pytest.raises(InputError, match=r"CRC.*fetch it again"):
        unpack(archive, tmp_path / "data", "roads", max_bytes=10)
    assert list((tmp_path / "data").iterdir()) == []
    forge(zlib.crc32(content), zlib.crc32(bytes(10)))
    unpack(archive, tmp_path / "data", "roads", max_bytes=10)
    assert files(tmp_path / "data") == {"roads/0.ppm": bytes(10)}


def overwritten(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


WHOLE = zip_bytes(ROADS)
ENTRY, END = WHOLE.index(b"PK\1\2"), WHOLE.rindex(b"PK\5\6")  # of the first member; of the list
NO_WHOLE_ZIPS = {
    "empty": b"",
    "page": b"<html></html>",
    "end cut off": CONTENT[:-30],
    "second half": CONTENT[HALF:],
    "renamed": overwritten(WHOLE, WHOLE.rindex(b"roads/gt"), b"roaTs"),  # in the list alone
    "emptied": overwritten(WHOLE, ENTRY + 16, bytes(12)),  # its CRC and sizes
    "short": overwritten(WHOLE, ENTRY + 16, bytes(8)),  # its CRC and compressed size
    "one not listed": overwritten(WHOLE, END + 10, b"\3"),
}


@pytest.mark.parametrize("kind", NO_WHOLE_ZIPS)
def test_what_is_no_whole_zip_leaves_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "data.zip").write_bytes(NO_WHOLE_ZIPS[kind])
    with pytest.raises(InputError, match=r"data\.zip: not unpacked .*fetch it again"):
        unpack(tmp_path / "data.zip", tmp_path / "data", "roads")
    assert list((tmp_path / "data").glob("*")) == []


def test_a_data_set_is_unpacked_once_and_never_mixed_with_another_copy(tmp_path: Path) -> None:
    first, folder = archive_of(tmp_path, ROADS), tmp_path / "data"
    second = first.rename(tmp_path / "second.zip")
    archive_of(tmp_path, ROADS | {"roads/1.ppm": b"more"})
    unpack(first, folder, "roads")
    (folder / "roads/1.ppm").write_bytes(b"kept, since nothing is unpacked again")
    unpack(first, folder, "roads")
    assert (folder / "roads/1.ppm").read_bytes().startswith(b"kept")
    with pytest.raises(InputError, match=r"roads is there already, and not from .*second\.zip"):
        unpack(second, folder, "roads")
    (tmp_path / "roads").write_bytes(b"a file")
    with pytest.raises(InputError, match="roads is there already"):
        unpack(first, tmp_path, "roads")


def test_two_that_unpack_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, rename = archive_of(tmp_path, ROADS), Path.rename

    def overtaken(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        unpack(archive, tmp_path / "data", "roads")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    assert files(unpack(archive, tmp_path / "data", "roads")) == ROADS


def test_what_dead_calls_left_is_cleared_after_a_day(tmp_path: Path) -> None:
    own = data.UNFINISHED
    old, kept = [f"{own}abc", f"{own}123-a.json"], ["dump.1.partial", f"{own}new", "a.json"]
    for name in (*old, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")
    for name in (*old, "dump.1.partial", "a.json"):
        os.utime(tmp_path / name, (0, time.time() - 25 * 3600))
    data.write_atomically(tmp_path / "c.json", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "c.json"])
    os.utime(tmp_path / f"{own}new", (0, 0))
    unpack(archive_of(tmp_path, ROADS), tmp_path, "roads")
    assert not (tmp_path / f"{own}new").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "new" / "a.json"
    data.write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.json: not written \(No space left.*make room"):
        data.write_atomically(path, b"new")
    assert files(tmp_path) == {"new/a.json": b"old"}
    with pytest.raises(InputError, match=r"a\.json/b: not written"):
        data.write_atomically(path / "b", b"new")


NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (0, 0), 6)
GREY = NOISE[..., 0]
STACK = np.stack([GREY] * 16)
RGB, BLACK = {"photometric": "rgb"}, {"photometric": "minisblack"}


def refused(path: Path, what: str) -> None:
    with pytest.raises(InputError, match=rf"{re.escape(path.name)}: {what}") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


SEPARATE = {"planarconfig": "separate"}
CODECS = ("lzma", "png", "webp", "jpegxl", "jpeg2000")


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"tile": (16, 16)}, {"bigtiff": True, "byteorder": ">"}),
        SEPARATE | {"compression": "lzw", "rowsperstrip": 9},
        SEPARATE | {"tile": (16, 32)},
        *({"compression": name, "rowsperstrip": 16} for name in ("deflate", "zstd", "packbits")),
        *({"compression": name} for name in CODECS),
        {"compression": "deflate", "tile": (32, 16), "predictor": True},
    ],
    ids=str,
)
def test_tiffs_of_every_layout_and_codec_are_read(tmp_path: Path, options: dict) -> None:
    stored = NOISE.transpose(2, 0, 1) if "planarconfig" in options else NOISE
    tifffile.imwrite(tmp_path / "slice.tif", stored, **RGB, **options)
    np.testing.assert_array_equal(read_picture(tmp_path / "slice.tif"), NOISE)


def test_grey_is_repeated_and_palettes_of_photographs_are_resolved(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", GREY, compression="lzw", **BLACK)
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    for name in ("grey.tif", "grey.png"):
        np.testing.assert_array_equal(read_picture(tmp_path / name), np.dstack([GREY] * 3))
    for colours, name in ((2, "two.gif"), (7, "seven.png"), (200, "many.bmp")):
        palette = Image.fromarray(SMOOTH).quantize(colours)
        palette.save(tmp_path / name)
        np.testing.assert_array_equal(read_picture(tmp_path / name), palette.convert("RGB"))


def test_a_jpeg_in_a_tiff_is_close_to_what_was_stored(tmp_path: Path) -> None:
    path, stored = tmp_path / "photo.tif", SMOOTH.astype(int)
    Image.fromarray(SMOOTH).save(path, compression="jpeg", quality=95)
    assert np.abs(read_picture(path) - stored).max() <= 16
    tifffile.imwrite(path, SMOOTH, **RGB, compression="jpeg", rowsperstrip=16)
    assert np.abs(read_picture(path) - stored).max() <= 16


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_every_picture_is_turned_upright(tmp_path: Path, ending: str, orientation: int) -> None:
    path, exif = tmp_path / f"phone.{ending}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(SMOOTH).save(path, quality=95, exif=exif)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert upright.shape[:2] == ((56, 40) if orientation in (5, 6, 7, 8) else (40, 56))
    np.testing.assert_array_equal(read_picture(path), upright)


@pytest.mark.parametrize("pixels", [GREY, NOISE], ids=["grey", "colours"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_alpha_has_to_be_opaque(tmp_path: Path, ending: str, pixels: np.ndarray) -> None:
    path, alpha = tmp_path / f"cut.{ending}", np.full((40, 56), 255, np.uint8)
    Image.fromarray(np.dstack([pixels, alpha])).save(path)
    np.testing.assert_array_equal(read_picture(path), np.dstack([pixels] * 3)[..., :3])
    alpha[3, 5] = 254
    Image.fromarray(np.dstack([pixels, alpha])).save(path)
    refused(path, "parts of it are transparent; lay it on")


def save_image(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels).save(path, **options)


def save_tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def save_deep(channels: int) -> Callable[[Path], None]:
    return lambda path: cv2.imwrite(str(path), np.full((4, 5, channels), 30_000, np.uint16))


def save_bytes(start: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(start)


def save_preview(path: Path) -> None:
    """As in NEF, ARW and DNG: the picture hangs below its small copy."""
    with tifffile.TiffWriter(path) as file:
        file.write(NOISE[::8, ::8], **RGB, subfiletype=1, subifds=1, metadata=None)
        file.write(GREY, photometric="cfa", metadata=None)


TWO = save_image(NOISE, save_all=True, append_images=[Image.fromarray(SMOOTH)])
MAP = np.zeros((3, 256), np.uint16)
DNG = {**RGB, "extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}
DEEP_PPM = b"P6 56 40 65535\n" + (NOISE.astype(">u2") * 257).tobytes()


@pytest.mark.parametrize(
    ("name", "save", "what"),
    [
        *(("deep.png", save_deep(n), "its pixels are .*;16.*, not 8 bits a") for n in (1, 3, 4)),
        *(("deep.tif", save_deep(n), r"it has 16 bits a sample \(uint16\), not") for n in (1, 3)),
        ("deep.ppm", save_bytes(DEEP_PPM), "its pixels are RGB, RGB;65535, not 8 bits"),
        ("four.tif", save_tiff(NOISE // 16, **RGB, bitspersample=4), "it has 4 bits a sample"),
        ("signed.tif", save_tiff(GREY.view(np.int8), **BLACK), r"it has 8 bits a sample \(int8\)"),
        *((f"one.{n}", save_image(GREY > 99), ".*not 8") for n in ("tif", "png", "bmp", "pbm")),
        ("key.png", save_image(0 * NOISE, transparency=(0, 0, 0)), "parts of it are transparent"),
        ("map.tif", save_tiff(GREY, photometric="palette", colormap=MAP), "its pixels are PALETTE"),
        ("white.tif", save_tiff(GREY, photometric="miniswhite"), "its pixels are MINISWHITE"),
        ("ycc.tif", save_tiff(NOISE, photometric="ycbcr"), "its pixels are YCBCR, 3"),
        ("xr.tif", save_tiff(NOISE, **RGB, compression="jpegxr"), "its pixels are .*JPEGXR; conv"),
        ("five.tif", save_tiff(np.dstack([NOISE, GREY, GREY]), **RGB), "its pixels are RGB, 5 sam"),
        *((f"two.{n}", TWO, "it holds 2 pictures") for n in ("gif", "mpo", "png", "webp")),
        ("two.tif", save_tiff(np.stack([NOISE] * 2), **RGB), "it holds 2 pages, 56 x 40, 56 x"),
        ("two.ppm", save_bytes(2 * b"P6 1 1 255\nabc"), "it holds several pictures"),
        ("stack.tif", save_tiff(STACK, **BLACK, truncate=True), "it is a stack of pictures"),
        ("volume.tif", save_tiff(STACK, **BLACK, volumetric=True, tile=(16,) * 3), "it is a stack"),
        *((f"photo.{n}", save_preview, "it is camera raw") for n in ("NEF", "tif")),
        ("photo.tif", save_tiff(NOISE, **DNG), "it is camera raw"),
        ("stub.tif", save_bytes(b"II*\0"), "cannot be decoded .*give another copy"),
        ("a.jpg", save_bytes(b"\0\0\0\x18ftypheic"), "it is HEIC, no kind that this reads; con"),
        ("a.cr3", save_bytes(b"\0\0\0\x18ftypcrx "), "it is camera raw, no kind"),
        ("a.tif", save_bytes(b"II*\0\x10\0\0\0CR\2\0"), r"it is camera raw \(CR2\), no kind"),
        ("a", save_bytes(bytes(128) + b"DICM"), "it is DICOM, no kind"),
        ("empty.png", save_bytes(b""), "it is empty"),
        ("text.png", save_bytes(b"no picture"), "it is no whole TIFF, PNG, .*; convert it"),
        ("none.png", lambda path: None, "No such file or directory; name a picture"),
        ("folder.png", Path.mkdir, "Is a directory; name a picture"),
    ],
)
def test_what_is_not_one_opaque_picture_of_8_bits(tmp_path: Path, name: str, save, what) -> None:
    save(tmp_path / name)
    refused(tmp_path / name, what)


def test_a_smaller_copy_beside_the_picture_does_no_harm(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as file:
        file.write(NOISE, **RGB, metadata=None)
        file.write(NOISE[::4, ::4], **RGB, subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_picture(tmp_path / "thumbnail.tif"), NOISE)


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint8" '
    'SizeX="56" SizeY="40" SizeZ="2" SizeC="1" SizeT="1"><TiffData FirstZ="0" PlaneCount="1">'
    '<UUID FileName="0.ome.tif">urn:uuid:0</UUID></TiffData><TiffData FirstZ="1" PlaneCount="1">'
    '<UUID FileName="1.ome.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
)


def test_a_ring_of_pages_ends(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "ring.tif", GREY, **BLACK, metadata=None)
    with tifffile.TiffFile(tmp_path / "ring.tif") as file:
        first = file.pages.first.offset
    content = bytearray((tmp_path / "ring.tif").read_bytes())
    (count,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * count, end := len(content))
    content += struct.pack("<HI", 0, end)  # a page without tags, whose next one is itself
    (tmp_path / "ring.tif").write_bytes(content)
    refused(tmp_path / "ring.tif", "it holds 1000 pages")


def test_an_ome_tiff_reads_no_other_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.ome.tif", 255 - GREY, **BLACK)
    tifffile.imwrite(tmp_path / "0.ome.tif", GREY, **BLACK, metadata=None, description=OME)
    assert tifffile.imread(tmp_path / "0.ome.tif").shape == (2, 40, 56)  # what has to be avoided
    np.testing.assert_array_equal(read_picture(tmp_path / "0.ome.tif")[..., 0], GREY)


@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
@pytest.mark.parametrize(
    ("rows", "tag", "change", "what"),
    [
        (16, "StripByteCounts", lambda v: (*v[:-1], 0), "it is cut"),
        (16, "StripByteCounts", lambda v: (*v[:-1], 65_000), "it is cut"),
        (99, "StripByteCounts", lambda v: (v[0] - 20,), "it is cut|cannot be decoded"),
        (16, "StripOffsets", lambda v: (*v[:-1], 0), "it is cut"),
        (16, "ImageLength", lambda v: 80, "it has 3 strips or tiles instead of 5"),
        (16, "ImageLength", lambda v: 10, "it has 3 strips or tiles instead of 1"),
    ],
    ids=["none", "far", "shortened", "nowhere", "taller", "shorter"],
)
def test_strips_have_to_be_there(tmp_path: Path, compression, rows, tag, change, what) -> None:
    path = tmp_path / "cut.tif"
    options = {"compression": compression, "rowsperstrip": rows, "metadata": None}
    tifffile.imwrite(path, SMOOTH, **RGB, **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        found = file.pages[0].tags[tag]
        found.overwrite(change(found.value))
    refused(path, what)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, {}) for kind in ("jpg", "png", "bmp", "ppm", "gif", "webp", "tif")]
    + [("tif", {"tile": (16, 16)}), ("tif", {"compression": "jpeg"})],
    ids=str,
)
def test_half_a_picture_is_none(tmp_path: Path, kind: str, options: dict) -> None:
    path = tmp_path / f"half.{kind}"
    (save_tiff(NOISE, **RGB, **options) if kind == "tif" else save_image(NOISE))(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(path, "it is cut|cannot be decoded .*give another copy|it is no whole")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ["b.png", "a.JPG", "Thumbs.db", ".DS_Store", "desktop.ini", "._a.JPG", "notes.txt"]
    (tmp_path / "photos" / "below.png").mkdir(parents=True)
    for name in (*names, "p_1.tif", "p_1_mask.tif", "p_2_MASK.TIF"):
        (tmp_path / "photos" / name).touch()
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def test_a_folder_stands_for_its_pictures(photos: Path, capsys) -> None:
    names = ["a.JPG", "b.png", "p_1.tif"]
    assert [path.name for path in pictures([photos])] == names
    told = "names: .DS_Store, ._a.JPG, Thumbs.db, desktop.ini, notes.txt, and 2 more\n"
    assert capsys.readouterr().out == f"left out, by their {told}"
    assert [path.name for path in pictures([photos / "*"])] == names
    assert "more" not in capsys.readouterr().out  # a pattern leaves out dot files by itself
    (photos / "below.png" / "c_overlay.png").touch()
    deep = Path("photos/**/*.png")
    assert [path.name for path in pictures([deep], ["_1.png"])] == ["b.png", "c_overlay.png"]
    assert [path.name for path in pictures([deep], ["_overlay.png"])] == ["b.png"]
    own = photos / "below.png" / "c_overlay.png"
    assert pictures([own], ["_overlay.png"]) == [own]


def test_a_pattern_and_files_in_their_order_each_once(photos: Path, capsys) -> None:
    found = pictures(
        [photos / "p_*", photos / "b.png", photos / "*.[pJ]*", photos.resolve() / "b.png"]
    )
    assert [path.name for path in found] == ["p_1.tif", "b.png", "a.JPG"]
    assert capsys.readouterr().out.endswith("by their names: p_1_mask.tif, p_2_MASK.TIF\n")
    (photos / "c[1].png").touch()
    assert pictures([photos / "c[1].png"]) == [photos / "c[1].png"]
    assert pictures([photos / "notes.txt"]) == [photos / "notes.txt"]  # the reader says what it is


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ("none.png", r"none\.png: no such file; name pictures, their folder, or a pattern"),
        ("photos/Thumbs.db", r"photos/Thumbs\.db: no picture there"),
        ("photos/below.png", "below.png: no picture there"),
        ("", "nothing named: no picture there; name TIFF"),
    ],
)
def test_what_names_no_picture_is_refused(photos: Path, named: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        pictures([Path(named)] if named else [])


def test_results_overwrite_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = [tmp_path / "road.png", tmp_path / "road_boxes.png"]
    with pytest.raises(InputError, match=r"road_boxes\.png: a result would overwrite this file"):
        outputs(paths, tmp_path / "." / "x" / "..", ["_boxes.png"])
    assert outputs(paths, Path("~/to"), ["_signs.json", "_boxes.png"]) == {
        paths[0]: [tmp_path / "to/road_signs.json", tmp_path / "to/road_boxes.png"],
        paths[1]: [tmp_path / "to/road_boxes_signs.json", tmp_path / "to/road_boxes_boxes.png"],
    }
    with pytest.raises(InputError, match=r"x/Road\.jpg: a second file named Road; rename one"):
        outputs([*paths, Path("x/Road.jpg")], tmp_path / "to", ["_boxes.png"])
