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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from tqdm import tqdm

from hw3.errors import InputError
from hw3.pictures import read_picture
from hw3.records import code_sha256
from hw3.segmentation.augment import Augmentation

KAGGLE_NAME = "mateuszbuda/lgg-mri-segmentation"
THREADS = os.cpu_count() or 1
ARRAYS = ("images", "masks", "native_masks")


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

    Example:
        >>> dataset = LggDataset(
        ...     patient_ids=np.array(["TCGA_DU_1", "TCGA_DU_1", "TCGA_HT_2"]),
        ...     slice_indices=np.array([1, 2, 1]),
        ...     images=np.zeros((3, 16, 16, 3), np.uint8),
        ...     masks=np.zeros((3, 16, 16), np.uint8),
        ...     native_masks=np.zeros((3, 32, 32), np.uint8),
        ...     fingerprint="f00d",
        ... )
        >>> len(dataset), dataset.images[0].shape
        (3, (16, 16, 3))
    """

    patient_ids: np.ndarray
    slice_indices: np.ndarray
    images: np.ndarray
    masks: np.ndarray
    native_masks: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.patient_ids)

    def slice_id(self, index: int) -> str:
        """The stem of the slice's file.

        Example:
            >>> from hw3.segmentation.simulate import simulate_lgg
            >>> root = simulate_lgg(folder, patients=1, slices=2, size=32, seed=0)
            >>> read_lgg(root, size=16, cache=folder).slice_id(1)
            'TCGA_DU_4000_20030426_2'
        """
        return f"{self.patient_ids[index]}_{self.slice_indices[index]}"

    def largest_tumours(self, indices: np.ndarray) -> np.ndarray:
        """Of each patient among these slices, the one with the largest tumour; the largest first.

        Args:
            indices: (n,) int, of slices.

        Returns:
            (patients,) int, of the same; of equal areas the first slice.

        Example:
            >>> masks = np.array([[[0, 1]], [[1, 1]], [[0, 1]]], np.uint8)
            >>> patients, none = np.array(["a", "a", "b"]), np.zeros(3)
            >>> LggDataset(patients, none, none, none, masks, "").largest_tumours(np.arange(3))
            array([1, 2])
        """
        # As signed numbers: minus an unsigned one is large.
        areas = self.native_masks[indices].sum(axis=(1, 2), dtype=np.int64)
        ordered = indices[np.argsort(-areas, kind="stable")]
        _, first = np.unique(self.patient_ids[ordered], return_index=True)
        return ordered[np.sort(first)]

    def split_ids(self, split: dict[str, np.ndarray]) -> dict[str, dict[str, list[int]]]:
        """A split as plain data: the slices of each patient in each part.

        Example:
            >>> from hw3.segmentation.simulate import simulate_lgg
            >>> root = simulate_lgg(folder, patients=1, slices=3, size=32, seed=0)
            >>> dataset = read_lgg(root, size=16, cache=folder)
            >>> dataset.split_ids({"train": np.array([0, 2]), "test": np.array([1])})
            {'train': {'TCGA_DU_4000_20030426': [1, 3]}, 'test': {'TCGA_DU_4000_20030426': [2]}}
        """
        return {
            part: {
                str(patient): self.slice_indices[own][self.patient_ids[own] == patient].tolist()
                for patient in np.unique(self.patient_ids[own])
            }
            for part, own in split.items()
        }


def read_lgg(folder: Path, *, size: int, cache: Path) -> LggDataset:
    """Check the files, decode them once into a memory-mapped cache, and open it.

    Args:
        folder: `kaggle_3m` or its parent. The archive's second copy of the patients, one level
            down, is not read. Files beside the patients' folders are ignored.
        size: side in pixels of `images` and `masks`; divisible by 16.
        cache: folder for decoded arrays, keyed by content, size and code.

    Raises:
        InputError: with all faults of all files, each with its path: no slices at all, an image
            without mask or the reverse, two images of one slice, sizes that differ, a file that
            cannot be decoded, mask values other than {0, 255} or {0, 1}.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> root = simulate_lgg(folder, patients=1, slices=2, size=32, seed=0)
        >>> dataset = read_lgg(root, size=16, cache=folder)
        >>> dataset.images.shape, dataset.native_masks.shape
        ((2, 16, 16, 3), (2, 32, 32))
    """
    if size <= 0 or size % 16:
        raise InputError(f"image_size is {size}: choose a multiple of 16, such as 128 or 256")
    pairs, faults = _pair_files(folder)
    fingerprint = _fingerprint(pairs)
    code = code_sha256(Path(__file__))  # other code may decode otherwise
    entry = cache / f"lgg-{fingerprint[:16]}-{size}-{code[:8]}"
    if faults or not entry.exists():
        _decode(pairs, size, entry, faults)
    index = json.loads((entry / "index.json").read_text())
    arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return LggDataset(
        patient_ids=np.array(index["patient_ids"]),
        slice_indices=np.array(index["slice_indices"]),
        fingerprint=fingerprint,
        **arrays,
    )


def find_slices(folder: Path) -> list[tuple[Path, Path]]:
    """Pairs of image and mask files, sorted by patient and slice.

    Raises:
        InputError: if there are none, some have no partner, or two are of one slice.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> pairs = find_slices(simulate_lgg(folder, patients=1, slices=2, size=32, seed=0))
        >>> [(image.name[-6:], mask.name[-11:]) for image, mask in pairs]
        [('_1.tif', '_1_mask.tif'), ('_2.tif', '_2_mask.tif')]
    """
    pairs, faults = _pair_files(folder)
    _report(faults)
    return pairs


def split_by_slice(dataset: LggDataset, seed: int) -> dict[str, np.ndarray]:
    """80 / 10 / 10 % of the slices at random, as in the report: 3143 / 393 / 393 on the real data.

    Slices of one patient land on both sides: see the section on leakage before believing a score.

    Returns:
        Sorted indices for train, validation, test.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> root = simulate_lgg(folder, patients=1, slices=10, size=32, seed=0)
        >>> split = split_by_slice(read_lgg(root, size=16, cache=folder), seed=0)
        >>> {part: indices.tolist() for part, indices in split.items()}
        {'train': [0, 1, 2, 3, 5, 7, 8, 9], 'validation': [4], 'test': [6]}
    """
    held_out = round(0.1 * len(dataset))
    order = np.random.default_rng(seed).permutation(len(dataset))
    return _parts(order[2 * held_out :], order[:held_out], order[held_out : 2 * held_out])


def split_by_patient(dataset: LggDataset, seed: int) -> dict[str, np.ndarray]:
    """About 70 / 15 / 15 % of the patients of each site (TCGA_<site>_...), none in two parts.

    The patients of a site with fewer than three train.

    Returns:
        Sorted indices of slices for train, validation, test.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> root = simulate_lgg(folder, patients=6, slices=2, size=32, seed=0)
        >>> dataset = read_lgg(root, size=16, cache=folder)
        >>> split = split_by_patient(dataset, seed=0)
        >>> {part: len(np.unique(dataset.patient_ids[own])) for part, own in split.items()}
        {'train': 4, 'validation': 1, 'test': 1}
    """
    generator = np.random.default_rng(seed)
    patients = np.unique(dataset.patient_ids)
    sites = np.array([patient.split("_")[1] if "_" in patient else "" for patient in patients])
    part_of: dict[str, str] = {}
    for site in np.unique(sites):
        own = generator.permutation(patients[sites == site])
        held_out = max(1, round(0.15 * len(own))) if len(own) >= 3 else 0
        parts = ["validation"] * held_out + ["test"] * held_out
        part_of |= dict(zip(own, parts + ["train"] * (len(own) - len(parts)), strict=True))
    part = np.array([part_of[patient] for patient in dataset.patient_ids])
    return _parts(*(np.flatnonzero(part == name) for name in ("train", "validation", "test")))


def split_leaking(dataset: LggDataset, seed: int) -> dict[str, np.ndarray]:
    """The split by patient, made to leak: every second slice of the test patients trains instead.

    As many slices of the patients that train anyway, drawn at random, make room for them. So a run
    differs from one of the split by patient in the leak alone, if both are compared on the slices
    that this one tests on.

    Returns:
        Sorted indices of slices for train, validation, test.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> root = simulate_lgg(folder, patients=6, slices=2, size=32, seed=0)
        >>> dataset = read_lgg(root, size=16, cache=folder)
        >>> for split in (split_by_patient, split_leaking):
        ...     print({part: own.tolist() for part, own in split(dataset, seed=0).items()})
        {'train': [0, 1, 4, 5, 8, 9, 10, 11], 'validation': [6, 7], 'test': [2, 3]}
        {'train': [0, 1, 3, 4, 5, 8, 9, 11], 'validation': [6, 7], 'test': [2]}
    """
    parts = split_by_patient(dataset, seed)
    leaked, stay = parts["test"][1::2], len(parts["train"]) - len(parts["test"]) // 2
    others = np.random.default_rng(seed).choice(parts["train"], max(0, stay), replace=False)
    return _parts(np.concatenate([others, leaked]), parts["validation"], parts["test"][::2])


SPLITS: dict[str, Callable[[LggDataset, int], dict[str, np.ndarray]]] = {
    "slice": split_by_slice,
    "patient": split_by_patient,
    "leaking": split_leaking,
}


class SliceSamples(torch.utils.data.Dataset):
    """Slices as samples for `hw3.training.fit`, indexed by (epoch, index).

    A sample has `image` (3, size, size) uint8, `mask` (1, size, size) uint8 and `id`. The network
    has no fully connected layer: trained on crops, it runs on whole slices, and a crop of half the
    side costs a quarter.

    Args:
        dataset: all slices.
        indices: those to draw from.
        augmentation: applied after the cut.
        crop_size: side of the crops, at most the slices'; None gives whole slices.
        crops: how many samples there are, of slices drawn at random; None for one of each.
        tumour_share: share of the crops that hold a tumour pixel drawn at random, of any slice;
            the others lie anywhere in the sample's own slice.
        seed: of the draws.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> root = simulate_lgg(folder, patients=1, slices=2, size=32, seed=0)
        >>> dataset = read_lgg(root, size=32, cache=folder)
        >>> sample = SliceSamples(dataset, np.array([0, 1]), crop_size=16)[0, 1]
        >>> sample["image"].shape, sample["mask"].shape
        (torch.Size([3, 16, 16]), torch.Size([1, 16, 16]))
    """

    def __init__(
        self,
        dataset: LggDataset,
        indices: np.ndarray,
        augmentation: Augmentation | None = None,
        *,
        crop_size: int | None = None,
        crops: int | None = None,
        tumour_share: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.dataset, self.indices, self.augmentation = dataset, indices, augmentation
        self.crop_size, self.crops = crop_size, crops
        self.tumour_share, self.seed = tumour_share, seed
        self.with_tumour = [i for i in indices if dataset.masks[i].any()] if crop_size else []

    def __len__(self) -> int:
        return self.crops or len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        drawn = np.random.default_rng((self.seed, epoch, index, 0))
        chosen = self.indices[drawn.integers(len(self.indices)) if self.crops else index]
        window = ()
        if self.crop_size:
            chosen, window = self._draw(drawn, chosen)
        image, mask = (
            np.array(a[chosen][window]) for a in (self.dataset.images, self.dataset.masks)
        )
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, epoch, index)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "mask": torch.from_numpy(np.ascontiguousarray(mask[None])),
            "id": self.dataset.slice_id(chosen),
        }

    def _draw(self, drawn: np.random.Generator, chosen: int) -> tuple[int, tuple[slice, slice]]:
        """A slice, and a window that holds a drawn tumour pixel of it or lies anywhere."""
        side = self.dataset.masks.shape[1]
        low, high = np.zeros(2, int), np.full(2, side - self.crop_size)
        if self.with_tumour and drawn.random() < self.tumour_share:
            chosen = self.with_tumour[drawn.integers(len(self.with_tumour))]
            pixels = np.argwhere(self.dataset.masks[chosen])
            pixel = pixels[drawn.integers(len(pixels))]
            low, high = np.maximum(low, pixel - self.crop_size + 1), np.minimum(high, pixel)
        top, left = drawn.integers(low, high + 1).tolist()
        return chosen, (slice(top, top + self.crop_size), slice(left, left + self.crop_size))


def fetch_lgg(source: str, folder: Path) -> Path:
    """Lay the real data set out below `folder`.

    Args:
        source: "kaggle" (through kagglehub; public, no account needed), the zip that Kaggle gives,
            or a folder, which is used where it is.
        folder: where a zip is unpacked.

    Returns:
        A folder for `read_lgg`.

    Raises:
        InputError: if the source is none of these or holds no slices, or another copy is there.

    Example:
        >>> from hw3.segmentation.simulate import simulate_lgg
        >>> root = simulate_lgg(folder, patients=1, slices=1, size=32, seed=0)
        >>> fetch_lgg(str(root), folder).name
        'kaggle_3m'
        >>> root = fetch_lgg("kaggle", folder)  # doctest: +SKIP
    """
    if source == "kaggle":
        found = _from_kaggle()
    elif (path := Path(source).expanduser()).is_dir():
        found = path
    elif path.is_file():
        from hw3.archives import unpack

        found = unpack(path, folder, "kaggle_3m")
    else:
        raise InputError(f"{source}: give `kaggle`, the zip that Kaggle gives, or a folder")
    find_slices(found)
    return found


def read_image(path: Path) -> np.ndarray:
    """One slice as (height, width, 3) uint8; a single channel is repeated.

    Args:
        path: of a TIFF, or of another picture, see `hw3.pictures.read_picture`.

    Raises:
        InputError: if it cannot be decoded, or has other channels or values.

    Example:
        >>> tifffile.imwrite(folder / "slice.tif", np.zeros((4, 5), np.uint8))
        >>> read_image(folder / "slice.tif").shape
        (4, 5, 3)
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return read_picture(path)
    image = _read_tiff(path)
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2:] == (1,):
        image = np.repeat(image, 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        found = f"{image.shape} {image.dtype}"
        expected = "expected (height, width, 3) uint8, not empty; convert it to 8-bit RGB"
        raise InputError(f"{path}: image is {found}; {expected}")
    return image


def _from_kaggle() -> Path:
    try:
        import kagglehub
    except ImportError:
        raise InputError(
            "kagglehub is missing: pip install 'hw3[kaggle]', or give the zip"
        ) from None
    try:
        return Path(kagglehub.dataset_download(KAGGLE_NAME))
    except Exception as error:  # kagglehub raises many kinds; all mean: not fetched
        raise InputError(f"{KAGGLE_NAME} could not be fetched from Kaggle: {error}") from None


def _patients_folder(folder: Path) -> Path:
    for candidate in (folder / "kaggle_3m", folder, folder / "lgg-mri-segmentation/kaggle_3m"):
        if candidate.is_dir() and next(candidate.glob("*/*.tif"), None):
            return candidate
    fault = "no kaggle_3m/<patient>/<patient>_<slice>.tif found in it"
    raise InputError(f"{folder}: {fault}; give the folder that holds kaggle_3m")


def _pair_files(folder: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The pairs of `find_slices`, and what is wrong with all other files."""
    root = _patients_folder(Path(folder))
    files = {path for path in root.glob("*/*.tif") if not path.parent.name.startswith("kaggle_3m")}
    masks = {path for path in files if path.stem.endswith("_mask")}
    partner = {path: path.with_name(f"{path.stem}_mask.tif") for path in sorted(files - masks)}
    faults = [
        f"{image}: its mask {mask.name} is missing"
        for image, mask in partner.items()
        if mask not in masks
    ]
    faults += [f"{mask}: a mask without image" for mask in masks - set(partner.values())]
    faults += [
        f"{image}: name does not end in _<slice number>"
        for image in partner
        if _number(image) is None
    ]
    if not partner and not faults:
        raise InputError(
            f"{root}: no <patient>/<patient>_<slice>.tif in it; give the folder kaggle_3m"
        )
    pairs = [pair for pair in partner.items() if pair[1] in masks and _number(pair[0]) is not None]
    pairs.sort(key=lambda pair: (pair[0].parent.name, _number(pair[0])))
    faults += [
        f"{image}: slice {_number(image)}, as {other.name} is; delete or renumber one"
        for (other, _), (image, _) in pairwise(pairs)
        if (other.parent, _number(other)) == (image.parent, _number(image))
    ]
    return pairs, faults


def _number(image: Path) -> int | None:
    ending = image.stem.rsplit("_", 1)[-1]
    return int(ending) if re.fullmatch("[0-9]+", ending) else None


def _fingerprint(pairs: Sequence[tuple[Path, Path]]) -> str:
    def digest(path: Path) -> bytes:
        content = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        return f"{path.parent.name}/{path.name}".encode() + content

    with ThreadPoolExecutor(THREADS) as pool:
        digests = pool.map(digest, [path for pair in pairs for path in pair])
        return hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()


def _decode(pairs: Sequence[tuple[Path, Path]], size: int, entry: Path, faults: list[str]) -> None:
    """Write the arrays of all slices into a neighbour of `entry`, and rename it when complete.

    `faults` are those already found: they are reported with the ones that decoding finds.
    """
    if not pairs:
        _report(faults)
    height, width = _first_shape(pairs)
    partial = entry.with_name(f"{entry.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    shapes = ((size, size, 3), (size, size), (height, width))
    arrays = {
        name: np.lib.format.open_memmap(
            partial / f"{name}.npy", mode="w+", dtype=np.uint8, shape=(len(pairs), *shape)
        )
        for name, shape in zip(ARRAYS, shapes, strict=True)
    }

    def decode(index: int) -> str | None:
        try:
            image, mask = _decode_pair(*pairs[index], (height, width))
        except InputError as error:
            return str(error)
        arrays["images"][index] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        arrays["masks"][index] = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
        arrays["native_masks"][index] = mask
        return None

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            done = pool.map(decode, range(len(pairs)))
            bar = tqdm(done, "decoding", len(pairs), unit="slice", disable=None, leave=False)
            _report(faults + [fault for fault in bar if fault])
        index = {
            "patient_ids": [image.parent.name for image, _ in pairs],
            "slice_indices": [_number(image) for image, _ in pairs],
        }
        (partial / "index.json").write_text(json.dumps(index))
        for array in arrays.values():
            array.flush()
        try:
            partial.rename(entry)
        except OSError:
            if not entry.exists():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _first_shape(pairs: Sequence[tuple[Path, Path]]) -> tuple[int, int]:
    """Height and width of the first slice that can be decoded: all others must agree with it."""
    for image, _ in pairs:
        with suppress(InputError):
            return read_image(image).shape[:2]
    return 1, 1  # each will be named when it is decoded again


def _decode_pair(
    image_path: Path, mask_path: Path, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    image, mask = read_image(image_path), _read_tiff(mask_path)
    if mask.ndim == 3 and (mask == mask[..., :1]).all():
        mask = mask[..., 0]
    if image.shape[:2] != mask.shape:
        raise InputError(f"{mask_path}: mask is {mask.shape}, its image {image.shape[:2]}")
    if image.shape[:2] != shape:
        raise InputError(f"{image_path}: is {image.shape[:2]}, the first slice {shape}")
    values = np.unique(mask).tolist()
    if not (set(values) <= {0, 255} or set(values) <= {0, 1}):
        raise InputError(f"{mask_path}: mask values {values[:5]}; expected 0 and 255, or 0 and 1")
    return image, (mask > 0).astype(np.uint8)


def _read_tiff(path: Path) -> np.ndarray:
    try:
        with tifffile.TiffFile(path) as file:
            if not file.series:
                raise ValueError("no image in it")
            photometric = tifffile.PHOTOMETRIC(file.series[0].keyframe.photometric).name
            pixels = file.asarray()
    except Exception as error:  # tifffile and its codecs raise many kinds; all mean: unreadable
        raise InputError(f"{path}: cannot be decoded as TIFF ({error}); fetch it again") from None
    if photometric not in ("MINISBLACK", "RGB"):  # tifffile gives palette indices, inverted grey
        raise InputError(f"{path}: photometric is {photometric}; convert it to RGB or MINISBLACK")
    return pixels


def _parts(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}


def _report(faults: list[str]) -> None:
    if faults:
        raise InputError(
            f"{len(faults)} fault(s) in the data set:\n  " + "\n  ".join(sorted(faults))
        )
