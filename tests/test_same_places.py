"""The pairs of photographs of one place that the book counts, and the code that finds them."""

import json

import cv2
import numpy as np
import pytest

import same_places

KEPT = json.loads(same_places.TARGET.read_text())


def scene(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed)
    image = np.full((400, 680), 128, np.uint8)
    for _ in range(150):
        x, y = (int(drawn.integers(side)) for side in (680, 400))
        width, height = (int(side) for side in drawn.integers(8, 60, 2))
        cv2.rectangle(image, (x, y), (x + width, y + height), int(drawn.integers(256)), -1)
    return image


def test_a_scene_moved_a_little_is_the_same_place_and_another_scene_is_not() -> None:
    first, second = scene(0), scene(1)
    turned = cv2.warpAffine(first, cv2.getRotationMatrix2D((340, 200), 2, 1.03), (680, 400))
    [(i, j, found)] = same_places.find_pairs([first, second, turned])
    assert (i, j) == (0, 2) and found >= same_places.MATCHES


def test_images_without_corners_are_no_pair() -> None:
    assert same_places.find_pairs([np.zeros((400, 680), np.uint8)] * 2) == []


def test_the_kept_pairs_are_in_order() -> None:
    found = [pair["matches"] for pair in KEPT["pairs"]]
    assert found == sorted(found, reverse=True) and found[-1] >= KEPT["matches_at_least"]
    assert all(0 <= i < j < 900 for i, j in (pair["images"] for pair in KEPT["pairs"]))
    assert "changes" not in KEPT["commit"]


@pytest.mark.parametrize("arguments", [[], ["nowhere"]])
def test_a_wrong_call_ends_with_a_sentence_and_writes_nothing(
    arguments, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(same_places, "TARGET", tmp_path / "places.json")
    monkeypatch.setattr("sys.argv", ["same_places.py", *arguments])
    with pytest.raises(SystemExit, match=r"FULLIJCNN2013|nowhere: no gt\.txt"):
        same_places.main()
    assert not same_places.TARGET.exists()
