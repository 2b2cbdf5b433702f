"""The counts of real signs that the book shows, and the code that takes them."""

import json

import cv2
import numpy as np
import pytest

import count_signs
from hw3.detection.gtsdb import GROUPS, SIZE_GROUPS

SIGNS = ("00000.ppm;10;20;41;50;11", "00600.ppm;0;0;32;40;40", "00600.ppm;54;10;100;60;38")
COUNTS = json.loads(count_signs.TARGET.read_text())["counts"]


def test_counts_of_three_images_by_hand(tmp_path, monkeypatch) -> None:
    for image_id in (0, 1, 600):
        image = np.full((60, 100, 3), image_id % 256, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{image_id:05d}.ppm"), image)
    (tmp_path / "gt.txt").write_text("\n".join(SIGNS) + "\n")
    monkeypatch.setattr(count_signs, "TARGET", tmp_path / "counts.json")
    monkeypatch.setattr("sys.argv", ["count_signs.py", str(tmp_path)])
    count_signs.main()
    counts = json.loads((tmp_path / "counts.json").read_text())["counts"]
    assert counts.keys() == COUNTS.keys()
    train, test = counts["official"]["train"], counts["official"]["test"]
    assert (train["images"], train["images_without_signs"]) == (2, 1)
    assert (test["images"], test["images_without_signs"]) == (1, 0)
    assert train["signs"]["danger"] == {"small": 1, "medium": 0, "large": 0}
    assert test["signs"]["mandatory"] == {"small": 0, "medium": 1, "large": 1}
    assert not any(train["signs"]["mandatory"].values())
    assert sum(part["images"] for part in counts["random"].values()) == 3


@pytest.mark.parametrize("arguments", [[], ["nowhere"]])
def test_a_wrong_call_ends_with_a_sentence(arguments, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(count_signs, "TARGET", tmp_path / "counts.json")
    monkeypatch.setattr("sys.argv", ["count_signs.py", *arguments])
    with pytest.raises(SystemExit, match=r"FULLIJCNN2013|nowhere"):
        count_signs.main()
    assert not count_signs.TARGET.exists()


@pytest.mark.parametrize("split", ["official", "random"])
def test_the_parts_of_a_split_make_up_the_whole(split) -> None:
    whole, parts = COUNTS["all"]["all"], COUNTS[split].values()
    for name in ("images", "images_without_signs"):
        assert sum(part[name] for part in parts) == whole[name]
    for group in GROUPS:
        for size in SIZE_GROUPS:
            total = sum(part["signs"][group][size] for part in parts)
            assert total == whole["signs"][group][size]


def test_the_published_counts() -> None:
    """As published by group and by size, but for a small stop sign that gt.txt has twice."""
    parts = COUNTS["official"].values()
    train, test = (np.array([[*own["signs"][g].values()] for g in GROUPS]) for own in parts)
    assert train.sum(axis=1).tolist() == [396, 114, 156, 186 - 1]
    assert train.sum(axis=0).tolist() == [303 - 1, 266, 283]
    assert test.sum(axis=1).tolist() == [161, 49, 63, 88]
    assert test.sum(axis=0).tolist() == [110, 122, 129]
    found = [(own["images"], own["images"] - own["images_without_signs"]) for own in parts]
    assert found == [(600, 506), (300, 235)]
