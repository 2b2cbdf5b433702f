"""Fixtures that several test files share: small simulated data, and folders of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hw3.segmentation.lgg import LggDataset, read_lgg
from hw3.simulated.brains import simulate_lgg

torch.set_num_threads(1)
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU adds in any order; test_gpu.py shows it again


@pytest.fixture(scope="session", autouse=True)
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `data` and `runs` for the session, so that no test touches the user's own."""
    root = tmp_path_factory.mktemp("hw3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HW3_DATA", str(root / "data"))
        patch.setenv("HW3_RUNS", str(root / "runs"))
        patch.delenv("HW3_PROFILE", raising=False)
        yield root


@pytest.fixture(scope="session")
def tiny_lgg(folders: Path) -> Path:
    """The `kaggle_3m` of the smoke profile: 6 patients with 6 slices of 64 pixels each."""
    where = folders / "data" / "simulated-smoke"
    return simulate_lgg(where, patients=6, slices=6, size=64, seed=0)


@pytest.fixture(scope="session")
def tiny_dataset(tiny_lgg: Path, folders: Path) -> LggDataset:
    """The same slices decoded at 32 pixels."""
    return read_lgg(tiny_lgg, size=32, cache=folders / "data" / "cache")
