import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from hw3.detection import anchors
from hw3.detection.anchors import anchor_coverage, covered
from hw3.detection.models import build_faster_rcnn, build_ssd300

FIVE_SIZES = ((16,), (32,), (64,), (128,), (256,))
COCO_SIZES = ((32,), (64,), (128,), (256,), (512,))
COCO_RATIOS = (0.5, 1.0, 2.0)


def faster_rcnn(**settings) -> nn.Module:
    small = dict(backbone="resnet50-fpn", weights="random", width=0.0625, fpn_channels=16)
    return build_faster_rcnn(**small | dict(anchor_sizes=FIVE_SIZES) | settings)


@pytest.fixture(scope="module")
def ssd() -> nn.Module:
    return build_ssd300(weights="random", width=0.0625)


def square(side: float, x: float = 0.0, y: float = 0.0) -> list[float]:
    """A square whose middle is at (x, y): anchors of a pyramid are centred on its grid."""
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def test_an_anchor_covers_a_square_of_half_its_area_and_not_less() -> None:
    sizes = ((16,), (256,), (256,), (256,), (256,))
    boxes = [
        square(16, 32, 32),
        square(16 * math.sqrt(0.51), 32, 32),
        square(16 * math.sqrt(0.49), 32, 32),
        square(16 * math.sqrt(1.96), 32, 32),
        square(16 * math.sqrt(2.04), 32, 32),
    ]
    shares = [
        anchor_coverage(faster_rcnn(anchor_sizes=sizes), (64, 64), np.array([box]))["all"]
        for box in boxes
    ]
    assert shares == [1, 1, 0, 1, 0]


def test_shares_are_by_native_width_even_of_a_resized_image() -> None:
    boxes = np.array(
        [square(20, 64, 64), square(32, 64, 64), square(40, 64, 64), square(80, 64, 64)]
    )
    native = anchor_coverage(faster_rcnn(), (128, 128), boxes)
    assert native == {"small": 1.0, "medium": 1.0, "large": 1.0, "all": 1.0}
    halved = anchor_coverage(faster_rcnn(image_size=(64, 64)), (128, 128), boxes)
    # Halved, the 20-pixel square has 10: less than half of the area of the smallest anchor, 16.
    assert halved == {"small": 0.0, "medium": 1.0, "large": 1.0, "all": 0.75}


def test_groups_without_boxes_are_undefined() -> None:
    some = anchor_coverage(faster_rcnn(), (64, 64), np.array([square(20, 32, 32)]))
    assert some["small"] == some["all"] == 1.0
    assert math.isnan(some["medium"]) and math.isnan(some["large"])
    none = anchor_coverage(faster_rcnn(), (64, 64), np.zeros((0, 4)))
    assert all(math.isnan(share) for share in none.values())


def test_chunks_do_not_change_the_shares(monkeypatch, ssd) -> None:
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 400, (50, 2)), rng.uniform(16, 127, (50, 2))
    boxes = np.hstack([corners, corners + sides])
    expected = anchor_coverage(ssd, (600, 600), boxes, iou_threshold=0.6)
    monkeypatch.setattr(anchors, "CHUNK", 1000)
    assert anchor_coverage(ssd, (600, 600), boxes, iou_threshold=0.6) == expected
    assert 0 < expected["all"] < 1


def test_ssd_sees_anchors_in_native_pixels_of_whole_images_and_tiles(ssd) -> None:
    whole = anchors._native_anchors(ssd, (600, 900))
    assert whole.shape == (8732, 4)
    # The first map's first default box: 0.07 * 300 pixels wide, centred at half a step of 8.
    side = 0.07 * 300
    expected = torch.tensor([4 - side / 2, 4 - side / 2, 4 + side / 2, 4 + side / 2])
    torch.testing.assert_close(whole[0], expected * torch.tensor([3.0, 2.0, 3.0, 2.0]))
    sign = np.array([square(24, 454, 304)])
    assert anchor_coverage(ssd, (600, 900), sign)["small"] == 0.0
    assert anchor_coverage(ssd, (600, 900), sign, tiled=True)["small"] == 1.0


def test_the_table_of_set_ups_on_signs_of_every_size() -> None:
    """Square signs of GTSDB's sizes, spread over the image: the classes fall as the book says."""
    rng = np.random.default_rng(0)
    sides = np.repeat([16, 18, 24, 31, 32, 38, 45, 46, 64, 90, 127], 12)
    corners = np.stack([rng.uniform(0, 1360 - sides), rng.uniform(0, 800 - sides)], axis=1)
    boxes = np.hstack([corners, corners + sides[:, None]])
    ssd = build_ssd300(weights="random", width=0.0625)
    whole = anchor_coverage(ssd, (800, 1360), boxes)
    assert whole["small"] == whole["medium"] == 0.0
    assert 0.3 < whole["large"] < 0.9
    assert anchor_coverage(ssd, (800, 1360), boxes, tiled=True)["all"] == 1.0
    coco = faster_rcnn(anchor_sizes=COCO_SIZES, aspect_ratios=COCO_RATIOS, image_size=(800, 1333))
    shares = anchor_coverage(coco, (800, 1360), boxes)
    assert 0.3 < shares["small"] < 0.9
    assert shares["medium"] == shares["large"] == 1.0


def test_covered_means_the_best_iou_over_all_anchors(ssd) -> None:
    box = np.array([[100.0, 100.0, 160.0, 140.0]])
    best = box_iou(torch.tensor(box, dtype=torch.float32), anchors._native_anchors(ssd, (300, 300)))
    best = best.max().item()
    assert anchor_coverage(ssd, (300, 300), box, iou_threshold=best - 1e-3)["all"] == 1.0
    assert anchor_coverage(ssd, (300, 300), box, iou_threshold=best + 1e-3)["all"] == 0.0


def test_each_box_is_told_apart() -> None:
    boxes = np.array([square(20, 64, 64), square(5, 64, 64), square(32, 64, 64)])
    assert covered(faster_rcnn(), (128, 128), boxes).tolist() == [True, False, True]
    assert covered(faster_rcnn(), (128, 128), np.array([])).shape == (0,)
