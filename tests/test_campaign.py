"""Many damaged files for every reader, seeded; CAMPAIGN_FILES asks for more of them."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from test_data import zip_bytes
from test_segmentation_lgg import write_slice
from test_training import train
from torch import nn

from hw3 import training
from hw3.backbones import load_weights, save_weights
from hw3.data import InputError, read_picture, unpack
from hw3.detection import experiment as detection
from hw3.detection.gtsdb import read_gtsdb
from hw3.records import RunRecord, load
from hw3.segmentation import experiment as segmentation
from hw3.segmentation.lgg import read_lgg

FILES = int(os.environ.get("CAMPAIGN_FILES", 500))
NOISE = np.random.default_rng(0).integers(256, size=(24, 32, 3), dtype=np.uint8)
PIXELS = NOISE // 16 * 16  # can be compressed
SIGNS = b"\xef\xbb\xbf00000.ppm;2;3;12;20;11\r\n00001.ppm;0;0;32;24;40\n00001.ppm;1;1;9;9;38\n"
SLICES = {"train": {}, "validation": {}, "test": {"A": [3, 4]}}
COUNTS = {"true_positive": [5, 0], "false_positive": [2, 0], "false_negative": [0, 1]}
COUNTED = SLICES | {"test": {"A": {"slice_indices": [3, 4]} | COUNTS}, "pixels_per_slice": 64}
SIGN, BOX = [30.5, 4, 70, 50], [31.0, 4, 39, 45]
DETECTED = {
    "truths": [{"image_id": 3, "boxes_xyxy": [SIGN, [0.0, 0, 20, 20]], "labels": [1, 3]}],
    "detections": [{"image_id": 3, "category_id": 1, "bbox": BOX, "score": 0.25}] * 2,
}


class Case(NamedTuple):
    file: Path
    """The one to damage."""
    read: Callable[[], Any]
    """What is made of it, if that is possible."""
    first: int = 0
    """The byte from which on it is damaged."""


def picture(folder: Path, kind: str, pixels: np.ndarray = PIXELS, whole: bool = True) -> Case:
    file, first = folder / "picture", 0
    if kind.isupper():
        Image.fromarray(pixels).save(file, kind)
    else:
        tifffile.imwrite(file, pixels, compression=kind)
        first = 0 if whole else tifffile.TiffFile(file).pages[0].dataoffsets[0]

    def read() -> tuple:
        found = read_picture(file)
        assert found.dtype == np.uint8 and found.shape[2:] == (3,)
        return found.shape, found.tobytes()

    return Case(file, read, first)


def archive(folder: Path, dataset: str) -> Case:
    file, out = folder / "data.zip", folder / "out"
    own = {f"{dataset}/A/{number}.tif": PIXELS[number:].tobytes() for number in range(3)}
    file.write_bytes(zip_bytes(own | {f"{dataset}/gt.txt": SIGNS}))

    def read() -> dict[Path, bytes]:
        shutil.rmtree(out, ignore_errors=True)
        unpack(file, out, dataset)
        (out / dataset / ".archive-sha256").unlink()
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    return Case(file, read)


def roads(folder: Path, name: str) -> Case:
    (folder / "gt.txt").write_bytes(SIGNS)
    for number in range(2):
        Image.fromarray(PIXELS).save(folder / f"{number:05d}.ppm")

    def read() -> str:
        dataset = read_gtsdb(folder)
        for boxes, labels in zip(dataset.boxes_xyxy, dataset.labels, strict=True):
            assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.dtype == np.float32
            assert boxes.shape == (len(labels), 4) and {*labels.tolist()} <= {1, 2, 3, 4}
        return dataset.fingerprint

    return Case(folder / name, read)


def brains(folder: Path, name: str) -> Case:
    for number in range(2):
        write_slice(folder / "kaggle_3m", "A_B_1", number)

    def read() -> list[bytes]:
        found = read_lgg(folder, size=16, cache=folder / "cache")
        assert found.images.shape == (2, 16, 16, 3) and found.images.dtype == np.uint8
        assert len(found.native_masks) == 2 and found.native_masks.max() <= 1
        return [own.tobytes() for own in (found.images, found.masks, found.native_masks)]

    read()
    return Case(next(folder.glob(name)), read)


def record(folder: Path, question: ModuleType, split: dict, evidence: dict) -> Case:
    data = {"fingerprint": "f00d", "split": split}
    own = RunRecord("run", {"batch_size": 2}, data, seed=0, evidence=evidence)
    file = own.save(folder / "run.json")
    return Case(file, lambda: json.dumps(question.derive_results(load(file)), allow_nan=False))


def weights(folder: Path, name: str) -> Case:
    model, file = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), folder / name
    save_weights(model, file) if name != "run.pt" else torch.save(model.state_dict(), file)

    def read() -> None:
        load_weights(model, file)
        assert all(own.isfinite().all() for own in model.state_dict().values())

    return Case(file, read)


def checkpoint(folder: Path, name: str) -> Case:
    return Case(folder / name, lambda: [own.tolist() for own in train(folder / name)[1].values()])


EXACT = {  # every damage can be noticed: another result than the whole file's is a fault
    "PNG": (picture, "PNG"),
    "grey PNG": (picture, "PNG", PIXELS[..., 0]),
    # Noise, since Adler-32 misses some swaps in what can be compressed.
    "deflated strip": (picture, "deflate", NOISE, False),
    **{f"zip of {name}": (archive, name) for name in ("kaggle_3m", "FullIJCNN2013")},
    **{f"kept {name}": (brains, f"cache/*/{name}") for name in ("images.npy", "index.json")},
    "checkpoint": (checkpoint, "run.pt"),
}
KINDS: dict[str, tuple[Callable[..., Case], ...]] = EXACT | {
    **{kind: (picture, kind) for kind in ("JPEG", "PPM", "BMP", "GIF", "WEBP", "TIFF")},
    **{kind: (picture, kind) for kind in ("lzw", "jpeg", "packbits", "zstd", "deflate")},
    "grey TIFF": (picture, "TIFF", PIXELS[..., 0]),
    **{name: (roads, name) for name in ("gt.txt", "00001.ppm")},
    **{name: (brains, f"*/*/{name}") for name in ("*_1.tif", "*_1_mask.tif")},
    "record of a U-Net": (record, segmentation, SLICES, COUNTED),
    "record of a detector": (record, detection, {"test": [3]}, DETECTED),
    **{f"run{ending}": (weights, f"run{ending}") for ending in (".safetensors", ".pt")},
}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut, or with a bit flipped, or a stretch lost, zeroed, repeated, swapped, put in; or more."""
    for _ in range(rng.integers(1, 4)):
        place = rng.integers(len(content) + 1)
        end = place + int((len(content) + 1) ** rng.random())
        stretch, after = content[place:end], content[end:]
        flipped = bytes(own ^ 1 << rng.integers(8) for own in stretch[:1]) + stretch[1:]
        others = (b"", bytes(len(stretch)), 2 * stretch, stretch[:2][::-1] + stretch[2:])
        put_in = rng.bytes(rng.integers(1, 20)) + stretch
        ends = [b"", *(own + after for own in (flipped, flipped, put_in, *others))]
        content = content[:place] + ends[rng.integers(len(ends))]
    return content


def is_told(fault: str) -> bool:
    """In one line, or in a list below the number of its lines."""
    first, *more = fault.split("\n")
    listed = f"{len(more)} fault(s)" in first and all(line[:2] == "  " for line in more)
    return (listed or not more) and all(line.isprintable() for line in (first, *more))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_in_one_line_or_does_no_harm(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", math.inf)
    make, *arguments = KINDS[kind]
    case, number, faults = make(tmp_path, *arguments), [*KINDS].index(kind), {}
    whole = case.read()
    content = case.file.read_bytes()
    for seed in range(math.ceil(FILES / len(KINDS))):
        damage = damaged(content[case.first :], np.random.default_rng((number, seed)))
        case.file.write_bytes(content[: case.first] + damage)
        try:
            if case.read() != whole and kind in EXACT:
                faults[seed] = "silently another result"
        except Exception as error:
            if not isinstance(error, InputError) or not is_told(str(error)):
                faults[seed] = repr(error)
    assert not faults
