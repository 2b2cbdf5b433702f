"""Training samples: crops around signs and anywhere, or whole images."""

from collections.abc import Sequence
from typing import Any

import albumentations
import numpy as np
import torch

from hw3.data import InputError
from hw3.detection.gtsdb import GtsdbDataset
from hw3.detection.tiles import TILE
from hw3.settings import DetectionSettings, SsdSettings

MIN_VISIBLE = 0.6
"""A box that keeps less than this share of its area is dropped, since what is left is no sign."""


class Augmentation:
    """Changes brightness, contrast, hue and saturation, as seed, epoch and index decide."""

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


class CropSamples(torch.utils.data.Dataset):
    """Samples for `hw3.training.fit`, indexed by (epoch, index).

    A sample has `image` (3, height, width) uint8, `boxes` (g, 4) float32 xyxy, `labels` (g,) int64
    and `id`. With `settings.crops` it is a crop, around a sign as often as the settings say; SSD's
    have a tile's side and are filled up with black where the image is smaller. Without, it is an
    image.
    """

    def __init__(
        self, dataset: GtsdbDataset, image_ids: Sequence[int], settings: DetectionSettings
    ) -> None:
        self.dataset, self.settings = dataset, settings
        number = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
        self.indices = [number[image_id] for image_id in image_ids]
        self.signs = [(i, box) for i in self.indices for box in dataset.boxes_xyxy[i]]
        self.padded = isinstance(settings, SsdSettings)
        self.side = TILE if self.padded else settings.crop_size
        self.augmentation = Augmentation(settings.seed)
        if not self.signs:
            fault = f"the {len(self.indices)} training images hold no sign"
            raise InputError(f"{fault}: choose more of them, or another split")

    def __len__(self) -> int:
        return self.settings.crops or len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        if self.settings.crops:
            drawn = np.random.default_rng((self.settings.seed, epoch, index, 0))
            chosen, window = self._draw(drawn)
        else:
            chosen = self.indices[index]
            window = (0, 0, *self.dataset.image_sizes[chosen][::-1])
        left, top, right, bottom = window
        image = self.dataset.image(chosen)[top:bottom, left:right]
        boxes, kept = cut_boxes(self.dataset.boxes_xyxy[chosen], window)
        image = self.augmentation(image, epoch, index)
        if self.settings.crops and self.padded:
            missing = [(0, self.side - length) for length in image.shape[:2]]
            image = np.pad(image, (*missing, (0, 0)))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(self.dataset.labels[chosen][kept]),
            "id": f"{self.dataset.image_ids[chosen]:05d} {window}",
        }

    def _draw(self, drawn: np.random.Generator) -> tuple[int, tuple[int, int, int, int]]:
        """An image's index and a window in it, around a drawn sign or anywhere."""
        if drawn.random() < self.settings.sign_share:
            chosen, box = self.signs[drawn.integers(len(self.signs))]
        else:
            chosen, box = self.indices[drawn.integers(len(self.indices))], None
        start, end = [], []
        for axis, length in enumerate(self.dataset.image_sizes[chosen][::-1]):
            last = max(0, length - self.side)
            low, high = 0, last
            if box is not None:  # the window may start so that the box just fits at either end
                near, far = np.array(box).round().astype(int)[[axis, axis + 2]]
                low = min(max(0, far - self.side), last)
                high = max(low, min(near, last))
            start.append(int(drawn.integers(low, high + 1)))
            end.append(min(length, start[-1] + self.side))
        return chosen, (*start, *end)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: lists, since images and numbers of signs may differ in size."""
    return {name: [sample[name] for sample in samples] for name in samples[0]}


def cut_boxes(
    boxes_xyxy: np.ndarray, window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (g, 4) in a window x1, y1, x2, y2, but for those of which too little is left.

    Returns:
        (k, 4) float32 clipped boxes in the window's pixels, and (k,) indices of those kept.
    """
    left, top, right, bottom = window
    clipped = np.clip(boxes_xyxy, (left, top) * 2, (right, bottom) * 2).astype(np.float32)
    area, visible = _area(boxes_xyxy), _area(clipped)
    kept = np.flatnonzero((visible > 0) & (visible >= MIN_VISIBLE * area))
    return clipped[kept] - np.array((left, top) * 2, dtype=np.float32), kept


def _area(boxes_xyxy: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    sides = sides.astype(np.float64)  # in float32, 0.6 is more than three fifths
    return sides[:, 0] * sides[:, 1]
