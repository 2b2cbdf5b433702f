"""Slices as training samples: cropped and augmented, each decided by (seed, epoch, index)."""

from typing import Any

import albumentations
import numpy as np
import torch

from hw3.segmentation.lgg import LggDataset
from hw3.settings import SegmentationSettings

TRANSFORMS: dict[str, albumentations.BasicTransform] = {
    "quarter turns": albumentations.RandomRotate90(p=1.0),
    "mirroring left to right": albumentations.HorizontalFlip(p=0.5),
    "mirroring top to bottom": albumentations.VerticalFlip(p=0.5),
    "brightness and contrast": albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
    "hue and saturation": albumentations.HueSaturationValue(10, 20, 10, p=0.5),
}
"""The report names the transforms; their ranges are ours, within what scanners vary."""
TUMOUR_SHARE = 0.5
"""Share of the crops that hold a tumour pixel drawn at random, of any training slice."""


class Augmentation:
    """The report's random transforms of an image and its mask together."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.compose = albumentations.Compose(list(TRANSFORMS.values()))

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image (height, width, 3) uint8 and mask after the draw of this epoch and index."""
        drawn = np.random.default_rng((self.seed, epoch, index))
        # Compose.set_random_seed would give one seed to all transforms, and so tie their draws.
        for transform in self.compose.transforms:
            transform.set_random_seed(int(drawn.integers(2**31)))
        done = self.compose(image=image, mask=mask)
        return done["image"], done["mask"]


class SliceSamples(torch.utils.data.Dataset):
    """Slices for `hw3.training.fit`, indexed by (epoch, index).

    A sample has `image` (3, side, side) uint8, `mask` (1, side, side) uint8 and `id`. The network
    has no fully connected layer: trained on crops, it runs on whole slices, and a crop of half the
    side costs a quarter.
    """

    def __init__(
        self, dataset: LggDataset, indices: np.ndarray, settings: SegmentationSettings
    ) -> None:
        self.dataset, self.indices = dataset, indices
        self.crop_size, self.crops, self.seed = settings.crop_size, settings.crops, settings.seed
        self.augmentation = Augmentation(settings.seed)
        self.with_tumour = [i for i in indices if dataset.masks[i].any()] if self.crop_size else []

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
            np.array(own[chosen][window]) for own in (self.dataset.images, self.dataset.masks)
        )
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
        if self.with_tumour and drawn.random() < TUMOUR_SHARE:
            chosen = self.with_tumour[drawn.integers(len(self.with_tumour))]
            pixels = np.argwhere(self.dataset.masks[chosen])
            pixel = pixels[drawn.integers(len(pixels))]
            low, high = np.maximum(low, pixel - self.crop_size + 1), np.minimum(high, pixel)
        top, left = drawn.integers(low, high + 1).tolist()
        return chosen, (slice(top, top + self.crop_size), slice(left, left + self.crop_size))
