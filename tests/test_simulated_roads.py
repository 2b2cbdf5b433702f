"""Simulated roads: the drawings, the publisher's layout, boxes that fit, the same bytes again."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from hw3.data import InputError
from hw3.detection.gtsdb import read_gtsdb
from hw3.simulated import roads as simulate
from hw3.simulated.roads import simulate_gtsdb
from hw3.simulated.signs import DRAWINGS, SIGN_NAMES, draw, draw_sign

PROHIBITORY = {*range(6), *range(7, 11), 15, 16}
MANDATORY = {*range(33, 41)}
DANGER = {11, *range(18, 32)}
RED, BLUE = np.array((187, 26, 36)), np.array((28, 79, 160))


@pytest.fixture(scope="module")
def roads(tmp_path_factory) -> Path:
    return simulate_gtsdb(
        tmp_path_factory.mktemp("roads"), images=24, seed=3, width=480, height=288
    )


def read_boxes(folder: Path) -> list[tuple[str, np.ndarray, int]]:
    lines = (folder / "gt.txt").read_text().splitlines()
    rows = [line.split(";") for line in lines]
    return [(row[0], np.array(row[1:5], int), int(row[5])) for row in rows]


@pytest.mark.parametrize("size", [24, 40])
def test_signs_fill_their_square_and_differ(size):
    signs = np.stack([draw_sign(class_id, size) for class_id in range(43)])
    assert signs.shape == (43, size, size, 4) and signs.dtype == np.uint8
    for corner in (signs[:, 0, 0], signs[:, 0, -1], signs[:, -1, 0], signs[:, -1, -1]):
        assert np.delete(corner[:, 3], 13).max() == 0  # 13, give way, is wide at the top
    boxes = np.array([cv2.boundingRect(sign[..., 3]) for sign in signs])
    assert (boxes[:, 2:].min(0) >= (0.95 * size, 0.84 * size)).all()
    flat = signs.reshape(43, -1).astype(float)
    distance = np.abs(flat[:, None] - flat).mean(2) + 255 * np.eye(43)
    assert distance.min() > 0.5


def test_names_shapes_and_colours_are_those_of_the_groups():
    assert [SIGN_NAMES[k] for k in (4, 14, 38)] == ["speed limit 70", "stop", "keep right"]
    for class_id, _ in enumerate(SIGN_NAMES):
        sign = draw_sign(class_id, 100)
        rim, centre = sign[50, 8, :3].astype(int), sign[96, 50, 3]
        if class_id in PROHIBITORY | MANDATORY:
            colour = RED if class_id in PROHIBITORY else BLUE
            assert np.abs(rim - colour).max() < 3 and centre == 255, class_id
        if class_id in DANGER:  # a triangle: nothing beside its tip, red along its base
            assert sign[15, [15, 84], 3].max() == 0, class_id
            assert np.abs(sign[88, 50, :3].astype(int) - RED).max() < 3, class_id


def test_left_mirrors_right():
    for left, right in ((34, 33), (37, 36), (39, 38), (19, 20)):
        left_sign, right_sign = (draw_sign(each, 80).astype(int) for each in (left, right))
        mirrored = np.abs(left_sign[:, ::-1] - right_sign).mean()
        assert mirrored < 4 and mirrored < np.abs(left_sign - right_sign).mean() / 2


def test_every_drawing_can_be_drawn_and_is_premultiplied():
    for section in ("signs", "distractors", "scenery"):
        for name, commands in DRAWINGS[section].items():
            image = draw(f"let paint red; let lamp white; {commands}", 64)
            assert image[..., 3].max() == 255, name
            assert (image[..., :3] <= image[..., 3:]).all(), name


def test_layout_is_the_publishers_and_its_reader_takes_it(roads):
    assert [path.name for path in roads.parent.iterdir()] == ["FullIJCNN2013"]
    names = [".simulated.json", *(f"{number:05d}.ppm" for number in range(24)), "gt.txt"]
    assert sorted(path.name for path in roads.iterdir()) == names
    head, content = b"P6\n480 288\n255\n", (roads / "00000.ppm").read_bytes()
    assert content.startswith(head) and len(content) == len(head) + 480 * 288 * 3
    data = read_gtsdb(roads)
    assert len(data) == 24 and data.notices == []
    assert sum(map(len, data.boxes_xyxy)) == len(read_boxes(roads))


def test_boxes_are_inside_of_true_size_and_apart(roads):
    rows = read_boxes(roads)
    assert 12 <= len(rows) <= 48
    for name, (x1, y1, x2, y2), class_id in rows:
        assert 0 <= x1 < x2 < 480 and 0 <= y1 < y2 < 288, name
        assert 16 <= x2 - x1 <= 288 / 3 and 0 <= class_id <= 42, name
        assert 0.8 < (x2 - x1) / (y2 - y1) < 1.25, name
    for index, (name, box, _) in enumerate(rows):
        for other, second, _ in rows[:index]:
            width, height = np.minimum(box, second)[2:] - np.maximum(box, second)[:2]
            assert name != other or width <= 0 or height <= 0


@pytest.mark.parametrize("class_id", [4, 12, 13, 14, 25, 40])
def test_the_box_is_where_the_image_changes(class_id):
    image = np.full((90, 120, 3), 128, np.uint8)
    corners = np.array([(20.3, 15.0), (70.1, 18.0), (69.0, 66.6), (18.0, 64.0)])
    sign = draw_sign(class_id, 50)
    sprite = simulate._sprite(sign[..., :3], sign[..., 3] / 255)
    box = simulate._paste(image, sprite, corners)
    changed = np.abs(image.astype(int) - 128).max(2) > 20
    x, y, width, height = cv2.boundingRect(changed.astype(np.uint8))
    assert np.abs(box - (x, y, x + width, y + height)).max() <= 1


def test_what_is_pasted_outside_leaves_no_trace():
    image = np.full((40, 50, 3), 128, np.uint8)
    corners = np.array([(60.0, 5), (80, 5), (80, 25), (60, 25)])
    assert simulate._paste(image, draw(DRAWINGS["signs"]["stop"], 20), corners).tolist() == [0] * 4
    assert (image == 128).all()


def test_signs_are_in_the_boxes(roads):
    found, expected = 0, 0
    for name, (x1, y1, x2, y2), class_id in read_boxes(roads):
        image = cv2.imread(str(roads / name))[..., ::-1].astype(float)
        row, inset = (y1 + y2) // 2, max(1, (x2 - x1) // 12)
        red, _, blue = image[row - 1 : row + 2, [x1 + inset, x2 - 1 - inset]].mean((0, 1))
        if class_id in PROHIBITORY | MANDATORY:
            expected += 1
            found += (red > blue) == (class_id in PROHIBITORY)
    assert expected > 8 and found >= 0.9 * expected


def test_counts_classes_and_widths_follow_gtsdb(monkeypatch):
    assert simulate.CLASS_COUNTS.sum() == 1213 and simulate.SIGNS_PER_IMAGE.sum() == 900
    assert simulate.SIGNS_PER_IMAGE @ np.arange(7) == 1213
    monkeypatch.setattr(simulate, "_paste", lambda image, sprite, corners: corners)
    image, camera = np.zeros((800, 1360, 3), np.uint8), simulate.Camera(1360, 1224, 490, 0)
    rng = np.random.default_rng(0)
    signs = [simulate._add_signs(rng, image, camera, 1) for _ in range(400)]
    assert abs(np.mean([len(each) for each in signs]) - 1213 / 900) < 0.15
    widths = np.array([np.ptp(corners[:, 0]) for each in signs for corners, _ in each])
    shares = [(widths < 32).mean(), ((widths >= 32) & (widths <= 45)).mean(), (widths > 45).mean()]
    np.testing.assert_allclose(shares, np.array([413, 388, 412]) / 1213, atol=0.08)
    classes = np.bincount([class_id for each in signs for _, class_id in each], minlength=43)
    prohibitory = classes[sorted(PROHIBITORY)].sum() / classes.sum()
    assert abs(prohibitory - 557 / 1213) < 0.07


def test_same_seed_same_bytes_other_seed_other_images(roads, tmp_path):
    again = simulate_gtsdb(tmp_path / "a", images=4, seed=3, width=480, height=288)
    other = simulate_gtsdb(tmp_path / "b", images=4, seed=4, width=480, height=288)
    for name in ("00000.ppm", "00003.ppm"):
        assert (again / name).read_bytes() == (roads / name).read_bytes()
        assert (again / name).read_bytes() != (other / name).read_bytes()
    lines = (roads / "gt.txt").read_text().splitlines()
    assert (again / "gt.txt").read_text().splitlines() == [r for r in lines if r[:5] < "00004"]


@pytest.mark.parametrize(
    "wrong", [{"images": 0}, {"seed": -1}, {"width": 100}, {"height": 40}], ids=str
)
def test_numbers_that_are_too_small_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="least values"):
        simulate_gtsdb(tmp_path, **{"images": 1, "seed": 0, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_not_written_removes_the_set(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imwrite", lambda path, image: not path.endswith("00001.ppm"))
    with pytest.raises(InputError, match=r"FullIJCNN2013: not written \(00001.ppm .*make room"):
        simulate_gtsdb(tmp_path, images=2, seed=0, width=160, height=96)
    assert list(tmp_path.iterdir()) == []
