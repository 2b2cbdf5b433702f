"""GTSDB's layout, read from small copies of it: what is right, and every fault."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hw3.detection.dataset import (
    GROUPS,
    SIZE_GROUPS,
    GtsdbDataset,
    group_of,
    read_gtsdb,
    size_group,
    split_official,
    split_random,
)
from hw3.errors import InputError

HEIGHT, WIDTH = 60, 100
SIGNS = (
    "00000.ppm;10;20;41;50;11",
    "00001.ppm;0;0;32;40;40",
    "00001.ppm;54;10;100;60;38",
    "00600.ppm;1;2;17;18;2",
)
Make = Callable[..., Path]
# Read before the tests begin, when HW3_DATA is set to a folder of their own.
PUBLISHED = Path(os.environ.get("HW3_DATA", "")) / "FullIJCNN2013"


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
            path = folder / f"{image_id:05d}{suffix}"
            cv2.imwrite(str(path), _image(image_id)[..., ::-1])
        return folder

    return make


def _counts(dataset: GtsdbDataset, image_ids: list[int] | None = None) -> np.ndarray:
    """(sign groups, size groups) int."""
    table = dataset.counts(image_ids)
    return np.array([[table[group][size] for size in SIZE_GROUPS] for group in GROUPS])


def _faults(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_gtsdb(folder)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".ppm", ".png"])
def test_published_layout(make: Make, suffix: str) -> None:
    folder = make(*SIGNS, suffix=suffix)
    (folder / "14").mkdir()
    shutil.copy(folder / f"00000{suffix}", folder / "14" / "00007.ppm")
    (folder / "ReadMe.txt").write_text("words")
    dataset = read_gtsdb(folder)
    assert len(dataset) == 5
    assert dataset.image_ids == (0, 1, 2, 600, 601)
    assert [path.name for path in dataset.paths] == [f"{i:05d}{suffix}" for i in dataset.image_ids]
    assert dataset.image_sizes == ((HEIGHT, WIDTH),) * 5
    assert dataset.notices == []
    assert [boxes.shape for boxes in dataset.boxes_xyxy] == [(1, 4), (2, 4), (0, 4), (1, 4), (0, 4)]
    assert all(boxes.dtype == np.float32 for boxes in dataset.boxes_xyxy)
    np.testing.assert_array_equal(dataset.boxes_xyxy[1], [[0, 0, 32, 40], [54, 10, 100, 60]])
    assert [ids.tolist() for ids in dataset.class_ids] == [[11], [40, 38], [], [2], []]
    assert [labels.tolist() for labels in dataset.labels] == [[3], [2, 2], [], [1], []]
    assert all(labels.dtype == np.int64 for labels in dataset.labels)
    for index, image_id in enumerate(dataset.image_ids):
        np.testing.assert_array_equal(dataset.image(index), _image(image_id))
    assert dataset.image(0).flags.writeable


def test_parent_folder_and_windows_line_ends(make: Make) -> None:
    folder = make(*SIGNS)
    expected = read_gtsdb(folder)
    text = (folder / "gt.txt").read_text().replace("\n", "\r\n")
    (folder / "gt.txt").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    found = read_gtsdb(folder.parent)
    assert found.folder == folder
    for one, other in zip(found.boxes_xyxy, expected.boxes_xyxy, strict=True):
        np.testing.assert_array_equal(one, other)


def test_jpeg_copies_and_preference_for_the_published_format(make: Make) -> None:
    folder = make(*SIGNS, suffix=".JPG")
    assert read_gtsdb(folder).image(0).shape == (HEIGHT, WIDTH, 3)
    cv2.imwrite(str(folder / "00000.ppm"), _image(0)[..., ::-1])
    dataset = read_gtsdb(folder)
    assert dataset.image_ids == (0, 1, 2, 600, 601)
    np.testing.assert_array_equal(dataset.image(0), _image(0))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("00000.ppm;10;20;41;50", "5 fields instead of 6"),
        ("00000.ppm,10,20,41,50,11", "1 fields instead of 6"),
        ("00000.ppm;10;20;41.5;50;11", "not whole numbers: 10;20;41.5;50;11"),
        ("00000.ppm;10;20;;50;11", "not whole numbers"),
        ("00000.ppm;10;20;41;50;" + "9" * 5000, "not whole numbers"),
        ("00000.ppm;10;20;41;50;43", "class 43 is outside 0-42"),
        ("00000.ppm;10;20;41;50;-1", "class -1 is outside 0-42"),
        ("00000.ppm;41;20;10;50;11", "the box is reversed"),
        ("00000.ppm;10;50;41;20;11", "the box is reversed"),
        ("00000.ppm;10;20;10;50;11", "the box is empty"),
        ("00000.ppm;10;20;41;20;11", "the box is empty"),
        ("00000.ppm;-1;20;41;50;11", "the box leaves the image, which is 100 x 60"),
        ("00000.ppm;10;20;101;50;11", "the box leaves the image"),
        ("00000.ppm;10;20;41;61;11", "the box leaves the image"),
        ("00003.ppm;10;20;41;50;11", "00003.ppm is not there"),
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
    message = _faults(folder)
    for fault in (
        "8 fault(s)",
        "00001.ppm: cannot be read: it is truncated",
        "00002.ppm: cannot be read",
        "line 1: class 50",
        "line 1: the box is reversed",
        "line 1: the box leaves",
        "line 2: 4 fields",
        "line 3: 00009.ppm is not there",
        "no sign in the 2 images",
    ):
        assert fault in message


def test_repeated_line_is_counted_once(make: Make) -> None:
    dataset = read_gtsdb(make(*SIGNS, SIGNS[1]))
    (notice,) = dataset.notices
    assert notice.startswith("gt.txt line 5 repeats line 2, 00001.ppm;0;0;32;40;40")
    assert len(dataset.boxes_xyxy[1]) == 2
    assert _counts(dataset).sum() == 4


def test_training_file_beside_test_images_is_refused(make: Make) -> None:
    folder = make(*SIGNS[:3])
    message = _faults(folder)
    assert "no sign in the 2 images 00600 to 00899" in message
    assert "take the full archive's gt.txt" in message
    for image_id in (600, 601):
        (folder / f"{image_id:05d}.ppm").unlink()
    assert len(read_gtsdb(folder)) == 3


@pytest.mark.parametrize("missing", ["gt.txt", "*.ppm", "*"])
def test_incomplete_folder(make: Make, missing: str) -> None:
    folder = make(*SIGNS)
    for path in folder.glob(missing):
        path.unlink()
    assert "no gt.txt with images" in _faults(folder)
    assert "no gt.txt with images" in _faults(folder / "nowhere")


def test_half_a_jpeg_is_no_image(make: Make) -> None:
    folder = make(*SIGNS, suffix=".jpg")
    path = folder / "00001.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    dataset = read_gtsdb(folder)
    with pytest.raises(InputError, match=r"00001\.jpg: cannot be decoded"):
        dataset.image(1)


def test_a_damaged_chunk_is_no_traceback(make: Make) -> None:
    folder = make(*SIGNS, suffix=".png")
    noise = np.random.default_rng(0).integers(256, size=(160, 160, 3), dtype=np.uint8)
    path = folder / "00001.png"
    Image.fromarray(noise).save(path)
    start, first, second = path.read_bytes().split(b"IDAT")
    path.write_bytes(start + b"IDAT" + first + b"!DAT" + second)
    dataset = read_gtsdb(folder)
    with pytest.raises(InputError, match=r"00001\.png: cannot be decoded \(broken PNG file"):
        dataset.image(1)


def test_a_header_that_is_not_implemented_is_a_fault(make: Make) -> None:
    folder = make(*SIGNS)
    path = folder / "00002.ppm"
    Image.new("RGB", (4, 4)).save(path, "DDS")  # Pillow goes by the content
    content = bytearray(path.read_bytes())
    content[80] = 1  # the pixel format's flags
    path.write_bytes(content)
    assert "00002.ppm: cannot be read: Unknown pixel format" in _faults(folder)


def test_fingerprint_follows_the_content(make: Make, tmp_path: Path) -> None:
    folder = make(*SIGNS)
    first = read_gtsdb(folder).fingerprint
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / ".fingerprint.json").unlink()
    assert read_gtsdb(moved).fingerprint == first
    path = folder / "00002.ppm"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert read_gtsdb(folder).fingerprint != first
    path.write_bytes(content)
    assert read_gtsdb(folder).fingerprint == first
    with (folder / "gt.txt").open("a") as file:
        file.write("00002.ppm;1;1;9;9;1\n")
    assert read_gtsdb(folder).fingerprint != first


def test_fingerprint_is_kept_until_a_file_changes(make: Make) -> None:
    folder = make(*SIGNS)
    first = read_gtsdb(folder).fingerprint
    cache = folder / ".fingerprint.json"
    cache.write_text(cache.read_text().replace(first, "kept"))
    assert read_gtsdb(folder).fingerprint == "kept"
    os.utime(folder / "00002.ppm", ns=(0, 0))
    assert read_gtsdb(folder).fingerprint == first
    for unusable in ("[broken", "[]", "{}"):
        cache.write_text(unusable)
        assert read_gtsdb(folder).fingerprint == first
    cache.unlink()
    cache.mkdir()  # can neither be read nor replaced
    assert read_gtsdb(folder).fingerprint == first


def test_counts_by_group_and_size(make: Make) -> None:
    dataset = read_gtsdb(make(*SIGNS))
    # Widths: danger 31, mandatory 32 and 46, prohibitory 16.
    np.testing.assert_array_equal(
        _counts(dataset), [[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], strict=True
    )
    np.testing.assert_array_equal(
        _counts(dataset, [1, 2]), [[0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]], strict=True
    )
    assert _counts(dataset, []).sum() == 0


def test_groups_of_the_43_classes() -> None:
    letters = "ppppppoppppdoooppo" + "d" * 14 + "o" + "m" * 8 + "oo"
    assert [GROUPS[group_of(class_id) - 1][0] for class_id in range(43)] == list(letters)
    with pytest.raises(KeyError):
        group_of(43)


def test_sizes_at_their_bounds() -> None:
    found = [size_group(width) for width in (16, 31, 32, 45, 46, 127)]
    assert found == ["small", "small", "medium", "medium", "large", "large"]


def test_random_split_is_a_partition_that_the_seed_decides() -> None:
    split = split_random(range(900), seed=3)
    assert list(split) == ["train", "test"]
    assert [len(ids) for ids in split.values()] == [720, 180]
    assert sorted(split["train"] + split["test"]) == list(range(900))
    assert all(ids == sorted(ids) for ids in split.values())
    assert split == split_random(reversed(range(900)), seed=3)
    assert split != split_random(range(900), seed=4)
    assert all(type(image_id) is int for image_id in split["test"])


def test_validation_is_carved_from_train() -> None:
    without = split_random(range(100), seed=3, test_share=0.3)
    split = split_random(range(100), seed=3, test_share=0.3, validation_share=0.1)
    assert list(split) == ["train", "validation", "test"]
    assert split["test"] == without["test"]
    assert sorted(split["train"] + split["validation"]) == without["train"]
    assert len(split["validation"]) == 7


def test_official_split() -> None:
    ids = [899, 0, 599, 600, 5]
    assert split_official(ids) == {"train": [0, 5, 599], "test": [600, 899]}
    split = split_official(range(900), seed=1, validation_share=0.1)
    assert [len(ids) for ids in split.values()] == [540, 60, 300]
    assert sorted(split["train"] + split["validation"]) == list(range(600))


def test_split_with_an_empty_part_is_refused() -> None:
    for split in (
        lambda: split_official(range(600)),
        lambda: split_random([1, 2], seed=0),
        lambda: split_random([], seed=0),
        lambda: split_random(range(5), seed=0, validation_share=0.1),
    ):
        with pytest.raises(InputError, match="leave a part empty"):
            split()


@pytest.mark.skipif(
    not (PUBLISHED / "gt.txt").is_file(),
    reason="needs the published data: set HW3_DATA to a folder with FullIJCNN2013 in it",
)
def test_published_data() -> None:
    dataset = read_gtsdb(PUBLISHED)
    assert dataset.image_sizes == ((800, 1360),) * 900
    (notice,) = dataset.notices  # a small stop sign; the published counts have it twice
    assert notice.startswith("gt.txt line 535 repeats line 533, 00340.ppm;827;543;851;567;14")
    official = split_official(dataset.image_ids)
    train, test = (_counts(dataset, official[part]) for part in ("train", "test"))
    assert train.sum(axis=1).tolist() == [396, 114, 156, 186 - 1]
    assert train.sum(axis=0).tolist() == [303 - 1, 266, 283]
    assert test.sum(axis=1).tolist() == [161, 49, 63, 88]
    assert test.sum(axis=0).tolist() == [110, 122, 129]
    with_signs = np.array([len(boxes) > 0 for boxes in dataset.boxes_xyxy])
    assert (with_signs[:600].sum(), with_signs[600:].sum()) == (506, 235)


def test_one_group_alone_leaves_every_image_and_none_of_the_other_signs(make: Make) -> None:
    dataset = read_gtsdb(make(*SIGNS))
    alone = dataset.only("mandatory")
    assert alone.image_ids == dataset.image_ids
    assert [boxes.tolist() for boxes in alone.boxes_xyxy] == [
        [],
        [[0, 0, 32, 40], [54, 10, 100, 60]],
        [],
        [],
        [],
    ]
    assert [ids.tolist() for ids in alone.class_ids] == [[], [40, 38], [], [], []]
    assert [boxes.shape[1] for boxes in alone.boxes_xyxy] == [4] * 5
    assert alone.counts(None)["mandatory"] == dataset.counts(None)["mandatory"]
