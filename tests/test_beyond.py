"""Tests of book/beyond.py."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

import beyond
from hw3.detection.models import build
from hw3.records import RunRecord
from hw3.settings import OURS


def segmented(**parts):
    """A record with, for each part, the pixels of each slice by patient and number."""
    columns = ("slice_indices", "true_positive", "false_positive", "false_negative")
    evidence = {
        part: {
            patient: dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
            for patient, rows in patients.items()
        }
        for part, patients in parts.items()
    }
    return RunRecord("unet", {}, {}, seed=0, evidence=evidence | {"pixels_per_slice": 100})


@pytest.mark.parametrize(
    ("image_size", "tiled", "sides", "expected"),
    [
        ((300, 300), False, (8, 8), False),  # the smallest default box is 21 pixels wide
        ((300, 300), False, (60, 60), True),
        ((800, 1360), False, (24, 24), False),  # 95 x 56 native pixels on a whole photograph
        ((800, 1360), True, (24, 24), True),
        # A wide image is squeezed in width alone: 21 pixels of the square are 84 across.
        ((300, 1200), False, (84, 21), True),
        ((300, 1200), False, (21, 84), False),
    ],
)
def test_ssd_covers_signs_of_the_size_of_its_boxes(image_size, tiled, sides, expected):
    centre = np.array([600, 150]) if image_size == (300, 1200) else np.array([130, 130])
    boxes = np.concatenate([centre - np.array(sides) / 2, centre + np.array(sides) / 2])[None]
    model = build(OURS["ssd300"].but(width=1 / 16))
    assert beyond.covered(model, boxes, tiled, image_size).tolist() == [expected]


def test_faster_rcnn_at_native_size_has_anchors_from_16_pixels():
    model = build(OURS["faster-rcnn"].but(width=1 / 16, fpn_channels=8))
    boxes = np.array([[100, 100, 100 + side, 100 + side] for side in (6, 16, 120)])
    assert beyond.covered(model, boxes, image_size=(192, 320)).tolist() == [False, True, True]


def test_runs_count_together_and_share_their_patients():
    first = segmented(test={"a": [(1, 6, 2, 2)]}, validation={"b": [(3, 1, 0, 1)]})
    second = segmented(test={"a": [(1, 8, 0, 0)]}, validation={"b": [(3, 2, 0, 0)]})
    counted = beyond.counts([first, second], ("validation", "test"))
    assert counted.patient_ids.tolist() == ["b", "a", "b", "a"]
    assert len(set(zip(counted.patient_ids, counted.slice_indices, strict=True))) == 4
    assert counted.triple.tolist() == [[1, 6, 2, 8], [0, 2, 0, 0], [1, 2, 0, 0]]
    assert counted.pixels == 100


def test_patients_are_compared_on_the_slices_that_both_have():
    before = beyond.counts(
        [segmented(test={"a": [(1, 6, 2, 2), (2, 0, 50, 0)], "c": [(1, 0, 9, 0)]})]
    )
    after = beyond.counts(
        [segmented(test={"a": [(1, 8, 0, 0)], "b": [(1, 5, 0, 0)], "c": [(1, 0, 0, 0)]})]
    )
    assert beyond.patient_dice(before, after).tolist() == [[0.75, 1]]  # c has no tumour
    nobody = beyond.counts([segmented(test={"d": [(1, 1, 0, 0)]})])
    assert beyond.patient_dice(before, nobody).shape == (0, 2)


def test_examined_files_are_read_together(tmp_path):
    paths = []
    for number in (1, 2):
        header = {"bins": {name: [number, 10] for name in beyond.BINNED}}
        own = {"patient_id": "a", "slice_index": number, "plain": [6, 2, 2], "averaged": [8, 0, 0]}
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps([header, own]))
    slices, bins = beyond.read_examined(paths)
    assert [own["slice_index"] for own in slices] == [1, 2]
    assert bins["tumour"].tolist() == [3, 20]
    assert beyond.looked_at(slices, "plain").false_negative.tolist() == [2, 2]
    assert beyond.looked_at(slices, "averaged").true_positive.tolist() == [8, 8]


def test_a_learning_curve_has_a_place_for_every_amount():
    simulated = {30: (0.8, (0.7, 0.9)), 0: (0.5, (0.4, 0.6))}
    axes = plt.figure().add_subplot()
    beyond.learning_curve(axes, {"first": simulated, "alone": {600: (0.2, (0.1, 0.3))}}, "images")
    assert [own.get_text() for own in axes.get_xticklabels()] == ["0", "30", "600"]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.8]
    plt.close(axes.figure)


def test_signs_found_and_false_alarms_are_means_over_runs():
    """The first run is sure of one sign of two, the second unsure of both, with a false alarm.

    IoU is 11/20 with both signs, and 9/20 in the false alarm.
    """
    sign, other, nothing = [0, 0, 20, 11], [100, 0, 20, 11], [100, 11, 20, 9]
    truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20], [100, 0, 120, 20]], "labels": [1, 2]}]
    runs = []
    for own in ([(1, sign, 0.9)], [(1, sign, 0.4), (2, other, 0.3), (2, nothing, 0.6)]):
        keys = ("category_id", "bbox", "score")
        found = [{"image_id": 7} | dict(zip(keys, box, strict=True)) for box in own]
        evidence = {"truths": truths, "detections": found}
        runs.append(RunRecord("ssd300", {}, {}, seed=0, evidence=evidence))
    rows = {group: cells for group, *cells in beyond.found_by_group(runs)}
    assert rows["prohibitory"] == [1, "1.0", "0.5", "0.0"]
    assert rows["mandatory"] == [1, "0.5", "0.0", "0.5"]
    assert rows["danger"] == [0, "0.0", "0.0", "0.0"]
    assert rows["all"] == [2, "1.5", "0.5", "0.5"]
