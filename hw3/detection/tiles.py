"""Large images in overlapping tiles, and one list of detections from them.

The overlap exceeds the largest sign, so every sign lies whole in some tile, and a box that touches
an inner border is dropped: it is a sign cut in two. (`sahi` merges such boxes; Akyon et al. 2022.)
"""

from collections.abc import Iterator
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.ops import batched_nms

Detections = dict[str, np.ndarray]
"""boxes_xyxy (n, 4) float32 in pixels, labels (n,) int64, scores (n,) float32."""
TILE = 300
"""Side in pixels of what SSD300 looks at."""
OVERLAP = 132
"""More than GTSDB's largest sign, 127 pixels, and a border on both sides; 32 tiles an image."""
MATCH_THRESHOLD = 0.45
"""IoU above which two detections of one label are one; torchvision's SSD has the same."""
BORDER = 2.0
"""Pixels from an inner border within which a box counts as cut."""
STRIDE = 4
"""Pixels a feature of SSD300's first layers; tiles begin at multiples of it."""
REACH = 20
"""Pixels that these layers look around, rounded up to whole features."""
LARGE_PIXELS, LARGE_OVERLAP = 4_000_000, 160
"""An image with more pixels may hold larger signs; the first layers see it in rows of tiles, which
bounds memory."""


def tile_origins(
    height: int, width: int, tile: int = TILE, overlap: int = OVERLAP
) -> list[tuple[int, int]]:
    """Upper left corners (x, y) of tiles that cover the image, row by row, evenly overlapping.

    An image smaller than a tile has one; the last tiles may reach a few pixels beyond the image.
    """

    def starts(side: int) -> list[int]:
        last = -(-max(0, side - tile) // STRIDE)
        count = 1 + -(-last // ((tile - overlap) // STRIDE))
        return (np.linspace(0, last, count).round().astype(int) * STRIDE).tolist()

    return [(x, y) for y in starts(height) for x in starts(width)]


@torch.no_grad()
def predict_tiled(model: nn.Module, image: Tensor, batch_size: int = 8) -> Detections:
    """Detections of SSD300 in a whole image, found tile by tile at native resolution.

    Args:
        model: from `hw3.detection.models.build`; set to evaluation mode.
        image: float (3, height, width) in [0, 1]; padded with zeros where tiles reach beyond it.
        batch_size: tiles at once.

    Example:
        >>> from hw3.detection.models import build
        >>> from hw3.settings import OURS
        >>> model = build(OURS["ssd300"].but(width=1 / 16))
        >>> sorted(predict_tiled(model, torch.zeros(3, 300, 600)))
        ['boxes_xyxy', 'labels', 'scores']
    """
    height, width = image.shape[1:]
    overlap = LARGE_OVERLAP if height * width > LARGE_PIXELS else OVERLAP
    origins = tile_origins(height, width, overlap=overlap)
    right, bottom = (max(start) + TILE for start in zip(*origins, strict=True))
    whole = pad(image[None], (0, right - width, 0, bottom - height))
    tiles = _features(model.eval(), whole.to(next(model.parameters()).device), origins)
    found: list[Detections] = []
    while batch := list(islice(tiles, batch_size)):
        found += to_numpy(model.finish(torch.cat(batch)))
    return merge(found, origins, (height, width))


def _features(model: nn.Module, image: Tensor, origins: list[tuple[int, int]]) -> Iterator[Tensor]:
    """The stem's features of each tile, cut from those of the image or of a row of tiles."""
    large = image[0, 0].numel() > LARGE_PIXELS
    for _, group in groupby(origins, lambda corner: corner[1] if large else None):
        corners = list(group)
        first = max(0, corners[0][1] - REACH)
        features = model.stem(image[..., first : corners[-1][1] + TILE + REACH, :])
        for corner in corners:
            x, y = corner[0] // STRIDE, (corner[1] - first) // STRIDE
            yield features[..., y : y + TILE // STRIDE, x : x + TILE // STRIDE]


def to_numpy(found: list[dict[str, Tensor]]) -> list[Detections]:
    """What torchvision's detectors return, an image each, as arrays."""
    names = {"boxes_xyxy": "boxes", "labels": "labels", "scores": "scores"}
    return [{name: one[key].cpu().numpy() for name, key in names.items()} for one in found]


def merge(
    tiles: list[Detections],
    origins: list[tuple[int, int]],
    image_size: tuple[int, int],
    tile: int = TILE,
) -> Detections:
    """One list of detections in the image's pixels, best first, of those of tiles."""
    height, width = image_size
    parts = []
    for found, (x, y) in zip(tiles, origins, strict=True):
        boxes = found["boxes_xyxy"] + np.array([x, y, x, y], dtype=np.float32)
        borders = np.array([x, y, x + tile, y + tile])
        inner = np.array([x > 0, y > 0, x + tile < width, y + tile < height])
        cut = ((np.abs(boxes - borders) <= BORDER) & inner).any(axis=1)
        boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        real = ~cut & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        parts.append({name: own[real] for name, own in (found | {"boxes_xyxy": boxes}).items()})
    return distinct(parts)


def distinct(parts: list[Detections]) -> Detections:
    """All detections, best first, without those that a better one of their label covers."""
    names = ("boxes_xyxy", "labels", "scores")
    boxes, labels, scores = (np.concatenate([part[name] for part in parts]) for name in names)
    kept = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), MATCH_THRESHOLD).numpy()
    return {"boxes_xyxy": boxes[kept], "labels": labels[kept], "scores": scores[kept]}
