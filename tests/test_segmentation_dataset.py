import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
from torch.utils.data import DataLoader

from hw3.errors import InputError
from hw3.segmentation import dataset as lgg
from hw3.segmentation.augment import Augmentation
from hw3.segmentation.dataset import (
    KAGGLE_NAME,
    LggDataset,
    SliceSamples,
    fetch_lgg,
    find_slices,
    read_image,
    read_lgg,
    split_by_patient,
    split_by_slice,
    split_leaking,
)

SIDE = 32
PATIENTS = {"TCGA_CS_4941_19960909": (1, 2, 10), "TCGA_DU_5849_19950405": (1, 3)}
REAL_SITES = {"DU": 45, "HT": 34, "CS": 16, "FG": 14, "EZ": 1}


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
    mask = default_mask if mask is None else mask
    # For bool, tifffile's own choice would be MINISWHITE.
    photometric = "minisblack" if mask.ndim == 2 else None
    tifffile.imwrite(paths[1], mask, photometric=photometric)
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
def read(tmp_path: Path):
    return lambda folder, size=SIDE: read_lgg(folder, size=size, cache=tmp_path / "cache")


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def faults_of(folder: Path, read) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(folder)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"{len(lines)} fault(s) in the data set:"
    return lines


def without_decoding(monkeypatch) -> None:
    def refuse(*_arguments) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(lgg, "_decode", refuse)


def light_dataset(slices_of: dict[str, int]) -> LggDataset:
    """A data set with names only."""
    numbers = [number for count in slices_of.values() for number in range(1, count + 1)]
    nothing = np.zeros((len(numbers), 0))
    patients = np.repeat(list(slices_of), list(slices_of.values()))
    return LggDataset(patients, np.array(numbers), nothing, nothing, nothing, "")


def real_patients() -> dict[str, int]:
    """The real data's 110 patients by site, with 3929 slices in all."""
    names = [f"TCGA_{site}_{i:04d}_1" for site, n in REAL_SITES.items() for i in range(n)]
    return {name: 36 if i < 79 else 35 for i, name in enumerate(names)}


def test_kaggle_3m_or_its_parent(root, read) -> None:
    found = read(root)
    assert len(found) == 5
    assert found.patient_ids.tolist() == [p for p, numbers in PATIENTS.items() for _ in numbers]
    assert found.fingerprint == read(root.parent).fingerprint


def test_slices_are_sorted_by_number_not_by_name(root, read) -> None:
    found = read(root)
    assert found.slice_indices.tolist() == [1, 2, 10, 1, 3]
    assert found.slice_id(2) == "TCGA_CS_4941_19960909_10"
    for index, number in enumerate(found.slice_indices):
        np.testing.assert_array_equal(found.images[index], example(number)[0])


def test_the_archives_second_copy_is_not_counted_twice(root, read) -> None:
    shutil.copytree(root, root.parent / "lgg-mri-segmentation" / "kaggle_3m")
    shutil.copytree(root, root / "kaggle_3m")
    assert len(read(root.parent)) == len(read(root)) == 5
    shutil.rmtree(root)
    assert len(read(root.parent)) == 5


def test_arrays_at_the_networks_size_and_as_published(root, read) -> None:
    found = read(root, 16)
    image, mask = example(1)
    assert found.images.shape == (5, 16, 16, 3)
    assert found.masks.shape == (5, 16, 16)
    assert found.native_masks.shape == (5, SIDE, SIDE)
    assert {a.dtype for a in (found.images, found.masks, found.native_masks)} == {np.dtype("uint8")}
    blocks = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(found.images[0] - blocks).max() <= 0.5
    np.testing.assert_array_equal(found.native_masks[0], mask // 255)
    np.testing.assert_array_equal(found.masks[0], mask[::2, ::2] // 255)


@pytest.mark.parametrize("size", [0, -16, 100])
def test_size_that_the_network_cannot_take(root, read, size) -> None:
    with pytest.raises(InputError, match=f"image_size is {size}: choose a multiple of 16"):
        read(root, size)


@pytest.mark.parametrize(
    "encode",
    [
        lambda mask: mask // 255,
        lambda mask: mask[..., None],
        lambda mask: np.repeat(mask[..., None], 3, axis=2),
        lambda mask: mask > 0,
        lambda mask: (mask // 255).astype(np.float32),
    ],
    ids=["0 and 1", "a last axis of 1", "three equal channels", "bool", "float"],
)
def test_masks_in_other_spellings_are_the_same_masks(root, read, encode) -> None:
    before = np.array(read(root).native_masks)
    write_slice(root, "TCGA_CS_4941_19960909", 2, mask=encode(example(2)[1]))
    np.testing.assert_array_equal(read(root).native_masks, before)


def break_image_alone(root: Path) -> tuple[str, str]:
    image, mask = write_slice(root, "TCGA_HT_1_1", 1)
    mask.unlink()
    return str(image), "mask TCGA_HT_1_1_1_mask.tif is missing"


def break_mask_alone(root: Path) -> tuple[str, str]:
    image, mask = write_slice(root, "TCGA_HT_1_1", 2)
    image.unlink()
    return str(mask), "a mask without image"


def break_name(root: Path) -> tuple[str, str]:
    image, mask = write_slice(root, "TCGA_HT_1_1", 3)
    mask.rename(mask.with_name("scan_mask.tif"))
    return str(image.rename(image.with_name("scan.tif"))), "does not end in _<slice number>"


def break_name_by_a_digit_that_is_no_number(root: Path) -> tuple[str, str]:
    image, mask = write_slice(root, "TCGA_HT_1_1", 12)
    mask.rename(mask.with_name("scan_²_mask.tif"))
    return str(image.rename(image.with_name("scan_².tif"))), "does not end in _<slice number>"


def break_number(root: Path) -> tuple[str, str]:
    pair = write_slice(root, "TCGA_HT_1_1", 13)
    for path in pair:
        shutil.copy(path, path.with_name(path.name.replace("_13", "_013")))
    return str(pair[0]), "slice 13, as TCGA_HT_1_1_013.tif is"


def break_mask_size(root: Path) -> tuple[str, str]:
    smaller = np.zeros((SIDE, SIDE - 1), np.uint8)
    return str(write_slice(root, "TCGA_HT_1_1", 4, mask=smaller)[1]), "(32, 31), its image (32, 32)"


def break_slice_size(root: Path) -> tuple[str, str]:
    larger = np.zeros((40, 40), np.uint8)
    image, _ = write_slice(root, "TCGA_HT_1_1", 5, np.zeros((40, 40, 3), np.uint8), larger)
    return str(image), "is (40, 40), the first slice (32, 32)"


def break_by_truncation(root: Path) -> tuple[str, str]:
    image, _ = write_slice(root, "TCGA_HT_1_1", 6)
    cut(image, 0.6)
    return str(image), "cannot be decoded as TIFF"


def break_mask_by_truncation(root: Path) -> tuple[str, str]:
    _, mask = write_slice(root, "TCGA_HT_1_1", 7)
    cut(mask, 0.6)
    return str(mask), "cannot be decoded as TIFF"


def break_bytes(root: Path) -> tuple[str, str]:
    image, _ = write_slice(root, "TCGA_HT_1_1", 8)
    image.write_bytes(b"no TIFF at all")
    return str(image), "cannot be decoded as TIFF"


def break_mask_values(root: Path) -> tuple[str, str]:
    mask = example(9)[1]
    mask[0, 0] = 7
    return str(write_slice(root, "TCGA_HT_1_1", 9, mask=mask)[1]), "mask values [0, 7, 255]"


def break_mask_by_a_palette(root: Path) -> tuple[str, str]:
    _, mask = write_slice(root, "TCGA_HT_1_1", 14)
    colormap = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(mask, example(14)[1], photometric="palette", colormap=colormap)
    return str(mask), "photometric is PALETTE; convert it to RGB or MINISBLACK"


def break_kind_of_image(root: Path) -> tuple[str, str]:
    image, _ = write_slice(root, "TCGA_HT_1_1", 11, np.zeros((SIDE, SIDE, 3), np.uint16))
    return str(image), "uint16; expected (height, width, 3) uint8"


BREAKS = [function for name, function in sorted(globals().items()) if name.startswith("break_")]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_fault_is_named_with_its_path(root, read, tmp_path, damage) -> None:
    path, reason = damage(root)
    (line,) = faults_of(root, read)
    assert line.startswith(f"  {path}: ")
    assert reason in line
    assert not list((tmp_path / "cache").iterdir())


def test_all_faults_are_in_one_message(root, read) -> None:
    expected = dict(damage(root) for damage in BREAKS)
    lines = faults_of(root, read)
    assert len(lines) == len(expected)
    for path, reason in expected.items():
        assert sum(line.startswith(f"  {path}: ") and reason in line for line in lines) == 1


def test_a_broken_first_slice_is_not_blamed_on_the_others(root, read) -> None:
    first = find_slices(root)[0][0]
    cut(first, 0.5)
    (line,) = faults_of(root, read)
    assert line.startswith(f"  {first}: ")


@pytest.mark.parametrize("share", [0, 0.0007, 0.5])
def test_if_no_slice_can_be_decoded_each_is_named(root, read, share) -> None:
    images = [image for image, _ in find_slices(root)]
    for image in images:
        cut(image, share)
    assert [line.split(":")[0].strip() for line in faults_of(root, read)] == sorted(
        map(str, images)
    )


def test_no_pair_at_all(root, read) -> None:
    for _, mask in find_slices(root):
        mask.unlink()
    assert len(faults_of(root, read)) == 5


def test_no_file_at_all(tmp_path, read) -> None:
    (tmp_path / "kaggle_3m").mkdir()
    (tmp_path / "kaggle_3m" / "data.csv").write_text("")
    for folder in (tmp_path, tmp_path / "kaggle_3m", tmp_path / "missing"):
        with pytest.raises(InputError, match=f"{folder}: no kaggle_3m/<patient>/"):
            read(folder)


def test_slices_without_folders_of_patients(tmp_path, read) -> None:
    (tmp_path / "kaggle_3m").mkdir()
    tifffile.imwrite(tmp_path / "kaggle_3m" / "TCGA_CS_1_1_1.tif", example(1)[0])
    with pytest.raises(InputError, match=r"no <patient>/<patient>_<slice>\.tif in it"):
        read(tmp_path)


def test_the_cache_is_used_again_whatever_the_dates(root, read, monkeypatch) -> None:
    before = read(root)
    for pair in find_slices(root):
        for path in pair:
            os.utime(path, (1, 1))
    without_decoding(monkeypatch)
    after = read(root)
    np.testing.assert_array_equal(after.images, before.images)
    with pytest.raises(AssertionError, match="decoded again"):
        read(root, 16)


def test_what_other_code_decoded_is_not_used(root, read, tmp_path, monkeypatch) -> None:
    read(root)
    monkeypatch.setattr(lgg, "code_sha256", lambda path: f"another {path.name}")
    read(root)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_fault_is_reported_though_all_pairs_are_in_the_cache(root, read) -> None:
    read(root)
    path, _ = break_image_alone(root)
    (line,) = faults_of(root, read)
    assert line.startswith(f"  {path}: ")


def test_a_changed_byte_is_decoded_anew(root, read) -> None:
    before = read(root)
    image, mask = example(10)
    image[5, 6, 1] ^= 1
    path, _ = write_slice(root, "TCGA_CS_4941_19960909", 10, image, mask)
    after = read(root)
    assert after.fingerprint != before.fingerprint
    assert np.argwhere(after.images != before.images).tolist() == [[2, 5, 6, 1]]
    path.parent.rename(path.parent.with_name("TCGA_CS_4942_19960909"))
    assert read(root).patient_ids[0] == "TCGA_CS_4942_19960909"


def test_an_interrupted_decode_leaves_nothing(root, read, tmp_path, monkeypatch) -> None:
    def interrupt(*_arguments, **_options) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cv2, "resize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read(root)
    assert not list((tmp_path / "cache").iterdir())
    assert len(read(root)) == 5


def test_another_process_that_decodes_faster_is_no_fault(root, read, tmp_path, monkeypatch) -> None:
    decode = lgg._decode

    def decode_twice(pairs, size, entry, faults) -> None:
        decode(pairs, size, entry, faults)
        decode(pairs, size, entry, faults)

    monkeypatch.setattr(lgg, "_decode", decode_twice)
    assert len(read(root)) == 5
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_split_by_slice_has_the_reports_sizes() -> None:
    dataset = light_dataset(real_patients())
    split = split_by_slice(dataset, seed=0)
    assert {part: len(own) for part, own in split.items()} == {
        "train": 3143,
        "validation": 393,
        "test": 393,
    }
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(3929))
    assert all((np.diff(own) > 0).all() for own in split.values())


@pytest.mark.parametrize("split", [split_by_slice, split_by_patient, split_leaking])
def test_splits_are_seeded(split) -> None:
    dataset = light_dataset(real_patients())
    first, again, other = (split(dataset, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[part], again[part]) for part in first)
    assert not any(np.array_equal(first[part], other[part]) for part in first)


def test_split_by_patient_is_stratified_by_site() -> None:
    dataset = light_dataset(real_patients())
    split = split_by_patient(dataset, seed=0)
    assert sorted(np.concatenate(list(split.values())).tolist()) == list(range(3929))
    patients = {part: set(dataset.patient_ids[own].tolist()) for part, own in split.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 110
    sites = {
        part: {site: sum(f"_{site}_" in patient for patient in own) for site in REAL_SITES}
        for part, own in patients.items()
    }
    # round(0.15 n): 45 -> 7, 34 -> 5, 16 -> 2, 14 -> 2; a single patient trains.
    held_out = {"DU": 7, "HT": 5, "CS": 2, "FG": 2, "EZ": 0}
    assert sites == {
        "train": {"DU": 31, "HT": 24, "CS": 12, "FG": 10, "EZ": 1},
        "validation": held_out,
        "test": held_out,
    }


def test_small_sites_are_in_all_parts_from_three_patients_on() -> None:
    counts = {f"TCGA_AA_{i}_1": 2 for i in range(3)} | {f"TCGA_BB_{i}_1": 2 for i in range(2)}
    dataset = light_dataset(counts)
    split = split_by_patient(dataset, seed=0)
    parts = {part: dataset.patient_ids[own].tolist() for part, own in split.items()}
    assert all(sum("_AA_" in patient for patient in own) == 2 for own in parts.values())
    assert sum("_BB_" in patient for patient in parts["train"]) == 4


def test_split_leaking_differs_from_the_split_by_patient_in_the_leak_alone() -> None:
    dataset = light_dataset(real_patients())
    clean, leaking = split_by_patient(dataset, seed=0), split_leaking(dataset, seed=0)
    assert len(leaking["train"]) == len(clean["train"])
    assert leaking["validation"].tolist() == clean["validation"].tolist()
    leaked = set(leaking["train"].tolist()) - set(clean["train"].tolist())
    assert leaked == set(clean["test"][1::2].tolist())
    assert leaking["test"].tolist() == clean["test"][::2].tolist()


def test_a_leak_larger_than_the_training_part_replaces_it() -> None:
    patients = {f"TCGA_AA_{i}_1": 2 for i in range(3)}
    clean = split_by_patient(light_dataset(patients), seed=0)
    tested = str(light_dataset(patients).patient_ids[clean["test"][0]])
    dataset = light_dataset(patients | {tested: 9})
    split = split_leaking(dataset, seed=0)
    assert {part: len(own) for part, own in split.items()} == {
        "train": 4,
        "validation": 2,
        "test": 5,
    }
    assert set(dataset.patient_ids[split["train"]].tolist()) == {tested}


def test_split_ids_are_plain_data_that_name_every_slice() -> None:
    dataset = light_dataset({"a": 4, "b": 7})
    split = split_by_slice(dataset, seed=0)
    ids = json.loads(json.dumps(dataset.split_ids(split)))
    for part, own in split.items():
        named = [
            f"{patient}_{number}" for patient, numbers in ids[part].items() for number in numbers
        ]
        assert named == [dataset.slice_id(index) for index in own]


def test_samples_in_the_layout_that_training_takes(tiny_dataset) -> None:
    samples = SliceSamples(tiny_dataset, np.array([3, 5]))
    sample = samples[0, 1]
    assert len(samples) == 2
    assert sample["id"] == tiny_dataset.slice_id(5)
    assert sample["image"].shape == (3, 32, 32)
    assert sample["mask"].shape == (1, 32, 32)
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), tiny_dataset.images[5])
    np.testing.assert_array_equal(sample["mask"][0], tiny_dataset.masks[5])


def test_augmented_samples_are_the_same_from_worker_processes(tiny_dataset) -> None:
    samples = SliceSamples(tiny_dataset, np.arange(8), Augmentation(seed=0))
    keys = [[(epoch, index) for index in range(8)] for epoch in (0, 1)]

    def load(workers: int) -> list[dict]:
        return list(DataLoader(samples, batch_sampler=keys, num_workers=workers))

    alone, shared = load(0), load(2)
    for one, other in zip(alone, shared, strict=True):
        assert one["id"] == other["id"]
        assert one["image"].equal(other["image"])
        assert one["mask"].equal(other["mask"])
    assert not alone[0]["image"].equal(alone[1]["image"])


def test_crops_are_windows_of_their_slice_with_tumour_as_often_as_asked(tiny_dataset) -> None:
    for share in (0.0, 1.0):
        samples = SliceSamples(
            tiny_dataset, np.arange(12), crop_size=16, tumour_share=share, seed=3
        )
        corners = set()
        for epoch in range(4):
            for index in range(12):
                sample = samples[epoch, index]
                number = [tiny_dataset.slice_id(i) for i in range(12)].index(sample["id"])
                assert share == 1.0 or number == index
                image = sample["image"].permute(1, 2, 0).numpy()
                whole, mask = tiny_dataset.images[number], tiny_dataset.masks[number]
                windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16, 3))[:, :, 0]
                places = np.argwhere((windows == image).all((2, 3, 4)))
                assert any(
                    (mask[y : y + 16, x : x + 16] == sample["mask"][0].numpy()).all()
                    for y, x in places
                )
                assert share == 0.0 or sample["mask"].any()
                corners |= {tuple(place) for place in places}
        assert len(corners) > 20
    again = SliceSamples(tiny_dataset, np.arange(12), crop_size=16, tumour_share=1.0, seed=3)
    assert again[3, 11]["image"].equal(sample["image"])
    assert not again[2, 11]["image"].equal(sample["image"])


def test_crops_without_any_tumour_lie_anywhere() -> None:
    nothing = np.zeros((2, 32, 32), dtype=np.uint8)
    image = np.arange(2 * 32 * 32 * 3, dtype=np.uint64).astype(np.uint8).reshape(2, 32, 32, 3)
    dataset = LggDataset(np.array(["a", "b"]), np.array([1, 1]), image, nothing, nothing, "")
    samples = SliceSamples(dataset, np.arange(2), crop_size=16, tumour_share=1.0)
    assert samples[0, 1]["id"] == dataset.slice_id(1)
    assert samples[0, 1]["image"].shape == (3, 16, 16)
    whole = SliceSamples(dataset, np.arange(2), crop_size=32)[0, 0]
    np.testing.assert_array_equal(whole["image"].permute(1, 2, 0), image[0])


@pytest.mark.parametrize("crop_size", [16, None])
@pytest.mark.parametrize("crops", [3, 40])
def test_samples_come_from_all_slices_however_many_there_are(
    tiny_dataset, crops, crop_size
) -> None:
    indices, sizes = np.arange(5, 17), {"crop_size": crop_size, "crops": crops}
    samples = SliceSamples(tiny_dataset, indices, **sizes, tumour_share=0.0)
    assert len(samples) == crops
    drawn = [samples[epoch, index]["id"] for epoch in range(120 // crops) for index in range(crops)]
    assert set(drawn) == {tiny_dataset.slice_id(index) for index in indices}
    assert drawn[: 2 * crops] != 2 * drawn[:crops]
    assert [samples[0, index]["id"] for index in range(crops)] == drawn[:crops]


def test_a_folder_is_used_where_it_is(root, tmp_path) -> None:
    assert fetch_lgg(str(root), tmp_path / "data") == root
    assert not (tmp_path / "data").exists()
    with pytest.raises(InputError, match="no kaggle_3m"):
        fetch_lgg(str(tmp_path / "archive" / "kaggle_3m" / "TCGA_CS_4941_19960909"), tmp_path)


def test_the_zip_that_kaggle_gives(root, read, tmp_path) -> None:
    shutil.copytree(root, root.parent / "lgg-mri-segmentation" / "kaggle_3m")
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in root.parent.rglob("*.*"):
            file.write(path, path.relative_to(root.parent))
    found = read(fetch_lgg(str(archive), tmp_path / "data"))
    assert found.fingerprint == read(root).fingerprint
    assert (tmp_path / "data" / "kaggle_3m" / "data.csv").is_file()


def test_a_source_that_is_nothing(tmp_path) -> None:
    with pytest.raises(InputError, match="give `kaggle`, the zip that Kaggle gives, or a folder"):
        fetch_lgg(str(tmp_path / "nowhere"), tmp_path)
    (tmp_path / "data.zip").write_text("no zip")
    with pytest.raises(InputError, match=r"data\.zip"):
        fetch_lgg(str(tmp_path / "data.zip"), tmp_path / "data")


def test_kaggle_is_asked_by_the_data_sets_name(root, tmp_path, monkeypatch) -> None:
    asked = []
    stand_in = SimpleNamespace(dataset_download=lambda name: asked.append(name) or str(root.parent))
    monkeypatch.setitem(sys.modules, "kagglehub", stand_in)
    assert fetch_lgg("kaggle", tmp_path) == root.parent
    assert asked == [KAGGLE_NAME] == ["mateuszbuda/lgg-mri-segmentation"]


def test_without_kagglehub_or_network_the_message_says_so(tmp_path, monkeypatch) -> None:
    def fail(_name: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=fail))
    with pytest.raises(InputError, match=r"could not be fetched from Kaggle: no route to host"):
        fetch_lgg("kaggle", tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(InputError, match=r"kagglehub is missing: pip install .* or give the zip"):
        fetch_lgg("kaggle", tmp_path)


@pytest.mark.parametrize("ending", ["tif", "tiff", "TIF", "png"])
@pytest.mark.parametrize("channels", [(), (1,), (3,)], ids=str)
def test_images_of_ones_own(tmp_path, ending, channels) -> None:
    path = tmp_path / f"own.{ending}"
    image = np.random.default_rng(0).integers(256, size=(20, 30, *channels), dtype=np.uint8)
    if ending == "png":
        cv2.imwrite(str(path), image[..., ::-1] if channels == (3,) else image)
    else:
        tifffile.imwrite(path, image)
    expected = np.broadcast_to(image[..., None] if channels == () else image, (20, 30, 3))
    np.testing.assert_array_equal(read_image(path), expected)


def test_images_that_cannot_be_used_are_named(tmp_path) -> None:
    path = tmp_path / "own.png"
    path.write_text("text")
    with pytest.raises(InputError, match=r"own\.png: cannot be decoded"):
        read_image(path)
    tifffile.imwrite(tmp_path / "four.tif", np.zeros((8, 8, 4), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match=r"four\.tif: image is \(8, 8, 4\) uint8; .*8-bit RGB"):
        read_image(tmp_path / "four.tif")
    path.write_bytes(b"P5 40000 40000 255\n")  # the content counts, not the name
    with pytest.raises(InputError, match=r"own\.png: cannot be decoded \(.*\); give another copy"):
        read_image(path)
    with pytest.raises(InputError, match=r"own\.tif: cannot be decoded"):
        read_image(tmp_path / "own.tif")


@pytest.mark.parametrize("photometric", ["palette", "miniswhite"])
def test_numbers_that_are_no_grey_levels_are_not_taken_for_them(tmp_path, photometric) -> None:
    options = {"colormap": np.zeros((3, 256), np.uint16)} if photometric == "palette" else {}
    image = np.zeros((8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "own.tif", image, photometric=photometric, **options)
    with pytest.raises(InputError, match=rf"own\.tif: photometric is {photometric.upper()}; conv"):
        read_image(tmp_path / "own.tif")


@pytest.mark.filterwarnings("ignore:.*zero-size array")
@pytest.mark.parametrize("shape", [(24, 0, 3), (0, 24, 3), (0, 24)])
def test_an_image_without_pixels_is_refused(tmp_path, shape) -> None:
    tifffile.imwrite(tmp_path / "own.tif", np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=r"own\.tif: image is .* uint8; expected .*, not empty"):
        read_image(tmp_path / "own.tif")


def test_of_each_patient_the_slice_with_the_largest_tumour_is_found() -> None:
    areas = [0, 3, 0, 5, 0, 5, 9]  # empty slices are the smallest, and of equals the first counts
    masks = np.zeros((7, 3, 3), dtype=np.uint8)
    for mask, area in zip(masks, areas, strict=True):
        mask.flat[:area] = 1
    nothing = np.zeros(7)
    dataset = LggDataset(np.array([*"aabbbbc"]), nothing, nothing, nothing, masks, "")
    assert dataset.largest_tumours(np.arange(7)).tolist() == [6, 3, 1]
    assert dataset.largest_tumours(np.array([0, 2, 4, 5])).tolist() == [5, 0]
