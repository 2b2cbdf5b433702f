"""What the tool writes of a run's slices, and the files that the book shows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import examine_slices
from hw3 import profiles, records
from hw3.segmentation import experiment
from hw3.segmentation.metrics import SliceCounts

KEPT = sorted((Path(__file__).parent.parent / "book/examined").glob("*.json"))
PIXELS = ("true_positive", "false_positive", "false_negative")


def plain_counts(record: records.RunRecord, part: str) -> dict[tuple[str, int], list[int]]:
    """Pixels of each slice as the record has them."""
    evidence = record.evidence
    counts = SliceCounts.from_evidence(evidence[part], evidence["pixels_per_slice"])
    names = zip(counts.patient_ids.tolist(), counts.slice_indices.tolist(), strict=True)
    columns = zip(*(getattr(counts, name).tolist() for name in PIXELS), strict=True)
    return dict(zip(names, map(list, columns), strict=True))


def test_a_run_is_examined(tiny_lgg, tiny_dataset, tmp_path, monkeypatch) -> None:
    settings = replace(profiles.SMOKE.segmentation, image_size=32, epochs=1)
    own, _ = experiment.run(settings, tiny_dataset, kind="real", name="try", folder=tmp_path)
    record, weights = (tmp_path / f"{own.stem}.{ending}" for ending in ("json", "safetensors"))
    monkeypatch.setattr(examine_slices, "FOLDER", tmp_path / "examined")
    arguments = [str(record), str(weights), str(tiny_lgg), "test"]
    monkeypatch.setattr("sys.argv", ["examine_slices.py", *arguments])
    examine_slices.main()
    header, *slices = json.loads((tmp_path / f"examined/{record.stem}-test.json").read_text())
    assert (header["record"], header["part"], header["key"]) == ("try", "test", own.key)
    assert sum(header["bins"]["pixels"]) == 64 * 64 * len(slices) > 0
    found = {(one["patient_id"], one["slice_index"]): one["plain"] for one in slices}
    assert found == plain_counts(own, "test")


def test_there_are_kept_files() -> None:
    assert KEPT


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_kept_counts_are_those_of_the_committed_run(path) -> None:
    header, *slices = json.loads(path.read_text())
    name = path.stem.removesuffix(f"-{header['part']}")
    record = records.load(path.parent.parent / f"runs/{name}.json")
    assert record.key == header["key"] and record.data["kind"] == "real"
    assert header["commit"] and "changes" not in header["commit"]
    found = {(one["patient_id"], one["slice_index"]): one["plain"] for one in slices}
    assert found == plain_counts(record, header["part"])
    pixels, probability, tumour = header["bins"].values()
    assert sum(pixels) == record.evidence["pixels_per_slice"] * len(slices)
    assert sum(tumour) == sum(one[0] + one[2] for one in found.values())
    assert all(0 <= p <= n for p, n in zip(probability, pixels, strict=True))


@pytest.mark.parametrize(
    "arguments", [[], ["a", "b", "c"], ["a", "b", "c", "all"], ["nowhere", "b", "c", "test"]]
)
def test_a_wrong_call_ends_with_a_sentence(arguments, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(examine_slices, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["examine_slices.py", *arguments])
    with pytest.raises(SystemExit, match=r"RECORD WEIGHTS|nowhere"):
        examine_slices.main()
    assert not list(tmp_path.iterdir())
