"""SSD300 on native pixels: overlapping 300-pixel tiles, and one list of detections from them.

The terms are those of the `sahi` package (Akyon et al. 2022): the image is *sliced*, the slices
*overlap*, and predictions are merged by a *match metric* (IoU) above a *match threshold*. sahi
keeps boxes that a slice cuts and merges them with their neighbours, by default by intersection
over the smaller box. Here the overlap exceeds the largest sign, so every sign lies whole in some
tile, and a box that touches an inner border is dropped: it is a sign cut in two. Overlapping tiles
hold most pixels more than once; the network's first layers see each of them once, in the whole
image, and the tiles are cut from what these layers return.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import batched_nms

from hw3.detection.models import SSD300, Detections, to_numpy
from hw3.profiles import TILE

OVERLAP = 132
"""More than GTSDB's largest sign, 127 pixels, and a border on both sides; 32 tiles an image."""
MATCH_THRESHOLD = 0.45
"""IoU above which two detections of one label are one; torchvision's SSD has the same."""
BORDER = 2.0
"""Pixels from an inner border within which a box counts as cut."""


def tile_origins(
    height: int, width: int, tile: int = TILE, overlap: int = OVERLAP
) -> list[tuple[int, int]]:
    """Upper left corners (x, y) of tiles that cover the image, row by row.

    Neighbours overlap by at least `overlap` pixels, evenly; an image smaller than a tile has one.
    All corners lie on multiples of `SSD300.STRIDE`, so that the last tiles may reach a few pixels
    beyond the image.

    Example:
        >>> tile_origins(height=300, width=600)
        [(0, 0), (152, 0), (300, 0)]
        >>> tile_origins(height=300, width=301)
        [(0, 0), (4, 0)]
    """

    def starts(side: int) -> list[int]:
        last = -(-max(0, side - tile) // SSD300.STRIDE)
        count = 1 + -(-last // ((tile - overlap) // SSD300.STRIDE))
        return (np.linspace(0, last, count).round().astype(int) * SSD300.STRIDE).tolist()

    return [(x, y) for y in starts(height) for x in starts(width)]


@torch.no_grad()
def predict_tiled(model: SSD300, image: Tensor, batch_size: int = 8) -> Detections:
    """Detections in a whole image, found tile by tile at native resolution.

    Args:
        model: set to evaluation mode.
        image: float (3, height, width) in [0, 1]; padded with zeros where tiles reach beyond it.
        batch_size: tiles at once.

    Returns:
        As `hw3.detection.models.predict`.

    Example:
        >>> from hw3.detection.models import build_ssd300
        >>> model = build_ssd300(weights="random", width=1 / 16)
        >>> found = predict_tiled(model, torch.zeros(3, 300, 600))
        >>> sorted(found), found["boxes_xyxy"].shape[1:]
        (['boxes_xyxy', 'labels', 'scores'], (4,))
    """
    height, width = image.shape[1:]
    origins = tile_origins(height, width)
    right, bottom = (max(start) + TILE for start in zip(*origins, strict=True))
    whole = pad(image[None], (0, right - width, 0, bottom - height))
    features = model.eval().stem(whole.to(next(model.parameters()).device))
    side = TILE // model.STRIDE
    found: list[Detections] = []
    for start in range(0, len(origins), batch_size):
        corners = np.array(origins[start : start + batch_size]) // model.STRIDE
        found += to_numpy(
            model.finish(torch.cat([features[..., y : y + side, x : x + side] for x, y in corners]))
        )
    return merge(found, origins, (height, width))


def merge(
    tiles: list[Detections], origins: list[tuple[int, int]], image_size: tuple[int, int]
) -> Detections:
    """One list of detections in the image's pixels, best first.

    Args:
        tiles: detections of each tile, in its own pixels.
        origins: (x, y) of each tile.
        image_size: (height, width) of the image.

    Example:
        One sign, seen by two tiles:

        >>> tiles = [
        ...     {"boxes_xyxy": np.float32([[200, 50, 240, 90]]), "scores": np.float32([0.75])},
        ...     {"boxes_xyxy": np.float32([[50, 50, 90, 90]]), "scores": np.float32([0.5])},
        ... ]
        >>> tiles = [tile | {"labels": np.array([1])} for tile in tiles]
        >>> merged = merge(tiles, [(0, 0), (150, 0)], image_size=(300, 450))
        >>> merged["boxes_xyxy"].tolist(), merged["scores"].tolist()
        ([[200.0, 50.0, 240.0, 90.0]], [0.75])
    """
    height, width = image_size
    parts = []
    for found, (x, y) in zip(tiles, origins, strict=True):
        boxes = found["boxes_xyxy"] + np.array([x, y, x, y], dtype=np.float32)
        borders = np.array([x, y, x + TILE, y + TILE])
        inner = np.array([x > 0, y > 0, x + TILE < width, y + TILE < height])
        cut = ((np.abs(boxes - borders) <= BORDER) & inner).any(axis=1)
        boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        real = ~cut & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        parts.append((boxes[real], found["labels"][real], found["scores"][real]))
    boxes, labels, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), MATCH_THRESHOLD).numpy()
    return {"boxes_xyxy": boxes[kept], "labels": labels[kept], "scores": scores[kept]}
