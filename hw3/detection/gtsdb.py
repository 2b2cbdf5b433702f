"""GTSDB as its publisher lays it out: found, checked line by line, split.

Its files::

    FullIJCNN2013/00000.ppm ... 00899.ppm     800 x 1360 x 3 uint8
    FullIJCNN2013/gt.txt                      00000.ppm;x1;y1;x2;y2;class_id, one sign a line
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hw3.data import InputError, download, fingerprint, kind_of, laid_out, read_picture

ARCHIVE = "https://sid.erda.dk/public/archives/ff17dc924eba88d5d01a807357d6614c/FullIJCNN2013.zip"
"""Where the publisher keeps all 900 images with gt.txt."""
GROUPS = ("prohibitory", "mandatory", "danger", "other")
"""Sign groups in the order of their labels, 1-4."""
SIZE_GROUPS = ("small", "medium", "large")
TRAINING = 600
"""Images with a lower id are the competition's training part."""
_CLASSES = (
    (*range(6), *range(7, 11), 15, 16),
    range(33, 41),
    (11, *range(18, 32)),
    (6, 12, 13, 14, 17, 32, 41, 42),
)  # of the groups, from the data set's ReadMe
_LABELS = {class_id: label for label, ids in enumerate(_CLASSES, 1) for class_id in ids}

Sizes = dict[str, tuple[int, int] | None]
"""(height, width) by stem; None where the file cannot be read."""


@dataclass(frozen=True, eq=False)
class GtsdbDataset:
    """Images in the order of their ids, those without signs included.

    Attributes:
        image_sizes: (height, width) of each image in pixels.
        boxes_xyxy: for each image (g, 4) float32, pixels as published: width is x2 - x1.
        class_ids: for each image (g,) int64 in 0-42.
        labels: for each image (g,) int64 in 1-4.
        notices: what was put right while reading.
        fingerprint: hash of gt.txt and of every image's name and content.
        kind: "simulated" or "real".
    """

    folder: Path
    image_ids: tuple[int, ...]
    paths: tuple[Path, ...]
    image_sizes: tuple[tuple[int, int], ...]
    boxes_xyxy: list[np.ndarray]
    class_ids: list[np.ndarray]
    labels: list[np.ndarray]
    notices: list[str]
    fingerprint: str
    kind: str

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def image(self, index: int) -> np.ndarray:
        """(height, width, 3) uint8 RGB; an InputError if the file cannot be decoded."""
        return read_picture(self.paths[index])

    def counts(self, image_ids: Iterable[int] | None = None) -> dict[str, dict[str, int]]:
        """Signs by sign_group, then size_group, in these images (None: in all)."""
        wanted = set(self.image_ids if image_ids is None else image_ids)
        table = {group: dict.fromkeys(SIZE_GROUPS, 0) for group in GROUPS}
        rows = zip(self.image_ids, self.boxes_xyxy, self.labels, strict=True)
        for image_id, boxes, labels in rows:
            for box, label in zip(boxes, labels, strict=True):
                table[GROUPS[label - 1]][size_group(box[2] - box[0])] += image_id in wanted
        return table

    def part_counts(self, image_ids: Sequence[int]) -> dict[str, Any]:
        """Images, images without any sign, and signs as `counts` gives them, in these images."""
        signs = dict(zip(self.image_ids, map(len, self.labels), strict=True))
        return {
            "images": len(image_ids),
            "images_without_signs": sum(signs[image_id] == 0 for image_id in image_ids),
            "signs": self.counts(image_ids),
        }


def group_of(class_id: int) -> int:
    """The label, 1-4, of a class id, 0-42; a KeyError for any other."""
    return _LABELS[class_id]


def size_group(width: float) -> str:
    """small below 32 pixels, medium up to 45, large above."""
    return SIZE_GROUPS[int(width >= 32) + int(width > 45)]


def read_gtsdb(path: Path) -> GtsdbDataset:
    """Check and read `FullIJCNN2013`, given itself or its parent; PNG or JPEG copies will do.

    Raises:
        InputError: with all faults: lines of gt.txt that cannot be right, images whose header
            cannot be read, test images beside a gt.txt that is the training part's alone.

    Example:
        >>> Image.new("RGB", (64, 48)).save(folder / "00000.ppm")
        >>> _ = (folder / "gt.txt").write_text("00000.ppm;10;8;30;28;14")
        >>> dataset = read_gtsdb(folder)
        >>> dataset.image_sizes, dataset.boxes_xyxy[0].tolist(), dataset.labels[0].tolist()
        (((48, 64),), [[10.0, 8.0, 30.0, 28.0]], [4])
    """
    folder = _find(path)
    paths = _images(folder)
    faults: list[str] = []
    sizes = {stem: _size(file, faults) for stem, file in paths.items()}
    signs, notices = _read_signs(folder / "gt.txt", sizes, faults)
    test = [stem for stem in paths if TRAINING <= int(stem) < 900]
    if test and not any(signs[stem] for stem in test):
        faults.append(
            f"gt.txt names no sign in the {len(test)} images 00600 to 00899, like the training "
            "part's: their signs would count as background; take the full archive's gt.txt"
        )
    if not faults and not any(signs.values()):
        faults.append("gt.txt names no sign at all: it is empty or cut")
    if faults:
        remedy = "put gt.txt right, or unpack the archive again"
        raise InputError(f"{folder}: {len(faults)} fault(s), {remedy}:\n  " + "\n  ".join(faults))
    rows = [np.array(signs[stem], dtype=np.int64).reshape(-1, 5) for stem in paths]
    return GtsdbDataset(
        folder=folder,
        image_ids=tuple(int(stem) for stem in paths),
        paths=tuple(paths.values()),
        image_sizes=tuple(sizes.values()),
        boxes_xyxy=[row[:, :4].astype(np.float32) for row in rows],
        class_ids=[row[:, 4] for row in rows],
        labels=[np.array([group_of(c) for c in row[:, 4]], dtype=np.int64) for row in rows],
        notices=notices,
        fingerprint=fingerprint({own.name: own for own in (folder / "gt.txt", *paths.values())}),
        kind=kind_of(folder),
    )


def fetch_gtsdb(source: str, folder: Path) -> Path:
    """A folder for `read_gtsdb`.

    `source` is "download" (the publisher's archive), that archive as a file, both unpacked below
    `folder`, or a folder, which is used where it is.
    """
    if source == "download":
        source = str(download(ARCHIVE, folder / ARCHIVE.rsplit("/", 1)[-1]))
    named = "`download`, the archive FullIJCNN2013.zip"
    return laid_out(source, folder, "FullIJCNN2013", named)


def split(image_ids: Iterable[int], name: str, seed: int) -> dict[str, list[int]]:
    """Sorted ids to `train` on and to `test`; an InputError if one part is empty.

    Args:
        image_ids: those that there are.
        name: random (a fifth is tested, as in the report), official (the competition's: images
            from 600 on), or fold0, fold1, fold2 (a third of the others, no image from 600 on).
        seed: of the random split; the others do not depend on it.
    """
    ids = sorted(set(image_ids))
    if name == "random":
        order = np.random.default_rng((seed, 0)).permutation(ids).tolist()
        test = sorted(order[: round(0.2 * len(order))])
    elif name == "official":
        test = [image_id for image_id in ids if image_id >= TRAINING]
    else:
        ids, fold = [image_id for image_id in ids if image_id < TRAINING], _folds()
        test = [image_id for image_id in ids if f"fold{fold[image_id]}" == name]
    train = sorted(set(ids) - set(test))
    if not train or not test:
        raise InputError(f"split {name}: {len(ids)} images leave a part empty; choose another")
    return {"train": train, "test": test}


def _folds() -> np.ndarray:
    """(600,) the fold of each official training image, 200 in each."""
    fold = np.empty(TRAINING, dtype=int)
    fold[np.random.default_rng(0).permutation(TRAINING)] = np.arange(TRAINING) % 3
    fold[[1, 593]] = fold[[593, 1]]  # 593 shows the place that 43 shows: both in one
    return fold


def _find(path: Path) -> Path:
    """The folder with images and gt.txt, which is `path` or in it."""
    part = re.compile("(Train|Test)IJCNN2013.*").fullmatch
    for folder in (path, path / "FullIJCNN2013"):
        whole = (folder / "gt.txt").is_file() and _images(folder)
        if whole and not part(folder.resolve().name):
            return folder
    for folder in (path.resolve(), *path.glob("*")):
        if part(folder.name):
            fault = f"{folder.name} is only a part of the data"
            raise InputError(f"{path}: {fault}; give FullIJCNN2013")
    raise InputError(f"{path}: no gt.txt with images 00000.ppm, ...; give FullIJCNN2013")


def _images(folder: Path) -> dict[str, Path]:
    """Image files by stem; of several with one, the published format is taken."""
    names = re.compile(r"[0-9]{5}\.(jpe?g|png|ppm)", re.IGNORECASE)  # the last one is preferred
    files = [file for file in folder.glob("*.*") if names.fullmatch(file.name)]
    return {file.stem: file for file in sorted(files, key=lambda own: (own.name.lower(), own.name))}


def _size(path: Path, faults: list[str]) -> tuple[int, int] | None:
    """(height, width) from the header."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            needed = image.tile[0][2] + 3 * width * height if image.format == "PPM" else 0
            if needed and image.mode in ("L", "I"):
                raise ValueError("it is grey (P5), not colour (P6)")
            if image.getexif().get(0x0112, 1) != 1:  # would be turned, and its boxes would not
                raise ValueError("it is noted as turned; save it upright")
        if path.stat().st_size < needed:
            raise ValueError("it is truncated")
        return height, width
    except Exception as error:  # as in `read_picture`
        faults.append(f"{path.name}: cannot be read: {error}")
        return None


def _read_signs(
    path: Path, sizes: Sizes, faults: list[str]
) -> tuple[dict[str, list[tuple[int, ...]]], list[str]]:
    """(x1, y1, x2, y2, class_id) of each image's signs, and notices of repeated ones."""
    signs: dict[str, list[tuple[int, ...]]] = {stem: [] for stem in sizes}
    first: dict[tuple[str, tuple[int, ...]], int] = {}
    notices = []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        if found := _line_faults(line, sizes):
            faults += [f"gt.txt line {number}: {fault}" for fault in found]
            continue
        name, *values = line.split(";")
        stem, sign = Path(name).stem, tuple(map(int, values))
        before = first.setdefault((stem, sign), number)
        if before != number:
            notices.append(f"gt.txt line {number} repeats line {before}, {line}: left out")
        else:
            signs[stem].append(sign)
    return signs, notices


def _line_faults(line: str, sizes: Sizes) -> list[str]:
    if not line.isprintable():
        return [f"control characters: {line!r}"]
    name, *values = line.split(";")
    if len(values) != 5:
        return [f"{len(values) + 1} fields instead of 6"]
    if not all(re.fullmatch(r" *-?[0-9]{1,9} *", value) for value in values):
        return [f"not whole numbers: {';'.join(values)}"]
    x1, y1, x2, y2, class_id = (int(value) for value in values)
    height, width = sizes.get(Path(name).stem) or (math.inf, math.inf)
    outside = min(x1, x2, y1, y2) < 0 or max(x1, x2) > width or max(y1, y2) > height
    reasons = {
        f"{name} is not there": Path(name).stem not in sizes,
        f"class {class_id} is outside 0-42": not 0 <= class_id <= 42,
        "the box is reversed": x1 > x2 or y1 > y2,
        "the box is empty": x1 == x2 or y1 == y2,
        f"the box leaves the image, which is {width} x {height}": outside and height < math.inf,
    }
    return [reason for reason, holds in reasons.items() if holds]
