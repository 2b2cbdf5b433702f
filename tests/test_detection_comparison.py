"""Claims about hand-made records of ten images, each with a small, a medium and a large sign."""

from dataclasses import replace
from itertools import pairwise
from math import nan

import numpy as np
import pytest

from hw3.detection import ap, comparison
from hw3.errors import InputError
from hw3.records import RunRecord

WIDTHS = {"small": 20, "medium": 40, "large": 60}
UNDECIDED = "not decided"


def truths(*sizes: str, images: int = 10) -> list[dict]:
    """Signs of these sizes in each image; their labels run through 1 to 4."""
    return [
        {
            "image_id": image_id,
            "boxes_xyxy": [[100 * i, 0, 100 * i + WIDTHS[s], 30] for i, s in enumerate(sizes)],
            "labels": [(image_id + i) % 4 + 1 for i in range(len(sizes))],
        }
        for image_id in range(images)
    ]


def detections(of: list[dict], *sizes: str) -> list[dict]:
    """Detections that fit the truths of these sizes exactly."""
    return [
        {
            "image_id": truth["image_id"],
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 0.9,
        }
        for truth in of
        for (x1, y1, x2, y2), label in zip(truth["boxes_xyxy"], truth["labels"], strict=True)
        if x2 - x1 in [WIDTHS[size] for size in sizes]
    ]


def record(*found: str, signs: tuple[str, ...] = tuple(WIDTHS), images: int = 10) -> RunRecord:
    """A run whose detector finds all signs of these sizes, and nothing else."""
    own = truths(*signs, images=images)
    evidence = {"truths": own, "detections": detections(own, *found)}
    return RunRecord(name="run", settings={}, data={}, seed=0, evidence=evidence)


ALL, NOTHING = record(*WIDTHS), record()


def plain(shown: str) -> str:
    """Text with ordinary spaces."""
    return shown.replace("\N{NO-BREAK SPACE}", " ")


def test_a_summary_of_weights_that_were_not_trained_on_has_no_loss() -> None:
    run = replace(ALL, data={"split": {"train": [], "test": [1]}}, results={"ap50": 0.5, "ap": 0.2})
    lines = plain(comparison.summary({"start": run})).split("\n")
    assert lines[2:4] == ["| crops or images seen | 0 |", "| loss, mean of the last epoch | – |"]


def test_a_summary_has_a_column_for_each_run() -> None:
    run = replace(
        ALL,
        data={"split": {"train": [0], "test": [1, 2, 3]}},
        history=[{"samples": 600, "loss": 0.5}, {"samples": 600, "loss": 0.25}],
        results={"ap50": 0.9, "ap50_interval": [0.85, 0.95], "ap": None},
    )
    lines = plain(comparison.summary({"real": run, "page": run})).split("\n")
    assert lines[0] == "| measure | real | page |"
    assert lines[2:] == [
        "| crops or images seen | 1,200 | 1,200 |",
        "| loss, mean of the last epoch | 0.2500 | 0.2500 |",
        "| test images | 3 | 3 |",
        "| AP at IoU 0.5 | 0.900 [0.850, 0.950] | 0.900 [0.850, 0.950] |",
        "| AP, mean over IoU 0.50 to 0.95 | – | – |",
    ]


def cells(shown: str) -> list[list[str]]:
    """The cells of a Markdown table, without its header."""
    return [line.strip("| ").split(" | ") for line in shown.split("\n")[2:]]


def test_found_and_false_alarms_by_group() -> None:
    found = record("small", "medium", images=4)  # one small and one medium sign of each group
    first, *others = found.evidence["detections"]
    found.evidence["detections"] = [
        first | {"score": 0.4},
        *others,
        first | {"bbox": [900, 900, 30, 30], "score": 0.5},
        first | {"bbox": [900, 900, 30, 30], "score": 0.49},
    ]
    assert cells(comparison.found_by_group(found)) == [
        ["prohibitory", "3", "2", "1", "1"],
        ["mandatory", "3", "2", "2", "0"],
        ["danger", "3", "2", "2", "0"],
        ["other", "3", "2", "2", "0"],
        ["all", "12", "8", "7", "1"],
    ]


def test_errors_of_each_run_with_what_they_cost() -> None:
    shown = comparison.errors_by_kind({"first": record("small", images=12), "second": ALL})
    assert shown.split("\n")[0] == "| kind of error | which is | first | second |"
    assert [(row[0], *map(plain, row[2:])) for row in cells(shown)] == [
        ("classification", "0 (0.000)", "0 (0.000)"),
        ("localisation", "0 (0.000)", "0 (0.000)"),
        ("both", "0 (0.000)", "0 (0.000)"),
        ("duplicate", "0 (0.000)", "0 (0.000)"),
        ("background", "0 (0.000)", "0 (0.000)"),
        # Without the missed signs AP is 1; with them a third of each group's signs is found, which
        # is 34 of 101 levels of recall.
        ("missed", "24 (0.663)", "0 (0.000)"),
    ]


def claims(two_stage: RunRecord, one_stage: RunRecord) -> list[list[str]]:
    """Value and verdict of each claim."""
    rows = comparison.claims([(two_stage, one_stage)], resamples=200)
    return [[plain(cell) for cell in row[2:]] for row in rows]


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.01, 0.2), "holds"),
        ((1, 1), "holds"),
        ((-0.2, -0.01), "fails"),
        ((-0.1, 0.1), UNDECIDED),
        ((0.0, 0.2), UNDECIDED),  # 0 is in the interval
        ((-0.2, 0.0), UNDECIDED),
        ((0.0, 0.0), UNDECIDED),
        ((nan, nan), UNDECIDED),
    ],
)
def test_more_holds_if_the_interval_lies_above_nought(interval, verdict) -> None:
    assert comparison.more(*interval) == verdict


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.01, 0.03), "holds"),
        ((0.01, 0.03), "holds"),  # a difference, but a small one
        ((-0.05, 0.05), "holds"),
        ((0.0, 0.0), "holds"),
        ((0.051, 0.2), "fails"),
        ((-0.2, -0.051), "fails"),
        ((0.05, 0.2), UNDECIDED),
        ((-0.2, -0.05), UNDECIDED),
        ((-0.051, 0.05), UNDECIDED),
        ((-0.05, 0.051), UNDECIDED),
        ((-0.3, 0.3), UNDECIDED),
        ((nan, nan), UNDECIDED),
    ],
)
def test_nearly_equal_holds_if_the_interval_lies_within_the_margin(interval, verdict) -> None:
    assert comparison.NEARLY == 0.05
    assert comparison.nearly_equal(*interval) == verdict


def test_a_detector_that_finds_all_is_better_than_one_that_finds_nothing() -> None:
    nought = "+0.000 [+0.000, +0.000]"
    assert claims(ALL, NOTHING) == [
        ["+1.000 [+1.000, +1.000]", "holds"],
        [nought, "holds"],  # all sizes are found equally well
        *[[nought, UNDECIDED]] * 4,  # and by the other, equally badly
    ]
    assert claims(NOTHING, ALL)[0] == ["-1.000 [-1.000, -1.000]", "fails"]


@pytest.mark.parametrize("both", [ALL, NOTHING, record("medium")])
def test_equal_detectors_are_not_told_apart(both) -> None:
    assert claims(both, both)[0] == ["+0.000 [+0.000, +0.000]", UNDECIDED]


@pytest.mark.parametrize(
    ("two_stage", "one_stage", "values", "verdicts"),
    [
        (["small", "medium"], ["medium"], [1, 1, 1], ["fails", "holds", "holds"]),
        (["large"], ["large", "medium"], [1, 1, 0], ["fails", "holds", UNDECIDED]),
        (["medium"], ["small", "large"], [1, -1, -1], ["fails", "fails", "fails"]),
        (["small"], ["small", "medium"], [1, 0, 1], ["fails", UNDECIDED, "holds"]),
    ],
)
def test_sizes_are_compared_within_the_right_detector(
    two_stage, one_stage, values, verdicts
) -> None:
    rows = claims(record(*two_stage), record(*one_stage))[1:]
    assert [row[0] for row in rows[:3]] == [f"{v:+.3f} [{v:+.3f}, {v:+.3f}]" for v in values]
    assert [row[1] for row in rows[:3]] == verdicts
    assert rows[3:] == rows[1:3]  # signs are found at one score, so that AP is the share found


def partly(share: float, seed: int) -> RunRecord:
    """A detector that misses signs at random, and is wrong at times."""
    found = record(*WIDTHS, images=20)
    drawn = np.random.default_rng(seed)
    for detection in found.evidence["detections"]:
        detection["score"] = round(float(drawn.random()), 4)
        if drawn.random() > share:
            detection["bbox"][0] += 30
    return found


def test_values_and_intervals_are_those_of_the_scores() -> None:
    first, second = partly(0.7, 1), partly(0.6, 2)
    matches = [ap.match(r.evidence["truths"], r.evidence["detections"]) for r in (first, second)]
    two, one = map(ap.scores, matches)
    expected = [
        two["ap50"] - one["ap50"],
        max(two["ap50_by_size"].values()) - min(two["ap50_by_size"].values()),
        one["ap50_by_size"]["medium"] - one["ap50_by_size"]["small"],
        one["ap50_by_size"]["medium"] - one["ap50_by_size"]["large"],
    ]
    shares = comparison.recall_by_size(second)
    expected += [shares["medium"] - shares[size] for size in ("small", "large")]
    rows = claims(first, second)
    assert [row[0].split()[0] for row in rows] == [f"{value:+.3f}" for value in expected]
    assert all(0 < abs(value) < 1 for value in expected)
    low, high = ap.bootstrap(matches[0], against=matches[1], resamples=200)
    assert rows[0][0].endswith(f" [{low:+.3f}, {high:+.3f}]")
    assert low < expected[0] < high


def test_each_row_has_two_cells_and_two_for_each_pair() -> None:
    pairs = [(ALL, NOTHING), (record(images=4), record(*WIDTHS, images=4))]
    for count in (0, 1, 2):
        rows = comparison.claims(pairs[:count], resamples=20)
        assert [len(row) for row in rows] == [2 + 2 * count] * len(comparison.CLAIMS)
        assert all(isinstance(cell, str) for row in rows for cell in row)
    assert rows[0][3] == "holds"
    assert rows[0][5] == "fails"
    assert [row[0] for row in rows] == [claim for claim, *_ in comparison.CLAIMS]


def test_what_no_test_image_shows_is_undefined() -> None:
    few = [record(*WIDTHS, signs=("small", "medium")), record(signs=("small", "medium"))]
    rows = claims(*few)
    assert rows[0] == ["+1.000 [+1.000, +1.000]", "holds"]
    assert rows[1] == ["undefined", UNDECIDED]
    assert rows[3] == ["undefined", UNDECIDED]
    empty = record(signs=())
    assert claims(empty, empty) == [["undefined", UNDECIDED]] * 6


def test_detectors_tested_on_different_images_are_not_compared() -> None:
    with pytest.raises(InputError, match="different images"):
        claims(ALL, record(images=9))


def test_a_last_step_is_measured_on_all_images_and_where_nothing_was_chosen() -> None:
    before, after = (
        replace(own, settings={"split": "random"}) for own in (partly(0.5, 2), partly(0.7, 1))
    )
    shown = comparison.last_step([(before, after)], range(10), ("before", "after"), resamples=100)
    rows = [plain(line).split(" | ") for line in str(shown).split("\n")[2:]]
    assert [row[1:3] for row in rows] == [["all", "20"], ["that guided no choice", "10"]]
    for row, images in zip(rows, (range(20), range(10, 20)), strict=True):
        low, high = (
            ap.match(*comparison.restricted(run, images).evidence.values())
            for run in (before, after)
        )
        values = [float(ap.mean_average_precision(own)) for own in (low, high)]
        assert [float(cell.split()[0]) for cell in row[3:5]] == pytest.approx(values, abs=5e-4)
        interval = ap.bootstrap(high, against=low, resamples=100)
        assert row[5].split(" |")[0] == (
            f"{values[1] - values[0]:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"
        )


def test_where_every_image_guided_a_choice_there_is_one_row() -> None:
    official = replace(ALL, settings={"split": "official"})
    shown = comparison.last_step([(official, official)], range(10), ("a", "b"), resamples=10)
    assert len(str(shown).split("\n")) == 3


def test_a_step_between_runs_on_other_images_is_refused() -> None:
    few, many = record(*WIDTHS, images=4), replace(ALL, settings={"split": "official"})
    with pytest.raises(InputError, match="was tested on other images"):
        comparison.last_step([(few, many)], [], ("a", "b"), resamples=10)


def test_margins_of_detectors_without_doubt_are_nought() -> None:
    matches = [comparison.matches_of(run) for run in (ALL, NOTHING)]
    found = comparison.margins(*matches, images=[5, 50], resamples=50)
    assert list(found.values()) == [[0, 0]] * 3


def test_pairing_narrows_the_margin_of_a_difference_and_images_narrow_all() -> None:
    first, second = partly(0.7, 1), partly(0.6, 2)
    matches = [comparison.matches_of(run) for run in (first, second)]
    found = comparison.margins(*matches, images=[20, 320], resamples=400)
    alone, apart, together = found.values()
    for few, many in (alone, apart, together):
        assert many < few / 2.5  # a quarter, by the law of large numbers, and some luck
    assert all(np.array(alone) < apart)
    same = comparison.margins(matches[0], matches[0], images=[20], resamples=400)
    alone, apart, together = (own[0] for own in same.values())
    assert together == 0 and apart == pytest.approx(2**0.5 * alone, rel=0.2)
    # For as many images as there are, one detector's margin is half its bootstrap interval.
    low, high = ap.bootstrap(matches[0], resamples=1000)
    assert alone == pytest.approx((high - low) / 2, rel=0.15)


def test_margins_need_the_same_images() -> None:
    matches = [comparison.matches_of(run) for run in (ALL, record(images=9))]
    with pytest.raises(InputError, match="different images"):
        comparison.margins(*matches, images=[5])


def test_recall_is_the_share_of_signs_found_by_size() -> None:
    half = record("small", "large")
    assert comparison.recall_by_size(half) == {
        "small": 1.0,
        "medium": 0.0,
        "large": 1.0,
        "all": pytest.approx(2 / 3),
    }
    half.evidence["detections"] = [
        d for d in half.evidence["detections"] if d["image_id"] < 5 or d["bbox"][2] != 20
    ]
    assert comparison.recall_by_size(half)["small"] == 0.5
    assert set(comparison.recall_by_size(NOTHING).values()) == {0.0}


def test_recall_counts_a_sign_once_and_needs_the_right_group() -> None:
    doubled = record("small")
    doubled.evidence["detections"] += detections(doubled.evidence["truths"], "small")
    assert comparison.recall_by_size(doubled)["all"] == pytest.approx(1 / 3)
    for detection in doubled.evidence["detections"]:
        detection["category_id"] = detection["category_id"] % 4 + 1
    assert comparison.recall_by_size(doubled)["all"] == 0


def test_recall_of_a_size_without_signs_is_undefined() -> None:
    found = comparison.recall_by_size(record("small", signs=("small",)))
    assert found == pytest.approx(
        {"small": 1.0, "medium": nan, "large": nan, "all": 1.0}, nan_ok=True
    )


def test_gains_by_group_are_those_of_the_scores_with_paired_intervals() -> None:
    before, after = partly(0.5, seed=1), partly(0.9, seed=2)
    rows = cells(comparison.gain_by_group({"a": before, "b": after}))
    assert [row[0] for row in rows] == ["prohibitory", "mandatory", "danger", "other", "mean"]
    for own, label in zip(rows[:4], range(1, 5), strict=True):
        own_truths = [truth["labels"].count(label) for truth in before.evidence["truths"]]
        assert own[1] == str(sum(own_truths))
    first, second = (comparison.matches_of(run) for run in (before, after))
    was, becomes = (float(ap.mean_average_precision(matches)) for matches in (first, second))
    low, high = ap.bootstrap(second, against=first)
    assert rows[4][2:4] == [f"{was:.4f}", f"{becomes:.4f}"]
    assert plain(rows[4][4]) == f"{becomes - was:+.3f} [{low:+.3f}, {high:+.3f}]"


def test_a_group_without_signs_has_no_gain() -> None:
    signs = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
    run = RunRecord("run", {}, {}, seed=0, evidence={"truths": signs, "detections": []})
    rows = cells(comparison.gain_by_group({"a": run, "b": run}))
    assert rows[1] == ["mandatory", "0", "–", "–", "–"]
    assert plain(rows[0][4]) == "+0.000 [+0.000, +0.000]"


def test_gains_need_the_same_images() -> None:
    with pytest.raises(InputError, match="same"):
        comparison.gain_by_group({"a": record(images=3), "b": record(images=4)})


def seeds(*values: float, **changes) -> list[RunRecord]:
    """Runs of SSD300 with the seeds 0, 1, ... that reached these values."""
    runs = []
    for seed, value in enumerate(values):
        run = RunRecord(
            "run", {"model": "ssd300", "seed": seed}, data={"fingerprint": "f"}, seed=seed
        )
        run.results = {"ap50": value, "ap50_interval": [value - 0.1, value + 0.2]}
        run.history, run.seconds_training = [{"samples": 40}, {"samples": 40}], 60.0 * (seed + 1)
        run.hardware = {"device": "CPU", "count": 2}
        run.weights = {"start": "file", "start_sha256": "cafe"}
        runs.append(replace(run, **changes))
    return runs


def test_over_seeds_both_kinds_of_chance_are_told() -> None:
    rows = str(comparison.over_seeds({"three": seeds(0.7, 0.8, 0.9), "one": seeds(0.5)}))
    three, one = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows.split("\n")[2:])
    assert three == [
        "three",
        "80",
        "2.0, 4.0, 6.0",
        "0.700, 0.800, 0.900",
        "0.800",
        "± 0.100",
        "± 0.150",
    ]
    assert one == ["one", "80", "2.0", "0.500", "0.500", "–", "± 0.150"]


def test_settings_that_a_record_is_too_old_to_state_are_as_by_default() -> None:
    old, new = seeds(0.7, 0.8)
    new.settings |= {"hard_share": 0.0}
    comparison.over_seeds({"alike": [old, new]})
    new.settings |= {"hard_share": 0.5}
    with pytest.raises(InputError, match="other: its runs differ in more than their seed"):
        comparison.over_seeds({"other": [old, new]})


@pytest.mark.parametrize("field", ["data", "weights"])
def test_runs_on_other_data_or_from_another_start_are_no_seeds_of_one(field) -> None:
    runs = seeds(0.7, 0.8)
    other = {"data": {"fingerprint": "g"}, "weights": {"start": "file", "start_sha256": "beef"}}
    runs[1] = replace(runs[1], **{field: other[field]})
    with pytest.raises(InputError, match="differ in more than their seed"):
        comparison.over_seeds({"mixed": runs})


def test_the_same_seed_twice_says_nothing_of_seeds() -> None:
    with pytest.raises(InputError, match="twice: two of its runs have the same seed"):
        comparison.over_seeds({"twice": [*seeds(0.7), *seeds(0.7)]})


def scores_of(run: RunRecord) -> dict:
    return ap.scores(ap.match(run.evidence["truths"], run.evidence["detections"]))


def test_some_images_are_scored_as_if_there_were_no_others() -> None:
    whole = record("medium", "large")
    few = record("medium", "large", images=4)
    few_scores = ap.scores(ap.match(few.evidence["truths"], few.evidence["detections"]))
    assert scores_of(comparison.restricted(whole, {0, 1, 2, 3})) == few_scores
    assert scores_of(comparison.restricted(whole, range(10)))["ap50"] == pytest.approx(
        ap.mean_average_precision(comparison.matches_of(whole))
    )


@pytest.mark.parametrize("image_ids", [{3, 99}, set()])
def test_images_without_detections_of_this_run_are_not_scored(image_ids) -> None:
    with pytest.raises(InputError, match="run was tested on other images than these"):
        comparison.restricted(ALL, image_ids)


def test_seeds_may_draw_the_split_and_raise_other_numbers_of_false_alarms() -> None:
    runs = seeds(0.7, 0.8)
    for seed, run in enumerate(runs):
        run.data = {"fingerprint": "f", "split": {"test": [seed]}, "false_alarms": 100 + seed}
    assert "0.700, 0.800" in str(comparison.over_seeds({"random split": runs}))


def test_a_run_is_not_ahead_of_itself_and_not_compared_on_other_images() -> None:
    assert plain(comparison.ahead(ALL, ALL, 50)) == "+0.000 [+0.000, +0.000]"
    with pytest.raises(InputError, match="same"):
        comparison.ahead(record(images=3), record(images=4))


def test_the_published_groups_are_the_first_three_alone() -> None:
    signs = {"image_id": 7, "boxes_xyxy": [[x, 0, x + 20, 20] for x in (0, 40, 80, 120)]}
    found = [  # of prohibitory and other signs, the first and the last
        {"image_id": 7, "category_id": label, "bbox": [x, 0, 20, 20], "score": 0.9}
        for label, x in ((1, 0), (4, 120))
    ]
    run = RunRecord("run", {}, data={}, seed=0)
    run.evidence = {"truths": [signs | {"labels": [1, 2, 3, 4]}], "detections": found}
    assert plain(comparison.without_other(run)) == "0.333 [0.333, 0.333]"


def linked(*recipes: list[RunRecord]) -> list[RunRecord]:
    """All runs, each recipe's made to go on from those of the recipe before."""
    for number, (earlier, runs) in enumerate(pairwise(recipes)):
        for before, run in zip(earlier, runs, strict=True):
            before.weights["sha256"] = run.weights["start_sha256"] = f"{number}, {before.seed}"
            run.settings["weights"] = f"seed{before.seed}.safetensors"
    return [run for runs in recipes for run in runs]


def test_seeds_that_go_on_from_their_own_earlier_run_are_alike() -> None:
    earlier, runs = seeds(0.5, 0.6), seeds(0.7, 0.8)
    known = linked(earlier, runs)
    with pytest.raises(InputError, match="two: its runs differ in more than their seed"):
        comparison.over_seeds({"two": runs})
    row = str(comparison.over_seeds({"two": runs}, known)).split("\n")[2]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:4] == ["two", "160", "4.0, 8.0", "0.700, 0.800"]
    linked(earlier[::-1], runs)
    with pytest.raises(InputError, match="two: one of its runs goes on from a run with another"):
        comparison.over_seeds({"two": runs}, known)
    linked(earlier, runs)
    for changed in (runs[1], earlier[1]):
        epochs = changed.settings.pop("epochs", None)
        changed.settings["epochs"] = 99
        with pytest.raises(InputError, match="two: its runs differ in more than their seed"):
            comparison.over_seeds({"two": runs}, known)
        changed.settings |= {"epochs": epochs} if epochs else {}


def test_a_chain_of_three_counts_the_crops_and_minutes_of_all() -> None:
    known = linked(seeds(0.5, 0.6), seeds(0.6, 0.7), last := seeds(0.7, 0.8))
    cells = str(comparison.over_seeds({"last": last}, known)).split("\n")[2].split("|")
    assert [cell.strip() for cell in cells[2:4]] == ["240", "6.0, 12.0"]


def test_another_processor_does_not_part_the_seeds_of_a_recipe() -> None:
    runs = seeds(0.7, 0.8)
    runs[1].hardware = {"device": "CPU, a faster one", "count": 1}
    assert "2.0, 2.0" in str(comparison.over_seeds({"mixed": runs}))


@pytest.mark.parametrize(
    "runs",
    [[], seeds(0.7, results={"ap50": None, "ap50_interval": None})],
    ids=["none", "undefined"],
)
def test_no_run_and_no_score_say_nothing_of_seeds(runs) -> None:
    with pytest.raises(InputError, match="each with a defined AP"):
        comparison.over_seeds({"empty": runs})
