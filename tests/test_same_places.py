"""The pairs of photographs of one place that the book counts, and the code that finds them."""

import json

import cv2
import numpy as np

import same_places

KEPT = json.loads(same_places.TARGET.read_text())


def scene(seed: int) -> np.ndarray:
    """(400, 680) uint8: rectangles, whose corners the tool goes by."""
    drawn = np.random.default_rng(seed)
    image = np.full((400, 680), 128, np.uint8)
    for _ in range(150):
        x, y = (int(drawn.integers(side)) for side in (680, 400))
        width, height = (int(side) for side in drawn.integers(8, 60, 2))
        cv2.rectangle(image, (x, y), (x + width, y + height), int(drawn.integers(256)), -1)
    return image


def test_a_scene_moved_a_little_is_the_same_place_and_others_are_not(tmp_path, monkeypatch) -> None:
    turn = cv2.getRotationMatrix2D((340, 200), 2, 1.03)
    images = [scene(0), scene(1), cv2.warpAffine(scene(0), turn, (680, 400)), 0 * scene(0)]
    for number, image in zip((3, 4, 7, 9), images, strict=True):
        cv2.imwrite(str(tmp_path / f"{number:05d}.ppm"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    (tmp_path / "gt.txt").write_text("00003.ppm;10;20;41;50;11\n")
    monkeypatch.setattr(same_places, "TARGET", tmp_path / "places.json")
    monkeypatch.setattr("sys.argv", ["same_places.py", str(tmp_path)])
    same_places.main()
    made = json.loads((tmp_path / "places.json").read_text())
    [pair] = made["pairs"]
    assert pair["images"] == [3, 7] and pair["matches"] >= same_places.MATCHES
    assert made.keys() == KEPT.keys()


def test_the_kept_pairs_are_in_order() -> None:
    found = [pair["matches"] for pair in KEPT["pairs"]]
    assert found == sorted(found, reverse=True) and found[-1] >= KEPT["matches_at_least"]
    assert all(0 <= i < j < 900 for i, j in (pair["images"] for pair in KEPT["pairs"]))
    assert "changes" not in KEPT["commit"]
