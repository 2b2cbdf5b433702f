"""How many signs one of a detector's anchors covers well."""

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from hw3.detection.dataset import SIZE_GROUPS, size_group
from hw3.detection.tiles import TILE, tile_origins

CHUNK = 8
"""Boxes compared with all anchors at once, which bounds memory."""


def anchor_coverage(
    model: nn.Module,
    image_size: tuple[int, int],
    boxes_xyxy: np.ndarray,
    *,
    tiled: bool = False,
    iou_threshold: float = 0.5,
) -> dict[str, float]:
    """Share of boxes that some anchor of the model covers at an IoU, by size group and in all.

    Args:
        model: Faster R-CNN or SSD; its own anchors are taken, on an image as it would resize it.
            It is set to evaluation mode.
        image_size: (height, width) of the image, in native pixels.
        boxes_xyxy: (n, 4), in native pixels.
        tiled: the model sees the image in native tiles (`hw3.detection.tiles`), not whole.
        iou_threshold: at which an anchor covers a box.

    Returns:
        Shares for small, medium, large (by native width) and all; nan for a group without boxes.

    Example:
        SSD300's smallest boxes are 21 pixels wide:

        >>> from hw3.detection.models import build_ssd300
        >>> model = build_ssd300(weights="random", width=1 / 16)
        >>> boxes = np.array([[4, 4, 12, 12], [100, 100, 160, 160]])
        >>> anchor_coverage(model, (300, 300), boxes)
        {'small': 0.0, 'medium': nan, 'large': 1.0, 'all': 0.5}
    """
    hit = covered(model, image_size, boxes_xyxy, tiled=tiled, iou_threshold=iou_threshold)
    return share_by_size(hit, np.array([size_group(x2 - x1) for x1, _, x2, _ in boxes_xyxy]))


def covered(
    model: nn.Module,
    image_size: tuple[int, int],
    boxes_xyxy: np.ndarray,
    *,
    tiled: bool = False,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """Which boxes some anchor of the model covers at an IoU: (n,) bool.

    The arguments are those of `anchor_coverage`.

    Example:
        >>> from hw3.detection.models import build_ssd300
        >>> model = build_ssd300(weights="random", width=1 / 16)
        >>> boxes = np.array([[4, 4, 12, 12], [100, 100, 160, 160]])
        >>> covered(model, (300, 300), boxes).tolist()
        [False, True]
    """
    if tiled:
        corners = torch.tensor(tile_origins(*image_size)).repeat(1, 2)
        anchors = (_native_anchors(model, (TILE, TILE)) + corners[:, None]).flatten(0, 1)
    else:
        anchors = _native_anchors(model, image_size)
    boxes = torch.from_numpy(np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4))
    chunks = boxes.split(CHUNK)
    best = torch.cat([box_iou(chunk, anchors).max(dim=1).values for chunk in chunks])
    return (best >= iou_threshold).numpy()


def share_by_size(hit: np.ndarray, size_groups: np.ndarray) -> dict[str, float]:
    """Share of boxes that are hit, for small, medium, large and all; nan where there are none.

    Args:
        hit: (n,) bool.
        size_groups: (n,) names of the boxes' sizes.

    Example:
        >>> sizes = np.array(["small", "small", "large", "large"])
        >>> share_by_size(np.array([True, False, True, True]), sizes)
        {'small': 0.5, 'medium': nan, 'large': 1.0, 'all': 0.75}
    """
    members = {name: size_groups == name for name in SIZE_GROUPS} | {"all": size_groups != ""}
    return {
        name: float(hit[own].mean()) if own.any() else float("nan") for name, own in members.items()
    }


@torch.no_grad()
def _native_anchors(model: nn.Module, image_size: tuple[int, int]) -> Tensor:
    """(anchors, 4) xyxy in native pixels."""
    device = next(model.parameters()).device
    images, _ = model.eval().transform([torch.zeros(3, *image_size, device=device)])
    features = list(model.backbone(images.tensors).values())
    generator = model.anchor_generator if isinstance(model, SSD) else model.rpn.anchor_generator
    anchors = generator(images, features)[0].cpu()
    resized_height, resized_width = images.image_sizes[0]
    height, width = image_size
    scale = torch.tensor([width / resized_width, height / resized_height])
    return anchors * scale.repeat(2)
