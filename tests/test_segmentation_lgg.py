import json
import os
import pickle
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from hw3.data import InputError
from hw3.segmentation import lgg
from hw3.segmentation.lgg import LggDataset, fetch_lgg, find_slices, read_lgg, split

SIDE = 32
PATIENTS = {"TCGA_CS_4941_19960909": (1, 2, 10), "TCGA_DU_5849_19950405": (1, 3)}
Read = Callable[..., LggDataset]


def example(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of a slice; the mask holds 7 x 5 pixels."""
    image = np.random.default_rng(number).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[7:14, 4:9] = 255
    return image, mask


def write_slice(root: Path, patient: str, number: int, image=None, mask=None) -> tuple[Path, Path]:
    default_image, default_mask = example(number)
    paths = [root / patient / f"{patient}_{number}{ending}.tif" for ending in ("", "_mask")]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(paths[0], default_image if image is None else image)
    tifffile.imwrite(paths[1], default_mask if mask is None else mask)
    return paths[0], paths[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A kaggle_3m of 2 patients and 5 slices, with the publisher's two files among the patients."""
    folder = tmp_path / "archive" / "kaggle_3m"
    for patient, numbers in PATIENTS.items():
        for number in numbers:
            write_slice(folder, patient, number)
    (folder / "data.csv").write_text("Patient,RNASeqCluster\n")
    (folder / "README.md").write_text("LGG\n")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def read(cache: Path) -> Read:
    return lambda folder, size=SIDE: read_lgg(folder, size=size, cache=cache)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def faults_of(folder: Path, read: Read) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"{len(lines)} fault(s) in the data set:"
    return lines


def light_dataset(slices_of: dict[str, int]) -> LggDataset:
    """A data set with names only."""
    numbers = [number for count in slices_of.values() for number in range(1, count + 1)]
    nothing = np.zeros((len(numbers), 0))
    patients = np.repeat(list(slices_of), list(slices_of.values()))
    return LggDataset(patients, np.array(numbers), nothing, nothing, nothing, "", "real")


def test_kaggle_3m_or_its_parent_without_the_archives_second_copy(root, read) -> None:
    found = read(root)
    shutil.copytree(root, root.parent / "lgg-mri-segmentation" / "kaggle_3m")
    shutil.copytree(root, root / "kaggle_3m")
    assert found.patient_ids.tolist() == [p for p, numbers in PATIENTS.items() for _ in numbers]
    assert found.fingerprint == read(root).fingerprint == read(root.parent).fingerprint
    shutil.rmtree(root)
    assert len(read(root.parent)) == 5


def test_slices_are_in_order_at_the_networks_size_and_as_published(root, read) -> None:
    found = read(root, 16)
    assert found.slice_indices.tolist() == [1, 2, 10, 1, 3]
    assert found.slice_id(2) == "TCGA_CS_4941_19960909_10"
    assert found.images.shape == (5, 16, 16, 3)
    assert {getattr(found, name).dtype for name in lgg.ARRAYS} == {np.dtype("uint8")}
    for index, number in enumerate(found.slice_indices):
        image, mask = example(number)
        blocks = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        assert np.abs(found.images[index] - blocks).max() <= 0.5
        np.testing.assert_array_equal(found.native_masks[index], mask // 255)
        np.testing.assert_array_equal(found.masks[index], mask[::2, ::2] // 255)


@pytest.mark.parametrize("size", [0, -16, 100])
def test_size_that_the_network_cannot_take(root, read, size) -> None:
    with pytest.raises(InputError, match=f"image_size is {size}: choose a multiple of 16"):
        read(root, size)


def test_masks_in_other_spellings_are_the_same_masks(root, read) -> None:
    before = np.array(read(root).native_masks)
    write_slice(root, "TCGA_CS_4941_19960909", 1, mask=example(1)[1] // 255)
    write_slice(root, "TCGA_CS_4941_19960909", 2, mask=np.dstack([example(2)[1]] * 3))
    np.testing.assert_array_equal(read(root).native_masks, before)


def test_endings_in_any_case_and_no_dot_files(root, read) -> None:
    before = read(root)
    for number, endings in enumerate([(".TIF", ".TIF"), (".tiff", ".tif"), (".Tif", ".TIFF")]):
        for path, ending in zip(find_slices(root)[number], endings, strict=True):
            path.rename(path.with_suffix(ending))
    for path in list(root.glob("*/*")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")  # as macOS leaves them
    checkpoints = root / ".ipynb_checkpoints"
    checkpoints.mkdir()
    shutil.copy(find_slices(root)[0][0], checkpoints)
    after = read(root)
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.masks, before.masks)


def without_mask(image: Path, mask: Path) -> tuple[Path, str]:
    mask.unlink()
    return image, "its mask TCGA_HT_1_1_1_mask.tif is missing"


def without_image(image: Path, mask: Path) -> tuple[Path, str]:
    image.unlink()
    return mask, "a mask without image"


def without_number(image: Path, mask: Path) -> tuple[Path, str]:
    mask.rename(mask.with_name("TCGA_HT_1_1_²_mask.tif"))
    return image.rename(image.with_name("TCGA_HT_1_1_².tif")), "not end in _<slice number>"


def with_a_number_twice(image: Path, mask: Path) -> tuple[Path, str]:
    for path in (image, mask):
        shutil.copy(path, path.with_name(path.name.replace("_1_1_", "_1_1_0")))
    return image, f"the same slice as TCGA_HT_1_1_0{image.stem.rsplit('_')[-1]}.tif; delete or"


def with_two_masks(_image: Path, mask: Path) -> tuple[Path, str]:
    return Path(shutil.copy(mask, mask.with_suffix(".tiff"))), f"the same slice as {mask.name}"


def with_a_smaller_mask(_image: Path, mask: Path) -> tuple[Path, str]:
    tifffile.imwrite(mask, np.zeros((SIDE, SIDE - 1), np.uint8))
    return mask, "mask is (32, 31), its image (32, 32)"


def larger(image: Path, mask: Path) -> tuple[Path, str]:
    tifffile.imwrite(image, np.zeros((40, 40, 3), np.uint8))
    tifffile.imwrite(mask, np.zeros((40, 40), np.uint8))
    return image, "is (40, 40), the first slice (32, 32)"


def with_half_a_mask(_image: Path, mask: Path) -> tuple[Path, str]:
    cut(mask, 0.6)
    return mask, "it is cut"


def with_other_values(_image: Path, mask: Path) -> tuple[Path, str]:
    tifffile.imwrite(mask, np.eye(SIDE, dtype=np.uint8) * 7 + example(1)[1])
    return mask, "mask values [0, 6, 7, 255]"


def with_a_coloured_mask(image: Path, mask: Path) -> tuple[Path, str]:
    shutil.copy(image, mask)
    return mask, "a mask with colours"


def copied_as_a_folder(image: Path, _mask: Path) -> tuple[Path, str]:
    root = image.parent.parent
    write_slice(root, "TCGA_HT_2_2", 1)
    copy = shutil.copytree(root / "TCGA_HT_2_2", root / "TCGA_HT_2_2 - Copy")
    return Path(copy), "1 slice(s) of TCGA_HT_2_2 in this folder; delete what is a copy, or move"


def as_a_png(image: Path, mask: Path) -> tuple[Path, str]:
    mask.unlink()
    return image.rename(image.with_suffix(".png")), "a slice that is no TIFF; convert it"


def one_folder_too_deep(image: Path, mask: Path) -> tuple[Path, str]:
    deeper = image.parent.parent / "part" / image.parent.name
    deeper.mkdir(parents=True)
    for path in (image, mask):
        path.rename(deeper / path.name)
    return deeper, "slices one folder too deep; move it up"


BY_NAME = [without_mask, without_image, without_number, as_a_png, one_folder_too_deep]
BY_CONTENT = [
    *(with_a_number_twice, with_two_masks, with_a_smaller_mask, larger, with_half_a_mask),
    *(with_other_values, with_a_coloured_mask, copied_as_a_folder),
]


@pytest.mark.parametrize("damages", [BY_NAME, BY_CONTENT], ids=["names", "contents"])
def test_all_faults_are_named_with_their_paths(root, read, cache, damages) -> None:
    read(root)  # what is in the cache hides no fault
    before = sorted(cache.iterdir())
    named = [
        damage(*write_slice(root, "TCGA_HT_1_1", number))
        for number, damage in enumerate(damages, start=1)
    ]
    for line, (path, reason) in zip(faults_of(root, read), sorted(named), strict=True):
        assert line.startswith(f"  {path}: ") and reason in line
    assert sorted(cache.iterdir()) == before


@pytest.mark.parametrize("count", [1, 5])
def test_slices_that_cannot_be_decoded_are_not_blamed_on_the_others(root, read, count) -> None:
    images = [image for image, _ in find_slices(root)[:count]]
    for image in images:
        cut(image, 0.5)
    named = [line.split(":")[0].strip() for line in faults_of(root, read)]
    assert named == sorted(map(str, images))


def test_no_pair_at_all(root, read) -> None:
    for _, mask in find_slices(root):
        mask.unlink()
    assert len(faults_of(root, read)) == 5


def test_no_slice_in_a_patients_folder(tmp_path, read) -> None:
    (tmp_path / "kaggle_3m").mkdir()
    tifffile.imwrite(tmp_path / "kaggle_3m" / "TCGA_CS_1_1_1.tif", example(1)[0])
    for folder in (tmp_path, tmp_path / "kaggle_3m", tmp_path / "missing"):
        with pytest.raises(InputError, match=f"{folder}: no kaggle_3m/<patient>/"):
            read(folder)


def test_masks_that_look_inverted_are_noticed_each_time(root, read, capsys) -> None:
    half = np.repeat([0, 255], SIDE // 2).astype(np.uint8)
    write_slice(root, "TCGA_HT_1_1", 1, mask=np.tile(half, (SIDE, 1)))
    read(root)
    assert not capsys.readouterr().out
    write_slice(root, "TCGA_HT_1_1", 2, mask=255 - example(2)[1])
    for _ in range(2):
        read(root)
        notice = "1 mask(s) are mostly white, such as TCGA_HT_1_1_2_mask.tif: inverted?"
        assert capsys.readouterr().out == f"{root}: {notice}\n"


def test_the_cache_is_used_again_whatever_the_dates(root, read, cache, monkeypatch) -> None:
    before = read(root)
    for path in root.glob("*/*.tif"):
        os.utime(path, (1, 1))
    (entry,) = cache.iterdir()
    stamp = entry.stat()
    np.testing.assert_array_equal(read(root).images, before.images)
    assert entry.stat() == stamp
    monkeypatch.setattr(lgg, "__version__", "another")
    read(root)
    read(root, 16)
    assert len(list(cache.iterdir())) == 3


def zero(path: Path) -> None:
    stamp, size = path.stat().st_mtime_ns, np.load(path).size
    path.write_bytes(path.read_bytes()[:-size] + bytes(size))
    os.utime(path, ns=(stamp, stamp))  # as where a disk lost the content


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("masks.npy", zero),
        ("images.npy", Path.unlink),
        ("native_masks.npy", lambda path: cut(path, 0.9)),
        ("index.json", lambda path: path.write_text("[" * 100_000)),
    ],
    ids=["zeroed", "missing", "cut", "deep index"],
)
def test_a_damaged_cache_is_noticed_and_decoded_again(root, read, cache, capsys, name, damage):
    before = {own: np.array(getattr(read(root), own)) for own in lgg.ARRAYS}
    (entry,) = cache.iterdir()
    damage(entry / name)
    after = read(root)
    assert capsys.readouterr().out == f"{entry}: damaged, slices are decoded again\n"
    for own, array in before.items():
        np.testing.assert_array_equal(getattr(after, own), array)
    read(root)
    assert not capsys.readouterr().out


def test_a_full_disk_is_an_error_that_says_what_to_do(root, read, cache) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=f"{cache}: slices cannot be kept in it .*HW3_DATA"):
            read(root, 256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(cache.iterdir())
    assert len(read(root, 256)) == 5


def test_a_changed_byte_is_decoded_anew(root, read) -> None:
    before = read(root)
    image, mask = example(10)
    image[5, 6, 1] ^= 1
    write_slice(root, "TCGA_CS_4941_19960909", 10, image, mask)
    after = read(root)
    assert after.fingerprint != before.fingerprint
    assert np.argwhere(after.images != before.images).tolist() == [[2, 5, 6, 1]]


def test_worker_processes_open_whole_maps_again_and_get_parts_of_them(root, read) -> None:
    whole = read(root, 256)
    arrays = (whole.images[1:3], whole.masks[[1, 2]], np.array(whole.native_masks[1:3]))
    part = replace(whole, **dict(zip(lgg.ARRAYS, arrays, strict=True)))
    for dataset in (part, whole):
        again = pickle.loads(content := pickle.dumps(dataset))
        for own, value in vars(dataset).items():
            np.testing.assert_array_equal(getattr(again, own), value)
    assert isinstance(again.images, np.memmap) and len(content) < 5_000 < whole.images.nbytes


def test_a_patient_whose_name_is_no_utf_8(tmp_path: Path, read: Read) -> None:
    patient = os.fsdecode(b"caf\xe9_1")
    write_slice(tmp_path / "kaggle_3m", patient, 1)
    assert read(tmp_path).patient_ids.tolist() == [patient]


def test_the_split_by_slice_has_the_reports_sizes() -> None:
    dataset = light_dataset({"TCGA_CS_1_1": 2000, "TCGA_DU_1_1": 1929})
    first, again, other = (split(dataset, "slice", seed) for seed in (3, 3, 4))
    assert list(map(len, first.values())) == [3143, 393, 393]
    assert sorted(np.concatenate(list(first.values())).tolist()) == list(range(3929))
    for part, own in first.items():
        assert (np.diff(own) > 0).all()
        assert np.array_equal(own, again[part])
        assert not np.array_equal(own, other[part])


def test_folds_by_hand() -> None:
    """Sorted by site, then by name: AA_2, AA_3, BB_1, BB_4, BB_5, and plain before them all."""
    names = ["S_BB_1", "S_AA_2", "S_AA_3", "S_BB_4", "S_BB_5", "plain"]
    dataset = light_dataset(dict.fromkeys(names, 2))
    folds = [split(dataset, f"fold{fold}", 0) for fold in range(5)]
    tested = [own["test"].tolist() for own in folds]
    assert tested == [[8, 9, 10, 11], [2, 3], [4, 5], [0, 1], [6, 7]]
    for own in folds:
        assert own["train"].tolist() == [n for n in range(12) if n not in own["test"]]
        assert len(own["validation"]) == 0
    with pytest.raises(InputError, match=r"split is fold1, of 4 patient\(s\): choose split slice"):
        split(light_dataset(dict.fromkeys("abcd", 9)), "fold1", 0)


def test_split_ids_are_plain_data_from_which_the_indices_come_back() -> None:
    dataset = light_dataset({"a": 4, "b": 7})
    parts = split(dataset, "slice", seed=0)
    ids = json.loads(json.dumps(dataset.split_ids(parts)))
    for part, own in parts.items():
        named = [
            f"{patient}_{number}" for patient, all_own in ids[part].items() for number in all_own
        ]
        assert named == [dataset.slice_id(index) for index in own]
        np.testing.assert_array_equal(dataset.indices_of(ids[part]), own)
    assert dataset.indices_of({"b": [2, 1], "a": [4]}).tolist() == [3, 4, 5]
    assert dataset.images[dataset.indices_of({})].shape == (0, 0)
    with pytest.raises(InputError, match="slice b_8 is not in this data set"):
        dataset.indices_of({"a": [1], "b": [8]})


def test_kaggle_is_asked_by_the_data_sets_name(root, tmp_path, monkeypatch) -> None:
    answers = {"mateuszbuda/lgg-mri-segmentation": str(root.parent)}
    kagglehub = SimpleNamespace(dataset_download=lambda name: answers.pop(name))
    monkeypatch.setitem(sys.modules, "kagglehub", kagglehub)
    assert fetch_lgg("kaggle", tmp_path) == root.parent
    with pytest.raises(InputError, match=r"could not be fetched from Kaggle: 'mateuszbuda"):
        fetch_lgg("kaggle", tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(InputError, match=r"kagglehub is missing: pip install .* or give the zip"):
        fetch_lgg("kaggle", tmp_path)


def test_of_each_patient_the_slice_with_the_largest_tumour_is_found() -> None:
    areas = [0, 3, 0, 5, 0, 5, 9]  # empty slices are the smallest, and of equals the first counts
    masks = np.zeros((7, 3, 3), dtype=np.uint8)
    for mask, area in zip(masks, areas, strict=True):
        mask.flat[:area] = 1
    nothing = np.zeros(7)
    dataset = LggDataset(np.array([*"aabbbbc"]), nothing, nothing, nothing, masks, "", "real")
    assert dataset.largest_tumours(np.arange(7)).tolist() == [6, 3, 1]
    assert dataset.largest_tumours(np.array([0, 2, 4, 5])).tolist() == [5, 0]
