"""Simulated patients in the publisher's layout of LGG, so that everything runs without a download.

Anatomy is the ICBM152 atlas, in a head made of ellipsoids; warp, contrast, lesion and noise of a
patient are drawn from its own generator. Positions are in mm of the atlas: x to the right, y to the
front, z up. Volumes are (slices, rows, columns).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy import ndarray
from numpy.random import Generator
from scipy import ndimage
from scipy.special import expit

from hw3.data import InputError
from hw3.simulated import make_once

Noise = Callable[[float], ndarray]
Maps = dict[str, ndarray]
SITES, SITE_SHARES = ("DU", "HT", "CS", "FG", "EZ"), np.array([45, 34, 16, 14, 1]) / 110
ORIGIN = np.reshape((-98.0, -134.0, -72.0), (3, 1, 1, 1))  # of the atlas, whose voxels are 1 mm
COARSE, MARGIN = 2, 30  # voxels of the distance maps in mm, and how many lie around the atlas
TISSUES = {  # brightness in pre-contrast, FLAIR and post-contrast
    "white": (1.00, 0.91, 1.00),
    "grey": (0.91, 1.00, 0.92),
    "fluid": (0.40, 0.30, 0.42),
    "bone": (0.18, 0.15, 0.20),
    "muscle": (0.85, 0.60, 1.15),
    "fat": (2.00, 2.05, 1.90),
    "vessel": (0.30, 0.25, 2.00),
    "air": (0.03, 0.03, 0.03),
}
OUTLINE = [  # of the head below the skull: centre x, y, z and radii of ellipsoids, on both sides
    *((0, 16, -62, 74, 76, 66), (26, 34, -68, 42, 50, 48), (0, 86, -54, 15, 22, 19)),
    *((0, -42, -98, 72, 66, 72), (74, -22, -42, 8, 12, 22)),
]
FACE = {  # likewise; painted in this order
    "bone": [(0, 22, -50, 26, 26, 22), (0, -38, -96, 16, 16, 28)],
    "fat": [(28, 52, -33, 17, 26, 16), (42, 46, -68, 14, 20, 22)],
    "muscle": [(50, 14, -62, 12, 26, 30), (28, 18, -66, 9, 18, 20), (0, 62, -56, 12, 40, 24)],
    "air": [(23, 52, -64, 12, 17, 15), (6, 60, -56, 4, 34, 20), (0, 15, -92, 11, 8, 26)],
    "fluid": [(32, 64, -33, 13, 13, 13), (0, -38, -84, 9, 9, 40)],
    "grey": [(0, -38, -84, 5, 5, 40)],
    "vessel": [(26, -5, -70, 4, 4, 30), (46, -46, -40, 4, 12, 5)],
}


def simulate_lgg(
    folder: Path, *, patients: int, seed: int, size: int = 256, slices: int | None = None
) -> Path:
    """Write `<folder>/kaggle_3m/<patient_id>/<patient_id>_<slice_index>.tif` and `..._mask.tif`.

    Images are (size, size, 3) uint8, masks (size, size) uint8 in {0, 255}, both 240 mm wide. Every
    patient has a lesion; `slices` is the number for each, None draws 18 to 30. The same arguments
    write the same bytes; a finished folder is kept, and returned.
    """
    settings = {"patients": patients, "seed": seed, "size": size, "slices": slices}
    if patients < 1 or seed < 0 or size < 32 or (slices is not None and slices < 1):
        raise InputError(f"{settings}: least values are patients 1, seed 0, size 32, slices 1")

    def write(root: Path) -> None:
        _atlas()  # before two threads ask for it at once; more than two need much memory
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(partial(_write, root, seed, size, slices), range(patients)))

    return make_once(Path(folder) / "kaggle_3m", settings, write)


def _write(folder: Path, seed: int, size: int, slices: int | None, number: int) -> None:
    rng = np.random.default_rng((seed, number))
    date = str(np.datetime64("1994-01-01") + rng.integers(4000)).replace("-", "")
    patient_id = f"SIM_{rng.choice(SITES, p=SITE_SHARES)}_{4000 + number}_{date}"
    (folder / patient_id).mkdir()
    images, masks = _patient(rng, size, slices or int(rng.integers(18, 31)))
    for index, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
        stem = folder / patient_id / f"{patient_id}_{index}"
        tifffile.imwrite(f"{stem}.tif", image, photometric="rgb")
        tifffile.imwrite(f"{stem}_mask.tif", mask, photometric="minisblack")


def _patient(rng: Generator, size: int, count: int) -> tuple[ndarray, ndarray]:
    """Images (count, size, size, 3) and masks (count, size, size), bottom to top, front up."""
    bottom, top = rng.uniform(-84, -66), rng.uniform(78, 88)
    pixels = 240 * ((np.arange(size) + 0.5) / size - 0.5)
    axes = (bottom + (np.arange(count) + 0.5) / count * (top - bottom), -pixels, pixels)
    noise = partial(_noise, rng, axes)
    affine = np.diag((1.06 * rng.choice((-1, 1)), 1.06, 1.06)) + rng.normal(0, 0.04, (3, 3))
    mm = np.tensordot(affine, np.stack(np.meshgrid(*axes, indexing="ij"))[::-1], axes=1)
    mm += np.reshape((0, -6, 0), (3, 1, 1, 1))
    mm += np.stack([3 * noise(45) + noise(15) for _ in range(3)])
    for x in (-14, 14):  # the ventricles
        mm = _swell(mm, (x, -12, 16), 20, rng.uniform(-0.15, 0.4))
    grey, white, gap, depth = _atlas()
    possible = (_sample(white, mm) > 0.7) & (mm[2] > -28 - 0.3 * mm[1])  # above the cerebellum
    centre = mm[:, *rng.choice(np.argwhere(possible))]
    radius = np.clip(rng.lognormal(np.log(33), 0.28), 15, 44)
    mm = _swell(mm, centre, 1.2 * radius, rng.uniform(0, 0.3))
    maps = {"grey": _sample(grey, mm), "white": _sample(white, mm)}
    maps |= {"gap": _sample(gap, mm, COARSE, MARGIN), "depth": _sample(depth, mm, COARSE, MARGIN)}
    maps["fluid"] = np.clip(np.clip(3 - maps["gap"], 0, 1) - maps["grey"] - maps["white"], 0, 1)
    image = _head(rng, noise, mm, maps)
    level = _level(rng, noise, mm, maps, centre, radius)
    _add_lesion(rng, noise, image, maps, level)
    return _scan(rng, noise, image), np.where(level > 0, 255, 0).astype(np.uint8)


@cache
def _atlas() -> tuple[ndarray, ...]:
    """Grey and white matter; coarse: distance from the brain and depth below the skin, in mm."""
    # Lossless, the left half and three neighbours in x as colours: less than 1 MB (atlas.txt).
    stored = imagecodecs.jpegxl_decode((Path(__file__).parent / "atlas.jxl").read_bytes())
    left = stored.reshape(2, 33, 189, 233, 3).transpose(0, 1, 4, 3, 2).reshape(2, 99, 233, 189)
    grey, white = np.concatenate([left, left[:, -2::-1]], axis=1) / np.float32(255)
    fluid = np.clip(1.5 * (1 - grey - white) - 0.4, 0, 1)
    total = grey**2 + white**2 + fluid**2  # squares sharpen the blur of an average brain
    brain = np.pad((grey + white)[::COARSE, ::COARSE, ::COARSE] > 0.3, MARGIN)
    gap = ndimage.distance_transform_edt(~ndimage.binary_closing(brain, iterations=3), COARSE)
    head = ndimage.distance_transform_edt(gap < 56, COARSE) > 45  # the brain closed, and 11 mm more
    mm = (np.indices(head.shape) - MARGIN) * COARSE + ORIGIN
    for ellipsoid in OUTLINE:
        head |= _inside(mm, ellipsoid) > 0
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(head, COARSE), 1)
    return grey**2 / total, white**2 / total, ndimage.gaussian_filter(gap, 0.5), depth


def _head(rng: Generator, noise: Noise, mm: ndarray, maps: Maps) -> ndarray:
    """Brightness (3, slices, rows, columns) without lesion; white matter is about 1."""
    contrast = {name: value * rng.lognormal(0, 0.06, 3) for name, value in TISSUES.items()}
    contrast["fat"] *= rng.lognormal(0, 0.12, 3) * (1, 1, rng.choice((1, 0.4), p=(0.85, 0.15)))
    gap, depth = maps["gap"], maps["depth"]
    image = np.empty((3, *gap.shape))
    image[:] = np.reshape(contrast["muscle"], (3, 1, 1, 1))

    def paint(tissue: str, amount: ndarray, where: ndarray | slice = slice(None)) -> None:
        for channel, brightness in zip(image, contrast[tissue], strict=True):
            channel[where] += amount * (brightness - channel[where])

    paint("fat", 0.4 * np.exp(-((noise(10) / 0.2) ** 2)) + 0.3 * expit(4 * noise(4) - 4))
    for tissue, ellipsoids in FACE.items():
        for ellipsoid in ellipsoids:
            near = (np.abs(mm[2] - ellipsoid[2]) < ellipsoid[5]).any((1, 2))
            paint(tissue, np.clip(_inside(mm[:, near], ellipsoid), 0, 1), near)
    thickness = rng.uniform(4, 7) + 0.7 * noise(25) + np.clip(-0.3 * mm[2] - 10, 0, 2)
    paint("fat", np.clip(thickness - depth, 0, 1))
    paint("muscle", 0.6 * np.clip(2.5 - depth, 0, 1))
    image *= 1 + 0.15 * noise(3)
    paint("bone", expit(7 + 1.5 * noise(20) - gap))
    paint("fat", 0.4 * expit(noise(15)) * np.exp(-((gap - 5.2) ** 2)))
    paint("fluid", np.clip(3 - gap, 0, 1))
    for tissue in ("fluid", "grey", "white"):
        paint(tissue, maps[tissue])
    sinus = np.exp(-((mm[0] / 4) ** 2)) * ((mm[1] < -40) | (mm[2] > 50)) * np.clip(17 - depth, 0, 1)
    paint("vessel", sinus * np.clip(gap, 0, 1) * np.clip(4.5 - gap, 0, 1))
    paint("vessel", maps["fluid"] * expit(5 * noise(2.5) - 7.5))
    paint("air", np.clip(1.5 - depth, 0, 1))
    near_fluid = ndimage.gaussian_filter(maps["fluid"], (0, 2, 2))
    spots = expit(10 * (noise(3.5) - rng.uniform(2.6, 4)))  # bright like a lesion, and none
    image[1] += maps["white"] * (rng.uniform(0.3, 2.5) * near_fluid + 0.5 * spots)
    return image


def _level(
    rng: Generator, noise: Noise, mm: ndarray, maps: Maps, centre: ndarray, radius: float
) -> ndarray:
    """About the distance in mm inside the border of a lesion; negative outside."""
    offset = (mm - np.reshape(centre, (3, 1, 1, 1))).T * rng.uniform(0.8, 1.25, 3) * (1, 1, 1.6)
    level = radius - np.linalg.norm(offset, axis=-1).T
    level += 0.3 * radius * noise(0.5 * radius) + 2 * noise(5)
    level += 0.35 * radius * (ndimage.gaussian_filter(maps["white"], (0, 2, 2)) - 0.6)
    level -= radius * np.clip(-np.sign(centre[0]) * mm[0] / 6, 0, 1)  # mostly one hemisphere
    return np.minimum(
        level, 6 - 12 * ndimage.gaussian_filter(maps["fluid"] + maps["gap"], (0, 1, 1))
    )


def _add_lesion(rng: Generator, noise: Noise, image: ndarray, maps: Maps, level: ndarray) -> None:
    """Change the image where the level is positive; some lesions have a core, some enhance."""
    amount, texture = 0.85 * expit(level / rng.uniform(0.6, 2)), 1 + 0.15 * noise(6)
    dark, bright = rng.uniform(0.6, 0.95), rng.uniform(1.2, 1.9)
    for channel, factor in zip(image, (dark, bright, dark), strict=True):
        channel += amount * (factor * texture - channel)
    image[1] += 0.2 * expit((level + 4) / 2) * (maps["white"] + maps["grey"])  # oedema
    core = level - rng.uniform(0.4, 0.7) * level.max() + 2 * noise(8)
    image *= 1 - rng.choice((0, 0.4), p=(0.65, 0.35)) * expit(core)
    enhancement = rng.uniform(0.4, 1.2) * (rng.random() < 0.35)
    image[2] += enhancement * np.exp(-((core / 2) ** 2)) * expit(3 * noise(15))


def _scan(rng: Generator, noise: Noise, image: ndarray) -> ndarray:
    """Coil sensitivity, motion between sequences, Rician noise; channels last, uint8."""
    sensitivity = 0.03 * noise(8) + 0.12 * noise(70)
    gains = 66 * rng.lognormal(0, 0.2) * rng.lognormal(0, 0.2, 3)
    deviation = rng.lognormal(0.6, 0.3)
    for channel, gain in zip(image, gains, strict=True):
        channel *= gain * np.exp(sensitivity + 0.05 * noise(70))
        moved = ndimage.shift(channel, (0, *rng.normal(0, 0.4, 2)), order=1, mode="nearest")
        real, imaginary = rng.normal(0, deviation, (2, *channel.shape))
        real, imaginary = ndimage.gaussian_filter([real, imaginary], (0, 0, 0.6, 0.6))
        channel[:] = np.hypot(moved + real, imaginary)
    if rng.random() < 0.1:  # as published: FLAIR stands in for a sequence that was not taken
        image[rng.choice((0, 2))] = image[1]
    return np.moveaxis(np.clip(image, 0, 255).astype(np.uint8), 0, -1)


def _noise(rng: Generator, axes: Sequence[ndarray], scale: float) -> ndarray:
    """Smooth noise of mean 0 and variance 1 at the axes' positions; bumps `scale` mm apart."""
    knots = [np.arange(axis.min() - 2 * scale, axis.max() + 3 * scale, scale) for axis in axes]
    values = rng.standard_normal([len(knot) for knot in knots])
    for axis, knot in zip(axes, knots, strict=True):
        weights = np.exp(-(((axis[:, None] - knot) / scale) ** 2))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        values = np.tensordot(values, weights, axes=(0, 1))
    return values


def _swell(mm: ndarray, centre: Sequence[float], radius: float, amount: float) -> ndarray:
    """Magnify what is around the centre by about 1 + amount, less and less beyond the radius."""
    offset = mm - np.reshape(centre, (3, 1, 1, 1))
    return mm - amount * offset * np.exp(-0.5 * (offset**2).sum(0) / radius**2)


def _inside(mm: ndarray, ellipsoid: Sequence[float]) -> ndarray:
    """About the distance in mm inside the ellipsoid or its mirror image; negative outside."""
    centre, radii = np.reshape(ellipsoid, (2, 3, 1, 1, 1))
    offset = np.stack([np.abs(mm[0]), mm[1], mm[2]]) - centre
    return (1 - np.linalg.norm(offset / radii, axis=0)) * radii.min()


def _sample(volume: ndarray, mm: ndarray, voxel: int = 1, margin: int = 0) -> ndarray:
    voxels = (mm - ORIGIN) / voxel + margin  # float64 from here on, so that processors agree
    return ndimage.map_coordinates(volume, voxels, np.float64, order=1, mode="nearest")
