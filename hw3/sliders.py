"""Pictures with a threshold that the reader moves: boxes by score, a mask by probability.

Each is one piece of HTML without anything outside it. Every number that it can show was computed
here; its script only looks them up. Without scripts it is a still picture at the threshold 0.5.
"""

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import chain
from string import Template
from typing import Any

import cv2
import numpy as np

from hw3.detection.ap import Matches
from hw3.detection.dataset import GROUPS
from hw3.segmentation.metrics import count_pixels, dice
from hw3.style import PREDICTED, PREDICTED_RGB, TRUE

THRESHOLDS = np.arange(101) / 100
START = 50  # percent
FONT_SIZE = 12  # of the names of boxes, in pixels of the image
NARROWEST = 400  # pixels on the page, for small pictures
STEEP = 2550
"""Slope of the step from invisible to opaque, which ends before the next of 255 levels."""


class Html(str):
    """Text that a notebook renders as HTML.

    Example:
        >>> print(Html("<b>bold</b> in a notebook, its source elsewhere"))
        <b>bold</b> in a notebook, its source elsewhere
    """

    def _repr_html_(self) -> str:
        return str(self)


def score_slider(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    detections: list[dict[str, Any]],
    runs: dict[str, Matches],
    *,
    alt: str,
    caption: str,
) -> Html:
    """Boxes in one image, and precision and recall over many, from a score threshold upwards.

    Args:
        image: (height, width, 3) uint8.
        boxes_xyxy: (g, 4) true boxes of that image.
        detections: of that image, in COCO's results format.
        runs: by title, the matches at IoU 0.5 from which precision and recall are counted.
        alt: what is to be seen.
        caption: below it.

    Example:
        >>> from hw3.detection.ap import match
        >>> truths = [{"image_id": 0, "boxes_xyxy": [[2, 2, 22, 22]], "labels": [1]}]
        >>> found = [{"image_id": 0, "category_id": 1, "bbox": [2, 2, 20, 20], "score": 0.9}]
        >>> image, boxes = np.zeros((30, 40, 3), np.uint8), np.array([[2, 2, 22, 22]])
        >>> words = {"alt": "A box around a sign.", "caption": "One sign, one detection."}
        >>> page = score_slider(image, boxes, found, {"one run": match(truths, found)}, **words)
        >>> page.count("<rect"), page.count("<td>1 of 1</td>")
        (2, 1)
    """
    true = "".join(_box(x1, y1, x2 - x1, y2 - y1, TRUE, 4) for x1, y1, x2, y2 in boxes_xyxy)
    taken: list[tuple[float, float, float]] = []
    found = "".join(_named_box(detection, taken) for detection in detections)
    rows = {title: _precision_and_recall(matches) for title, matches in runs.items()}
    return _slider(
        image.shape,
        _photograph(image, image.shape) + true + found,
        rows,
        label="score threshold",
        low=0.05,
        corner="run",
        columns=["signs found", "false alarms", "precision", "recall"],
        alt=alt,
        caption=caption,
    )


def mask_slider(
    image: np.ndarray, mask: np.ndarray, probabilities: np.ndarray, *, alt: str, caption: str
) -> Html:
    """The predicted mask of one slice, its Dice and its two kinds of error, by threshold.

    Args:
        image: (height, width, 3) uint8, of any size.
        mask: (height, width) bool, the truth.
        probabilities: (height, width) float in [0, 1].
        alt: what is to be seen.
        caption: below it.

    Example:
        >>> mask = np.pad(np.ones((4, 4), bool), 6)
        >>> words = {"alt": "A square with its outline.", "caption": "A square, found at 0.8."}
        >>> page = mask_slider(np.zeros((16, 16, 3), np.uint8), mask, 0.8 * mask, **words)
        >>> page.count("<polygon"), page.count("<td>1.000</td>")
        (1, 1)
    """
    opacity = np.round(255 * probabilities).astype(np.uint8)
    color = np.broadcast_to(np.uint8(PREDICTED_RGB[::-1]), (*opacity.shape, 3))
    overlay = cv2.imencode(".png", np.dstack([color, opacity]))[1]
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    outlines = "".join(
        f'<polygon points="{" ".join(f"{x + 0.5},{y + 0.5}" for x, y in edge[:, 0])}" '
        f'fill="none" stroke="{TRUE}" stroke-width="1.5"/>'
        for edge in edges
    )
    name = _name(overlay.tobytes())
    step = (
        f'<filter id="{name}-step" color-interpolation-filters="sRGB"><feComponentTransfer>'
        f'<feFuncA type="linear" slope="{STEEP}" intercept="{-STEEP * START / 100}"/>'
        "</feComponentTransfer></filter>"
    )
    predicted = _picture(overlay, mask.shape, "png", f'filter="url(#{name}-step)" opacity="0.6"')
    return _slider(
        mask.shape,
        _photograph(image, mask.shape) + step + predicted + outlines,
        {"this slice": _dice_and_errors(probabilities, mask)},
        label="probability threshold",
        low=0.01,
        corner="",
        columns=["Dice", "pixels marked falsely", "tumour pixels left out"],
        alt=alt,
        caption=caption,
    )


def _precision_and_recall(matches: Matches) -> list[list[str]]:
    hit, signs = matches.found[0, 0] >= 0, len(matches.truths)
    rows = []
    for threshold in THRESHOLDS:
        kept = matches.detections["score"] >= threshold
        hits, all_kept = int((kept & hit).sum()), int(kept.sum())
        rows.append(
            [
                f"{hits:,} of {signs:,}",
                f"{all_kept - hits:,}",
                f"{hits / all_kept:.3f}" if all_kept else "–",
                f"{hits / signs:.3f}" if signs else "–",
            ]
        )
    return rows


def _dice_and_errors(probabilities: np.ndarray, mask: np.ndarray) -> list[list[str]]:
    rows = []
    for threshold in THRESHOLDS:
        counted = count_pixels(probabilities >= threshold, mask)
        rows.append([f"{dice(*counted):.3f}", *(f"{errors:,}" for errors in counted[1:])])
    return rows


def _slider(
    shape: tuple[int, ...],
    picture: str,
    rows: dict[str, list[list[str]]],
    *,
    columns: list[str],
    low: float,
    **words: str,
) -> Html:
    """Fill the template: `rows` holds, by title, a row's cells for each of the thresholds."""
    shown = {
        title: "".join(f"<td>{escape(cell)}</td>" for cell in own[START])
        for title, own in rows.items()
    }
    template = Template(files("hw3").joinpath("slider.html").read_text())
    return Html(
        template.substitute(
            {name: escape(text) for name, text in words.items()},
            name=_name((picture + words["caption"]).encode()),
            width=shape[1],
            height=shape[0],
            widest=max(shape[1], NARROWEST),
            picture=picture,
            low=low,
            start=f"{THRESHOLDS[START]:.2f}",
            header="".join(f'<th scope="col">{escape(column)}</th>' for column in columns),
            rows="".join(
                f'<tr><th scope="row">{escape(title)}</th>{own}</tr>'
                for title, own in shown.items()
            ),
            cells=json.dumps([[*chain(*own)] for own in zip(*rows.values(), strict=True)]),
        )
    )


def _photograph(image: np.ndarray, shape: tuple[int, ...]) -> str:
    return _picture(cv2.imencode(".jpg", image[..., ::-1])[1], shape, "jpeg")


def _picture(file: np.ndarray, shape: tuple[int, ...], kind: str, options: str = "") -> str:
    data = b64encode(file.tobytes()).decode()
    # Stretched, because slices are decoded to a square and their masks are as published.
    size = f'width="{shape[1]}" height="{shape[0]}" preserveAspectRatio="none"'
    return f'<image href="data:image/{kind};base64,{data}" {size} {options}/>'


def _box(x: float, y: float, width: float, height: float, color: str, line: float) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="none" stroke="{color}" stroke-width="{line}"/>'


def _named_box(detection: dict[str, Any], taken: list[tuple[float, float, float]]) -> str:
    """The box with its name above, or below where an earlier name, in `taken`, would be hidden."""
    x, y, width, height = detection["bbox"]
    name = f"{GROUPS[detection['category_id'] - 1]} {detection['score']:.2f}"
    length = 0.55 * FONT_SIZE * len(name)  # about: only the browser knows

    def hides(at: float) -> bool:
        return any(
            abs(at - line) < FONT_SIZE and x < right and left < x + length
            for left, right, line in taken
        )

    line = y - 4
    if hides(line) and not hides(y + height + FONT_SIZE):
        line = y + height + FONT_SIZE
    taken.append((x, x + length, line))
    hidden = "" if detection["score"] >= START / 100 else ' style="display: none"'
    return (
        f'<g data-score="{detection["score"]}"{hidden}>'
        f"{_box(x, y, width, height, PREDICTED, 2)}"
        f'<text x="{x:.1f}" y="{line:.1f}" fill="white" stroke="{PREDICTED}" stroke-width="3" '
        f'paint-order="stroke" font-size="{FONT_SIZE}" font-family="sans-serif">{escape(name)}'
        "</text></g>"
    )


def _name(content: bytes) -> str:
    """A name for an element that no other piece of the page has."""
    return f"slider-{sha256(content).hexdigest()[:8]}"
