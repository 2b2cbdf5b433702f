"""Average precision: by hand, against pycocotools, and against images that are really repeated."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hw3.data import InputError
from hw3.detection import ap
from hw3.detection.ap import (
    IOU_THRESHOLDS,
    SIZE_GROUPS,
    average_precision,
    match,
    pooled,
    share_found,
)

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


def random_case(generator, labels=LABELS, detected_labels=LABELS, images=6, ties=False):
    """Truths and detections on a quarter-pixel grid; half the detections are moved truths."""
    truths, found = [], []
    for image_id in generator.permutation(3 * images)[:images].tolist():
        count = generator.integers(5)
        sides = generator.integers(16 * 4, 70 * 4, (count, 2)) / 4
        # Repeated centres and common sides (32 and 45 among them) make equal IoUs and edge sizes.
        sides[generator.random(count) < 0.3] = generator.choice([24, 32, 45, 48])
        corners = generator.integers(0, 40, (count, 2)) * 5.0
        boxes = np.concatenate([corners, corners + sides], axis=1)
        names = generator.choice(labels, count) if count else np.zeros(0, dtype=int)
        truths.append({"image_id": image_id, "boxes_xyxy": boxes, "labels": names})
        for _ in range(generator.integers(13)):
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
    """pycocotools' AP (thresholds, labels, size groups), -1 turned into nan."""
    true = [
        detection(entry["image_id"], (x1, y1, x2 - x1, y2 - y1), 1.0, int(label))
        for entry in truths
        for (x1, y1, x2, y2), label in zip(entry["boxes_xyxy"], entry["labels"], strict=True)
    ]
    images = [{"id": entry["image_id"]} for entry in truths]
    categories, sets = [{"id": label} for label in LABELS], []
    with contextlib.redirect_stdout(io.StringIO()):
        for boxes in (true, detections):
            annotations = [
                own | {"id": number, "iscrowd": 0, "area": own["bbox"][2]}  # sizes are by width
                for number, own in enumerate(boxes, start=1)
            ]
            coco = COCO()
            coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
            coco.createIndex()
            sets.append(coco)
        evaluation = COCOeval(*sets, iouType="bbox")
        evaluation.params.areaRng = list(WIDTH_RANGES.values())
        evaluation.params.areaRngLbl = list(WIDTH_RANGES)
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    average = evaluation.eval["precision"][..., 0].mean(axis=1)
    return np.where(average < 0, np.nan, average)


def cases():
    generator = np.random.default_rng(7)
    truths, found = random_case(generator)
    boxes = [([10, 10, 50, 50], 1), ([10, 10, 50, 50], 1), ([12, 10, 52, 50], 1)]
    crowd = [detection(0, [11, 10, 40, 40], score, 1) for score in [0.5] * 30 + [0.9] * 3]
    others = [detection(0, [300, 300, 40, 40], 1 - k / 400) for k in range(120)]
    flat = [detection(0, [10, 10, 0, 40], 0.9), detection(0, [10, 10, 40, 0], 0.8)]
    return {
        "no detections": (truths, []),
        "no truths": ([truth(entry["image_id"]) for entry in truths], found),
        "crowd of duplicates": ([truth(0, *boxes), truth(1)], crowd),
        "more than 100, good one last": ([truth(0, *boxes)], others + crowd),
        "a label without truths": random_case(generator, labels=(1, 2)),
        "a label never detected": random_case(generator, detected_labels=(1, 2)),
        "flat boxes": ([truth(0, *boxes)], flat),
        "all scores equal": (truths, [entry | {"score": 0.5} for entry in found]),
        "truth given twice": ([truth(0, boxes[0], boxes[0])], crowd),
    } | {f"random {n}": random_case(np.random.default_rng(n), ties=n % 2 == 1) for n in range(20)}


@pytest.mark.parametrize(("truths", "found"), cases().values(), ids=cases())
def test_average_precision_equals_pycocotools(truths, found):
    matches = match(truths, found)
    ours = [
        [[average_precision(matches, k, t, size_group=s) for s in SIZE_GROUPS] for k in LABELS]
        for t in IOU_THRESHOLDS
    ]
    theirs = coco_average_precision(truths, found)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, equal_nan=True)


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
    precision, recall, score = ap.precision_recall(matches, 1)
    assert precision.tolist() == [1, 1 / 2, 2 / 3]
    assert recall.tolist() == [1 / 2, 1 / 2, 1]
    assert score.tolist() == [0.9, 0.8, 0.7]
    assert ap.interpolate(precision).tolist() == [1, 2 / 3, 2 / 3]
    exact = average_precision(matches, 1, interpolation="all")
    assert exact == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3, abs=1e-12)
    # Of the levels 0, 0.01, ..., 1, the 51 up to 0.5 have precision 1.
    assert average_precision(matches, 1) == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)


def test_the_mean_over_thresholds_by_hand():
    # 20 of 25 columns in common: IoU 0.8, which a threshold of 0.8 admits.
    matches = match([truth(0, ([0, 0, 20, 10], 2))], [detection(0, [0, 0, 25, 10], 0.5, 2)])
    assert ap.mean_average_precision(matches, None) == pytest.approx(0.7)


def test_mean_is_of_the_labels_asked_for_that_have_truths():
    found = [detection(0, [0, 0, 20, 20], 0.5, 1), detection(0, [0, 0, 20, 20], 0.9, 3)]
    matches = match([truth(0, ([0, 0, 20, 20], 1), ([60, 0, 80, 20], 2))], found)
    assert np.isnan(average_precision(matches, 3))
    assert ap.mean_average_precision(matches) == pytest.approx((1 + 0) / 2)
    assert ap.mean_average_precision(matches, labels=[1]) == pytest.approx(1)
    assert ap.mean_average_precision(matches, None, labels=[2, 3]) == pytest.approx(0)
    assert np.isnan(ap.mean_average_precision(matches, labels=[4]))


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


def run(found, tested, labels=(1,)):
    """A sign of each label in each image, and a detection of the first where it is found."""
    signs = [([0, 0, 20, 20], label) for label in labels]
    return match(
        [truth(image_id, *signs) for image_id in tested],
        [detection(image_id, [0, 0, 20, 20], 0.9) for image_id in found],
    )


def test_share_found_pools_the_labels_and_counts_images_by_weight():
    matches = three_detections()
    assert share_found(matches) == share_found(matches, "small") == 1
    assert np.isnan(share_found(matches, "large"))
    half = run([1], [1, 2], labels=(1, 2))
    weights = np.array([[1, 1], [3, 1], [0, 2], [0, 0]])
    assert share_found(half, weights=weights)[:3].tolist() == [1 / 4, 3 / 8, 0]
    assert np.isnan(share_found(half, weights=weights)[3])


def test_the_competitions_rule_by_hand():
    # IoU 11/20, 13/20 and 1: at 0.6 the best detection is wrong, those after it are right.
    boxes = [([0, 0, 20, 20], 1), ([100, 0, 120, 20], 1), ([200, 0, 220, 20], 4)]
    found = [
        detection(0, [0, 0, 20, 11], 0.9),
        detection(0, [100, 0, 20, 13], 0.8),
        detection(0, [200, 0, 20, 20], 0.7, 4),
    ]
    result = ap.scores(match([truth(0, *boxes)], found), resamples=20)
    assert result["competition"] == {
        "prohibitory": pytest.approx(1 / 2 * 1 / 2, abs=1e-12),
        "mandatory": None,
        "danger": None,
    }
    assert result["competition_interval"]["prohibitory"] == pytest.approx([1 / 4, 1 / 4])
    assert result["ap50"] == pytest.approx(1)


def noted(drawn):
    """A statistic that notes the weights it is given."""

    def statistic(matches, weights):
        drawn.append(weights)
        return share_found(matches, weights=weights)

    return statistic


def test_bootstrap_is_the_percentile_interval_over_resampled_images():
    truths, found = random_case(np.random.default_rng(8), images=10)
    matches, half, drawn = match(truths, found), match(truths, found[::2]), []
    value, (low, high) = pooled([matches], noted(drawn), [half], resamples=200, seed=4)
    assert value == share_found(matches) - share_found(half)
    assert drawn[0].shape == (201, 10) and np.all(drawn[0].sum(axis=1) == 10)
    assert np.all(drawn[0][0] == 1) and np.array_equal(*drawn)
    both = [share_found(own, weights=drawn[0][1:]) for own in (matches, half)]
    assert [low, high] == np.nanpercentile(both[0] - both[1], [2.5, 97.5]).tolist()
    assert low < high
    first, again, other = (pooled([matches], seed=seed) for seed in (4, 4, 5))
    assert first == again != other
    assert pooled([matches], against=[matches]) == (0, [0, 0])


def test_runs_on_the_same_images_share_their_draws():
    # One run finds both signs, the other none, whatever images are drawn. Of the runs, both times
    # the good one is drawn in 1/4 of the resamples, and both times the bad one in another.
    runs, drawn = [run([1, 2], [1, 2]), run([], [1, 2])], []
    assert pooled(runs, noted(drawn), resamples=400) == (0.5, [0, 1])
    assert np.array_equal(*drawn)
    # Runs that share a weakness, image 2, are no surer for being many.
    alike = [run([1], [1, 2])] * 8
    assert pooled(alike, share_found, resamples=400) == (0.5, [0, 1])
    assert pooled(alike, share_found, against=alike) == (0, [0, 0])


def test_runs_on_disjoint_images_are_drawn_with_their_own():
    runs, drawn = [run([1, 2], [1, 2]), run([3], [3, 4, 5])], []
    value, interval = pooled(runs, noted(drawn), resamples=2000)
    assert value == pytest.approx((1 + 1 / 3) / 2)  # of runs, not the 3 of 5 of merged images
    first, second = (own[1:] for own in drawn)
    assert (first.shape[1], second.shape[1]) == (2, 3)
    assert np.all(first.sum(axis=1) + second.sum(axis=1) == 5)
    assert set(first.sum(axis=1)) == set(range(6))  # one draw over all five images
    # The second run alone is drawn in 1/4 of the resamples, and scores 0 in about 1/3 of these.
    assert interval == [0, 1]


def test_undefined_runs_are_left_out_of_the_mean():
    undefined = run([], [7, 8], labels=())
    found = [run([1], [1, 2]), undefined]
    assert pooled(found, share_found, resamples=100) == (0.5, [0, 1])
    none = [run([], [1, 2]), undefined]
    assert pooled(found, share_found, against=none, resamples=100) == (0.5, [0, 1])
    value, interval = pooled([undefined] * 2)
    assert np.isnan(value) and interval is None


def test_runs_that_are_no_pairs_are_refused():
    one = run([1], [1, 2])
    with pytest.raises(InputError, match="different images"):
        pooled([one, one], against=[one, run([1], [1, 3])])
    for runs, against in (([one, one], [one]), ([one], []), ([], None)):
        with pytest.raises(InputError, match="give pairs, one at least"):
            pooled(runs, against=against)


def test_scores_are_plain_and_none_where_undefined():
    result = json.loads(json.dumps(ap.scores(three_detections(), resamples=50), allow_nan=False))
    others = {"mandatory": None, "danger": None, "other": None}
    assert result["ap50_by_class"] == {"prohibitory": result["ap50"]} | others
    assert result["ap50_by_class_interval"]["other"] is None
    assert result["ap50_by_size"] == pytest.approx({"small": 1, "medium": 1, "large": None})
    assert result["ap50_interval"] == pooled([three_detections()], resamples=50)[1]


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
    with pytest.raises(InputError, match="one at least"):
        match([], [])
