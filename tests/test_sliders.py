"""The sliders' still pictures, and the numbers that their scripts look up."""

import json
import re
from base64 import b64decode
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from hw3 import sliders
from hw3.detection import ap
from hw3.sliders import mask_slider, score_slider

WORDS = {"alt": "what <is> seen", "caption": "A caption & more."}
IMAGE = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)


def parsed(html: str) -> ElementTree.Element:
    """The figure as a tree; its script is no XML and is left out."""
    return ElementTree.fromstring(
        re.sub(r"<script>.*?</script>|<input[^>]*>", "", html, flags=re.S)
    )


def cells(html: str) -> list[list[str]]:
    """What the script looks up: one list for each of the 101 thresholds."""
    return json.loads(re.search(r'type="application/json">(.*?)</script>', html)[1])


def detection(score: float, x: float = 10, label: int = 1) -> dict:
    return {"image_id": 1, "category_id": label, "bbox": [x, 10, 20, 20], "score": score}


@pytest.fixture
def scores() -> str:
    truths = [{"image_id": 1, "boxes_xyxy": [[10, 10, 30, 30]], "labels": [1]}]
    truths.append({"image_id": 2, "boxes_xyxy": [[10, 10, 30, 30]], "labels": [2]})
    found = [detection(0.9), detection(0.5, 50), detection(0.3, 50, 4)]
    matches = ap.match(truths, found)
    boxes = np.array(truths[0]["boxes_xyxy"])
    return score_slider(IMAGE, boxes, found, {"a run": matches, "another": matches}, **WORDS)


@pytest.fixture
def masks() -> str:
    mask = np.zeros((60, 80), bool)
    mask[10:20, 10:20] = True
    probabilities = np.zeros(mask.shape)
    probabilities[10:20, 10:15] = 0.9  # half of the tumour, surely
    probabilities[10:20, 15:30] = 0.4  # the other half, and as much again beside it, twice
    return mask_slider(IMAGE, mask, probabilities, **WORDS)


def test_numbers_of_the_score_slider(scores) -> None:
    table = cells(scores)
    assert len(table) == 101
    assert table[5] == ["1 of 2", "2", "0.333", "0.500"] * 2
    assert table[30] == table[5]  # a detection with the threshold's score is kept
    assert table[31] == table[50] == ["1 of 2", "1", "0.500", "0.500"] * 2
    assert table[51] == table[90] == ["1 of 2", "0", "1.000", "0.500"] * 2
    assert table[91] == table[100] == ["0 of 2", "0", "–", "0.000"] * 2


def test_numbers_of_the_mask_slider(masks) -> None:
    table = cells(masks)
    assert table[0] == [f"{2 * 100 / (4800 + 100):.3f}", "4,700", "0"]
    assert table[1] == table[40] == [f"{2 * 100 / (200 + 100):.3f}", "100", "0"]
    assert table[41] == table[90] == [f"{2 * 50 / (50 + 100):.3f}", "0", "50"]
    assert table[91] == ["0.000", "0", "100"]


@pytest.mark.parametrize("name", ["scores", "masks"])
def test_still_picture_shows_the_threshold_of_one_half(name, request) -> None:
    html = request.getfixturevalue(name)
    tree = parsed(html)
    assert [cell.text for cell in tree.iter("td")] == cells(html)[50]
    assert tree.find("label/span/output").text == "0.50"
    assert tree.find("svg").get("viewBox") == "0 0 80 60"
    assert tree.find("svg").get("aria-label") == WORDS["alt"]
    assert tree.find("figcaption").text == WORDS["caption"]
    first = tree.find("svg/image")
    assert (first.get("width"), first.get("height")) == ("80", "60")
    file = b64decode(first.get("href").partition(",")[2])
    assert cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR).shape == IMAGE.shape


def test_boxes_below_one_half_are_hidden_at_first(scores) -> None:
    groups = parsed(scores).findall("svg/g")
    assert [(own.get("data-score"), own.get("style")) for own in groups] == [
        ("0.9", None),
        ("0.5", None),
        ("0.3", "display: none"),
    ]
    assert groups[2].find("text").text == "other 0.30"
    true = parsed(scores).find("svg/rect")
    assert [float(true.get(key)) for key in ("x", "y", "width", "height")] == [10, 10, 20, 20]


def test_a_name_stands_below_its_box_where_it_would_hide_another(scores) -> None:
    # The first is "prohibitory 0.90", long enough to reach the two others, which share a box.
    lines = [float(own.find("text").get("y")) for own in parsed(scores).findall("svg/g")]
    assert lines == [6, 42, 6]


def test_mask_is_an_image_whose_opacity_is_the_probability(masks) -> None:
    overlay = parsed(masks).findall("svg/image")[1]
    file = b64decode(overlay.get("href").partition(",")[2])
    opacity = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3]
    assert opacity[15, 12] == round(0.9 * 255) and opacity[15, 17] == round(0.4 * 255)
    step = parsed(masks).find(".//feFuncA")
    slope, intercept = float(step.get("slope")), float(step.get("intercept"))
    assert -intercept / slope == 0.5
    assert overlay.get("filter") == f"url(#{parsed(masks).find('.//filter').get('id')})"


def test_a_slice_decoded_to_a_square_covers_its_mask() -> None:
    mask = np.zeros((60, 80), bool)
    pictures = parsed(mask_slider(IMAGE[:, :60], mask, 0.9 * mask, **WORDS)).findall("svg/image")
    assert len(pictures) == 2
    for own in pictures:
        place = [own.get(key) for key in ("width", "height", "preserveAspectRatio")]
        assert place == ["80", "60", "none"]


def test_nothing_comes_from_outside_and_names_differ(scores, masks) -> None:
    assert not re.search(r"(src|href)=\"(?!data:)", scores + masks)
    assert parsed(scores).get("id") != parsed(masks).get("id")


def test_no_sign_and_no_tumour_are_no_error() -> None:
    empty = ap.match([{"image_id": 1, "boxes_xyxy": [], "labels": []}], [])
    html = score_slider(IMAGE, np.zeros((0, 4)), [], {"run": empty}, **WORDS)
    assert cells(html)[50] == ["0 of 0", "0", "–", "–"]
    nothing = np.zeros((60, 80))
    assert cells(mask_slider(IMAGE, nothing > 0, nothing, **WORDS))[50] == ["1.000", "0", "0"]


def test_a_notebook_shows_it_as_html(scores) -> None:
    assert isinstance(scores, sliders.Html) and scores._repr_html_() == scores
