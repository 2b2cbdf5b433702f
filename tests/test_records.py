import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from hw3 import records
from hw3.backbones import save_weights
from hw3.data import InputError, file_sha256
from hw3.records import RunRecord, finished, keep, load, provenance, settings_of
from hw3.settings import FasterRcnnSettings, SegmentationSettings, SsdSettings
from hw3.training import make_accelerator

COUNTS = {"slice_indices": [1, 2], "true_positive": [3, 0]}
DATA = {"kind": "simulated", "fingerprint": "abc", "split": {"train": [1], "test": [2]}}
SETTINGS = SegmentationSettings(encoder_weights="random")


def make(**changes) -> RunRecord:
    values = {
        "name": "unet",
        "settings": {"epochs": 2, "channels": [8, 4]},
        "data": {"kind": "simulated", "fingerprint": "f00d", "split": {"train": {"a": [1, 2]}}},
        "seed": 7,
        "key": "0123456789abcdef",
        "versions": {"torch": "2.5"},
        "history": [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.1}],
        "results": {"test": {"dice": 2 / 3, "dice_interval": [0.5, 0.75], "mean": None}},
        "evidence": {"pixels_per_slice": 16, "test": {"TCGA_A": COUNTS, "TCGA_B": COUNTS}},
    }
    return RunRecord(**values | changes)


# The file


def test_record_survives_a_round_trip_as_the_same_bytes(tmp_path) -> None:
    for record in (make(), RunRecord("none", {}, {}, 0)):
        path = record.save(tmp_path / "runs" / "one.json")
        assert load(path) == record
        assert load(path).save(tmp_path / "two.json").read_bytes() == path.read_bytes()


def test_a_note_that_is_not_utf8_can_be_read_again(tmp_path) -> None:
    path = make(data={"note": "caf\udce9 für"}).save(tmp_path / "one.json")
    assert load(path).data == {"note": "caf? für"}


def test_file_has_the_fields_in_order_and_is_compact_where_nobody_reads_it(tmp_path) -> None:
    text = make().save(tmp_path / "one.json").read_text()
    lines = text.splitlines()
    names = [field.name for field in fields(RunRecord)]
    assert list(json.loads(text)) == names
    assert [line.split('"')[1] for line in lines if line.startswith(' "')] == names
    assert text.endswith("\n}\n")
    assert '   "TCGA_A": {"slice_indices": [1, 2], "true_positive": [3, 0]},' in lines
    assert '   "dice": 0.6666666666666666,' in lines
    assert '  {"epoch": 1, "loss": 0.5},' in lines
    assert '  "channels": [8, 4]' in lines


def test_value_that_json_does_not_have_is_refused_and_the_old_file_kept(tmp_path) -> None:
    path = make().save(tmp_path / "one.json")
    with pytest.raises(ValueError, match="JSON"):
        make(results={"test": {"dice": float("nan")}}).save(path)
    assert load(path) == make()
    assert os.listdir(tmp_path) == ["one.json"]


WHOLE = json.loads(records._dumps(make().__dict__))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "EOF"),
        (b"\x89PNG\r\n\xff", "invalid JSON"),
        (b"{}", "name is missing"),
        (b"[" * 100_000, "recursion limit"),
        ({"schema": 99, "title": "from the future"}, "schema is 99: it should be 1"),
        (WHOLE | {"settings": []}, "settings is"),
        (WHOLE | {"seed": "0"}, "seed is"),
        (WHOLE | {"name": "two\nlines"}, "name is"),
        (WHOLE | {"weights": {"sha256": 7}}, "weights.sha256 is 7"),
    ],
    ids=str,
)
def test_file_that_is_no_record_is_refused_in_one_line(tmp_path, content, fault) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError, match=r"one\.json: not a run record .*that train wrote$") as own:
        load(path)
    assert fault in str(own.value)
    assert "\n" not in str(own.value) and len(str(own.value)) < 500


def test_seeds_are_found_in_order_and_nothing_else_is(tmp_path) -> None:
    for name in ("run-seed2", "run-seed0", "run", "run-seed10", "run-seeds", "other-seed1"):
        RunRecord(name, {}, {}, 0).save(tmp_path / f"{name}.json")
    found = records.load_seeds(tmp_path, "run")
    assert [record.name for record in found] == ["run-seed0", "run-seed2"]
    with pytest.raises(InputError, match=r"no record third-seed0\.json"):
        records.load_seeds(tmp_path, "third")


# A run


def start(chosen=SETTINGS, weights: str = "random", name: str = "run", **data) -> RunRecord:
    return records.start(name, chosen, weights, DATA | data)


def test_settings_data_and_version_are_in_the_key(monkeypatch) -> None:
    own = {"weights": "random", "frozen_blocks": 0}
    others = [SETTINGS.but(seed=1), SETTINGS.but(learning_rate=0.2)]
    others += [SsdSettings(**own), FasterRcnnSettings(**own)]
    keys = [start().key, start(fingerprint="other").key, *(start(other).key for other in others)]
    keys.append(start(SETTINGS.but(encoder_weights="imagenet"), "imagenet").key)
    assert start(note="a remark").key == start(name="another").key == start().key
    monkeypatch.setattr(records, "__version__", "99")
    keys.append(start().key)
    assert len(set(keys)) == len(keys)


def test_a_weights_file_is_known_by_name_and_content_never_by_path(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keys = {}
    for folder, content in (("here", b"one"), ("there", b"one"), ("elsewhere", b"two")):
        path = tmp_path / folder / "start.safetensors"
        path.parent.mkdir()
        path.write_bytes(content)
        for given in (str(path), f"~/{folder}/start.safetensors"):
            record = start(SETTINGS.but(encoder_weights=given), given)
            named = record.weights["start"], record.settings["encoder_weights"]
            assert named == ("start.safetensors",) * 2
            assert record.weights["start_sha256"] == file_sha256(path)
            assert folder not in json.dumps(record.settings)
            assert keys.setdefault(folder, record.key) == record.key
    assert keys["here"] == keys["there"] != keys["elsewhere"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "../../up", "-x", "a b", "a\n"])
def test_a_name_that_leads_elsewhere_is_refused(name) -> None:
    with pytest.raises(InputError, match=r"name is .*choose letters"):
        start(name=name)


def test_only_a_whole_run_of_the_same_key_is_found_with_its_own_weights(tmp_path) -> None:
    torch.manual_seed(5)
    record, model = start(), nn.Linear(3, 2).eval()
    record.history = [{"epoch": 1, "seconds": 1.24}, {"epoch": 2, "seconds": 2.03}]
    checkpoint = tmp_path / f"{record.stem}.checkpoint.pt"
    checkpoint.write_bytes(b"the state of a run")
    assert finished(record, tmp_path) is None
    keep(record, model, tmp_path, make_accelerator())
    weights, path = record.weights_in(tmp_path), tmp_path / f"{record.stem}.json"
    assert sorted(tmp_path.iterdir()) == [path, weights]  # the checkpoint is gone
    assert record.weights == {"start": "random", "sha256": file_sha256(weights)}
    assert record.seconds_training == 3.3
    assert load(path) == finished(start(), tmp_path) == record

    again = records.trained(nn.Linear(3, 2), weights, make_accelerator())
    assert not again.training
    assert all(value.equal(model.state_dict()[k]) for k, value in again.state_dict().items())

    assert finished(start(SETTINGS.but(seed=1)), tmp_path) is None
    assert finished(replace(record, key=record.key[:10] + "0" * 54), tmp_path) is None
    content = weights.read_bytes()
    save_weights(nn.Linear(3, 2), weights)
    with pytest.raises(InputError, match=r"safetensors: damaged; delete it to train again"):
        finished(start(), tmp_path)
    for gone in (weights, path):
        weights.write_bytes(content)
        kept = gone.read_bytes()
        gone.unlink()
        assert finished(start(), tmp_path) is None
        gone.write_bytes(kept)


def test_settings_come_back_and_newer_ones_have_their_defaults() -> None:
    kinds = (SegmentationSettings, SsdSettings)
    old = RunRecord("old", {"model": "unet", "epochs": 3}, data={}, seed=0)
    assert settings_of(old, *kinds) == SegmentationSettings(epochs=3)
    assert settings_of(start(SETTINGS), *kinds) == SETTINGS
    for chosen, fault in (
        ({"model": "yolo"}, "its model is 'yolo', not unet or ssd300"),
        ({"model": "unet", "momentum": 0.9}, "momentum is no setting; train again"),
    ):
        with pytest.raises(InputError, match=f"record other: .*{fault}"):
            settings_of(RunRecord("other", chosen, data={}, seed=0), *kinds)


# Provenance


def test_command_names_no_folder_of_somebodys_machine(monkeypatch) -> None:
    typed = ["train", "unet", "--record", "/home/me/first.json", "--data", "data/lgg"]
    typed += ["--runs=/home/me/runs/", "--note", "train/test", "--weights", "/top.pt"]
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "argv", ["/home/me/hw3/__main__.py", *typed])
    monkeypatch.delenv("HW3_PROFILE", raising=False)
    expected = "python -m hw3 train unet --record first.json --data data/lgg --runs=runs"
    expected += " --note train/test --weights top.pt"
    assert provenance()["command"] == expected
    monkeypatch.setenv("HW3_PROFILE", "smoke")
    assert provenance()["command"] == f"HW3_PROFILE=smoke {expected}"
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert provenance()["command"] == "a notebook of the book"


def test_commit_says_whether_the_package_was_changed_since(monkeypatch) -> None:
    def run(command: list[str], **_options) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 0, stdout=says[command[1]])

    monkeypatch.setattr(subprocess, "run", run)
    says = {"rev-parse": "abc\n", "status": "", "ls-files": "records.py\n"}
    assert provenance()["commit"] == "abc"
    says["status"] = " M hw3/records.py\n"
    assert provenance()["commit"] == "abc with changes"
    says["ls-files"] = ""  # of a repository that merely surrounds the package
    assert provenance()["commit"] == "unknown"
