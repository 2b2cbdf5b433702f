"""Simulated brains: the publisher's layout, the same bytes for the same seed, plausible lesions."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import binary_erosion, binary_fill_holes

from hw3.data import InputError
from hw3.segmentation.lgg import find_slices
from hw3.simulated import brains as simulate
from hw3.simulated.brains import simulate_lgg

SETTINGS = {"patients": 6, "seed": 3, "size": 64, "slices": 8}


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_lgg(tmp_path_factory.mktemp("brains"), **SETTINGS)


def read_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.tif")}


def state(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*")}


def read_volumes(root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and masks of each patient."""
    volumes = groupby(find_slices(root), key=lambda pair: pair[0].parent)
    return [
        tuple(np.stack([*map(tifffile.imread, paths)]) for paths in zip(*pairs, strict=True))
        for _, pairs in volumes
    ]


def test_layout_types_and_values(brains: Path) -> None:
    assert [path.name for path in brains.parent.iterdir()] == ["kaggle_3m"]
    assert json.loads((brains / ".simulated.json").read_text()) == SETTINGS
    patients = sorted(path for path in brains.iterdir() if path.is_dir())
    assert len(patients) == 6 and len(list(brains.iterdir())) == 7
    for patient in patients:
        assert re.fullmatch(r"SIM_(DU|HT|CS|FG|EZ)_\d{4}_(19|20)\d{6}", patient.name)
        kinds = {f"{index}{kind}" for index in range(1, 9) for kind in ("", "_mask")}
        assert {path.name for path in patient.iterdir()} == {
            f"{patient.name}_{kind}.tif" for kind in kinds
        }
    for images, masks in read_volumes(brains):
        assert images.shape == (8, 64, 64, 3) and images.dtype == np.uint8
        assert masks.shape == (8, 64, 64) and masks.dtype == np.uint8
        assert set(np.unique(masks)) == {0, 255}  # a lesion in every patient
        assert images[:, :2].mean() < 8 and images[4, 24:40, 24:40].mean() > 20  # air, head


def test_the_number_of_slices_is_drawn(tmp_path: Path) -> None:
    root = simulate_lgg(tmp_path, patients=4, seed=0, size=32)
    counts = [len(list(path.glob("*_mask.tif"))) for path in root.iterdir() if path.is_dir()]
    assert min(counts) >= 18 and max(counts) <= 30 and len(set(counts)) > 1


@pytest.mark.parametrize(("size", "slices"), [(32, 1), (48, 2)])
def test_small_patients_have_a_lesion_too(size: int, slices: int, tmp_path: Path) -> None:
    root = simulate_lgg(tmp_path, patients=12, seed=1, size=size, slices=slices)
    assert all(masks.any() for _, masks in read_volumes(root))


def test_lesions_are_as_frequent_and_as_bright_as_the_real_ones(brains: Path) -> None:
    volumes = read_volumes(brains)
    masks = np.concatenate([masks for _, masks in volumes]) > 0
    assert 0.2 < masks.any((1, 2)).mean() < 0.55
    assert 0.004 < masks.mean() < 0.025
    ratios = []
    for images, masks in volumes:
        lesion = masks > 0
        shown = lesion.any((1, 2))
        heads = np.stack([binary_fill_holes(image.max(2) > 20) for image in images[shown]])
        deep = binary_erosion(heads, np.ones((1, 3, 3)), iterations=5)  # below skin and skull
        flair, lesion = images[shown, ..., 1], lesion[shown]
        ratios.append(np.median(flair[lesion]) / np.median(flair[deep & ~lesion]))
    assert min(ratios) > 1.05
    assert 1.3 < np.median(ratios) < 2


def test_bytes_depend_neither_on_threads_nor_on_other_patients(brains, tmp_path, monkeypatch):
    monkeypatch.setattr(simulate, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    simulate._atlas.cache_clear()
    fewer = read_bytes(simulate_lgg(tmp_path / "fewer", **SETTINGS | {"patients": 2}))
    assert len(fewer) == 2 * 2 * 8
    assert fewer.items() <= read_bytes(brains).items()
    other = read_bytes(simulate_lgg(tmp_path / "other", **SETTINGS | {"patients": 2, "seed": 4}))
    images = [own for name, own in [*fewer.items(), *other.items()] if "mask" not in name]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("other", [{"patients": 5}, {"seed": 4}, {"size": 32}, {"slices": None}])
def test_a_finished_folder_is_kept_and_other_parameters_are_refused(brains, other) -> None:
    before = state(brains.parent)
    assert simulate_lgg(brains.parent, **SETTINGS) == brains
    with pytest.raises(InputError, match=r"kaggle_3m holds .*\"patients\": 6.*choose another"):
        simulate_lgg(brains.parent, **SETTINGS | other)
    assert state(brains.parent) == before


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    scan = tmp_path / "kaggle_3m" / "TCGA_CS_4941_19960909" / "TCGA_CS_4941_19960909_1.tif"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(b"real")
    with pytest.raises(InputError, match="not simulated"):
        simulate_lgg(tmp_path, **SETTINGS)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [scan]


@pytest.mark.parametrize(
    "wrong", [{"patients": 0}, {"seed": -1}, {"size": 31}, {"slices": 0}], ids=str
)
def test_numbers_that_are_too_small_are_refused(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="least values"):
        simulate_lgg(tmp_path / "new", **SETTINGS | wrong)
    assert not (tmp_path / "new").exists()


def test_the_atlas_is_a_brain() -> None:
    grey, white, gap, depth = simulate._atlas()
    assert grey.shape == white.shape == (197, 233, 189) and gap.shape == depth.shape
    assert 900 < grey.sum() / 1000 < 1200 and 500 < white.sum() / 1000 < 800  # cubic centimetres
    assert (grey == grey[::-1]).all() and (white == white[::-1]).all()
    assert white[98 + 20, 134 + 10, 72 + 30] > 0.9  # 20 mm right, 10 to the front, 30 up
