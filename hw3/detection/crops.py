"""Training samples: random native crops, most around a sign, or whole images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hw3.detection.augment import Augmentation, cut_boxes
from hw3.detection.dataset import GtsdbDataset
from hw3.errors import InputError


class CropSamples(torch.utils.data.Dataset):
    """Samples for `hw3.training.fit`, indexed by (epoch, index).

    A sample has `image` (3, height, width) uint8, `boxes` (g, 4) float32 xyxy, `labels` (g,) int64
    and `id`. A detector without fully connected layers over the image can be trained on crops and
    run on whole images; crops cost a tenth, and every step sees more signs.

    Args:
        dataset: all images.
        image_ids: those to draw from.
        crop_size: side of the crops in pixels; None gives each whole image once an epoch.
        crops: number of crops an epoch.
        sign_share: share of the crops that are laid around a sign at random; the others lie
            anywhere in any image, so that the model sees what is no sign.
        balance_groups: whether these signs are drawn from each group equally often, however many
            signs it has.
        augmentation: applied after the cut.
        seed: of the draws.
        false_alarms: (image id, box xyxy in its pixels) of places that were taken for signs.
        hard_share: share of the crops that are laid around one of these, if there are any.
        padded: whether crops of images that are smaller are filled up with black below and right,
            as tiles are in `hw3.detection.tiles.predict_tiled`.

    Example:
        >>> from PIL import Image
        >>> from hw3.detection.dataset import read_gtsdb
        >>> Image.new("RGB", (64, 48)).save(folder / "00000.ppm")
        >>> _ = (folder / "gt.txt").write_text("00000.ppm;10;8;30;28;14")
        >>> options = {"crop_size": 32, "crops": 5, "sign_share": 1.0, "augmentation": None}
        >>> samples = CropSamples(read_gtsdb(folder), [0], **options, seed=0)
        >>> samples[0, 4]["image"].shape, samples[0, 4]["labels"]
        (torch.Size([3, 32, 32]), tensor([4]))
    """

    def __init__(
        self,
        dataset: GtsdbDataset,
        image_ids: Sequence[int],
        *,
        crop_size: int | None,
        crops: int,
        sign_share: float,
        balance_groups: bool = False,
        augmentation: Augmentation | None,
        seed: int,
        false_alarms: Sequence[tuple[int, Sequence[float]]] = (),
        hard_share: float = 0.0,
        padded: bool = False,
    ) -> None:
        number = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
        self.dataset, self.indices = dataset, [number[image_id] for image_id in image_ids]
        pools: dict[int, list[tuple[int, int]]] = {}
        for i in self.indices:
            for j, label in enumerate(dataset.labels[i]):
                pools.setdefault(int(label) if balance_groups else 0, []).append((i, j))
        self.pools = [pools[label] for label in sorted(pools)]
        self.false_alarms = [(number[image_id], np.array(box)) for image_id, box in false_alarms]
        self.crop_size, self.sign_share, self.seed = crop_size, sign_share, seed
        self.hard_share, self.padded = hard_share, padded
        self.count = crops if crop_size else len(self.indices)
        self.augmentation = augmentation
        if not self.pools:
            fault = f"the {len(self.indices)} training images hold no sign"
            raise InputError(f"{fault}: choose more of them (train_images), or another group")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        if self.crop_size:
            drawn = np.random.default_rng((self.seed, epoch, index, 0))
            chosen, window = self._draw(drawn)
        else:
            chosen = self.indices[index]
            height, width = self.dataset.image_sizes[chosen]
            window = (0, 0, width, height)
        left, top, right, bottom = window
        image = self.dataset.image(chosen)[top:bottom, left:right]
        boxes, kept = cut_boxes(self.dataset.boxes_xyxy[chosen], window)
        if self.augmentation is not None:
            image = self.augmentation(image, epoch, index)
        if self.padded and self.crop_size:
            missing = [(0, self.crop_size - side) for side in image.shape[:2]]
            image = np.pad(image, (*missing, (0, 0)))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(self.dataset.labels[chosen][kept]),
            "id": f"{self.dataset.image_ids[chosen]:05d} {window}",
        }

    def _draw(self, drawn: np.random.Generator) -> tuple[int, tuple[int, int, int, int]]:
        """An image's index and a window in it, around a drawn sign or false alarm, or anywhere."""
        kind = drawn.random()
        if kind < self.sign_share:
            pool = self.pools[drawn.integers(len(self.pools))]
            chosen, sign = pool[drawn.integers(len(pool))]
            box = self.dataset.boxes_xyxy[chosen][sign].round().astype(int)
        elif kind < self.sign_share + self.hard_share and self.false_alarms:
            chosen, box = self.false_alarms[drawn.integers(len(self.false_alarms))]
            box = box.round().astype(int)
        else:
            chosen, box = self.indices[drawn.integers(len(self.indices))], None
        corner = []
        for axis, side in enumerate(self.dataset.image_sizes[chosen][::-1]):
            last = max(0, side - self.crop_size)
            low, high = 0, last
            if box is not None:  # the window may start so that the box just fits at either end
                low = min(max(0, box[axis + 2] - self.crop_size), last)
                high = max(low, min(box[axis], last))
            corner.append(int(drawn.integers(low, high + 1)))
        height, width = self.dataset.image_sizes[chosen]
        right, bottom = (
            min(width, corner[0] + self.crop_size),
            min(height, corner[1] + self.crop_size),
        )
        return chosen, (*corner, right, bottom)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: lists, since images and numbers of signs may differ in size.

    Example:
        >>> collate([{"id": "a", "labels": [1, 4]}, {"id": "b", "labels": []}])
        {'id': ['a', 'b'], 'labels': [[1, 4], []]}
    """
    return {name: [sample[name] for sample in samples] for name in samples[0]}
