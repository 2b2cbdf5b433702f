"""What comes from outside: archives of data sets, pictures, and the files that a user names."""

import hashlib
import io
import logging
import math
import os
import re
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from glob import glob
from itertools import islice
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory

import numpy as np
import requests
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it prints beside our errors

PAUSES = (1.0, 2.0, 4.0)  # seconds after one, two, three attempts in a row that brought nothing
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile decompresses others without bound
PARTS = {"TrainIJCNN2013", "TestIJCNN2013"}  # of GTSDB, published beside the whole
DAY = 24 * 60 * 60
UNFINISHED = ".hw3-unfinished-"  # nobody else's files have such names
PAGES = 1000  # of a TIFF that are looked at: where the list of them is damaged, it may be a ring
PREDICTED_RGB = (213, 94, 0)
"""What is predicted is drawn in this into a user's pictures; the figures have it, too."""

READ = "TIFF, PNG, JPEG, PPM, BMP, GIF or WebP"
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "WEBP")  # as Pillow names them
ENDING = re.compile(r"\.(tiff?|png|jpe?g|p[gnp]m|bmp|gif|webp)", re.IGNORECASE)
RAW_ENDING = re.compile(r"\.(3fr|arw|cr[23]|dng|iiq|nef|nrw|orf|pef|ra[fw]|rw2|srw)", re.IGNORECASE)
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_KINDS = {  # by the bytes at a place in the file; the first that fits
    (8, b"CR\2\0"): "camera raw (CR2)",
    (4, b"ftypcrx"): "camera raw (CR3)",
    **{(4, b"ftyp" + brand): "HEIC" for brand in (b"hei", b"hev", b"mif1", b"msf1")},
    (4, b"ftypavi"): "AVIF",
    **{(4, b"ftyp"): "a video", (8, b"AVI "): "a video", (0, b"\x1aE\xdf\xa3"): "a video"},
    **{(0, b"\x5c\1\0\0"): "NIfTI", (0, b"\0\0\1\x5c"): "NIfTI"},
    (128, b"DICM"): "DICOM",
    (0, b"%PDF"): "a PDF",
    (0, b"\x93NUMPY"): "a NumPy array",
    (0, b"PK\3\4"): "a zip file",
    (0, b"\x1f\x8b"): "compressed by gzip, as .nii.gz is",
    **{(0, b"\xff\x0a"): "JPEG XL", (4, b"JXL "): "JPEG XL", (4, b"jP  "): "JPEG 2000"},
    **{(0, b"8BPS"): "a Photoshop document", (0, b"\x89HDF"): "HDF5"},
    **{(0, b"\xd0\xcf\x11\xe0"): "a Thumbs.db", (0, b"\0\5\x16\7"): "what macOS notes on a file"},
    (0, b"<"): "a web page or a drawing",
}


class InputError(Exception):
    """Input that cannot be used. The message names the file, the field and the remedy."""


def download(url: str, path: Path) -> Path:
    """Fetch `url` to `path`, unless it is there, resuming what an earlier call left in `.part`.

    Raises:
        InputError: if the transfer keeps breaking off or the server refuses (`.part` stays), or the
            content is no zip as `path` has it (it goes).
    """
    part = path.with_suffix(f"{path.suffix}.part")
    file = path if path.exists() else part
    try:
        if file == part:
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(url, part)
        if path.suffix == ".zip" and not zipfile.is_zipfile(file):
            part.unlink(missing_ok=True)
            remedy = f"delete {path}" if file == path else "it was deleted"
            raise InputError(f"{url} as {path}: not a zip file; {remedy}, run again")
        return file.replace(path)
    except (OSError, ValueError) as error:  # requests has both, the latter for odd addresses
        remedy = "check address, connection and disk, and run again: it resumes"
        raise InputError(f"{url} to {path}: {error}; {remedy}") from None


def _fetch(url: str, part: Path) -> None:
    """Go on as long as attempts bring something; give up after so many in a row that do not."""
    failures, most = 0, _bytes_in(part)
    while True:
        try:
            return _transfer(url, part, _bytes_in(part))
        except BROKEN:
            failures = 1 if _bytes_in(part) > most else failures + 1
            if failures > len(PAUSES):
                raise
        most = max(most, _bytes_in(part))
        time.sleep(PAUSES[failures - 1])


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(url: str, part: Path, have: int) -> None:
    """One request for what `part` still lacks. By requests, since pooch does not resume."""
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
        if status not in (200, 206):  # such as a redirect to nowhere
            raise ValueError(f"the server answered {status} {response.reason}")
        length = response.headers.get("Content-Length", "0")
        if not length.isdecimal():
            raise ValueError(f"the server says that {length!r} bytes follow")
        with open(part, "ab" if status == 206 else "wb") as file:
            total = file.tell() + int(length)
            options = {"initial": file.tell(), "desc": part.stem, "disable": None, "leave": False}
            with tqdm.wrapattr(file, "write", total or None, **options) as out:
                for chunk in response.iter_content(1 << 12):  # a break loses less than one
                    out.write(chunk)
    if int(length) and (size := part.stat().st_size) != total:
        if size > total:  # another process wrote to it, too
            part.unlink()
        raise requests.ConnectionError(f"{size} of {total} bytes came")


def unpack(archive: Path, folder: Path, dataset: str, *, max_bytes: int = 8 * 2**30) -> Path:
    """Lay a data set out as `folder / dataset`, once, whole or not at all; return `folder`.

    The zip holds a folder `dataset`, at its top or two levels below; nothing else is written.

    Raises:
        InputError: if the archive is no whole zip, does not hold the data set (what it holds is
            named), unpacks to more than `max_bytes`, or has a member that would leave the folder,
            is a link or has the name of another; or if a `dataset` of another origin is there.
    """
    target, note = folder / dataset, folder / dataset / ".archive-sha256"
    try:
        digest = file_sha256(archive)
        if not os.path.lexists(target):
            with zipfile.ZipFile(archive) as opened:
                _refuse_hostile(archive, opened.infolist(), max_bytes)
                _refuse_lost(archive, opened)
                members = _members(archive, opened, dataset)
                with whole_folder(target) as staging:
                    _extract(opened, members, staging)
                    (staging / note.name).write_text(digest)
        if note.is_file() and note.read_text() == digest:
            return folder
    except (*DAMAGED, OSError) as error:
        remedy = "make room if the disk is full; else delete the archive and fetch it again"
        raise InputError(f"{archive}: not unpacked into {folder}: {error}; {remedy}") from None
    remedy = f"give {target} itself as the data, or delete it"
    raise InputError(f"{target} is there already, and not from {archive}: {remedy}")


def laid_out(source: str, folder: Path, dataset: str, named: str) -> Path:
    """A data set's folder: `source` itself, or where that archive is unpacked below `folder`."""
    path = expanded(source)
    if path.is_dir():
        return path
    if not path.is_file():
        raise InputError(f"{source}: give {named}, or a folder")
    return unpack(path, folder, dataset)


def fingerprint(files: dict[str, Path], size: int = 64) -> str:
    """Hash of all names and contents; each content's has so many bytes."""

    def digest(name: str) -> bytes:
        content = hashlib.blake2b(files[name].read_bytes(), digest_size=size).digest()
        return name.encode(errors="surrogateescape") + content

    with ThreadPoolExecutor() as pool:
        done = tqdm(pool.map(digest, files), "hashing", len(files), disable=None, leave=False)
        return hashlib.blake2b(b"".join(done), digest_size=16).hexdigest()


def _extract(opened: zipfile.ZipFile, members: dict[Path, zipfile.ZipInfo], folder: Path) -> None:
    for name, member in tqdm(members.items(), "unpacking", disable=None, leave=False):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, open(path, "xb") as file:
            shutil.copyfileobj(source, file)  # never more than the declared size
            size = file.tell()
        if size != member.file_size or (size == 0 and _is_picture(path)):
            raise ValueError(f"{str(name)!r} is not whole")  # its size and CRC may be zeroed


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


def _refuse_lost(archive: Path, opened: zipfile.ZipFile) -> None:
    """A damaged list of members would hide some of them, without a word from zipfile."""
    with open(archive, "rb") as file:
        file.seek(-min(archive.stat().st_size, (1 << 16) + 22), os.SEEK_END)  # longest comment
        end = file.read()
    listed, found = end.rindex(b"PK\5\6") + 10, len(opened.infolist())
    count = int.from_bytes(end[listed : listed + 2], "little")
    if count not in (found % (1 << 16), (1 << 16) - 1):  # the last: it is said in ZIP64's fields
        raise ValueError(f"it holds {count} members, and lists {found}")
    for member in opened.infolist():
        opened.open(member).close()  # compares its name with the one beside the content


def _members(archive: Path, opened: zipfile.ZipFile, dataset: str) -> dict[Path, zipfile.ZipInfo]:
    """What lies in the topmost folder `dataset` that has pictures, without a copy further down."""
    files = {  # Windows' own zips have backslashes
        PureWindowsPath(member.filename).parts: member
        for member in opened.infolist()
        if not member.filename.endswith(("/", "\\"))
    }
    places = {parts[:end] for parts in files for end in (1, 2, 3) if parts[:end][-1:] == (dataset,)}
    for place in sorted(places, key=lambda parts: (len(parts), parts)):
        own = {
            Path(*parts[len(place) :]): member
            for parts, member in files.items()
            if parts[: len(place)] == place and parts[len(place) :][:1] not in ((), (dataset,))
        }
        if any(_is_picture(path) for path in own):
            return own
    names = {part for parts in files for part in parts}
    if part := PARTS & names:
        fault = f"holds {part.pop()}, which is only a part of the data set; give the whole one's"
    elif inner := [repr(name)[1:-1] for name in names if name.lower().endswith(".zip")]:
        fault = f"holds another archive, {inner[0]}; unpack it, and give that one"
    else:
        at_top = any(len(parts) == 1 and _is_picture(Path(parts[0])) for parts in files)
        tops = sorted({repr(parts[0])[1:-1] for parts in files})
        found = "pictures at its top" if at_top else _few(tops) or "nothing"
        fault = f"holds {found}, and no folder {dataset} with pictures; unpack it into a folder of"
        fault += " that name, and give that folder"
    raise InputError(f"{archive}: {fault}")


def read_picture(path: Path) -> np.ndarray:
    """A picture as (height, width, 3) uint8 RGB: upright, opaque, 8 bits a sample, one in its file.

    It is a TIFF, PNG, JPEG, PPM, BMP, GIF or WebP. Grey is repeated; one that was noted to be
    turned is turned.

    Raises:
        InputError: that names what else the file is, and what to do.

    Example:
        >>> Image.new("L", (64, 48), 7).save(folder / "road.png")
        >>> image = read_picture(folder / "road.png")
        >>> image.shape, image[0, 0].tolist()
        ((48, 64, 3), [7, 7, 7])
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a picture") from None
    try:
        _refuse_other_kinds(path, content)
        decode = _decode_tiff if content.startswith(TIFF) else _decode_other
        pixels, orientation = decode(content)
        return _upright(_opaque(pixels), orientation)
    except InputError as fault:
        raise InputError(f"{path}: {fault}") from None
    except Exception as error:  # decoders raise many kinds; all mean: unreadable
        raise InputError(f"{path}: cannot be decoded ({error}); give another copy") from None


def _refuse_other_kinds(path: Path, content: bytes) -> None:
    if not content:
        raise InputError("it is empty; give another copy")
    fits = (kind for (at, magic), kind in OTHER_KINDS.items() if content.startswith(magic, at))
    kind = "camera raw" if RAW_ENDING.fullmatch(path.suffix) else next(fits, None)
    if kind:
        raise InputError(f"it is {kind}, no kind that this reads; convert it to {READ}")


def _decode_tiff(content: bytes) -> tuple[np.ndarray, int]:
    """(height, width, 1 to 4) uint8 and orientation; by tifffile, which knows all codecs."""
    # From memory and by page, so that no other file of an OME-TIFF is read.
    with tifffile.TiffFile(io.BytesIO(content), is_ome=False) as file:
        listed = list(islice(file.pages, PAGES))
        page, pages = listed[0], [page for page in listed if not page.is_reduced]
        if page.is_reduced or "DNGVersion" in page.tags:
            raise InputError("it is camera raw with a preview; develop it to TIFF or PNG")
        if len(pages) != 1 or len(listed) == PAGES:
            sizes = _few([f"{page.imagewidth} x {page.imagelength}" for page in pages])
            raise InputError(f"it holds {len(pages)} pages, {sizes}; save one of them alone")
        if file.series[0].size > page.size or page.imagedepth != 1:
            raise InputError("it is a stack of pictures; save one of them alone")
        if page.bitspersample != 8 or page.dtype != np.uint8:
            kind = f"{page.bitspersample} bits a sample ({page.dtype})"
            raise InputError(f"it has {kind}, not 8 (uint8); convert it")
        # Of others tifffile gives palette indices, inverted grey, or half a picture without a word.
        photometric, codec = page.photometric.name, page.compression.name
        known = ("MINISBLACK", "RGB", "YCBCR") if codec == "JPEG" else ("MINISBLACK", "RGB")
        if photometric not in known or codec == "JPEGXR" or page.samplesperpixel > 4:
            kind = f"{photometric}, {page.samplesperpixel} samples a pixel, compressed by {codec}"
            raise InputError(f"its pixels are {kind}; convert it to RGB or MINISBLACK")
        _refuse_missing_parts(page, content)
        separate, _, height, width, together = page.shaped
        pixels = page.asarray().reshape(separate, height, width, together)
        orientation = page.tags.valueof("Orientation", 1)
    return pixels.transpose(1, 2, 0, 3).reshape(height, width, -1), orientation


def _refuse_missing_parts(page: tifffile.TiffPage, content: bytes) -> None:
    """tifffile leaves absent strips black, and does not look where a JPEG or raw pixels end."""
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    needed = math.prod(page.chunked)
    count = (page.tags.get("TileOffsets") or page.tags["StripOffsets"]).count
    if not count == len(parts) == needed:  # tifffile leaves out those that it needs not
        raise InputError(f"it has {count} strips or tiles instead of {needed}; give another copy")
    codec = page.compression.name
    whole = [offset > 0 and 0 < count <= len(content) - offset for offset, count in parts]
    if codec == "NONE":
        whole.append(sum(page.databytecounts) >= page.nbytes)
    if codec == "JPEG":
        ends = (content[offset : offset + count].rstrip(b"\0")[-2:] for offset, count in parts)
        whole += [end == b"\xff\xd9" for end in ends]
    if not all(whole):
        raise InputError("it is cut: some strip or tile is not whole; give another copy")


def _decode_other(content: bytes) -> tuple[np.ndarray, int]:
    """(height, width, 3 or 4) uint8 and orientation; by Pillow, which knows half a JPEG."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.verify()  # checksums of PNG; the file has to be opened anew
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if (count := getattr(image, "n_frames", 1)) != 1:
                raise InputError(f"it holds {count} pictures; save one of them alone")
            if image.format == "PPM":
                end = image.tile[0][2] + image.width * image.height * len(image.getbands())
                if re.match(rb"\s*P[1-7]\s", content[end:]):
                    raise InputError("it holds several pictures; save one of them alone")
            stored = _stored_modes(image)
            if any(re.match(r"[1IF]|(?!P).*;\d", mode) for mode in stored):
                modes = ", ".join(sorted(stored))
                raise InputError(f"its pixels are {modes}, not 8 bits a sample; convert it")
            pixels = image.convert("RGBA" if image.has_transparency_data else "RGB")
            return np.array(pixels), image.getexif().get(0x0112, 1)
    except UnidentifiedImageError:
        raise InputError(f"it is no whole {READ}; convert it, or give another copy") from None


def _stored_modes(image: Image.Image) -> set[str]:
    """How the file holds its pixels. Pillow opens 16 bits a sample as RGB, without the low 8."""
    modes = {image.mode}
    for *_, arguments in image.tile:
        mode, *rest = [arguments] if isinstance(arguments, str) else arguments or [""]
        deep = image.format == "PPM" and rest[:1] not in ([], [255])
        modes.add(f"{mode};{rest[0]}" if deep else str(mode))
    return modes


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """Three channels of one to four, of which a second or fourth one is alpha."""
    if pixels.shape[2] in (2, 4):
        if pixels[..., -1].min() < 255:
            raise InputError("parts of it are transparent; lay it on a background, and save that")
        pixels = pixels[..., :-1]
    return np.repeat(pixels, 3 // pixels.shape[2], axis=2)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turned as the orientation of TIFF and EXIF says, 1 to 8; others say nothing."""
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.array(ImageOps.exif_transpose(image))


def pictures(paths: Sequence[Path], endings: Sequence[str] = ()) -> list[Path]:
    """The pictures among what a user names: files, folders, and patterns such as `photos/*.png`.

    Left out, which one printed line says, are masks of LGG, what systems leave in folders, and what
    in a folder or by a pattern does not have the name of a picture, or ends as earlier results do.
    InputError if nothing is left.
    """
    kept, left = [], []
    for path in map(expanded, paths):
        named = path.is_file()
        found = [path] if named else list(map(Path, glob(str(path), recursive=True)))
        if path.is_dir():
            found = list(path.iterdir())
        elif not found:
            remedy = "name pictures, their folder, or a pattern in quotes"
            raise InputError(f"{path}: no such file; {remedy}")
        for file in sorted(filter(Path.is_file, found)):
            taken = named or (_is_picture(file) and not file.name.endswith(tuple(endings)))
            (kept if taken and not _is_set_aside(file) else left).append(file)
    if left:
        print(f"left out, by their names: {_few([file.name for file in left])}")
    if not kept:
        where = _few([str(path) for path in paths]) or "nothing named"
        raise InputError(f"{where}: no picture there; name {READ}; 'DIR/**/*' has subfolders")
    return list({file.resolve(): file for file in kept}.values())


def _is_set_aside(path: Path) -> bool:
    system = path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")
    return system or path.stem.lower().endswith("_mask")


def _is_picture(path: Path) -> bool:
    return bool(ENDING.fullmatch(path.suffix)) and not path.name.startswith(".")


def _few(names: Sequence[str]) -> str:
    rest = [f"and {len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join([*names[:5], *rest])


def outputs(paths: Sequence[Path], folder: Path, endings: Sequence[str]) -> dict[Path, list[Path]]:
    """Where results go, `<stem><ending>` in `folder`; InputError if one would overwrite."""
    folder = expanded(folder)
    first: dict[str, Path] = {}
    for path in paths:
        if first.setdefault(path.stem.casefold(), path) != path:
            raise InputError(f"{path}: a second file named {path.stem}; rename one")
    targets = {path: [folder / f"{path.stem}{ending}" for ending in endings] for path in paths}
    given = {path.resolve() for path in paths}
    for target in (target for own in targets.values() for target in own):
        if target.resolve() in given:
            raise InputError(f"{target}: a result would overwrite this file; choose another --to")
    return targets


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of its ~."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such user; write the folder out") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a neighbour, flush it to the disk, rename it over `path`; InputError if it fails."""
    partial = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        remedy = "make room, or choose a folder that can be written to"
        raise InputError(f"{path}: not written ({error.strerror}); {remedy}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which then becomes `target`; not at all if it fails, once if two do it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    with TemporaryDirectory(prefix=UNFINISHED, dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        yield folder
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # else another process was first
                raise


def sweep(folder: Path) -> None:
    """Remove what calls that died more than a day ago left half done in the folder."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kind_of(folder: Path) -> str:
    """What a data set is: "simulated" where a simulator has left its mark, else "real"."""
    return "simulated" if (folder / ".simulated.json").exists() else "real"
