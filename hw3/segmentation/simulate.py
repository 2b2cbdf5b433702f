"""Simulated patients in the layout of LGG: the report runs without download, and tests know truth.

Anatomy is the ICBM152 atlas that nilearn carries (grey and white matter) inside a head drawn from
ellipsoids; what differs between patients is drawn at random from their own generator.
"""

import functools
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tifffile
from nilearn import datasets
from scipy import ndimage
from scipy.special import expit
from scipy.spatial.transform import Rotation

from hw3.errors import InputError

SITES = ("DU", "HT", "CS", "FG", "EZ")
SITE_SHARES = np.array([45, 34, 16, 14, 1]) / 110
FIELD_OF_VIEW = 240.0  # mm
ATLAS_ORIGIN = np.array([-98.0, -134.0, -72.0])  # mm of voxel (0, 0, 0); voxels are 1 mm
COARSE, MARGIN = 2, 24  # voxel of the distance maps in mm, and their margin in voxels
# Brightness in pre-contrast, FLAIR and post-contrast; white matter in pre-contrast is 1.
TISSUES = {
    "white": (1.00, 0.88, 1.00),
    "grey": (0.89, 1.00, 0.91),
    "fluid": (0.40, 0.30, 0.42),
    "bone": (0.18, 0.15, 0.20),
    "fat": (2.40, 2.50, 2.20),
    "muscle": (0.85, 0.60, 1.15),
    "vessel": (0.30, 0.25, 2.20),
    "air": (0.03, 0.03, 0.03),
}
# Tissue, centre and radii in mm (x to the right, y to the front, z up); x other than 0 is mirrored.
FACE = (
    ("bone", (0, 22, -50), (26, 26, 22)),
    ("muscle", (48, 18, -62), (13, 26, 30)),
    ("fat", (40, 50, -66), (9, 13, 20)),
    ("air", (23, 52, -64), (12, 17, 15)),
    ("fat", (29, 52, -36), (17, 24, 15)),
    ("fluid", (32, 66, -36), (12, 12, 12)),
    ("muscle", (27, 40, -36), (2, 18, 2)),
    ("muscle", (0, 62, -56), (13, 40, 24)),
    ("air", (6, 60, -56), (4, 34, 20)),
    ("air", (8, 50, -40), (6, 20, 8)),
    ("air", (0, 76, -4), (18, 5, 11)),
    ("air", (50, -28, -44), (9, 12, 12)),
    ("fluid", (0, -38, -84), (9, 9, 40)),
    ("grey", (0, -38, -84), (5, 5, 40)),
    ("air", (0, 15, -92), (11, 8, 26)),
    ("vessel", (26, -5, -70), (4, 4, 30)),
    ("vessel", (46, -46, -40), (4, 12, 5)),
)
HEAD = (  # the outline below the skull
    ((0, 20, -62), (70, 72, 64)),
    ((30, 40, -64), (38, 48, 48)),
    ((0, -40, -95), (62, 62, 60)),
    ((0, 88, -54), (12, 24, 18)),
    ((78, -22, -42), (8, 13, 24)),
)


def simulate_lgg(
    folder: Path, *, patients: int, seed: int, size: int = 256, slices: int | None = None
) -> Path:
    """Write simulated patients as `<folder>/kaggle_3m/<patient_id>/<patient_id>_<slice>[_mask].tif`.

    Images are (size, size, 3) uint8: pre-contrast, FLAIR, post-contrast; masks (size, size) uint8
    in {0, 255}. Each patient has a tumour. The same arguments write the same bytes, and a finished
    folder is kept.

    Args:
        folder: parent of `kaggle_3m`; made if need be.
        patients: number of patients, at least 1.
        seed: of everything random.
        size: side of a slice in pixels; the field of view stays 240 mm.
        slices: slices for each patient; None draws 18 to 30.

    Returns:
        `folder / "kaggle_3m"`.

    Raises:
        InputError: if a number is too small, or the folder exists with other contents.
    """
    settings = {"patients": patients, "seed": seed, "size": size, "slices": slices}
    if patients < 1 or size < 16 or (slices is not None and slices < 1):
        raise InputError(f"{settings}: give patients and slices of 1 or more, size of 16 or more")
    target = Path(folder) / "kaggle_3m"
    marker = ".simulated.json"
    if target.exists():
        found = (target / marker).read_text() if (target / marker).exists() else "other files"
        if found != json.dumps(settings):
            raise InputError(f"{target} holds {found}, not {settings}: remove it or choose another")
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            _atlas()
            write = functools.partial(_write_patient, partial, settings)
            list(pool.map(write, range(patients)))
        (partial / marker).write_text(json.dumps(settings))
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write_patient(folder: Path, settings: dict[str, int | None], number: int) -> None:
    rng = np.random.default_rng((settings["seed"], number))
    site = rng.choice(SITES, p=SITE_SHARES)
    date = np.datetime64("1994-01-01") + rng.integers(4000)
    patient_id = f"TCGA_{site}_{4000 + number:04d}_{str(date).replace('-', '')}"
    count = settings["slices"] or int(rng.integers(18, 31))
    images, masks = _patient(rng, settings["size"], count)
    (folder / patient_id).mkdir()
    for index, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
        stem = folder / patient_id / f"{patient_id}_{index}"
        tifffile.imwrite(f"{stem}.tif", image, photometric="rgb")
        tifffile.imwrite(f"{stem}_mask.tif", mask, photometric="minisblack")


@functools.cache
def _atlas() -> dict[str, np.ndarray]:
    """Grey and white matter (1 mm), and distances in mm (2 mm): from the brain, its ventricles, skin."""
    maps = [
        load().get_fdata(dtype=np.float32)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    ]
    template, grey, white = maps
    brain = template > 0.05
    fluid = np.clip(brain - grey - white, 0, 1)
    squares = [part**2 for part in (grey, white, fluid)]  # an average brain is blurred: sharpen
    total = np.maximum(sum(squares), 1e-6)
    coarse = np.pad(brain[::COARSE, ::COARSE, ::COARSE], MARGIN)
    coarse = ndimage.binary_closing(coarse, iterations=2)
    ventricles = np.pad(fluid[::COARSE, ::COARSE, ::COARSE] > 0.6, MARGIN)
    ventricles &= ndimage.distance_transform_edt(coarse, COARSE) > 22
    brain_distance = ndimage.distance_transform_edt(~coarse, COARSE)
    head = ndimage.distance_transform_edt(brain_distance < 44, COARSE) > 31  # smooth, 13 mm thick
    mm = np.indices(head.shape) * COARSE + (ATLAS_ORIGIN - COARSE * MARGIN)[:, None, None, None]
    mm[0] = np.abs(mm[0])
    for centre, radii in HEAD:
        head |= _ellipsoid(mm, centre, radii) > 0
    return {
        "grey": squares[0] / total,
        "white": squares[1] / total,
        "brain_distance": ndimage.gaussian_filter(brain_distance, 0.7),
        "ventricle_distance": ndimage.distance_transform_edt(~ventricles, COARSE),
        "depth": ndimage.gaussian_filter(ndimage.distance_transform_edt(head, COARSE), 0.8) - 1,
    }


def _patient(rng: np.random.Generator, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, size, size, 3) and masks (count, size, size), bottom to top, front up."""
    bottom, top = rng.uniform(-86, -70), rng.uniform(80, 90)
    pixels = ((np.arange(size) + 0.5) / size - 0.5) * FIELD_OF_VIEW
    axes = (bottom + (np.arange(count) + 0.5) / count * (top - bottom), -pixels, pixels)
    mm = _warp(rng, axes)
    candidates = np.argwhere((_sample("white", mm) > 0.7) & (mm[2] > -20 - 0.3 * mm[1]))
    centre = mm[:, *rng.choice(candidates)]
    radius = np.clip(rng.lognormal(np.log(25), 0.3), 12, 42)
    mm = _swell(mm, centre, 1.2 * radius, rng.uniform(0, 0.3))
    maps = {name: _sample(name, mm) for name in _atlas()}
    inside = np.clip(1.5 - maps["brain_distance"] / 2, 0, 1)
    maps["fluid"] = np.clip(inside - maps["grey"] - maps["white"], 0, 1)
    level = _lesion_level(rng, axes, mm, maps, centre, radius)
    image = _paint_tissues(rng, axes, mm, maps)
    _paint_lesion(rng, axes, image, maps, level, radius)
    return _scan(rng, axes, image), np.where(level > 0, 255, 0).astype(np.uint8)


def _warp(rng: np.random.Generator, axes: Sequence[np.ndarray]) -> np.ndarray:
    """Atlas position in mm, (3, slices, rows, columns), of each pixel: affine, then elastic."""
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))[::-1]
    rotation = Rotation.from_euler("xyz", rng.normal(0, (6, 2, 3)), degrees=True).as_matrix()
    scale = rng.normal(1.06, 0.04, 3) * (rng.choice((-1, 1)), 1, 1)
    mm = np.tensordot(rotation * scale, grid, axes=1)
    mm[1] -= 6
    for scale_mm, amount in ((45, 3.0), (15, 1.0)):
        mm += amount * np.stack([_noise(rng, axes, scale_mm) for _ in range(3)])
    for side in (-14, 14):
        mm = _swell(mm, np.array([side, -12, 16]), 20, rng.uniform(-0.15, 0.4))
    return mm


def _lesion_level(rng, axes, mm, maps, centre, radius):
    """Distance in mm, (slices, rows, columns), inside the border of the lesion; negative outside."""
    stretch = (rng.uniform(0.8, 1.25, 3) * (1, 1, 1.25))[:, None, None, None]
    distance = np.linalg.norm((mm - centre[:, None, None, None]) * stretch, axis=0)
    level = radius - distance + 0.3 * radius * _noise(rng, axes, 0.5 * radius) + 2 * _noise(rng, axes, 5)
    level += 0.35 * radius * (ndimage.gaussian_filter(maps["white"], (0, 2, 2)) - 0.6)
    level -= np.clip(-np.sign(centre[0]) * mm[0] / 6, 0, 1) * radius
    return np.minimum(level, 6 - 12 * ndimage.gaussian_filter(maps["fluid"] + maps["brain_distance"], (0, 1, 1)))


def _paint_tissues(rng, axes, mm, maps):
    values = {
        name: np.array(value)[:, None, None, None] * rng.lognormal(0, 0.06, (3, 1, 1, 1))
        for name, value in TISSUES.items()
    }
    values["fat"] = values["fat"] * rng.lognormal(0, 0.2, (3, 1, 1, 1))
    if rng.random() < 0.15:
        values["fat"][2] *= 0.4  # fat suppressed
    image = np.broadcast_to(values["muscle"], (3, *mm.shape[1:])).copy()
    gap, depth = maps["brain_distance"], maps["depth"]

    def paint(tissue, amount, where=slice(None)):
        image[:, where] += amount * (values[tissue] - image[:, where])

    fine = _noise(rng, axes, 3)
    paint("fat", 0.5 * expit((fine - 0.5) / 0.5))
    paint("bone", 0.7 * expit((-1 - fine) / 0.4))
    for tissue, centre, radii in FACE:
        for side in {1, -1 if centre[0] else 1}:
            position = np.array(centre) * (side, 1, 1)
            near = (np.abs(mm[2] - centre[2]) < radii[2]).any((1, 2))
            paint(tissue, np.clip(_ellipsoid(mm[:, near], position, radii) + 0.5, 0, 1), near)
    paint("fat", np.clip(rng.uniform(5, 9) + 0.8 * _noise(rng, axes, 25) - depth, 0, 1))
    paint("muscle", np.clip(2 - depth, 0, 1) * 0.6)
    paint("bone", np.clip(9 - gap, 0, 1))
    paint("fat", np.exp(-(((gap - 6) / 1.2) ** 2)) * 0.3 * expit(_noise(rng, axes, 15)))
    paint("fluid", np.clip(3 - gap, 0, 1))
    for tissue in ("fluid", "grey", "white"):
        paint(tissue, maps[tissue])
    sinus = np.exp(-((mm[0] / 3) ** 2)) * np.clip(2.5 - np.abs(gap - 3), 0, 1) * ((mm[1] < -40) | (mm[2] > 50))
    branches = maps["fluid"] * expit((_noise(rng, axes, 2.5) - 1.3) / 0.2)
    paint("vessel", np.maximum(sinus, branches))
    capped = np.exp(-((maps["ventricle_distance"] / 3) ** 2)) * maps["white"]
    spots = expit((_noise(rng, axes, 3.5) - rng.uniform(2.6, 4)) / 0.1) * maps["white"]
    image[1] += rng.uniform(0.1, 0.8) * capped + 0.5 * spots
    paint("air", np.clip(0.5 - depth, 0, 1))
    return image


def _paint_lesion(rng, axes, image, maps, level, radius):
    texture = 1 + 0.15 * _noise(rng, axes, 6)
    amount = expit(level / rng.uniform(0.6, 2.0))
    dark = rng.uniform(0.6, 0.95)
    factors = (dark, rng.uniform(1.3, 2.0), dark * rng.uniform(0.95, 1.05))
    for channel, factor in enumerate(factors):
        target = TISSUES["white"][channel] * factor * texture
        image[channel] += amount * 0.85 * (target - image[channel])
    image[1] += 0.2 * expit((level + 4) / 2) * (maps["white"] + maps["grey"])
    core = level - rng.uniform(0.35, 0.6) * radius + 2 * _noise(rng, axes, 8)
    if rng.random() < 0.35:
        image *= 1 - np.array([0.35, 0.5, 0.35])[:, None, None, None] * expit(core)
    if rng.random() < 0.35:
        image[2] += rng.uniform(0.4, 1.2) * np.exp(-((core / 2) ** 2)) * expit(_noise(rng, axes, 15) * 3)


def _scan(rng, axes, image):
    gains = 60 * rng.lognormal(0, (0.28, 0.2, 0.26))
    bias = 0.1 * _noise(rng, axes, 70)
    deviation = rng.lognormal(np.log(1.2), 0.3)
    for channel in range(3):
        clean = image[channel] * gains[channel] * np.exp(bias + 0.05 * _noise(rng, axes, 70))
        offset = rng.normal(0, 0.4, 2) if channel else (0, 0)
        clean = ndimage.shift(clean, (0, *offset), order=1, mode="nearest")
        noise = rng.normal(0, deviation * 1.5, (2, *clean.shape))
        noise = ndimage.gaussian_filter(noise, (0, 0, 0.6, 0.6))
        image[channel] = np.hypot(clean + noise[0], noise[1])
    if rng.random() < 0.1:
        image[rng.choice((0, 2))] = image[1]
    return np.moveaxis(np.clip(image, 0, 255).astype(np.uint8), 0, -1)


def _noise(rng: np.random.Generator, axes: Sequence[np.ndarray], scale: float) -> np.ndarray:
    """Smooth noise of mean 0 and variance 1 at the axes' positions, its features `scale` mm wide."""
    knots = [np.arange(a.min() - 2 * scale, a.max() + 3 * scale, scale) for a in axes]
    values = rng.standard_normal([len(k) for k in knots])
    for axis, knot in zip(axes, knots, strict=True):
        weights = np.exp(-0.5 * ((axis[:, None] - knot) / (0.7 * scale)) ** 2)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        values = np.tensordot(values, weights, axes=(0, 1))
    return values


def _swell(mm: np.ndarray, centre: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Magnify what lies around `centre` by about 1 + amount; fades over `radius` mm."""
    offset = mm - np.reshape(centre, (3, 1, 1, 1))
    return mm - amount * offset * np.exp(-0.5 * (offset**2).sum(0) / radius**2)


def _ellipsoid(mm: np.ndarray, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """About the distance in mm inside an ellipsoid; negative outside."""
    offset = (mm - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
    return (1 - np.linalg.norm(offset, axis=0)) * min(radii)


def _sample(name: str, mm: np.ndarray) -> np.ndarray:
    volume = _atlas()[name]
    if name in ("grey", "white"):
        return ndimage.map_coordinates(volume, mm - ATLAS_ORIGIN[:, None, None, None], order=1)
    voxel = (mm - ATLAS_ORIGIN[:, None, None, None]) / COARSE + MARGIN
    return ndimage.map_coordinates(volume, voxel, order=1, mode="nearest")
