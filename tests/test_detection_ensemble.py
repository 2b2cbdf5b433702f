"""Several detectors scored as one."""

import numpy as np
import pytest
from ensemble_boxes import weighted_boxes_fusion

from hw3.detection import ap, comparison
from hw3.detection.ensemble import averaged, joined
from hw3.errors import InputError
from hw3.records import RunRecord


def knows(group: str | None, truths: list[dict], found: list[dict] = ()) -> RunRecord:
    evidence = {"truths": truths, "detections": list(found)}
    return RunRecord("run", {"group": group}, data={}, seed=0, evidence=evidence)


def signs(image_id: int, *pairs: tuple[int, int]) -> dict:
    """Signs of 20 pixels at these x, with these labels."""
    boxes = [[x, 0, x + 20, 20] for x, _ in pairs]
    return {"image_id": image_id, "boxes_xyxy": boxes, "labels": [label for _, label in pairs]}


def test_detectors_of_one_group_each_are_scored_as_one() -> None:
    box = {"bbox": [0, 0, 20, 20], "score": 0.9}
    first = knows(
        "prohibitory", [signs(7, (0, 1)), signs(8)], [{"image_id": 7, "category_id": 1} | box]
    )
    second = knows(
        "danger", [signs(7), signs(8, (0, 3), (50, 3))], [{"image_id": 8, "category_id": 3} | box]
    )
    together = joined([first, second])
    assert together.evidence["truths"] == [signs(7, (0, 1)), signs(8, (0, 3), (50, 3))]
    matches = comparison.matches_of(together)
    # Half of the signs of danger at full precision: 51 of 101 levels of recall.
    assert ap.mean_average_precision(matches) == pytest.approx((1 + 51 / 101) / 2)
    assert first.evidence["truths"] == [signs(7, (0, 1)), signs(8)]


@pytest.mark.parametrize("groups", [("danger", "danger"), ("danger", None)])
def test_detectors_that_share_a_group_are_not_joined(groups) -> None:
    with pytest.raises(InputError, match=r"the runs know danger, \w+: give one run a group"):
        joined([knows(group, [signs(7)]) for group in groups])


def test_detectors_on_different_images_are_not_joined() -> None:
    with pytest.raises(InputError, match="different images"):
        joined([knows("danger", [signs(7)]), knows("other", [signs(8)])])


def test_a_detector_of_one_group_counts_for_no_other() -> None:
    """Its weights may know more groups than it was trained on."""
    box = {"bbox": [0, 0, 20, 20], "score": 0.9}
    first = knows("prohibitory", [signs(7, (0, 1))], [{"image_id": 7, "category_id": 1} | box])
    stray = {"image_id": 8, "category_id": 1, "bbox": [40, 0, 20, 20], "score": 0.95}
    first.evidence["truths"].append(signs(8))
    second = knows(
        "mandatory", [signs(7), signs(8, (0, 2))], [stray, stray | box | {"category_id": 2}]
    )
    matches = comparison.matches_of(joined([first, second]))
    assert ap.mean_average_precision(matches) == pytest.approx(1)


def test_nothing_and_other_data_are_not_joined() -> None:
    with pytest.raises(InputError, match="give one run a group"):
        joined([])
    first, second = knows("danger", [signs(7)]), knows("other", [signs(7)])
    first.data, second.data = {"fingerprint": "f"}, {"fingerprint": "g"}
    with pytest.raises(InputError, match="different images"):
        joined([first, second])


def found(x: float, score: float, label: int = 1, image_id: int = 7) -> dict:
    """A detection of 20 pixels."""
    return {"image_id": image_id, "category_id": label, "bbox": [x, 0, 20, 20], "score": score}


def places(*runs: list[dict], images: tuple[int, ...] = (7,), **options: float) -> list[tuple]:
    """x and score of what detectors with these detections find together, by image and label."""
    truths = [signs(image_id) for image_id in images]
    together = averaged([knows(None, truths, own) for own in runs], **options)
    return [
        (own["image_id"], own["category_id"], own["bbox"][0], own["score"])
        for own in together.evidence["detections"]
    ]


def test_a_box_that_all_find_is_the_mean_weighted_by_scores() -> None:
    # (0.9 * 0 + 0.6 * 2 + 0.3 * 4) / 1.8 = 1.33
    three = [[found(0, 0.9)], [found(2, 0.6)], [found(4, 0.3)]]
    assert places(*three) == [(7, 1, 1.33, 0.6)]


def test_what_one_of_three_finds_counts_a_third() -> None:
    assert places([found(0, 0.9)], [], []) == [(7, 1, 0.0, 0.3)]


def test_two_boxes_of_one_detector_on_one_sign_are_one_find() -> None:
    # Both in a cluster of two detectors: no more than all of them can have found it.
    assert places([found(0, 0.9), found(0, 0.7)], [found(0, 0.8)]) == [(7, 1, 0.0, 0.8)]


def test_other_places_labels_and_images_stay_apart() -> None:
    first = [found(0, 0.9), found(60, 0.8)]
    second = [found(0, 0.6, label=2), found(0, 0.4, image_id=8)]
    assert sorted(places(first, second, images=(7, 8))) == [
        (7, 1, 0.0, 0.45),
        (7, 1, 60.0, 0.4),
        (7, 2, 0.0, 0.3),
        (8, 1, 0.0, 0.2),
    ]


def test_boxes_join_above_the_threshold_only() -> None:
    pair = [[found(0, 0.9)], [found(10, 0.9)]]  # 10 of 30 pixels shared: IoU 1 / 3
    assert len(places(*pair, iou_threshold=1 / 3 + 1e-9)) == 2
    assert places(*pair, iou_threshold=0.33) == [(7, 1, 5.0, 0.9)]


def test_boxes_of_score_0_are_left_out() -> None:
    assert places([found(0, 0.9), found(60, 0.0)], [found(2, 0.0)]) == [(7, 1, 0.0, 0.45)]


def test_nothing_found_is_nothing() -> None:
    assert places([], []) == []


def test_many_boxes_are_fused_as_by_the_authors_library() -> None:
    drawn = np.random.default_rng(0)
    runs, boxes, scores, labels = [], [], [], []
    for _ in range(3):
        corners = drawn.integers(0, 60, (40, 2))
        xyxy = np.hstack([corners, corners + drawn.integers(15, 40, (40, 2))])
        own_scores, own_labels = drawn.permutation(40) / 100 + 0.3, drawn.integers(1, 5, 40)
        detections = [
            {"image_id": 7, "category_id": int(label), "score": float(score)}
            | {"bbox": [*map(float, (x1, y1, x2 - x1, y2 - y1))]}
            for (x1, y1, x2, y2), score, label in zip(xyxy, own_scores, own_labels, strict=True)
        ]
        runs.append(knows(None, [signs(7)], detections))
        boxes.append(xyxy / 100), scores.append(own_scores), labels.append(own_labels)
    expected = weighted_boxes_fusion(boxes, scores, labels, iou_thr=0.4, skip_box_thr=0)
    detections = averaged(runs, iou_threshold=0.4).evidence["detections"]
    ours = sorted((own["score"], own["category_id"], *own["bbox"]) for own in detections)
    theirs = sorted(
        (score, label, *(100 * np.array([x1, y1, x2 - x1, y2 - y1])))
        for (x1, y1, x2, y2), score, label in zip(*expected, strict=True)
    )
    assert 40 < len(ours) == len(theirs) < 120
    np.testing.assert_allclose(ours, theirs, atol=6e-3)


def test_one_detector_has_no_mean_and_other_images_are_not_averaged() -> None:
    with pytest.raises(InputError, match=r"1 run\(s\) given: averaging takes two or more"):
        averaged([knows(None, [signs(7)])])
    with pytest.raises(InputError, match="different images"):
        averaged([knows(None, [signs(7)]), knows(None, [signs(8)])])


def test_detectors_of_different_groups_are_not_averaged() -> None:
    with pytest.raises(InputError, match="the runs know danger, None: give runs of one `group`"):
        averaged([knows("danger", [signs(7)]), knows(None, [signs(7)])])
    assert averaged([knows("danger", [signs(7)])] * 2).settings["group"] == "danger"
    earlier = knows(None, [signs(7)])
    earlier.settings = {}
    assert averaged([knows(None, [signs(7)]), earlier]).evidence["detections"] == []
