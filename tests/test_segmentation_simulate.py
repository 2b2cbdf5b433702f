"""Simulated brains: the publisher's layout, the same bytes for the same seed, plausible lesions."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hw3.errors import InputError
from hw3.segmentation.dataset import read_lgg
from hw3.segmentation.simulate import simulate_lgg

SIZE, SLICES, PATIENTS = 64, 6, 4


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("brains")
    return simulate_lgg(folder, patients=PATIENTS, seed=3, size=SIZE, slices=SLICES)


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.tif"))}


def test_layout_names_shapes_and_values(made: Path) -> None:
    assert made.name == "kaggle_3m"
    patients = [path for path in made.iterdir() if path.is_dir()]
    assert len(patients) == PATIENTS
    for patient in patients:
        assert re.fullmatch(r"TCGA_(DU|HT|CS|FG|EZ)_\d{4}_\d{8}", patient.name)
        for index in range(1, SLICES + 1):
            image = tifffile.imread(patient / f"{patient.name}_{index}.tif")
            mask = tifffile.imread(patient / f"{patient.name}_{index}_mask.tif")
            assert (image.shape, image.dtype) == ((SIZE, SIZE, 3), np.uint8)
            assert (mask.shape, mask.dtype) == ((SIZE, SIZE), np.uint8)
            assert set(np.unique(mask)) <= {0, 255}
    assert len(content(made)) == 2 * PATIENTS * SLICES


def test_reader_finds_no_fault_and_every_patient_has_a_lesion(made: Path, tmp_path: Path) -> None:
    dataset = read_lgg(made, size=32, cache=tmp_path)
    tumour = dataset.native_masks.reshape(len(dataset), -1).any(axis=1)
    assert 0.2 < tumour.mean() < 0.6
    assert set(dataset.patient_ids[tumour]) == set(dataset.patient_ids)


def test_lesions_are_brighter_than_the_rest_of_the_head_in_flair(made: Path) -> None:
    inside, outside = [], []
    for mask_path in made.rglob("*_mask.tif"):
        mask = tifffile.imread(mask_path) > 0
        image = tifffile.imread(str(mask_path).replace("_mask", ""))
        head = image.max(axis=2) > 30
        inside.append(image[..., 1][mask])
        outside.append(image[..., 1][head & ~mask])
    assert np.median(np.concatenate(inside)) > 1.15 * np.median(np.concatenate(outside))


def test_same_seed_same_bytes_whatever_else_is_made(made: Path, tmp_path: Path) -> None:
    fewer = simulate_lgg(tmp_path, patients=2, seed=3, size=SIZE, slices=SLICES)
    mine, theirs = content(fewer), content(made)
    assert len(mine) == 2 * 2 * SLICES
    assert all(theirs[name] == written for name, written in mine.items())


def test_other_seeds_give_other_brains(made: Path, tmp_path: Path) -> None:
    other = simulate_lgg(tmp_path, patients=1, seed=4, size=SIZE, slices=SLICES)
    ours, theirs = (
        {written for name, written in content(root).items() if "_mask" not in name}
        for root in (made, other)
    )
    assert ours and theirs and not ours & theirs


def test_a_finished_folder_is_kept_and_another_one_refused(made: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.tif")}
    again = simulate_lgg(made.parent, patients=PATIENTS, seed=3, size=SIZE, slices=SLICES)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*.tif")} == before
    with pytest.raises(InputError, match="choose another"):
        simulate_lgg(made.parent, patients=PATIENTS, seed=5, size=SIZE, slices=SLICES)
    (tmp_path / "kaggle_3m").mkdir()
    with pytest.raises(InputError, match="not simulated"):
        simulate_lgg(tmp_path, patients=1, seed=0, size=SIZE, slices=1)


@pytest.mark.parametrize(
    "wrong", [{"patients": 0}, {"seed": -1}, {"size": 16}, {"slices": 0}], ids=str
)
def test_numbers_that_are_too_small_are_refused(wrong: dict, tmp_path: Path) -> None:
    settings = {"patients": 1, "seed": 0, "size": SIZE, "slices": 1} | wrong
    with pytest.raises(InputError, match="least values"):
        simulate_lgg(tmp_path, **settings)
    assert not (tmp_path / "kaggle_3m").exists()
