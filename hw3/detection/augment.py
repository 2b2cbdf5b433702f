"""Light and colour jitter for signs, and cutting images so that boxes stay true.

Signs are not mirrored: a mirrored "turn left" is another class, and no mirrored "STOP" exists.
"""

import os

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network
import albumentations

MIN_VISIBLE = 0.6
"""A box that keeps less than this share of its area is dropped, since what is left is no sign."""


class Augmentation:
    """Changes brightness, contrast, hue and saturation; boxes do not move.

    Args:
        seed: of the run.

    Example:
        The draw is that of an epoch and an index, however often it is asked for:

        >>> augmentation, image = Augmentation(seed=0), np.full((4, 4, 3), 128, np.uint8)
        >>> first, again = (augmentation(image, epoch=3, index=0) for _ in range(2))
        >>> first.shape, int(np.abs(first.astype(int) - again).max())
        ((4, 4, 3), 0)
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.transforms = [
            albumentations.RandomBrightnessContrast(0.3, 0.3, p=0.7),
            albumentations.HueSaturationValue(5, 30, 0, p=0.3),
        ]

    def __call__(self, image: np.ndarray, epoch: int, index: int) -> np.ndarray:
        """The image (height, width, 3) uint8 after the draw that belongs to epoch and index."""
        drawn = np.random.default_rng((self.seed, epoch, index, 1))
        for transform in self.transforms:
            transform.set_random_seed(int(drawn.integers(2**31)))
            image = transform(image=image)["image"]
        return image


def cut_boxes(
    boxes_xyxy: np.ndarray, window: tuple[int, int, int, int], min_visible: float = MIN_VISIBLE
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as they appear in a window of the image.

    Args:
        boxes_xyxy: (g, 4) in the image's pixels.
        window: x1, y1, x2, y2 in the same.
        min_visible: share of its area that a box must keep; one that keeps none always goes.

    Returns:
        (k, 4) float32 clipped boxes in the window's pixels, and (k,) indices of those kept.

    Example:
        A window of 60 pixels holds the first box, and a sixteenth of the second:

        >>> boxes = np.array([[10, 10, 30, 30], [55, 55, 95, 95]])
        >>> clipped, kept = cut_boxes(boxes, window=(5, 5, 65, 65))
        >>> clipped.tolist(), kept.tolist()
        ([[5.0, 5.0, 25.0, 25.0]], [0])
    """
    left, top, right, bottom = window
    clipped = np.clip(boxes_xyxy, (left, top) * 2, (right, bottom) * 2).astype(np.float32)
    area, visible = _area(boxes_xyxy), _area(clipped)
    kept = np.flatnonzero((visible > 0) & (visible >= min_visible * area))
    return clipped[kept] - np.array((left, top) * 2, dtype=np.float32), kept


def _area(boxes_xyxy: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    sides = sides.astype(np.float64)  # in float32, 0.6 is more than three fifths
    return sides[:, 0] * sides[:, 1]
