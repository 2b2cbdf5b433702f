"""Tiles: where they lie, what is merged, and that their shared first layers change nothing."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from hw3.detection import tiles
from hw3.detection.models import build, predict
from hw3.detection.tiles import STRIDE, TILE, Detections, merge, predict_tiled, tile_origins
from hw3.settings import OURS

LARGEST_SIGN = 127


def detections(*rows: tuple[list[float], int, float]) -> Detections:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes_xyxy": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "labels": np.array(labels, dtype=np.int64),
        "scores": np.array(scores, dtype=np.float32),
    }


class PaintedBoxes(nn.Module):
    """Finds what is painted: the bounding box of each label / 4 in the first channel.

    A feature of its stem holds all pixels of its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def stem(self, images: torch.Tensor) -> torch.Tensor:
        return pixel_unshuffle(images, STRIDE)

    def finish(self, features: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        self.batches.append(len(features))
        return [self._found(image) for image in pixel_shuffle(features, STRIDE)]

    def _found(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        assert image.shape == (3, TILE, TILE)
        rows = []
        for label in (1, 2, 3, 4):
            y, x = torch.nonzero(image[0] == label / 4, as_tuple=True)
            if len(x):
                rows.append([label, x.min(), y.min(), x.max() + 1, y.max() + 1])
        table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
        labels = table[:, 0].long()
        return {"boxes": table[:, 1:], "labels": labels, "scores": 1 - labels / 10}


def paint(height: int, width: int, boxes: dict[int, tuple[int, int, int, int]]) -> torch.Tensor:
    image = torch.zeros(3, height, width)
    for label, (x1, y1, x2, y2) in boxes.items():
        image[:, y1:y2, x1:x2] = label / 4
    return image


def test_origins_by_hand() -> None:
    assert tile_origins(200, 100) == tile_origins(300, 300) == [(0, 0)]
    assert tile_origins(300, 468) == [(0, 0), (168, 0)]
    assert tile_origins(300, 469) == [(0, 0), (88, 0), (172, 0)]
    assert tile_origins(16, 12, tile=12, overlap=4) == [(0, 0), (0, 4)]


@pytest.mark.parametrize(("height", "width"), [(800, 1360), (400, 680), (301, 299), (1000, 3000)])
def test_every_sign_lies_whole_in_some_tile_clear_of_inner_borders(height: int, width: int) -> None:
    origins = tile_origins(height, width)
    for side, starts in ((width, {x for x, _ in origins}), (height, {y for _, y in origins})):
        starts = np.array(sorted(starts))
        assert starts[0] == 0 and 0 <= starts[-1] - max(0, side - TILE) < STRIDE
        assert (starts % STRIDE == 0).all() and (np.diff(starts) <= TILE - tiles.OVERLAP).all()
        near = np.where(starts == 0, 0, starts + tiles.BORDER)
        far = np.where(starts + TILE >= side, side, starts + TILE - tiles.BORDER)
        sign = np.arange(0, max(1, side - LARGEST_SIGN + 1))[:, None]
        inside = (sign >= near) & (np.minimum(sign + LARGEST_SIGN, side) <= far)
        assert inside.any(axis=1).all()
    assert len(tile_origins(800, 1360)) == 32


def test_one_sign_in_two_tiles_is_one_and_labels_do_not_suppress_each_other() -> None:
    first = detections(([200.0, 50.0, 240.0, 90.0], 1, 0.6), ([200.0, 50.0, 240.0, 90.0], 2, 0.3))
    second = detections(([33.0, 50.0, 73.0, 90.0], 1, 0.8), ([80.0, 50.0, 120.0, 90.0], 1, 0.4))
    found = merge([first, second], [(0, 0), (168, 0)], (300, 468))
    boxes = [[201, 50, 241, 90], [248, 50, 288, 90], [200, 50, 240, 90]]
    assert found["boxes_xyxy"].tolist() == boxes
    assert found["labels"].tolist() == [1, 1, 2]
    assert found["boxes_xyxy"].dtype == np.float32 and found["labels"].dtype == np.int64


@pytest.mark.parametrize("at_once", [tiles.LARGE_PIXELS, 1])
def test_each_painted_sign_is_found_once_wherever_it_lies(monkeypatch, at_once) -> None:
    monkeypatch.setattr(tiles, "LARGE_PIXELS", at_once)
    rng = np.random.default_rng(0)
    height, width = 500, 700
    for _ in range(30):
        boxes = {}
        for label in (1, 2, 3, 4):
            w, h = rng.integers(16, LARGEST_SIGN + 1, 2)
            x, y = (label % 2) * width // 2, (label // 3) * height // 2
            x += rng.integers(0, width // 2 - w + 1)
            y += rng.integers(0, height // 2 - h + 1)
            boxes[label] = (int(x), int(y), int(x + w), int(y + h))
        model = PaintedBoxes().train()
        found = predict_tiled(model, paint(height, width, boxes), batch_size=5)
        assert found["labels"].tolist() == [1, 2, 3, 4]
        assert [tuple(map(int, box)) for box in found["boxes_xyxy"]] == list(boxes.values())
        assert not model.training
        assert model.batches == [5, 5, 2]


def test_an_image_smaller_than_a_tile_is_padded_and_what_is_found_there_goes() -> None:
    found = predict_tiled(PaintedBoxes(), paint(120, 90, {2: (60, 0, 90, 30)}))
    assert found["boxes_xyxy"].tolist() == [[60, 0, 90, 30]]
    tile = detections(([250.0, 10.0, 290.0, 50.0], 1, 0.9), ([80.0, 10.0, 120.0, 50.0], 1, 0.8))
    assert merge([tile], [(0, 0)], (200, 100))["boxes_xyxy"].tolist() == [[80, 10, 100, 50]]
    assert merge([detections()], [(0, 0)], (200, 100))["boxes_xyxy"].shape == (0, 4)


def test_a_large_image_may_hold_larger_signs(monkeypatch) -> None:
    height, width, sign = 320, 760, (150, 100, 300, 250)  # 150 pixels wide
    image = paint(height, width, {1: sign})
    assert not len(predict_tiled(PaintedBoxes(), image)["labels"])
    monkeypatch.setattr(tiles, "LARGE_PIXELS", height * width - 1)
    monkeypatch.setattr(tiles, "REACH", 0)  # what is painted has no surroundings
    assert predict_tiled(PaintedBoxes(), image)["boxes_xyxy"].tolist() == [list(sign)]


@pytest.fixture(scope="module")
def ssd() -> nn.Module:
    torch.manual_seed(0)
    model = build(OURS["ssd300"].but(width=1 / 8)).eval()
    model.score_thresh = 0.0
    return model


@torch.no_grad()
def test_a_large_image_gives_the_same_in_rows_of_tiles(ssd, monkeypatch) -> None:
    image = torch.rand(1, 3, 636, 468)
    origins = tile_origins(636, 468)
    rows: list[int] = []
    ssd_stem = ssd.stem
    monkeypatch.setattr(ssd, "stem", lambda own: rows.append(own.shape[2]) or ssd_stem(own))
    whole = list(tiles._features(ssd, image, origins))
    monkeypatch.setattr(tiles, "LARGE_PIXELS", 636 * 468 - 1)
    parts = list(tiles._features(ssd, image, origins))
    assert rows == [636, 320, 340, 320]  # tiles and 20 pixels of their neighbours
    assert len(whole) == len(origins) == 6
    for own, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(own, other)


def test_two_steps_are_the_whole_model(ssd) -> None:
    image = torch.rand(3, TILE, TILE)
    with torch.no_grad():
        [steps] = tiles.to_numpy(ssd.finish(ssd.stem(image[None])))
    whole = predict(ssd, image)
    assert len(whole["scores"])
    for name, values in whole.items():
        np.testing.assert_allclose(steps[name], values, rtol=1e-5, atol=1e-5)
