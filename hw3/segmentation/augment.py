"""The report's random transforms, each sample's own draw decided by (seed, epoch, index)."""

import os

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network
import albumentations

from hw3.errors import InputError

TRANSFORMS: dict[str, albumentations.BasicTransform] = {
    "quarter turns": albumentations.RandomRotate90(p=1.0),
    "mirroring left to right": albumentations.HorizontalFlip(p=0.5),
    "mirroring top to bottom": albumentations.VerticalFlip(p=0.5),
    "brightness and contrast": albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
    "hue and saturation": albumentations.HueSaturationValue(10, 20, 10, p=0.5),
}
"""The report names the transforms; their ranges are ours, within what scanners vary."""


class Augmentation:
    """Transforms an image and its mask together.

    Args:
        seed: of the run.
        without: names of transforms to leave out, see `TRANSFORMS`.

    Raises:
        InputError: if no transform has such a name.

    Example:
        Turned or mirrored, a diagonal stays one:

        >>> augmentation, image = Augmentation(seed=0), np.zeros((3, 3, 3), np.uint8)
        >>> image, mask = augmentation(image, np.eye(3, dtype=np.uint8), epoch=0, index=0)
        >>> image.shape, int(mask.sum()), int(mask[1, 1])
        ((3, 3, 3), 3, 1)
    """

    def __init__(self, seed: int, without: tuple[str, ...] = ()) -> None:
        if unknown := sorted(set(without) - set(TRANSFORMS)):
            known = ", ".join(TRANSFORMS)
            raise InputError(f"without: {', '.join(unknown)} is no transform; choose from {known}")
        self.seed = seed
        kept = [transform for name, transform in TRANSFORMS.items() if name not in without]
        self.compose = albumentations.Compose(kept)

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the transformed image and mask; the same for the same seed, epoch and index.

        Args:
            image: (height, width, 3) uint8.
            mask: (height, width) uint8 in {0, 1}; stays in {0, 1}.
            epoch: from 0.
            index: of the sample in its data set.
        """
        drawn = np.random.default_rng((self.seed, epoch, index))
        # Compose.set_random_seed would give one seed to all transforms, and so tie their draws.
        for transform in self.compose.transforms:
            transform.set_random_seed(int(drawn.integers(2**31)))
        done = self.compose(image=image, mask=mask)
        return done["image"], done["mask"]
