"""LGG as its publisher lays it out: found, checked, decoded once, split.

Its files::

    kaggle_3m/<patient_id>/<patient_id>_<slice_index>.tif        256 x 256 x 3 uint8
    kaggle_3m/<patient_id>/<patient_id>_<slice_index>_mask.tif   256 x 256 uint8, 0 and 255
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from mmap import mmap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from hw3 import __version__
from hw3.data import InputError, fingerprint, kind_of, laid_out, read_picture, sweep, whole_folder

KAGGLE_NAME = "mateuszbuda/lgg-mri-segmentation"
ENDINGS = (".tif", ".tiff")
ARRAYS = ("images", "masks", "native_masks")
FOLDS = 5
"""Parts of the patients, each of which is tested once."""
BATCH = 64
"""Slices decoded at once, held in memory until they are written."""
Pair = tuple[Path, Path]
"""The image and the mask of a slice."""


@dataclass(frozen=True, eq=False)
class LggDataset:
    """All slices, sorted by patient and slice.

    Attributes:
        patient_ids: (n,) str.
        slice_indices: (n,) int64, as in the file names.
        images: (n, size, size, 3) uint8: pre-contrast, FLAIR, post-contrast.
        masks: (n, size, size) uint8 in {0, 1}.
        native_masks: (n, height, width) uint8 in {0, 1}, as published: what scores are counted on.
        fingerprint: hash of every file's name and content.
        kind: "simulated" or "real".
    """

    patient_ids: np.ndarray
    slice_indices: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    native_masks: np.ndarray
    fingerprint: str
    kind: str

    def __len__(self) -> int:
        return len(self.patient_ids)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be pickled with all that it holds, for every worker process.
        return {
            name: value.filename if isinstance(getattr(value, "base", None), mmap) else value
            for name, value in vars(self).items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            reopen = name in ARRAYS and not isinstance(value, np.ndarray)
            vars(self)[name] = np.load(value, mmap_mode="r") if reopen else value

    def slice_id(self, index: int) -> str:
        """The stem of the slice's file."""
        return f"{self.patient_ids[index]}_{self.slice_indices[index]}"

    def largest_tumours(self, indices: np.ndarray) -> np.ndarray:
        """Of each patient, the slice of these with the largest tumour; the largest tumour first."""
        # As signed numbers: minus an unsigned one is large.
        areas = self.native_masks[indices].sum(axis=(1, 2), dtype=np.int64)
        ordered = indices[np.argsort(-areas, kind="stable")]
        _, first = np.unique(self.patient_ids[ordered], return_index=True)
        return ordered[np.sort(first)]

    def split_ids(self, split: dict[str, np.ndarray]) -> dict[str, dict[str, list[int]]]:
        """A split as plain data: the slices of each patient in each part."""
        return {
            part: {
                str(patient): self.slice_indices[own][self.patient_ids[own] == patient].tolist()
                for patient in np.unique(self.patient_ids[own])
            }
            for part, own in split.items()
        }

    def indices_of(self, slices: dict[str, list[int]]) -> np.ndarray:
        """The sorted indices of each patient's slices: of one part of what `split_ids` gives."""
        known = zip(self.patient_ids.tolist(), self.slice_indices.tolist(), strict=True)
        number = {own: index for index, own in enumerate(known)}
        wanted = [(patient, own) for patient, all_own in slices.items() for own in all_own]
        for patient, own in sorted(set(wanted) - set(number)):
            raise InputError(f"slice {patient}_{own} is not in this data set; give the whole one")
        return np.array(sorted(number[own] for own in wanted), dtype=int)


def read_lgg(folder: Path, *, size: int, cache: Path) -> LggDataset:
    """Check the files, decode them once into a memory-mapped cache, and open it.

    Args:
        folder: `kaggle_3m` or its parent; files beside the patients' folders are not read.
        size: side in pixels of `images` and `masks`; divisible by 16.
        cache: folder for decoded arrays, by content, size and version; damaged ones are made anew.

    Raises:
        InputError: with all faults of all files, each with its path; for a cache not writable.

    Example:
        >>> from hw3.simulated.brains import simulate_lgg
        >>> root = simulate_lgg(folder, patients=1, slices=2, size=32, seed=0)
        >>> dataset = read_lgg(root, size=16, cache=folder)
        >>> dataset.images.shape, dataset.native_masks.shape, dataset.kind
        ((2, 16, 16, 3), (2, 32, 32), 'simulated')
    """
    if size <= 0 or size % 16:
        raise InputError(f"image_size is {size}: choose a multiple of 16, such as 128 or 256")
    root, pairs, faults = _pair_files(Path(folder))
    files = {f"{path.parent.name}/{path.name}": path for pair in pairs for path in pair}
    key = fingerprint(files, size=16)
    entry = cache / f"lgg-{key[:16]}-{size}-{__version__}"
    sweep(cache)
    index = None if faults else _checked_index(entry)
    if index is None:
        index = _decode(pairs, size, entry, faults)
    if white := index["mostly_white"]:
        print(f"{root}: {len(white)} mask(s) are mostly white, such as {white[0]}: inverted?")
    return LggDataset(
        patient_ids=np.array([image.parent.name for image, _ in pairs]),
        slice_indices=np.array([_patient_and_number(image)[1] for image, _ in pairs]),
        **{name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in ARRAYS},
        fingerprint=key,
        kind=kind_of(root),
    )


def find_slices(folder: Path) -> list[Pair]:
    """Pairs of image and mask in order; InputError for faults that names alone show."""
    _, pairs, faults = _pair_files(Path(folder))
    _report(faults)
    return pairs


def split(dataset: LggDataset, name: str, seed: int) -> dict[str, np.ndarray]:
    """The indices of each part; an InputError if there are too few patients.

    Args:
        dataset: all slices.
        name: slice (80 / 10 / 10 % of the slices, as in the report; those of one patient land on
            both sides), or fold0 to fold4 (a fifth of the patients is tested, in one of the folds
            each; no validation part). Sorted by site (<study>_<site>_...) and name, patients are
            dealt out in turn: each fold has its share of each site.
        seed: of the split by slice.
    """
    if name == "slice":
        held_out = round(0.1 * len(dataset))
        order = np.random.default_rng(seed).permutation(len(dataset))
        validation, test, train = map(np.sort, np.split(order, [held_out, 2 * held_out]))
        return {"train": train, "validation": validation, "test": test}
    patients = sorted({*dataset.patient_ids.tolist()}, key=lambda own: (own.split("_")[1:2], own))
    if len(patients) < FOLDS:
        remedy = "choose split slice, or give more patients"
        raise InputError(f"split is {name}, of {len(patients)} patient(s): {remedy}")
    tested = np.isin(dataset.patient_ids, patients[int(name.removeprefix("fold")) :: FOLDS])
    train, test = np.flatnonzero(~tested), np.flatnonzero(tested)
    return {"train": train, "validation": np.array([], int), "test": test}


def fetch_lgg(source: str, folder: Path) -> Path:
    """A folder for `read_lgg`.

    `source` is "kaggle" (through kagglehub; no account needed), the zip that Kaggle gives, which is
    unpacked below `folder`, or a folder, which is used where it is.
    """
    if source == "kaggle":
        return _from_kaggle()
    return laid_out(source, folder, "kaggle_3m", "`kaggle`, the zip that Kaggle gives")


def _from_kaggle() -> Path:
    try:
        import kagglehub
    except ImportError:
        remedy = "pip install 'hw3[kaggle]', or give the zip"
        raise InputError(f"kagglehub is missing: {remedy}") from None
    try:
        return Path(kagglehub.dataset_download(KAGGLE_NAME))
    except Exception as error:  # kagglehub raises many kinds; all mean: not fetched
        raise InputError(f"{KAGGLE_NAME} could not be fetched from Kaggle: {error}") from None


def _files_of_patients(folder: Path) -> tuple[Path, list[Path]]:
    """The folder that holds the patients' folders, and the TIFF files in those."""
    for root in (folder / "kaggle_3m", folder, folder / "lgg-mri-segmentation/kaggle_3m"):
        files = [
            path
            for path in sorted(root.glob("*/*"))
            if path.suffix.lower() in ENDINGS
            and not path.name.startswith(".")  # such as macOS' ._ files beside the real ones
            and not path.parent.name.startswith((".", "kaggle_3m"))
        ]
        if files:
            return root, files
    fault = "no kaggle_3m/<patient>/<patient>_<slice>.tif found in it"
    raise InputError(f"{folder}: {fault}; give the folder that holds kaggle_3m")


def _pair_files(folder: Path) -> tuple[Path, list[Pair], list[str]]:
    """The patients' folder, the pairs of `find_slices`, and what is wrong with the other files."""
    root, files = _files_of_patients(folder)
    pairs: list[Pair] = []
    faults: list[str] = []
    misplaced: Counter[tuple[Path, str]] = Counter()
    by_stem: dict[Path, Path] = {}
    for path in files:
        if (first := by_stem.setdefault(path.with_suffix(""), path)) != path:
            faults.append(f"{path}: the same slice as {first.name}; delete one")
    for stem, image in by_stem.items():
        if stem.name.endswith("_mask"):
            if stem.with_name(stem.name.removesuffix("_mask")) not in by_stem:
                faults.append(f"{image}: a mask without image")
            continue
        patient, number = _patient_and_number(image)
        mask = by_stem.get(stem.with_name(f"{stem.name}_mask"))
        if mask is None:
            faults.append(f"{image}: its mask {stem.name}_mask{image.suffix} is missing")
        elif number is None:
            faults.append(f"{image}: name does not end in _<slice number>")
        elif patient != image.parent.name:
            misplaced[image.parent, patient] += 1
        else:
            pairs.append((image, mask))
    for path in sorted(root.glob("*/*")):
        own_name = re.compile(re.escape(path.parent.name) + "_[0-9]+(_mask)?").fullmatch
        if own_name(path.stem) and path.with_suffix("") not in by_stem:
            faults.append(f"{path}: a slice that is no TIFF; convert it, or delete it")
    deeper = {path.parent for path in root.glob("*/*/*") if path.suffix.lower() in ENDINGS}
    for path in sorted(deeper):
        if not path.parent.name.startswith((".", "__", "kaggle_3m")):  # the archive's second copy
            faults.append(f"{path}: slices one folder too deep; move it up, or delete it")
    for (parent, patient), count in misplaced.items():
        remedy = f"delete what is a copy, or move it to the folder {patient}"
        faults.append(f"{parent}: {count} slice(s) of {patient} in this folder; {remedy}")
    pairs.sort(key=lambda pair: _patient_and_number(pair[0]))
    faults += [
        f"{image}: the same slice as {other.name}; delete or renumber one"
        for (other, _), (image, _) in pairwise(pairs)
        if _patient_and_number(other) == _patient_and_number(image)
    ]
    return root, pairs, faults


def _patient_and_number(image: Path) -> tuple[str, int | None]:
    found = re.fullmatch("(.+)_([0-9]+)", image.stem)
    return (found[1], int(found[2])) if found else (image.stem, None)


def _checked_index(entry: Path) -> dict[str, Any] | None:
    """What is noted beside the arrays; None if there are none, or not those that were written."""
    if not entry.exists():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        index = json.loads((entry / "index.json").read_text())
        if index["blake2b"] == _digests(entry) and isinstance(index["mostly_white"], list):
            return index
    print(f"{entry}: damaged, slices are decoded again")
    return None


def _digests(entry: Path) -> dict[str, str]:
    def digest(name: str) -> str:
        with open(entry / f"{name}.npy", "rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).hexdigest()

    with ThreadPoolExecutor(len(ARRAYS)) as pool:
        return dict(zip(ARRAYS, pool.map(digest, ARRAYS), strict=True))


def _decode(pairs: Sequence[Pair], size: int, entry: Path, faults: list[str]) -> dict[str, Any]:
    """Write the arrays of all slices into `entry`; report `faults` with those that this finds."""
    if not pairs:
        _report(faults)
    try:
        if entry.exists() and not faults:  # then it is damaged
            shutil.rmtree(entry)
        with whole_folder(entry) as folder:
            white, more = _write_arrays(pairs, size, folder)
            _report(faults + more)
            index = {"blake2b": _digests(folder), "mostly_white": white}
            (folder / "index.json").write_text(json.dumps(index))
        return json.loads((entry / "index.json").read_text())
    except OSError as error:
        remedy = f"make room for {5e-9 * len(pairs) * size**2:.1f} GB, or set HW3_DATA elsewhere"
        fault = f"{entry.parent}: slices cannot be kept in it ({error})"
        raise InputError(f"{fault}; {remedy}") from None


def _write_arrays(pairs: Sequence[Pair], size: int, folder: Path) -> tuple[list[str], list[str]]:
    """Decode all slices into `<name>.npy`; return the names of mostly white masks, and all faults.

    Written, not mapped: on a full disk a memory map ends the process.
    """
    native = _first_shape(pairs)
    white, faults = [], []

    def decode(pair: Pair) -> tuple[np.ndarray, ...] | str:
        try:
            image, mask = _read_pair(*pair, native)
        except InputError as error:
            return str(error)
        small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        return small, cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST), mask

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        files = [stack.enter_context(open(folder / f"{name}.npy", "wb")) for name in ARRAYS]
        for file, shape in zip(files, ((size, size, 3), (size, size), native), strict=True):
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(pairs), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
        for start in tqdm(range(0, len(pairs), BATCH), "decoding", disable=None, leave=False):
            batch = pairs[start : start + BATCH]
            for (_, mask), decoded in zip(batch, pool.map(decode, batch), strict=True):
                if isinstance(decoded, str):
                    faults.append(decoded)
                    continue
                for file, array in zip(files, decoded, strict=True):
                    file.write(array)
                if decoded[-1].mean() > 0.5:
                    white.append(mask.name)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    return white, faults


def _first_shape(pairs: Sequence[Pair]) -> tuple[int, int]:
    """Height and width of the first slice that can be decoded: all others must agree with it."""
    for image, _ in pairs:
        with suppress(InputError):
            return read_picture(image).shape[:2]
    return 1, 1  # each will be named when it is decoded again


def _read_pair(
    image_path: Path, mask_path: Path, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, 3) uint8 and its mask (height, width) uint8 in {0, 1}."""
    image, mask = read_picture(image_path), read_picture(mask_path)
    if (mask != mask[..., :1]).any():
        raise InputError(f"{mask_path}: a mask with colours; convert it to grey, 0 and 255")
    mask = mask[..., 0]
    if image.shape[:2] != mask.shape:
        raise InputError(f"{mask_path}: mask is {mask.shape}, its image {image.shape[:2]}")
    if image.shape[:2] != shape:
        raise InputError(f"{image_path}: is {image.shape[:2]}, the first slice {shape}")
    values = np.unique(mask).tolist()
    if not (set(values) <= {0, 255} or set(values) <= {0, 1}):
        raise InputError(f"{mask_path}: mask values {values[:5]}; expected 0 and 255, or 0 and 1")
    return image, (mask > 0).astype(np.uint8)


def _report(faults: list[str]) -> None:
    if faults:
        lines = "\n  ".join(sorted(faults))
        raise InputError(f"{len(faults)} fault(s) in the data set:\n  {lines}")
