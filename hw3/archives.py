"""Archives of published data sets: downloads that resume, and extraction that trusts no member."""

import os
import stat
import time
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory

import requests
from tqdm import tqdm

from hw3.errors import InputError
from hw3.records import file_sha256

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
PAUSES = (1.0, 2.0, 4.0)  # seconds between the attempts at one download
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile decompresses others without bound


def download(url: str, path: Path, *, sha256: str | None = None, size: int | None = None) -> Path:
    """Fetch `url` to `path`, resuming what an earlier call left in `<path>.part`.

    A `path` that exists is only checked. Without `sha256` the one found is printed, to be noted.

    Raises:
        InputError: if the transfer keeps breaking off or the server refuses (`.part` stays), or
            the content has not `size` bytes, not `sha256`, or is no zip as `path` has it (it goes).

    Example:
        A file that is there already is only checked, whatever its address:

        >>> size = (folder / "readme.txt").write_text("LGG")
        >>> download("https://data.example/readme.txt", folder / "readme.txt", size=size + 1)
        Traceback (most recent call last):
        hw3.errors.InputError: https://data.example/readme.txt as ...: 3 bytes instead of 4; ...
    """
    part = path.with_suffix(f"{path.suffix}.part")
    file = path if path.exists() else part
    try:
        if file == part:
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(url, part)
        found, digest = file.stat().st_size, file_sha256(file)
        faults = [f"{found} bytes instead of {size}"] if size not in (None, found) else []
        if sha256 is not None and sha256.lower() != digest:
            faults.append(f"SHA-256 {digest} instead of {sha256}")
        if path.suffix == ".zip" and not zipfile.is_zipfile(file):
            faults.append("not a zip file")
        if faults:
            part.unlink(missing_ok=True)
            remedy = f"delete {path}" if file == path else "it was deleted"
            raise InputError(f"{url} as {path}: {', '.join(faults)}; {remedy}, run again")
        file.replace(path)
    except OSError as error:  # those of requests too
        remedy = "check address, connection and disk, and run again: it resumes"
        raise InputError(f"{url} to {path}: {error}; {remedy}") from None
    if sha256 is None:
        print(f"{path.name}: SHA-256 {digest}")
    return path


def extract(archive: Path, folder: Path, *, max_bytes: int = 8 * 2**30) -> Path:
    """Unpack a zip file into `folder`, all or nothing; files there of the same name are replaced.

    Raises:
        InputError: if the file is no whole zip, unpacks to more than `max_bytes`, or has a member
            that would leave `folder`, is a link or device, or has the name of another; or if a
            file in `folder` is in the way of one of its folders, or the reverse.

    Example:
        >>> with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        ...     archive.writestr("images/00000.ppm", b"P6")
        >>> extract(folder / "data.zip", folder / "data").name
        'data'
        >>> (folder / "data/images/00000.ppm").read_bytes()
        b'P6'
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _refuse_hostile(archive, opened.infolist(), max_bytes)
            folder.mkdir(parents=True, exist_ok=True)
            # Inside `folder`, so that each rename stays on one file system.
            with TemporaryDirectory(dir=folder, prefix=".unpacking-") as staging:
                for member in tqdm(opened.infolist(), "unpacking", disable=None, leave=False):
                    opened.extract(member, staging)  # never more than the declared size
                _refuse_conflicts(archive, Path(staging), folder)
                _merge(Path(staging), folder)
    except InputError:
        raise
    except (*DAMAGED, OSError) as error:
        remedy = "if the file is not whole, delete it and fetch it again"
        raise InputError(f"{archive}: not unpacked into {folder}: {error}; {remedy}") from None
    return folder


def unpack(archive: Path, folder: Path, dataset: str) -> Path:
    """Unpack a data set's archive into `folder`, once; another copy there is not mixed with it.

    Args:
        archive: holds the folder `dataset`.
        folder: into which it is unpacked.
        dataset: the folder's name.

    Raises:
        InputError: as `extract`, or if `folder` holds a `dataset` that is not from this archive.

    Example:
        >>> with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        ...     archive.writestr("images/00000.ppm", b"P6")
        >>> (folder / "images").mkdir()
        >>> unpack(folder / "data.zip", folder, "images")
        Traceback (most recent call last):
        hw3.errors.InputError: ...images is there already, and not from ...data.zip: give ...
    """
    target, digest = folder / dataset, file_sha256(archive)
    note = target / ".archive-sha256"
    if target.exists():
        if note.is_file() and note.read_text() == digest:
            return folder
        remedy = f"give {target} itself as the data, or delete it"
        raise InputError(f"{target} is there already, and not from {archive}: {remedy}")
    extract(archive, folder)
    if target.is_dir():
        note.write_text(digest)
    return folder


def _fetch(url: str, part: Path) -> None:
    for pause in PAUSES:
        with suppress(*BROKEN):
            return _transfer(url, part)
        time.sleep(pause)
    _transfer(url, part)


def _transfer(url: str, part: Path) -> None:
    """One request for what `part` still lacks. By requests, since pooch does not resume."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        status, span = response.status_code, response.headers.get("Content-Range", "")
        if status == 416 and span == f"bytes */{have}":
            return  # complete: an earlier call was stopped before it could rename it
        if status == 416 or (status == 206 and not span.startswith(f"bytes {have}-")):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("cannot be resumed, starting over")
        if status == 429 or status >= 500:
            raise requests.ConnectionError(f"the server answered {status} {response.reason}")
        response.raise_for_status()
        with open(part, "ab" if status == 206 else "wb") as file:
            total = file.tell() + int(response.headers.get("Content-Length", 0))
            options = {"initial": file.tell(), "desc": part.stem, "disable": None, "leave": False}
            with tqdm.wrapattr(file, "write", total or None, **options) as out:
                for chunk in response.iter_content(1 << 16):
                    out.write(chunk)
    if part.stat().st_size < total:
        raise requests.ConnectionError(f"{part.stat().st_size} of {total} bytes came")


def _refuse_hostile(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    total = sum(member.file_size for member in members)
    faults = [f"unpacks to {total} bytes, the bound is {max_bytes}"] if total > max_bytes else []
    # Windows' rules are the strictest: both separators, drives, no case.
    names = Counter(PureWindowsPath(member.filename) for member in members)
    for member in members:
        name, kind = PureWindowsPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
        reasons = {
            "would leave the folder": bool(name.anchor) or ".." in name.parts,
            "is a link or device": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
            "has the name of another": names[name] > 1,
            "is compressed by neither store nor deflate": member.compress_type not in METHODS,
        }
        faults += [f"{member.filename!r} {reason}" for reason, holds in reasons.items() if holds]
    if faults:
        remedy = "nothing was unpacked, fetch it from its publisher"
        raise InputError(f"{archive}: {len(faults)} fault(s), {remedy}:\n  " + "\n  ".join(faults))


def _refuse_conflicts(archive: Path, staging: Path, folder: Path) -> None:
    for item in staging.rglob("*"):
        target = folder / item.relative_to(staging)
        if os.path.lexists(target) and target.is_dir() != item.is_dir():
            remedy = f"{target} is in the way, move it"
            raise InputError(f"{archive}: not unpacked into {folder}: {remedy}")


def _merge(staging: Path, folder: Path) -> None:
    """Rename whole what is new; where both sides have a folder, go on inside."""
    for item in list(staging.iterdir()):
        target = folder / item.name
        if item.is_dir() and target.is_dir():
            _merge(item, target)
        else:
            item.replace(target)
