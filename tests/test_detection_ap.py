"""Average precision: by hand, against pycocotools, and against images that are really repeated."""

import contextlib
import io
import json
from functools import partial

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hw3.detection.ap import (
    IOU_THRESHOLDS,
    SIZE_GROUPS,
    average_precision,
    bootstrap,
    interpolate,
    match,
    mean_average_precision,
    precision_recall,
    scores,
)
from hw3.errors import InputError

LABELS = (1, 2, 3, 4)
WIDTH_RANGES = {
    "all": [0, 1e10],
    "small": [0, np.nextafter(32, 0)],
    "medium": [32, 45],
    "large": [np.nextafter(45, 46), 1e10],
}


def truth(image_id, *boxes_and_labels):
    boxes = np.array([box for box, _ in boxes_and_labels], dtype=float).reshape(-1, 4)
    labels = np.array([label for _, label in boxes_and_labels], dtype=int)
    return {"image_id": image_id, "boxes_xyxy": boxes, "labels": labels}


def detection(image_id, bbox, score, label=1):
    return {"image_id": image_id, "category_id": label, "bbox": list(bbox), "score": score}


def random_case(
    generator, images=6, signs=4, detections=12, labels=LABELS, detected_labels=LABELS, ties=False
):
    """Truths and detections on a quarter-pixel grid; half the detections are moved truths."""
    truths, found = [], []
    for image_id in generator.permutation(3 * images)[:images].tolist():
        count = generator.integers(signs + 1)
        sides = generator.integers(16 * 4, 70 * 4, (count, 2)) / 4
        # Repeated centres and common sides (32 and 45 among them) make equal IoUs and edge sizes.
        sides[generator.random(count) < 0.3] = generator.choice([24, 32, 45, 48])
        corners = generator.integers(0, 40, (count, 2)) * 5.0
        boxes = np.concatenate([corners, corners + sides], axis=1)
        names = generator.choice(labels, count) if count else np.zeros(0, dtype=int)
        truths.append({"image_id": image_id, "boxes_xyxy": boxes, "labels": names})
        for _ in range(generator.integers(detections + 1)):
            bbox = [*generator.integers(0, 800, 2) / 4, *generator.integers(64, 280, 2) / 4]
            label = generator.choice(detected_labels)
            if count and generator.random() < 0.7:
                which = generator.integers(count)
                scale = generator.choice([0, 1, 4])
                moved = generator.integers(-8, 9, 4) * scale / 4
                bbox = (np.concatenate([corners[which], sides[which]]) + moved).tolist()
                label = names[which] if generator.random() < 0.8 else label
            score = generator.integers(1, 5) / 4 if ties else generator.random()
            found.append(detection(image_id, map(float, bbox), float(score), int(label)))
    return truths, found


def coco_average_precision(truths, detections):
    """pycocotools' AP (thresholds, labels, size groups) and recall, -1 turned into nan."""
    images = [{"id": entry["image_id"]} for entry in truths]
    categories = [{"id": label} for label in LABELS]
    true = [
        {
            "image_id": entry["image_id"],
            "category_id": int(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": x2 - x1,
        }
        for entry in truths
        for (x1, y1, x2, y2), label in zip(
            entry["boxes_xyxy"].tolist(), entry["labels"], strict=True
        )
    ]
    found = [entry | {"area": entry["bbox"][2]} for entry in detections]
    sets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for annotations in (true, found):
            coco = COCO()
            numbered = [a | {"id": i, "iscrowd": 0} for i, a in enumerate(annotations, start=1)]
            coco.dataset = {"images": images, "categories": categories, "annotations": numbered}
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, iouType="bbox")
        evaluation.params.areaRng = list(WIDTH_RANGES.values())
        evaluation.params.areaRngLbl = list(WIDTH_RANGES)
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"][..., 0], evaluation.eval["recall"][..., 0]
    average = precision.mean(axis=1)
    return np.where(average < 0, np.nan, average), np.where(recall < 0, np.nan, recall)


def our_average_precision(truths, detections):
    matches = match(truths, detections)
    return np.array(
        [
            [[average_precision(matches, k, t, size_group=s) for s in SIZE_GROUPS] for k in LABELS]
            for t in IOU_THRESHOLDS
        ]
    )


def degenerate_cases():
    generator = np.random.default_rng(7)
    truths, found = random_case(generator)
    empty = [truth(entry["image_id"]) for entry in truths]
    boxes = [([10, 10, 50, 50], 1), ([10, 10, 50, 50], 1), ([12, 10, 52, 50], 1)]
    crowd = [detection(0, [11, 10, 40, 40], score, 1) for score in [0.5] * 30 + [0.9] * 3]
    many = [detection(0, [10 + k % 3, 10, 40, 40], 1 - k / 400, 1) for k in range(240)]
    flat = [detection(0, [10, 10, 0, 40], 0.9), detection(0, [10, 10, 40, 0], 0.8)]
    return {
        "no detections": (truths, []),
        "no truths": (empty, found),
        "neither": (empty, []),
        "one image, exact": ([truth(3, *boxes)], [detection(3, [10, 10, 40, 40], 0.5)]),
        "crowd of duplicates": ([truth(0, *boxes), truth(1)], crowd),
        "more than 100, good ones first": ([truth(0, *boxes)], many),
        "more than 100, good one last": (
            [truth(0, *boxes)],
            [detection(0, [300, 300, 40, 40], 1 - k / 400) for k in range(120)] + crowd,
        ),
        "a label without truths": random_case(generator, labels=(1, 2)),
        "a label never detected": random_case(generator, detected_labels=(1, 2)),
        "flat boxes": ([truth(0, *boxes)], flat),
        "all scores equal": (truths, [entry | {"score": 0.5} for entry in found]),
        "truth given twice": ([truth(0, boxes[0], boxes[0])], crowd),
    }


def difference(case):
    ours, theirs = our_average_precision(*case), coco_average_precision(*case)[0]
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    return np.nanmax(np.abs(ours - theirs), initial=0)


@pytest.mark.parametrize("name", degenerate_cases())
def test_degenerate_case_equals_pycocotools(name):
    assert difference(degenerate_cases()[name]) < 1e-9


@pytest.mark.parametrize("seed", range(60))
def test_random_case_equals_pycocotools(seed):
    generator = np.random.default_rng(seed)
    assert difference(random_case(generator, ties=seed % 2 == 1)) < 1e-9


def test_recall_equals_pycocotools():
    truths, found = random_case(np.random.default_rng(3), images=12)
    recall = coco_average_precision(truths, found)[1]
    matches = match(truths, found)
    for label in LABELS:
        for t, iou_threshold in enumerate(IOU_THRESHOLDS):
            for s, size_group in enumerate(SIZE_GROUPS):
                ours = precision_recall(matches, label, iou_threshold, size_group)[1]
                assert max(ours, default=0) == pytest.approx(recall[t, label - 1, s], nan_ok=True)


def three_detections():
    """Two signs; right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    truths = [truth(5, ([0, 0, 20, 20], 1), ([100, 0, 140, 40], 1)), truth(2)]
    found = [
        detection(5, [100, 0, 40, 40], 0.7),
        detection(5, [0, 0, 20, 20], 0.9),
        detection(2, [0, 0, 50, 20], 0.8),
    ]
    return match(truths, found)


def test_three_detections_by_hand():
    matches = three_detections()
    precision, recall, score = precision_recall(matches, 1)
    assert precision.tolist() == [1, 1 / 2, 2 / 3]
    assert recall.tolist() == [1 / 2, 1 / 2, 1]
    assert score.tolist() == [0.9, 0.8, 0.7]
    assert interpolate(precision).tolist() == [1, 2 / 3, 2 / 3]
    exact = average_precision(matches, 1, interpolation="all")
    assert exact == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3, abs=1e-12)
    # Of the levels 0, 0.01, ..., 1, the 51 up to 0.5 have precision 1.
    assert average_precision(matches, 1) == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)


def test_sizes_by_hand():
    matches = three_detections()
    assert average_precision(matches, 1, size_group="small") == pytest.approx(1)
    assert average_precision(matches, 1, size_group="medium") == pytest.approx(1)
    assert np.isnan(average_precision(matches, 1, size_group="large"))
    assert precision_recall(matches, 1, 0.5, "large")[0].tolist() == [0]


def test_iou_decides_at_each_threshold():
    # 20 of 25 columns in common: IoU 0.8, which a threshold of 0.8 admits.
    matches = match([truth(0, ([0, 0, 20, 10], 2))], [detection(0, [0, 0, 25, 10], 0.5, 2)])
    values = [average_precision(matches, 2, t) for t in IOU_THRESHOLDS]
    assert values == pytest.approx([1] * 7 + [0] * 3)
    assert mean_average_precision(matches, None) == pytest.approx(0.7)


def test_mean_leaves_out_labels_without_truths():
    found = [detection(0, [0, 0, 20, 20], 0.5, 1), detection(0, [0, 0, 20, 20], 0.9, 3)]
    matches = match([truth(0, ([0, 0, 20, 20], 1), ([60, 0, 80, 20], 2))], found)
    assert np.isnan(average_precision(matches, 3))
    assert mean_average_precision(matches) == pytest.approx((1 + 0) / 2)


def test_the_mean_is_that_of_the_labels_asked_for():
    matches = match(
        [truth(0, ([0, 0, 20, 20], 1), ([60, 0, 80, 20], 2))],
        [detection(0, [0, 0, 20, 20], 0.5, 1)],
    )
    assert mean_average_precision(matches, labels=[1]) == pytest.approx(1)
    assert mean_average_precision(matches, None, labels=[2, 3]) == pytest.approx(0)
    assert np.isnan(mean_average_precision(matches, labels=[4]))


def test_all_points_equal_the_sum_of_steps():
    truths, found = random_case(np.random.default_rng(11), images=20)
    matches = match(truths, found)
    for label in LABELS:
        precision, recall, _ = precision_recall(matches, label)
        steps = np.diff(recall, prepend=0)
        area = sum(step * precision[i:].max() for i, step in enumerate(steps))
        ours = average_precision(matches, label, interpolation="all")
        assert ours == pytest.approx(area, abs=1e-12)


def repeated(entries, image_ids, weights):
    """Image i's entries under as many new image ids as it is drawn times."""
    place = {image_id: index for index, image_id in enumerate(image_ids)}
    return [
        entry | {"image_id": 100 * place[entry["image_id"]] + copy}
        for entry in entries
        for copy in range(weights[place[entry["image_id"]]])
    ]


def test_weights_equal_repeated_images():
    truths, found = random_case(np.random.default_rng(5), labels=(1, 2))
    matches = match(truths, found)
    weights = np.random.default_rng(0).integers(0, 4, (25, len(truths)))
    weights[0] = 0
    for size_group in SIZE_GROUPS:
        for interpolation in ("101", "all"):
            options = {"size_group": size_group, "interpolation": interpolation}
            weighted = average_precision(matches, 1, 0.5, **options, weights=weights)
            assert np.isnan(weighted[0])
            for row, value in zip(weights[1:], weighted[1:], strict=True):
                sample = (repeated(entries, matches.image_ids, row) for entries in (truths, found))
                copies = average_precision(match(*sample), 1, 0.5, **options)
                np.testing.assert_allclose(value, copies, rtol=0, atol=1e-12)  # order of summing


def test_bootstrap_is_the_percentile_interval_over_resampled_images():
    truths, found = random_case(np.random.default_rng(8), images=10)
    matches, half = match(truths, found), match(truths, found[::2])
    drawn = []

    def statistic(matches, weights):
        drawn.append(weights)
        return mean_average_precision(matches, weights=weights)

    low, high = bootstrap(matches, statistic, half, resamples=200, seed=4)
    assert drawn[0].shape == (200, 10) and np.all(drawn[0].sum(axis=1) == 10)
    assert np.array_equal(drawn[0], drawn[1]), "the difference is of the same resamples"
    values = mean_average_precision(matches, weights=drawn[0])
    values -= mean_average_precision(half, weights=drawn[0])
    assert [low, high] == np.nanpercentile(values, [2.5, 97.5]).tolist()
    assert low < high
    assert bootstrap(matches, seed=4) == bootstrap(matches, seed=4) != bootstrap(matches, seed=5)
    assert bootstrap(matches, against=matches) == [0, 0]
    assert bootstrap(match(truths, []), partial(mean_average_precision, iou_threshold=None)) == [
        0,
        0,
    ]


def test_scores_have_the_keys_of_the_records():
    result = scores(three_detections(), resamples=50)
    keys = ("ap50", "ap", "ap_by_threshold", "ap50_by_class", "ap50_by_size")
    assert list(result) == [name for key in keys for name in (key, f"{key}_interval")]
    assert list(result["ap_by_threshold"]) == [f"0.{t}" for t in range(50, 100, 5)]
    assert result["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result["ap"] == pytest.approx(result["ap50"])
    others = {"mandatory": None, "danger": None, "other": None}
    assert result["ap50_by_class"] == {"prohibitory": result["ap50"]} | others
    assert result["ap50_by_class_interval"]["other"] is None
    assert result["ap50_by_size"] == pytest.approx({"small": 1, "medium": 1, "large": None})
    low, high = result["ap50_interval"]
    assert low <= result["ap50"] <= high
    json.dumps(result, allow_nan=False)


def test_faults_are_all_named():
    good = detection(0, [0, 0, 5, 5], 0.5)
    bad = [
        good | {"image_id": 7},
        good | {"category_id": 0},
        good | {"bbox": [0, 0, 5]},
        good | {"bbox": [0, 0, -1, 5]},
        good | {"score": float("nan")},
        {key: good[key] for key in ("image_id", "category_id", "bbox")},
    ]
    with pytest.raises(InputError) as error:
        match([truth(0), truth(0)], [good, *bad])
    named = [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert named == ["truths", *(f"detection {index}" for index in range(1, 7))]


def test_what_was_not_matched_is_refused():
    with pytest.raises(InputError, match="matched at"):
        average_precision(three_detections(), 1, 0.42)
    with pytest.raises(InputError, match="different images"):
        bootstrap(three_detections(), against=match([truth(0)], []))
    with pytest.raises(InputError, match="one at least"):
        match([], [])
