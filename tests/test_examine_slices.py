"""What the tool finds of outlines and looks, what it writes, and the files that the book shows."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import examine_slices
from examine_slices import predict_averaged, surface_distances
from hw3 import records
from hw3.segmentation import experiment
from hw3.segmentation.metrics import SliceCounts, dice
from hw3.settings import SMOKE, SegmentationSettings

KEPT = sorted(examine_slices.FOLDER.glob("*.json"))
PIXELS = ("true_positive", "false_positive", "false_negative")
SMALL = {"width": 0.25, "decoder_channels": (8, 8, 8, 8)}


def plain_counts(record: records.RunRecord, part: str) -> dict[tuple[str, int], list[int]]:
    """Pixels of each slice as the record has them."""
    evidence = record.evidence
    counts = SliceCounts.from_evidence(evidence[part], evidence["pixels_per_slice"])
    names = zip(counts.patient_ids.tolist(), counts.slice_indices.tolist(), strict=True)
    columns = zip(*(getattr(counts, name).tolist() for name in PIXELS), strict=True)
    return dict(zip(names, map(list, columns), strict=True))


def test_a_run_is_examined(tiny_lgg, tiny_dataset, tmp_path, monkeypatch) -> None:
    smoke = SegmentationSettings(**SMOKE.sizes["unet"]).but(epochs=3, learning_rate=5e-2)
    own, _ = experiment.run(smoke, tiny_dataset, tmp_path, name="try")
    record, weights = tmp_path / f"{own.stem}.json", own.weights_in(tmp_path)
    monkeypatch.setattr(examine_slices, "FOLDER", tmp_path / "examined")
    arguments = [str(record), str(weights), str(tiny_lgg), "test"]
    monkeypatch.setattr("sys.argv", ["examine_slices.py", *arguments])
    examine_slices.main()
    header, *slices = json.loads((tmp_path / f"examined/{record.stem}-test.json").read_text())
    assert (header["record"], header["part"], header["key"]) == ("try", "test", own.key)
    assert header.keys() == json.loads(KEPT[0].read_text())[0].keys()
    assert sum(header["bins"]["pixels"]) == 64 * 64 * len(slices) > 0
    found = {(one["patient_id"], one["slice_index"]): one["plain"] for one in slices}
    assert found == plain_counts(own, "test") and np.array([*found.values()]).any(0).all()
    assert sum(header["bins"]["tumour"]) == sum(hit + missed for hit, _, missed in found.values())


def test_a_square_three_pixels_too_far_to_the_right_and_empty_masks() -> None:
    """Of each outline's 16 pixels, the 5 of the far side lie three away from the other."""
    mask, predicted = np.zeros((2, 9, 12), bool)
    mask[2:7, 2:7] = predicted[2:7, 5:10] = True
    assert surface_distances(predicted, mask) == (3.0, 1 - 10 / 32)
    assert surface_distances(mask, mask) == (0.0, 1.0)
    for pair in ((mask, 0 * mask), (0 * mask, mask), (0 * mask, 0 * mask)):
        assert surface_distances(*pair) == (None, None)


def border(mask: np.ndarray) -> np.ndarray:
    """(n, 2) places of pixels with a neighbour outside the mask, or outside the image."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def test_distances_agree_with_those_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = generator.random((2, 12, 15)) > 0.6
        distances = cdist(border(one), border(other))
        there, back = distances.min(1), distances.min(0)
        hausdorff, surface_dice = surface_distances(one, other)
        expected = max(np.percentile(there, 95), np.percentile(back, 95))
        assert hausdorff == pytest.approx(expected, abs=1e-5)
        assert surface_dice == pytest.approx((np.concatenate([there, back]) <= 2).mean())


def test_the_mean_over_symmetries_turns_with_the_image() -> None:
    torch.manual_seed(0)
    model = experiment.build(SegmentationSettings(**SMALL)).eval()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    upright = predict_averaged(model, image, (64, 64))
    assert upright.shape == (64, 64)
    for change in (np.rot90, np.fliplr):
        np.testing.assert_allclose(
            predict_averaged(model, change(image), (64, 64)), change(upright), atol=1e-5
        )


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_kept_counts_are_those_of_the_committed_run(path: Path) -> None:
    header, *slices = json.loads(path.read_text())
    name = path.stem.removesuffix(f"-{header['part']}")
    record = records.load(path.parent.parent / f"runs/{name}.json")
    assert record.key == header["key"] and record.data["kind"] == "real"
    assert header["commit"] and "changes" not in header["commit"]
    found = {(one["patient_id"], one["slice_index"]): one["plain"] for one in slices}
    recorded = plain_counts(record, header["part"])
    # Predicted anew on another machine: a few pixels may differ, the tumours may not.
    assert found.keys() == recorded.keys()
    anew, before = (np.array([own[key] for key in found]) for own in (found, recorded))
    assert (anew[:, [0, 2]].sum(axis=1) == before[:, [0, 2]].sum(axis=1)).all()
    assert dice(*anew.sum(axis=0)) == pytest.approx(dice(*before.sum(axis=0)), abs=0.001)
    pixels, probability, tumour = header["bins"].values()
    assert sum(pixels) == record.evidence["pixels_per_slice"] * len(slices)
    assert sum(tumour) == sum(one[0] + one[2] for one in found.values())
    assert all(0 <= p <= n for p, n in zip(probability, pixels, strict=True))


@pytest.mark.parametrize("words", ["", "a b c", "a b c all", "nowhere b c test"])
def test_a_wrong_call_ends_with_a_sentence(words, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(examine_slices, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["examine_slices.py", *words.split()])
    with pytest.raises(SystemExit, match=r"RECORD WEIGHTS|nowhere"):
        examine_slices.main()
    assert not list(tmp_path.iterdir())
