"""What kinds of error a detector makes, and how much average precision each of them costs.

The six kinds are those of TIDE (Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object
Detection Errors"). What a kind costs is the AP at IoU 0.5 that would be gained if its errors, and
no others, were mended.
"""

from dataclasses import dataclass, replace

import numpy as np

from hw3.detection.ap import Matches, box_iou, mean_average_precision

KINDS = {
    "classification": "on a sign of another group",
    "localisation": "beside a sign of this group, IoU too low",
    "both": "beside a sign of another group",
    "duplicate": "on a sign that a better detection found",
    "background": "on no annotated sign",
    "missed": "a sign that nothing comes near",
}
HIT = "hit"
FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoU from which a detection lies on a sign, and below which it lies on none."""


@dataclass(frozen=True, eq=False)
class Errors:
    """The kind of every detection, and the signs that are missed.

    Attributes:
        kinds: (n,) str, `HIT` or one of `KINDS`, in the order of `matches.detections`.
        truths: (n,) int, the truth that a classification or localisation error is about, or -1.
        missed: (g,) bool, truths that no detection found and none of those errors is about.
    """

    kinds: np.ndarray
    truths: np.ndarray
    missed: np.ndarray


def find_errors(matches: Matches) -> Errors:
    """Say of each detection what it is.

    Where several kinds would fit, the first of localisation, classification, duplicate, background
    and both is taken, as TIDE does.

    Args:
        matches: matched at an IoU of 0.5, among others.

    Example:
        IoU is 1, 1/3 and 0:

        >>> from hw3.detection.ap import match
        >>> truths = [{"image_id": 7, "boxes_xyxy": [[0, 0, 20, 20]], "labels": [1]}]
        >>> found = [
        ...     {"image_id": 7, "category_id": 1, "bbox": [x, 0, 20, 20], "score": score}
        ...     for x, score in ((0, 0.9), (10, 0.8), (50, 0.7))
        ... ]
        >>> find_errors(match(truths, found)).kinds.tolist()
        ['hit', 'localisation', 'background']
    """
    found = _found(matches)
    kinds = np.full(len(found), HIT, dtype="U14")
    about = np.full(len(found), -1)
    for row in np.flatnonzero(found < 0):
        detection = matches.detections[row]
        theirs = np.flatnonzero(matches.truths["image"] == detection["image"])
        [overlap] = box_iou(detection["xywh"][None], matches.truths["xywh"][theirs])
        same = matches.truths["label"][theirs] == detection["label"]
        kinds[row], nearest = _kind(overlap, same)
        about[row] = theirs[nearest] if nearest >= 0 else -1
    missed = ~np.isin(np.arange(len(matches.truths)), np.append(found, about))
    return Errors(kinds, about, missed)


def mend(matches: Matches, errors: Errors, kind: str) -> Matches:
    """The matches, at IoU 0.5 alone, of a detector that does not make this kind of error.

    The best detection with a wrong group or place for a sign that nothing found is put right; the
    other errors are taken away. Missed signs are taken out of the truths.
    """
    found, truths, detections = _found(matches).copy(), matches.truths, matches.detections.copy()
    if kind == "missed":
        number = np.append(np.cumsum(~errors.missed) - 1, -1)
        found, truths = number[found], truths[~errors.missed]
    wrong = errors.kinds == kind
    about, first = np.unique(errors.truths, return_index=True)  # detections: best score first
    mended = first[wrong[first] & (about >= 0) & ~np.isin(about, found)]
    found[mended] = errors.truths[mended]
    for name in ("label", "xywh", "size_group"):
        detections[name][mended] = truths[name][found[mended]]
    wrong[mended] = False
    return replace(
        matches,
        iou_thresholds=np.array([FOREGROUND]),
        truths=truths,
        detections=detections[~wrong],
        found=np.tile(found[~wrong], (len(matches.found), 1, 1)),
    )


def costs(matches: Matches, errors: Errors) -> dict[str, float]:
    """What each kind costs: mean AP at IoU 0.5 without it, minus mean AP as it is; or nan.

    Kinds do not add up to what the AP lacks: errors hide one another.
    """
    measured = mean_average_precision(matches, FOREGROUND)
    return {
        kind: float(mean_average_precision(mend(matches, errors, kind), FOREGROUND) - measured)
        for kind in KINDS
    }


def counts(matches: Matches, errors: Errors, score_threshold: float = 0.5) -> dict[str, int]:
    """How many errors of each kind have at least this score; missed signs count whatever it is."""
    confident = matches.detections["score"] >= score_threshold
    found = {kind: int((confident & (errors.kinds == kind)).sum()) for kind in KINDS}
    return found | {"missed": int(errors.missed.sum())}


def _found(matches: Matches) -> np.ndarray:
    """(n,) the truth that each detection found at IoU 0.5, whatever its size."""
    [threshold] = np.flatnonzero(np.isclose(matches.iou_thresholds, FOREGROUND))
    return matches.found[0, threshold]


def _kind(overlap: np.ndarray, same: np.ndarray) -> tuple[str, int]:
    """Kind of a wrong detection from its IoU with each truth of its image, and the truth meant."""
    own, other = (np.where(which, overlap, 0) for which in (same, ~same))
    if BACKGROUND <= own.max(initial=0) < FOREGROUND:
        return "localisation", int(own.argmax())
    if other.max(initial=0) >= FOREGROUND:
        return "classification", int(other.argmax())
    if own.max(initial=0) >= FOREGROUND:
        return "duplicate", -1
    if overlap.max(initial=0) < BACKGROUND:
        return "background", -1
    return "both", -1
