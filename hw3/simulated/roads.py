"""Simulated roads in the layout of GTSDB: the report runs without download, and tests know truth.

A scene stands in metres (right, up, ahead of the camera) and is drawn from far to near, its signs
last. Sprites are (h, w, 4) uint8 RGBA, colours premultiplied by alpha.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.colors import to_rgb
from numpy import ndarray
from numpy.random import Generator
from numpy.typing import ArrayLike

from hw3.data import InputError
from hw3.simulated import make_once
from hw3.simulated.signs import DRAWINGS, draw, draw_sign

# Counted in the published gt.txt of all 900 images: signs of each class, images of 0, 1, ... signs.
CLASS_COUNTS = np.array([
    4, 79, 81, 30, 68, 53, 19, 41, 57, 41, 80, 38, 85, 83, 32, 15, 8, 29, 38, 2, 9, 5, 13, 20, 5,
    31, 18, 3, 14, 5, 16, 2, 8, 16, 12, 20, 9, 2, 88, 6, 10, 7, 11,
])  # fmt: skip
SIGNS_PER_IMAGE = np.array([159, 396, 256, 54, 33, 1, 1])
WIDTH_DECILES = (16, 22, 26, 30, 33, 38, 43, 48, 58, 74, 127)  # pixels

CAMERA_HEIGHT, SIGN_WIDTH = 1.4, 0.65  # metres
SCENERY = DRAWINGS["scenery"]
UNIT_SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
Sign = tuple[ndarray, int]
"""Box, x1, y1, x2, y2, and class id."""


class Camera(NamedTuple):
    """Looks along a road that may bend."""

    width: int
    focal: float
    horizon: int
    bend: float

    def project(self, points: ArrayLike) -> ndarray:
        """(n, 3) metres to (n, 2) pixels."""
        x, y, z = np.asarray(points, float).T
        offset = np.stack([x / z + self.bend * z, (CAMERA_HEIGHT - y) / z], axis=1)
        return self.focal * offset + (self.width / 2, self.horizon)


def simulate_gtsdb(
    folder: Path, *, images: int, seed: int, width: int = 1360, height: int = 800
) -> Path:
    """Write `<folder>/FullIJCNN2013/00000.ppm`, ... (height, width, 3) uint8 RGB, and `gt.txt`.

    Signs are as many, as wide and of such classes as in GTSDB; in smaller images they keep their
    width in pixels, up to a third of the height, and are fewer. The same arguments write the same
    bytes; a finished folder is kept, and returned.
    """
    settings = {"images": images, "seed": seed, "width": width, "height": height}
    if images < 1 or seed < 0 or width < 160 or height < 96:
        raise InputError(f"{settings}: least values are images 1, seed 0, width 160, height 96")

    def write(root: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            lines = pool.map(partial(_write, root, seed, width, height), range(images))
            (root / "gt.txt").write_text("".join(lines))

    return make_once(Path(folder) / "FullIJCNN2013", settings, write)


def _write(folder: Path, seed: int, width: int, height: int, number: int) -> str:
    """Write one image; return its lines of gt.txt."""
    name = f"{number:05d}.ppm"
    image, signs = _scene(np.random.default_rng((seed, number)), width, height)
    if not cv2.imwrite(str(folder / name), image[..., ::-1]):
        raise OSError(f"{name} could not be written")
    return "".join(";".join(map(str, (name, *box, class_id))) + "\n" for box, class_id in signs)


def _scene(rng: Generator, width: int, height: int) -> tuple[ndarray, list[Sign]]:
    """One image, (height, width, 3) uint8, and its signs."""
    horizon = int(rng.uniform(0.57, 0.66) * height)
    camera = Camera(width, 0.9 * width, horizon, bend=rng.normal(0, 1e-3))
    light, sky = rng.uniform(0.35, 1), rng.choice(list(DRAWINGS["skies"].values()))
    top, bottom, cloud = (255 * np.array(to_rgb(colour)) for colour in sky.split())
    cover = np.clip(0.4 * _noise(rng, 200, 340, 0.7) + rng.uniform(-0.5, 0.6), 0, 1)[..., None]
    sky = np.linspace(top, bottom, 200)[:, None] * (1 - cover) + cloud * cover
    image = cv2.resize(np.rint(sky).astype(np.uint8), (width, height))
    _draw_ground(rng, image, camera, light)
    things = sorted(_things(rng, width), key=lambda thing: -thing[1][:, 2].mean())
    for sprite, corners, shade in things:
        haze = 1 - np.exp(-corners[:, 2].mean() / 600)
        tint = np.diag([light * shade * (1 - haze)] * 3 + [1.0])
        tint[:3, 3] = haze * bottom / 255
        _paste(image, cv2.transform(sprite, tint), camera.project(corners))
    signs = _add_signs(rng, image, camera, light)
    return _expose(rng, image), signs


@cache
def _texture() -> ndarray:
    """(1024, 1024) float32 of cloudy noise that repeats, mean 0 and standard deviation 1."""
    spectrum = np.fft.rfft2(np.random.default_rng(0).standard_normal((1024, 1024)))
    frequency = np.hypot(np.fft.fftfreq(1024)[:, None], np.fft.rfftfreq(1024))
    frequency[0, 0] = np.inf
    texture = np.fft.irfft2(spectrum * frequency**-1.2)
    return (texture / texture.std()).astype(np.float32)


def _noise(rng: Generator, height: int, width: int, step: float = 1) -> ndarray:
    """A piece of the texture from anywhere; the longer the step, the finer the noise."""
    rows, columns = (rng.integers(1024) + step * np.arange(side) for side in (height, width))
    return _texture()[np.ix_(rows.astype(int) % 1024, columns.astype(int) % 1024)]


def _colour(rng: Generator, palette: str) -> ndarray:
    return 255 * np.array(to_rgb(rng.choice(DRAWINGS["palettes"][palette].split())))


def _draw_ground(rng: Generator, image: ndarray, camera: Camera, light: float) -> None:
    """Verge, pavements, road and markings, with grain and shadows."""

    def stripe(x: float, width: float, colour: ndarray, near: float = 2, far: float = 400) -> None:
        z = np.geomspace(near, far, 30)
        left, right = (np.stack([0 * z + x + w, 0 * z, z], 1) for w in (-width / 2, width / 2))
        outline = 16 * camera.project(np.concatenate([left, right[::-1]]))
        cv2.fillPoly(image, [outline.astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)

    half, first = rng.uniform(3.2, 7.5), camera.horizon + 1
    part = image[first:]
    grey, white = (np.full(3, rng.uniform(*levels)) for levels in ((62, 105), (190, 250)))
    part[:] = _colour(rng, "verges")
    for width, brightness in ((2 * half + 5, 1.4), (2 * half + 0.4, 1.8), (2 * half, 1)):
        stripe(0, width, brightness * grey)
    stripe(0.3 - half, 0.14, white)
    stripe(half - 0.3, 0.14, white)
    for x in (0, half / 2, -half / 2)[: 1 if half < 5 else 3]:
        for z in np.arange(rng.uniform(3, 12), 120, 9):
            stripe(x, 0.14, white, z, z + 4)
    grain = 1 + 0.06 * _noise(rng, 512, 512)
    if light > 0.7:
        grain *= 1 - 0.3 * np.clip(2 * _noise(rng, 512, 512) - 2, 0, 1)
    plan = camera.project([(-12, 0, 30), (12, 0, 30), (12, 0, 6), (-12, 0, 6)]) - (0, first)
    matrix = cv2.getPerspectiveTransform(512 * UNIT_SQUARE, np.float32(plan))
    tile, size = (128 * light * grain).astype(np.uint8), part.shape[1::-1]
    shade = cv2.warpPerspective(tile, matrix, size, borderMode=cv2.BORDER_REFLECT)
    part[:] = cv2.multiply(part, cv2.merge([shade] * 3), scale=1 / 128)


def _things(rng: Generator, width: int) -> Iterator[tuple[ndarray, ndarray, float]]:
    """(sprite, corners in metres, shade) of all that stands by the road but signs, unsorted."""
    town = rng.random() < 0.55
    woods, trees = _woods(rng), [_tree(rng, leaves) for leaves in rng.choice((0, 0.5, 1), 2)]
    for x in (-140, 0, 140):
        yield woods, _front(x, 170, 140, rng.uniform(8, 24)), 0.7
    for side, shade in zip((-1, 1), rng.permutation((1, rng.uniform(0.45, 1))), strict=True):
        edge, z = rng.uniform(8, 13), rng.uniform(3, 8)
        kind = rng.choice(("street", "houses") if town else ("woods", "houses", "open"))
        while kind != "open" and z < 110:
            length, tall = rng.uniform(9, 18), rng.uniform(6, 15)
            if kind == "houses":
                x = side * (edge + length / 2)
                yield _house(rng, length, tall, 70), _front(x, z + 8, length, tall), shade
            else:
                wall = woods[:, :80] if kind == "woods" else _house(rng, length, tall, 8)
                yield wall, _along(side * edge, z, z + length, tall), shade
            z += length + (0 if kind == "woods" else rng.choice((0, 0, 3, 8)))
        if rng.random() < 0.5:  # a hedge
            yield woods[30:70], _along(side * (edge - 1), 4, rng.uniform(15, 50), 1.3), shade
        for z in rng.uniform(8, 90, rng.integers(2, 6 if town else 14)):
            x, tall = side * (edge - 2 + rng.exponential(4)), rng.uniform(5, 13)
            yield trees[rng.integers(2)], _front(x, z, tall, tall), shade
        for z in rng.uniform(12, 80, rng.integers(0, 4)):
            lamp = draw(SCENERY["lamp"], 256)[:, ::-side]
            yield lamp, _front(side * (edge - 3), z, 8, 8), shade
        for z in rng.uniform(9, 70, rng.integers(0, 5)):
            x, foot = side * (edge - rng.uniform(0.5, 4)), rng.uniform(1.8, 3.4)
            size = rng.uniform(0.7, max(0.7, 900 / width))  # as signs are large in small images
            board = draw(rng.choice(list(DRAWINGS["distractors"].values())), 96)
            yield draw(SCENERY["post"], 64), _front(x, z + 0.01, foot, foot), shade
            yield board, _front(x, z, size, foot + size, foot), shade
        for z in rng.uniform(9, 90, rng.integers(0, 7)):
            paint = rng.choice(DRAWINGS["palettes"]["paints"].split())
            colours = f"let paint {paint};let lamp {'#a01414' if side > 0 else '#f4f2e4'};"
            kind, tall = (("van", 2.3), ("car", 1.6))[int(rng.random() < 0.75)]
            car = draw(colours + SCENERY[kind], 160)
            yield car, _front(side * rng.uniform(1.6, 6), z, 1.9, tall), 0.9


def _front(x: float, z: float, width: float, top: float, foot: float = 0) -> ndarray:
    """Corners of something seen straight on, clockwise from top left."""
    left, right = x - width / 2, x + width / 2
    return np.array([(left, top, z), (right, top, z), (right, foot, z), (left, foot, z)])


def _along(x: float, near: float, far: float, top: float) -> ndarray:
    """Corners of something beside the road."""
    left, right = (near, far) if x < 0 else (far, near)
    return np.array([(x, top, left), (x, top, right), (x, 0, right), (x, 0, left)])


def _house(rng: Generator, length: float, tall: float, roof: int) -> ndarray:
    """A front with rows of windows, and on it a roof of so many pixels, gabled if many."""
    storeys, bays = round(tall / 3), round(length / 2.8)
    wide, high = rng.integers((8, 22), (16, 34))
    window = np.zeros((48, 44))
    window[8 : high + 12, 20 - wide : 24 + wide] = 1
    window[10 : high + 10, 22 - wide : 22 + wide] = 2
    window[8 : high + 12, 22] = 1
    windows = np.tile(window, (storeys, bays))[..., None]
    glass = np.kron(rng.choice((28, 40, 60, 140), (storeys, bays)), np.ones((48, 44)))[..., None]
    colour = np.where(windows == 1, rng.choice((50, 225)), _colour(rng, "walls"))
    colour = np.where(windows == 2, glass * (1, 1.05, 1.15), colour)
    colour = np.vstack([np.ones((roof, 44 * bays, 1)) * _colour(rng, "roofs"), colour])
    height, width = colour.shape[:2]
    slope = width / 200 * np.clip(roof - np.arange(height), 0, None)
    inside = np.abs(np.arange(width) - width / 2) <= width / 2 - slope[:, None]
    return _sprite(colour * (1 + 0.07 * _noise(rng, height, width)[..., None]), inside)


def _woods(rng: Generator) -> ndarray:
    """The edge of a wood, ragged above."""
    rough, fine = _noise(rng, 160, 640), _noise(rng, 160, 640, 4)
    y = np.linspace(0, 1, 160)[:, None]
    cover = 9 * (y - 0.3 - 0.12 * _noise(rng, 1, 640)) + 0.6 * fine
    value = 0.7 + 0.2 * rough + 0.2 * fine - 0.4 * y
    return _sprite(_colour(rng, "leaves") * value[..., None], cover)


def _tree(rng: Generator, leaves: float) -> ndarray:
    """A tree with twigs, and leaves between 0 (none) and 1 (all)."""
    image = np.zeros((256, 256, 4), np.uint8)
    twigs = [(128.0, 255.0, -np.pi / 2, 54.0)]
    while twigs:
        x, y, angle, length = twigs.pop()
        end = x + length * np.cos(angle), y + length * np.sin(angle)
        bark = (*rng.uniform(25, 65) * np.array((1, 0.88, 0.75)), 255)
        points = np.array([(x, y), end]).astype(np.int32)
        cv2.polylines(image, [points], False, bark, max(1, int(length / 8)), cv2.LINE_AA)
        if length > 9:
            turns, shrink = rng.uniform(0.1, 0.7, 2) * (-1, 1), rng.uniform(0.62, 0.8, 2)
            twigs += [(*end, angle + t, length * s) for t, s in zip(turns, shrink, strict=True)]
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    rough, fine = _noise(rng, 256, 256), _noise(rng, 256, 256, 4)
    crown = np.clip(6 * (1 - np.hypot(x / 0.8, (y + 0.2) / 0.65) + 0.25 * rough), 0, 1)
    value = np.maximum(0.65 + 0.35 * fine + 0.15 * rough - 0.3 * y, 0.1)
    cover = crown * np.clip(3 * (fine - 2 + 3 * leaves), 0, 1) * (leaves > 0)
    _paste(image, _sprite(_colour(rng, "leaves") * value[..., None], cover), 256 * UNIT_SQUARE)
    return image


def _sprite(colour: ndarray, alpha: ndarray) -> ndarray:
    """A sprite of (h, w, 3) colours, nominally in [0, 255], and (h, w) alpha, in [0, 1]."""
    alpha = np.clip(alpha, 0, 1)[..., None]
    return np.dstack([np.clip(colour, 0, 255) * alpha, 255 * alpha]).astype(np.uint8)


def _paste(image: ndarray, sprite: ndarray, corners: ndarray) -> ndarray:
    """Lay a sprite over the image; return the box, x1, y1, x2, y2, of what shows of it."""
    limit = image.shape[1::-1]
    low = np.clip(np.floor(corners.min(0)), 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(0)), 0, limit).astype(int)
    if (high <= low).any():
        return np.zeros(4, int)
    size = np.minimum(np.ceil(2 * np.ptp(corners, axis=0)), sprite.shape[1::-1]).astype(int)
    sprite = cv2.resize(sprite, size.tolist(), interpolation=cv2.INTER_AREA)
    source, target = UNIT_SQUARE * size - 0.5, corners - low - 0.5
    matrix = cv2.getPerspectiveTransform(np.float32(source), np.float32(target))
    front = cv2.warpPerspective(sprite, matrix, (high - low).tolist())
    part, alpha = image[low[1] : high[1], low[0] : high[0]], front[..., 3]
    if image.shape[2] == 3:
        front = cv2.cvtColor(front, cv2.COLOR_RGBA2RGB)
    behind = cv2.multiply(part, cv2.merge([255 - alpha] * image.shape[2]), scale=1 / 255)
    part[:] = cv2.add(behind, front)
    x, y, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
    return np.array((x, y, x + width, y + height)) + np.tile(low, 2)


def _add_signs(rng: Generator, image: ndarray, camera: Camera, light: float) -> list[Sign]:
    """Draw signs on posts, none over another."""
    height, width = image.shape[:2]
    wanted = rng.choice(len(SIGNS_PER_IMAGE), p=SIGNS_PER_IMAGE / SIGNS_PER_IMAGE.sum())
    places: list[tuple[float, float, float]] = []  # centre and width in pixels
    for _ in range(40):
        if len(places) == min(wanted, 1 + width * height // 100_000):
            break
        if places and rng.random() < 0.4:  # above or below another
            x, y, w = places[-1]
            y += 1.15 * w * rng.choice((-1, 1))
        else:
            w = np.interp(rng.random(), np.linspace(0, 1, 11), WIDTH_DECILES)
            w = np.clip(w, 18, min(122, height / 3.2))
            reach, rise = np.array((width / w / 2 - 0.65, camera.horizon / w - 0.65)) * SIGN_WIDTH
            x = rng.uniform(min(2.5, reach / 3), min(9, reach)) * rng.choice((-1, 1), p=(0.3, 0.7))
            y = CAMERA_HEIGHT + rng.uniform(min(0.4, rise), min(2, rise))
            x, y = camera.project([(x, y, camera.focal * SIGN_WIDTH / w)])[0]
        apart = [max(abs(x - a), abs(y - b)) > 0.56 * (w + c) for a, b, c in places]
        if all(apart) and 0.6 * w < x < width - 0.6 * w and 0.6 * w < y < height - 0.6 * w:
            places.append((x, y, w))
    for x, y, w in places:
        post = np.array([(x, y), (x, camera.horizon + CAMERA_HEIGHT * w / SIGN_WIDTH)], np.int32)
        grey = [rng.uniform(60, 170) * light] * 3
        cv2.polylines(image, [post], False, grey, max(1, round(w / 11)), cv2.LINE_AA)
    signs = []
    for x, y, w in places:
        class_id = int(rng.choice(len(CLASS_COUNTS), p=CLASS_COUNTS / CLASS_COUNTS.sum()))
        corners = (UNIT_SQUARE - 0.5) * (1, rng.uniform(0.96, 1.12))
        corners[:, 1] *= 1 + rng.normal(0, 0.06) * corners[:, 0]
        tilt = cv2.getRotationMatrix2D((0, 0), rng.normal(0, 3), w)[:, :2]
        sprite = _weather(rng, draw_sign(class_id, round(w)), light)
        signs.append((_paste(image, sprite, corners @ tilt.T + (x, y)), class_id))
    return signs


def _weather(rng: Generator, sign: ndarray, light: float) -> ndarray:
    """The sign as a sprite: faded, in some light, perhaps partly shaded, a little blurred."""
    size = len(sign)
    colour = sign[..., :3] + rng.uniform(0, 0.25) * (rng.uniform(130, 200) - sign[..., :3])
    colour *= np.clip(light * rng.uniform(0.7, 1.5), 0.25, 1.1)
    if rng.random() < 0.3:
        y, x = np.linspace(-1, 1, size)[:, None], np.linspace(-1, 1, size)
        edge = 4 * (x * rng.normal() + y * rng.normal() + rng.normal(0, 0.3))
        colour *= 1 - rng.uniform(0.3, 0.6) * np.clip(edge, 0, 1)[..., None]
    blur = 0.2 + 0.006 * size * rng.random()
    return cv2.GaussianBlur(_sprite(colour, sign[..., 3] / 255), (0, 0), blur)


def _expose(rng: Generator, image: ndarray) -> ndarray:
    """What the camera makes of it: blur, exposure, contrast, colour cast, sensor noise."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.25, 0.6))
    if rng.random() < 0.25:
        image = cv2.blur(image, (int(rng.integers(2, 5)), 1))
    level = np.linspace(0, 1, 256)[:, None] * rng.uniform(0.9, 1.35) * rng.normal(1, 0.03, 3)
    level = np.minimum(level ** rng.uniform(0.85, 1.3), 1)
    image = cv2.LUT(image, (255 * level).astype(np.uint8)[:, None])
    height, width = image.shape[:2]
    noise = rng.uniform(1, 5) * rng.standard_normal((height // 2, width // 2, 3), np.float32)
    return cv2.add(image, cv2.resize(noise, (width, height)), dtype=cv2.CV_8U)
