"""GTSDB's layout, read from small copies of it: what is right, and every fault."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw3.data import InputError
from hw3.detection.gtsdb import GROUPS, group_of, read_gtsdb, size_group, split

SAME_PLACES = Path(__file__).parent.parent / "book/same_places.json"
HEIGHT, WIDTH = 60, 100
SIGNS = (
    "00000.ppm;10;20;41;50;11",
    "00001.ppm;0;0;32;40;40",
    "00001.ppm;54;10;100;60;38",
    "00600.ppm;1;2;17;18;2",
)
Make = Callable[..., Path]


def _image(image_id: int) -> np.ndarray:
    return np.random.default_rng(image_id).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes FullIJCNN2013 with five images and these lines; returns its folder."""

    def make(*lines: str, suffix: str = ".ppm") -> Path:
        folder = tmp_path / "FullIJCNN2013"
        folder.mkdir()
        (folder / "gt.txt").write_text("".join(f"{line}\n" for line in lines))
        for image_id in (0, 1, 2, 600, 601):
            Image.fromarray(_image(image_id)).save(folder / f"{image_id:05d}{suffix}")
        return folder

    return make


def _faults(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_gtsdb(folder)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".ppm", ".PPM", ".png"])
def test_published_layout(make: Make, suffix: str) -> None:
    folder = make(*SIGNS, suffix=suffix)
    (folder / "14").mkdir()
    shutil.copy(folder / f"00000{suffix}", folder / "14" / "00007.ppm")
    (folder / "ReadMe.txt").write_text("words")
    dataset = read_gtsdb(folder)
    assert dataset.image_ids == (0, 1, 2, 600, 601)
    assert [path.name for path in dataset.paths] == [f"{i:05d}{suffix}" for i in dataset.image_ids]
    assert dataset.image_sizes == ((HEIGHT, WIDTH),) * 5
    assert (dataset.notices, dataset.kind) == ([], "real")
    assert [boxes.shape for boxes in dataset.boxes_xyxy] == [(1, 4), (2, 4), (0, 4), (1, 4), (0, 4)]
    assert {own.dtype for own in dataset.boxes_xyxy} == {np.dtype("float32")}
    np.testing.assert_array_equal(dataset.boxes_xyxy[1], [[0, 0, 32, 40], [54, 10, 100, 60]])
    assert [ids.tolist() for ids in dataset.class_ids] == [[11], [40, 38], [], [2], []]
    assert [labels.tolist() for labels in dataset.labels] == [[3], [2, 2], [], [1], []]
    assert dataset.counts()["mandatory"] == {"small": 0, "medium": 1, "large": 1}
    for index, image_id in enumerate(dataset.image_ids):
        np.testing.assert_array_equal(dataset.image(index), _image(image_id))


def test_parent_folder_with_a_lone_gt_txt_and_windows_line_ends(make: Make) -> None:
    folder = make(*SIGNS)
    expected = read_gtsdb(folder)
    text = (folder / "gt.txt").read_text().replace("\n", "\r\n")
    (folder / "gt.txt").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    (folder.parent / "gt.txt").write_text("another")
    (folder / ".simulated.json").write_text("{}")
    found = read_gtsdb(folder.parent)
    assert (found.folder, found.kind) == (folder, "simulated")
    for one, other in zip(found.boxes_xyxy, expected.boxes_xyxy, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("published", ["00000.ppm", "00000.PPM"])
def test_jpeg_copies_and_preference_for_the_published_format(make: Make, published: str) -> None:
    folder = make(*SIGNS, suffix=".jpg")
    assert read_gtsdb(folder).image(0).shape == (HEIGHT, WIDTH, 3)
    Image.fromarray(_image(0)).save(folder / published)
    dataset = read_gtsdb(folder)
    assert dataset.image_ids == (0, 1, 2, 600, 601)
    np.testing.assert_array_equal(dataset.image(0), _image(0))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("00000.ppm;10;20;41;50", "5 fields instead of 6"),
        ("00000.ppm;10;20;41.5;50;11", "not whole numbers: 10;20;41.5;50;11"),
        ("00000.ppm;10;20;41;50;" + "9" * 5000, "not whole numbers"),
        ("00000.ppm;10;\x1c20;41;50;11", r"control characters: '00000.ppm;10;\x1c20;41;50;11'"),
        ("00000.ppm;10;20;41;50;43", "class 43 is outside 0-42"),
        ("00000.ppm;10;20;41;50;-1", "class -1 is outside 0-42"),
        ("00000.ppm;41;20;10;50;11", "the box is reversed"),
        ("00000.ppm;10;50;41;20;11", "the box is reversed"),
        ("00000.ppm;10;20;41;20;11", "the box is empty"),
        ("00000.ppm;-1;20;41;50;11", "the box leaves the image, which is 100 x 60"),
        ("00000.ppm;10;20;101;50;11", "the box leaves the image"),
        ("00000.ppm;10;20;41;61;11", "the box leaves the image"),
        ("sign.ppm;10;20;41;50;11", "sign.ppm is not there"),
    ],
)
def test_each_fault_of_a_line(make: Make, line: str, fault: str) -> None:
    folder = make(SIGNS[0], "", line, *SIGNS[1:])
    message = _faults(folder)
    assert message.startswith(f"{folder}: 1 fault(s)")
    assert f"gt.txt line 3: {fault}" in message


def test_all_faults_in_one_message(make: Make) -> None:
    folder = make("00000.ppm;41;20;10;99;50", "00600.ppm;1;2;3", "00009.ppm;1;1;9;9;1")
    (folder / "00001.ppm").write_bytes((folder / "00001.ppm").read_bytes()[:-1])
    (folder / "00002.ppm").write_bytes(b"words")
    Image.fromarray(_image(601)[..., 0]).save(folder / "00601.ppm")
    message = _faults(folder)
    for fault in (
        "9 fault(s)",
        "00001.ppm: cannot be read: it is truncated",
        "00002.ppm: cannot be read",
        "00601.ppm: cannot be read: it is grey (P5), not colour (P6)",
        "no sign in the 2 images",
    ):
        assert fault in message


@pytest.mark.parametrize("again", [SIGNS[1], "00001.ppm; 0;00;32;40;40", "00001.PPM;0;0;32;40;40"])
def test_a_repeated_sign_is_counted_once(make: Make, again: str) -> None:
    dataset = read_gtsdb(make(*SIGNS, again, "00001.ppm;0;0;32;40;39"))
    assert dataset.notices == [f"gt.txt line 5 repeats line 2, {again}: left out"]
    assert dataset.class_ids[1].tolist() == [40, 38, 39]


def test_a_gt_txt_without_signs_in_the_test_images_or_in_any_is_refused(make: Make) -> None:
    folder = make(*SIGNS[:3])
    assert "no sign in the 2 images 00600 to 00899" in _faults(folder)
    for image_id in (600, 601):
        (folder / f"{image_id:05d}.ppm").unlink()
    assert len(read_gtsdb(folder)) == 3
    (folder / "gt.txt").write_text("")
    assert "gt.txt names no sign at all" in _faults(folder)


@pytest.mark.parametrize("missing", ["gt.txt", "*.ppm", "*"])
def test_incomplete_folder(make: Make, missing: str) -> None:
    folder = make(*SIGNS)
    for path in folder.glob(missing):
        path.unlink()
    for given in (folder, folder.parent, folder / "nowhere"):
        assert "no gt.txt with images" in _faults(given)


@pytest.mark.parametrize("name", ["TrainIJCNN2013", "TestIJCNN2013Download"])
def test_a_part_of_the_data_is_called_so(make: Make, name: str) -> None:
    whole = make(*SIGNS)
    part = whole.rename(whole.with_name(name))
    for given in (part, part.parent):
        assert f"{name} is only a part of the data; give FullIJCNN2013" in _faults(given)


def test_fingerprint_follows_the_content(make: Make, tmp_path: Path) -> None:
    folder = make(*SIGNS)
    first = read_gtsdb(folder).fingerprint
    assert read_gtsdb(shutil.copytree(folder, tmp_path / "elsewhere")).fingerprint == first
    for name, place in (("00002.ppm", -1), ("gt.txt", 10)):  # the last pixel, a box's corner
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place:][1:])
        assert read_gtsdb(folder).fingerprint != first
        path.write_bytes(content)


def test_groups_of_the_43_classes_and_sizes_at_their_bounds() -> None:
    letters = "ppppppoppppdoooppo" + "d" * 14 + "o" + "m" * 8 + "oo"
    assert [GROUPS[group_of(class_id) - 1][0] for class_id in range(43)] == list(letters)
    with pytest.raises(KeyError):
        group_of(43)
    found = [size_group(width)[0] for width in (16, 31, 32, 45, 46, 127)]
    assert found == list("ssmmll")


def test_random_split_is_a_partition_that_the_seed_decides() -> None:
    parts = split(range(900), "random", seed=3)
    assert [len(ids) for ids in parts.values()] == [720, 180]
    assert sorted(parts["train"] + parts["test"]) == list(range(900))
    assert all(ids == sorted(ids) for ids in parts.values())
    assert parts == split(reversed(range(900)), "random", seed=3)
    assert parts != split(range(900), "random", seed=4)
    assert all(type(image_id) is int for image_id in parts["test"])
    assert split(range(10), "random", seed=0)["test"] == [4, 6]  # as the runs so far had it


def test_official_split() -> None:
    ids = [899, 0, 599, 600, 5]
    assert split(ids, "official", seed=1) == {"train": [0, 5, 599], "test": [600, 899]}


def test_folds_test_each_training_image_once() -> None:
    folds = [split(range(900), f"fold{k}", seed=k) for k in range(3)]
    assert [(len(own["train"]), len(own["test"])) for own in folds] == [(400, 200)] * 3
    assert all(sorted(own["train"] + own["test"]) == list(range(600)) for own in folds)
    assert sorted(image_id for own in folds for image_id in own["test"]) == list(range(600))
    pairs = [own["images"] for own in json.loads(SAME_PLACES.read_text())["pairs"]]
    inside = [pair for pair in pairs if max(pair) < 600]
    assert inside and all(sum({*pair} <= {*own["test"]} for own in folds) == 1 for pair in inside)
    few = split(range(10), "fold1", seed=0)
    assert few == {"train": [0, 1, 2, 4, 5, 6, 8], "test": [3, 7, 9]}


@pytest.mark.parametrize(
    ("ids", "name"),
    [(range(600), "official"), ([1, 2], "random"), ([], "random"), ([0, 1], "fold0")],
)
def test_split_with_an_empty_part_is_refused(ids, name: str) -> None:
    with pytest.raises(InputError, match=f"split {name}: .* leave a part empty"):
        split(ids, name, seed=0)
