"""What runs reached and where they err, and the report's claims as differences with intervals."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from hw3.detection import ap
from hw3.detection.anchors import share_by_size
from hw3.detection.dataset import GROUPS, SIZE_GROUPS
from hw3.detection.error_types import KINDS, costs, counts, find_errors
from hw3.detection.experiment import settings_of
from hw3.errors import InputError
from hw3.records import RunRecord, chain
from hw3.tables import Markdown, score, table, with_interval

Pair = tuple[RunRecord, RunRecord]
"""A two-stage and a one-stage run, tested on the same images."""
NEARLY = 0.05
"""Differences of AP up to this count as "nearly none"; the report does not say what it meant."""


def matches_of(record: RunRecord) -> ap.Matches:
    """A run's detections, matched to the truths at an IoU of 0.5.

    Example:
        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> evidence = {"truths": truths, "detections": found}
        >>> matches = matches_of(RunRecord("ssd300", {}, data={}, seed=0, evidence=evidence))
        >>> matches.iou_thresholds.tolist(), matches.found[0].tolist()
        ([0.5], [[0]])
    """
    evidence = record.evidence
    return ap.match(evidence["truths"], evidence["detections"], np.array([0.5]))


def restricted(record: RunRecord, image_ids: Collection[int]) -> RunRecord:
    """A run as if it had been tested on some of its test images only; its results are left out.

    Raises:
        InputError: if there is none, or one that the run was not tested on.

    Example:
        The sign of image 7 is found, that of image 8 is not:

        >>> signs = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}
        >>> truths = [signs | {"image_id": image_id} for image_id in (7, 8)]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> evidence = {"truths": truths, "detections": found}
        >>> record = RunRecord("ssd300", {}, data={}, seed=0, evidence=evidence)
        >>> parts = [matches_of(restricted(record, own)) for own in ([7], [8], [7, 8])]
        >>> [round(float(ap.mean_average_precision(part)), 2) for part in parts]
        [1.0, 0.0, 0.5]
    """
    part = {
        name: [entry for entry in entries if entry["image_id"] in image_ids]
        for name, entries in record.evidence.items()
    }
    if not image_ids or len(part["truths"]) < len(image_ids):
        raise InputError(f"{record.name} was tested on other images than these")
    return replace(record, results={}, evidence=part)


def last_step(
    steps: Sequence[tuple[RunRecord, RunRecord]],
    guides: Collection[int],
    titles: tuple[str, str],
    resamples: int = 1000,
) -> Markdown:
    """A table of what the last step of a recipe brings, on all test images and on the unseen ones.

    If a step was chosen by its errors on test images, its gain there is flattered. Other images
    are free of that: those that a run was tested on and that guided no choice.

    Args:
        steps: a run before and a run after the step, tested on the same images, for each seed and
            split.
        guides: ids of the images on which recipes were chosen.
        titles: of the run before, and of the run after.
        resamples: of the bootstrap.

    Raises:
        InputError: if the runs of a step were tested on different images.

    Example:
        The step finds the sign of image 8; recipes were chosen on image 7 alone.

        >>> signs = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}
        >>> truths = [signs | {"image_id": image_id} for image_id in (7, 8)]
        >>> box = {"category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}
        >>> found = [box | {"image_id": image_id} for image_id in (7, 8)]
        >>> runs = [RunRecord("run", {"split": "random"}, data={}, seed=0) for _ in range(2)]
        >>> for run, own in zip(runs, (found[:1], found), strict=True):
        ...     run.evidence = {"truths": truths, "detections": own}
        >>> print(last_step([tuple(runs)], [7], ("third", "fourth"), resamples=100))
        | split, seed | test images | number | third | fourth | difference |
        | :-- | :-- | --: | --: | --: | --: |
        | random, 0 | all | 2 | 0.505 | 1.000 [1.000,... | +0.495 [+0.000,... |
        | random, 0 | that guided no choice | 1 | 0.000 | 1.000 [1.000,... | +1.000 [+1.000,... |
    """
    rows = []
    for step in steps:
        tested = {own["image_id"] for own in step[1].evidence["truths"]}
        for which, images in (("all", tested), ("that guided no choice", tested - set(guides))):
            if not images:
                continue
            runs = [restricted(run, images) for run in step]
            before, after = map(matches_of, runs)
            low, high = (float(ap.mean_average_precision(own)) for own in (before, after))
            alone = ap.bootstrap(after, resamples=resamples) or [np.nan] * 2
            rows.append(
                [
                    f"{step[1].settings['split']}, {step[1].seed}",
                    which,
                    len(images),
                    f"{low:.3f}",
                    with_interval(high, alone),
                    ahead(*reversed(runs), resamples),
                ]
            )
    return table(["split, seed", "test images", "number", *titles, "difference"], rows)


def ahead(first: RunRecord, second: RunRecord, resamples: int = 1000) -> str:
    """By how much AP at IoU 0.5 the first run is ahead of the second, with a 95 % interval.

    Raises:
        InputError: if they were tested on different images.

    Example:
        The first run finds the sign of both images, the second that of one:

        >>> signs = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}
        >>> truths = [{"image_id": 7} | signs, {"image_id": 8} | signs]
        >>> box = {"category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}
        >>> found = [{"image_id": 7} | box, {"image_id": 8} | box]
        >>> runs = [RunRecord("run", {}, data={}, seed=0) for _ in range(2)]
        >>> runs[0].evidence = {"truths": truths, "detections": found}
        >>> runs[1].evidence = {"truths": truths, "detections": found[:1]}
        >>> ahead(*runs, resamples=100)
        '+0.495 [+0.000,\N{NO-BREAK SPACE}+1.000]'
    """
    matched = [matches_of(run) for run in (first, second)]
    value, interval = _between_detectors(*matched, resamples)
    return with_interval(value, interval, "+.3f")


def without_other(run: RunRecord) -> str:
    """AP at IoU 0.5 over the three groups that others publish, with its 95 % interval.

    Example:
        The sign of the first group is found, that of the fourth, "other", is not counted:

        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]] * 2, "labels": [1, 4]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> evidence = {"truths": truths, "detections": found}
        >>> without_other(RunRecord("ssd300", {}, data={}, seed=0, evidence=evidence))
        '1.000 [1.000,\N{NO-BREAK SPACE}1.000]'
    """
    published = partial(ap.mean_average_precision, labels=(1, 2, 3))
    matches = matches_of(run)
    interval = ap.bootstrap(matches, published) or [np.nan, np.nan]
    return with_interval(float(published(matches)), interval)


def summary(runs: dict[str, RunRecord]) -> Markdown:
    """A table of what each run saw and reached: a column a run, under its title.

    Example:
        >>> record = RunRecord("ssd300", {}, data={"split": {"test": [7, 8]}}, seed=0)
        >>> record.history = [{"samples": 400, "loss": 5.0}, {"samples": 400, "loss": 2.5}]
        >>> record.results = {"ap50": 0.5, "ap": 0.25}
        >>> print(summary({"one-stage": record}))
        | measure | one-stage |
        | :-- | --: |
        | crops or images seen | 800 |
        | loss, mean of the last epoch | 2.5000 |
        | test images | 2 |
        | AP at IoU 0.5 | 0.500 |
        | AP, mean over IoU 0.50 to 0.95 | 0.250 |
    """
    measures: dict[str, Callable[[RunRecord], object]] = {
        "crops or images seen": lambda own: own.samples,
        "loss, mean of the last epoch": lambda own: (
            own.history[-1]["loss"] if own.history else None
        ),
        "test images": lambda own: len(own.data["split"]["test"]),
        "AP at IoU 0.5": lambda own: score(own.results, "ap50"),
        "AP, mean over IoU 0.50 to 0.95": lambda own: score(own.results, "ap"),
    }
    rows = [[name, *map(measure, runs.values())] for name, measure in measures.items()]
    return table(["measure", *runs], rows)


def found_by_group(record: RunRecord, score_threshold: float = 0.5) -> Markdown:
    """A table of the signs found and the false alarms of a run, at IoU 0.5, by group and in all.

    Example:
        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> evidence = {"truths": truths, "detections": found}
        >>> print(found_by_group(RunRecord("ssd300", {}, data={}, seed=0, evidence=evidence)))
        | group | signs | found at any score | found, score ≥ 0.5 | false alarms, score ≥ 0.5 |
        | :-- | --: | --: | --: | --: |
        | prohibitory | 1 | 1 | 1 | 0 |
        ...
        | all | 1 | 1 | 1 | 0 |
    """
    matches = matches_of(record)
    rows = []
    for label, group in enumerate(GROUPS, 1):
        signs = int((matches.truths["label"] == label).sum())
        own = matches.detections["label"] == label
        hits = own & (matches.found[0, 0] >= 0)
        confident = own & (matches.detections["score"] >= score_threshold)
        both = int((hits & confident).sum())
        rows.append([group, signs, int(hits.sum()), both, int(confident.sum()) - both])
    total = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
    limit = f"score ≥ {score_threshold}"
    header = ["signs", "found at any score", f"found, {limit}", f"false alarms, {limit}"]
    return table(["group", *header], [*rows, ["all", *total]])


def recall_by_size(record: RunRecord) -> dict[str, float]:
    """Share of signs that some detection of their group finds at IoU 0.5, by size and in all.

    Any score counts. Sizes without signs have nan.

    Example:
        >>> signs = [[0, 0, 20, 20], [100, 0, 160, 60]]
        >>> truths = [{"image_id": 7, "boxes_xyxy": signs, "labels": [1, 1]}]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> evidence = {"truths": truths, "detections": found}
        >>> recall_by_size(RunRecord("ssd300", {}, data={}, seed=0, evidence=evidence))
        {'small': 1.0, 'medium': nan, 'large': 0.0, 'all': 0.5}
    """
    matches = matches_of(record)
    found = np.isin(np.arange(len(matches.truths)), matches.found[0, 0])
    return share_by_size(found, matches.truths["size_group"])


def errors_by_kind(runs: dict[str, RunRecord], score_threshold: float = 0.5) -> Markdown:
    """A table of the kinds of error: how many each run makes, and the AP at IoU 0.5 each costs.

    Example:
        The sign is found as one of another group:

        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> found = [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> evidence = {"truths": truths, "detections": found}
        >>> record = RunRecord("ssd300", {}, data={}, seed=0, evidence=evidence)
        >>> print(errors_by_kind({"one-stage": record}))
        | kind of error | which is | one-stage |
        | :-- | :-- | --: |
        | classification | on a sign of another group | 1...(1.000) |
        ...
    """
    columns = []
    for record in runs.values():
        matches = matches_of(record)
        errors = find_errors(matches)
        cost = costs(matches, errors)
        columns.append(
            [
                f"{n:,}\N{NO-BREAK SPACE}({cost[kind]:.3f})"
                for kind, n in counts(matches, errors, score_threshold).items()
            ]
        )
    rows = [[kind, meaning] for kind, meaning in KINDS.items()]
    rows = [[*row, *cells] for row, *cells in zip(rows, *columns, strict=True)]
    return table(["kind of error", "which is", *runs], rows)


def claims(pairs: Sequence[Pair], resamples: int = 1000) -> list[list[str]]:
    """One row a claim: the claim, the difference, and for each pair its value and a verdict.

    Differences are of mean AP at IoU 0.5, or of the share of signs found at any score, with 95 %
    intervals from the same resampled images on both sides.

    Args:
        pairs: of runs, each pair on images of its own.
        resamples: of the bootstrap.

    Example:
        The first detector finds the sign of both images, the second none:

        >>> signs = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}
        >>> truths = [{"image_id": 7} | signs, {"image_id": 8} | signs]
        >>> box = {"category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}
        >>> found = [{"image_id": 7} | box, {"image_id": 8} | box]
        >>> pair = [RunRecord("run", {}, data={}, seed=0) for _ in range(2)]
        >>> pair[0].evidence = {"truths": truths, "detections": found}
        >>> pair[1].evidence = {"truths": truths, "detections": []}
        >>> print(*claims([pair], resamples=10)[0], sep="; ")
        Two stages are better.; two-stage − one-stage;
        +1.000 [+1.000,\N{NO-BREAK SPACE}+1.000]; holds
    """
    matched = [[matches_of(record) for record in pair] for pair in pairs]
    rows = []
    for claim, difference, measure, verdict in CLAIMS:
        row = [claim, difference]
        for two_stage, one_stage in matched:
            value, interval = measure(two_stage, one_stage, resamples)
            shown = with_interval(value, interval, "+z.3f")
            row += ["undefined" if np.isnan(value) else shown, verdict(*interval)]
        rows.append(row)
    return rows


def gain_by_group(runs: dict[str, RunRecord], resamples: int = 1000) -> Markdown:
    """A table of AP at IoU 0.5 by group and as their mean, and what the second run adds.

    Differences have 95 % intervals from the same resampled images on both sides.

    Args:
        runs: two by title, tested on the same images.
        resamples: of the bootstrap.

    Raises:
        InputError: if they were tested on different images.

    Example:
        The first run finds the sign of one image, the second that of both:

        >>> signs = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}
        >>> truths = [{"image_id": 7} | signs, {"image_id": 8} | signs]
        >>> box = {"category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}
        >>> found = [{"image_id": 7} | box, {"image_id": 8} | box]
        >>> runs = [RunRecord("run", {}, data={}, seed=0) for _ in range(2)]
        >>> runs[0].evidence = {"truths": truths, "detections": found[:1]}
        >>> runs[1].evidence = {"truths": truths, "detections": found}
        >>> print(gain_by_group(dict(zip(["short", "long"], runs, strict=True)), resamples=10))
        | group | signs | short | long | difference |
        | :-- | --: | --: | --: | --: |
        | prohibitory | 2 | ... | 1.0000 | +0.495 [...] |
        ...
    """
    first, second = map(matches_of, runs.values())
    labels = first.truths["label"]
    measures: dict[str, tuple[Callable[..., np.ndarray], np.ndarray]] = {
        group: (partial(ap.average_precision, label=label), labels == label)
        for label, group in enumerate(GROUPS, 1)
    }
    measures["mean"] = (ap.mean_average_precision, labels > 0)
    rows = []
    for name, (measure, own) in measures.items():
        values = [float(measure(matches)) for matches in (first, second)]
        interval = ap.bootstrap(second, measure, against=first, resamples=resamples)
        cells: list[Any] = [None] * 3
        if interval:
            cells = [*values, with_interval(values[1] - values[0], interval, "+.3f")]
        rows.append([name, int(own.sum()), *cells])
    return table(["group", "signs", *runs, "difference"], rows)


def margins(
    first: ap.Matches, second: ap.Matches, images: Sequence[int], resamples: int = 1000
) -> dict[str, list[float]]:
    """How far AP at IoU 0.5 lies from its mean in 95 % of test sets of a size.

    Half the width of the 95 % interval over test sets drawn, with replacement, from these images.

    Args:
        first: one detector, matched at 0.5.
        second: another, on the same images.
        images: sizes of the test sets.
        resamples: test sets drawn of each size.

    Returns:
        For one detector (the mean of both), for the difference of two that were tested on different
        images, and for that of two tested on the same: a margin for each size.

    Raises:
        InputError: if the two were matched on different images.

    Example:
        The first detector finds the sign of one image of two: its AP on two images drawn is 0, 0.5
        or 1. The second finds none.

        >>> signs = {"boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}
        >>> truths = [{"image_id": 7} | signs, {"image_id": 8} | signs]
        >>> found = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}]
        >>> first, second = (ap.match(truths, own, np.array([0.5])) for own in (found, []))
        >>> margin = margins(first, second, images=[2], resamples=100)
        >>> {name: round(values[0], 3) for name, values in margin.items()}
        {'one detector': 0.25, 'difference, each on its own images': 0.5,
         'difference, both on the same images': 0.5}
    """
    if not np.array_equal(first.image_ids, second.image_ids):
        raise InputError("the two detectors were matched on different images: use the same")
    count, generator = len(first.image_ids), np.random.default_rng(0)
    found: dict[str, list[float]] = {
        "one detector": [],
        "difference, each on its own images": [],
        "difference, both on the same images": [],
    }
    for size in images:
        drawn = generator.multinomial(size, np.full(count, 1 / count), (2, resamples))
        ours, theirs, theirs_elsewhere = (
            ap.mean_average_precision(matches, weights=weights)
            for matches, weights in ((first, drawn[0]), (second, drawn[0]), (second, drawn[1]))
        )
        alone = (_margin(ours) + _margin(theirs)) / 2
        for name, margin in zip(
            found, (alone, _margin(ours - theirs_elsewhere), _margin(ours - theirs)), strict=True
        ):
            found[name].append(margin)
    return found


def over_seeds(
    recipes: dict[str, Sequence[RunRecord]], known: Sequence[RunRecord] = ()
) -> Markdown:
    """A table of AP at IoU 0.5 over runs that differ in their seed alone, a row a recipe.

    The last two columns are the two kinds of chance: the standard deviation over seeds, and, as
    the mean of the runs, half of the 95 % interval over images.

    Args:
        recipes: by name, one run or more with different seeds, all with a defined AP. They may
            have run on different processors, which changes a run about as another seed does.
        known: runs that others may go on from, see `hw3.records.chain`; their crops and minutes
            count as well.

    Raises:
        InputError: if there is no run of a recipe, or its AP is undefined, or its runs differ in
            something else or share a seed. So it is with the runs that they go on from.

    Example:
        >>> settings = [{"model": "ssd300", "seed": seed} for seed in (0, 1)]
        >>> data = {"fingerprint": "f00d"}
        >>> runs = [RunRecord("run", own, data, seed=own["seed"]) for own in settings]
        >>> for run, ap50 in zip(runs, (0.75, 0.875), strict=True):
        ...     run.results = {"ap50": ap50, "ap50_interval": [ap50 - 0.125, ap50 + 0.125]}
        ...     run.history, run.seconds_training = [{"samples": 80}], 45.0
        ...     run.hardware = {"device": "CPU", "count": 2}
        >>> print(over_seeds({"short": runs}))
        | recipe | crops | core minutes of each | AP of each | mean | deviation over seeds | ... |
        | :-- | --: | --: | --: | --: | --: | --: |
        | short | 80 | 1.5, 1.5 | 0.750, 0.875 | 0.812 | ± 0.088 | ± 0.125 |
    """
    rows = []
    for name, runs in recipes.items():
        chains = [chain(run, known) for run in runs]
        _check_seeds(name, chains)
        minutes = [sum(run.device_minutes for run in chain) for chain in chains]
        values = np.array([run.results["ap50"] for run in runs])
        low, high = np.mean([run.results["ap50_interval"] for run in runs], axis=0)
        rows.append(
            [
                name,
                sum(run.samples for run in chains[0]),
                ", ".join(f"{own:.1f}" for own in minutes),
                ", ".join(f"{value:.3f}" for value in values),
                f"{values.mean():.3f}",
                f"± {values.std(ddof=1):.3f}" if len(values) > 1 else None,
                f"± {(high - low) / 2:.3f}",
            ]
        )
    header = ["recipe", "crops", "core minutes of each", "AP of each", "mean"]
    return table([*header, "deviation over seeds", "margin over images"], rows)


def more(low: float, high: float) -> str:
    """Verdict on "the first is larger than the second".

    Example:
        >>> [more(0.01, 0.2), more(-0.1, 0.2), more(-0.3, -0.1)]
        ['holds', 'not decided', 'fails']
    """
    return "holds" if low > 0 else "fails" if high < 0 else "not decided"


def nearly_equal(low: float, high: float) -> str:
    """Verdict on "the two hardly differ".

    Example:
        >>> [nearly_equal(-0.02, 0.04), nearly_equal(-0.02, 0.2), nearly_equal(0.1, 0.2)]
        ['holds', 'not decided', 'fails']
    """
    if low >= -NEARLY and high <= NEARLY:
        return "holds"
    return "fails" if low > NEARLY or high < -NEARLY else "not decided"


def _check_seeds(name: str, chains: Sequence[Sequence[RunRecord]]) -> None:
    runs = [own[0] for own in chains]
    if not runs or any(run.results["ap50"] is None for run in runs):
        raise InputError(f"{name}: give one run or more, each with a defined AP")
    alike = [
        (
            [replace(settings_of(run), seed=0, weights="") for run in own],  # known by content
            {run.data["fingerprint"] for run in own},
            own[-1].weights.get("start_sha256", own[-1].weights.get("start")),
        )
        for own in chains
    ]
    if any(own != alike[0] for own in alike):
        raise InputError(f"{name}: its runs differ in more than their seed")
    seeds = [{run.seed for run in own} for own in chains]
    if len(set().union(*seeds)) < len(runs):
        raise InputError(f"{name}: two of its runs have the same seed")
    if any(len(own) > 1 for own in seeds):
        raise InputError(f"{name}: one of its runs goes on from a run with another seed")


def _margin(values: np.ndarray) -> float:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(high - low) / 2


def _between_detectors(first: ap.Matches, second: ap.Matches, resamples: int) -> tuple:
    value = ap.mean_average_precision(first) - ap.mean_average_precision(second)
    return value, ap.bootstrap(first, against=second, resamples=resamples) or [np.nan, np.nan]


def _between_sizes(
    measure: Callable[..., np.ndarray],
    other_size: str,
    _two_stage: ap.Matches,
    one_stage: ap.Matches,
    resamples: int,
) -> tuple:
    def gap(matches: ap.Matches, **options: np.ndarray) -> np.ndarray:
        sizes = ("medium", other_size)
        medium, other = (measure(matches, size_group=size, **options) for size in sizes)
        return medium - other

    return gap(one_stage), ap.bootstrap(one_stage, gap, resamples=resamples) or [np.nan, np.nan]


def _over_sizes(two_stage: ap.Matches, _one_stage: ap.Matches, resamples: int) -> tuple:
    def spread(matches: ap.Matches, **options: np.ndarray) -> np.ndarray:
        sizes = [
            ap.mean_average_precision(matches, size_group=size, **options) for size in SIZE_GROUPS
        ]
        return np.max(sizes, axis=0) - np.min(sizes, axis=0)

    interval = ap.bootstrap(two_stage, spread, resamples=resamples)
    return spread(two_stage), interval or [np.nan, np.nan]


CLAIMS: tuple[tuple[str, str, Callable[..., tuple], Callable[[float, float], str]], ...] = (
    ("Two stages are better.", "two-stage − one-stage", _between_detectors, more),
    (
        f"Two-stage is nearly independent of size (within {NEARLY}).",
        "two-stage: best − worst size",
        _over_sizes,
        nearly_equal,
    ),
    *(
        (
            f"One-stage finds {size} signs less often than medium ones{how}.",
            f"one-stage{measured}: medium − {size}",
            partial(_between_sizes, measure, size),
            more,
        )
        for how, measured, measure in (
            (" (by AP)", "", ap.mean_average_precision),
            (" (at any score)", ", share found", ap.share_found),
        )
        for size in ("small", "large")
    ),
)
