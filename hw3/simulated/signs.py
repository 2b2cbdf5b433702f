"""Traffic signs, and what stands beside roads, drawn from the commands in `drawings.ini`."""

from configparser import ConfigParser, ExtendedInterpolation
from functools import lru_cache
from importlib import resources

import cv2
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

DRAWINGS = ConfigParser(interpolation=ExtendedInterpolation())
DRAWINGS.read_string(resources.files(__package__).joinpath("drawings.ini").read_text("utf-8"))
SIGN_NAMES: tuple[str, ...] = tuple(DRAWINGS["signs"])
"""The 43 classes of GTSDB as its ReadMe names them, in the order of their ids."""
SUPERSAMPLING = 4


def draw_sign(class_id: int, size: int) -> np.ndarray:
    """A sign seen straight on, (size, size, 4) uint8 RGBA, transparent outside its shape."""
    sign = draw(DRAWINGS["signs"][SIGN_NAMES[class_id]], size).copy()
    sign[..., :3] = np.rint(sign[..., :3] * (255 / np.maximum(sign[..., 3:], 1))).clip(0, 255)
    return sign


@lru_cache(256)
def draw(commands: str, size: int) -> np.ndarray:
    """Carry out commands, see `drawings.ini`: (size, size, 4) uint8 RGBA, premultiplied."""
    unit = SUPERSAMPLING * size / 200
    canvas = np.zeros((SUPERSAMPLING * size, SUPERSAMPLING * size, 4), np.uint8)
    origin, frame, scale = np.zeros(2), np.eye(2), 1.0
    colours = dict(DRAWINGS["colours"])
    for kind, *fields in (part.split() for part in commands.replace("\n", ";").split(";")):
        if kind == "at":
            *origin, scale_x, scale_y, angle = map(float, fields)
            turn = cv2.getRotationMatrix2D((0, 0), -angle, 0.01)[:, :2]
            frame, scale = turn * (scale_x, scale_y), abs(scale_y) / 100
            continue
        if kind == "let":
            colours[fields[0]] = colours.get(fields[1], fields[1])
            continue
        colour = [round(255 * v) for v in (*to_rgb(colours.get(fields[0], fields[0])), 1)]
        if kind == "text":
            shapes, thickness = _outlines(fields[1], float(fields[2]), float(fields[3])), 0
        else:
            shapes = [np.array(fields[2:], float).reshape(-1, 2)]
            thickness = round(float(fields[1]) * scale * unit)
        points = [np.rint((p @ frame.T + origin + 100) * unit).astype(np.int32) for p in shapes]
        if kind == "disc":
            cv2.circle(canvas, points[0][0], thickness, colour, cv2.FILLED)
        elif kind == "line":
            cv2.polylines(canvas, points, False, colour, max(1, thickness))
        else:
            cv2.fillPoly(canvas, points, colour)
            if thickness:
                cv2.polylines(canvas, points, True, colour, 2 * thickness)
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    image.flags.writeable = False
    return image


def _outlines(word: str, width: float, height: float) -> list[np.ndarray]:
    """A bold word as polygons, stretched to a box about the origin."""
    path = TextPath((0, 0), word, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = path.get_extents()
    stretch = np.array((width / box.width, -height / box.height))
    return [(outline - (box.p0 + box.p1) / 2) * stretch for outline in path.to_polygons()]
