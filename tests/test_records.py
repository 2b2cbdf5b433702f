import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from hw3 import records
from hw3.errors import InputError
from hw3.records import (
    RunRecord,
    code_sha256,
    file_sha256,
    find,
    load,
    provenance,
    run_key,
    write_atomically,
)

COUNTS = {"slice_indices": [1, 2], "true_positive": [3, 0]}


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


def test_record_survives_a_round_trip(tmp_path) -> None:
    record = make()
    assert load(record.save(tmp_path / "runs" / "one.json")) == record
    empty = RunRecord("none", {}, {}, 0)
    assert load(empty.save(tmp_path / "two.json")) == empty


def test_seeds_are_found_in_order_and_nothing_else_is(tmp_path) -> None:
    for seed, name in ((2, "run-seed2"), (0, "run"), (10, "run-seed10"), (1, "run-seeds-of-time")):
        RunRecord(name, {}, {}, seed).save(tmp_path / f"{name}.json")
    found = records.load_seeds(tmp_path / "run.json")
    assert [record.name for record in found] == ["run", "run-seed2", "run-seed10"]
    assert [own.name for own in records.load_seeds(tmp_path / "run-seed2.json")] == ["run-seed2"]
    with pytest.raises(InputError, match=r"other\.json: no record to read"):
        records.load_seeds(tmp_path / "other.json")


def test_a_chain_ends_where_the_weights_come_from_no_known_run() -> None:
    names = ("first", "second", "third")
    runs = [replace(make(), name=name, weights={"sha256": name}) for name in names]
    for before, run in pairwise(runs):
        run.weights["start_sha256"] = before.name
    unfinished = replace(make(), weights={})
    known = [unfinished, *runs]
    assert [own.name for own in records.chain(runs[2], known)] == ["third", "second", "first"]
    assert records.chain(runs[2], [runs[0]]) == runs[2:]
    assert records.chain(unfinished, known) == [unfinished]
    runs[0].weights["start_sha256"] = "first"  # a run that changed nothing
    assert records.chain(runs[1], known)[:2] == [runs[1], runs[0]]


def test_keys_in_the_file_are_in_the_order_of_the_fields_each_on_its_line(tmp_path) -> None:
    text = make().save(tmp_path / "one.json").read_text()
    names = [field.name for field in fields(RunRecord)]
    assert list(json.loads(text)) == names
    top = [line for line in text.splitlines() if line.startswith(' "')]
    assert [line.split('"')[1] for line in top] == names
    assert text.endswith("\n}\n")


def test_file_is_compact_where_nobody_reads_it(tmp_path) -> None:
    lines = make().save(tmp_path / "one.json").read_text().splitlines()
    assert '   "TCGA_A": {"slice_indices": [1, 2], "true_positive": [3, 0]},' in lines
    assert '   "dice": 0.6666666666666666,' in lines
    assert '  {"epoch": 1, "loss": 0.5},' in lines
    assert '  "channels": [8, 4]' in lines


def test_same_record_is_the_same_bytes(tmp_path) -> None:
    first, second = (make().save(tmp_path / name) for name in ("one.json", "two.json"))
    assert load(first).save(tmp_path / "three.json").read_bytes() == second.read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_json_does_not_have_is_refused_and_the_old_file_kept(tmp_path, value) -> None:
    path = make().save(tmp_path / "one.json")
    with pytest.raises(ValueError, match="JSON"):
        make(results={"test": {"dice": value}}).save(path)
    assert load(path) == make()
    assert os.listdir(tmp_path) == ["one.json"]


def test_schema_of_another_version_is_named_whatever_else_it_holds(tmp_path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"schema": 99, "title": "from the future"}))
    with pytest.raises(InputError, match=r"one\.json: schema 99, but this version reads 1; "):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{half", b"\x89PNG\r\n\xff", b"[1, 2]", b"{}", b"3"])
def test_file_that_is_no_record_is_refused_in_one_line(tmp_path, content) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"one\.json: not a run record .*that train wrote$"):
        load(path)


def test_record_without_one_of_its_fields_names_it(tmp_path) -> None:
    path = make().save(tmp_path / "one.json")
    content = json.loads(path.read_text())
    del content["evidence"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="evidence"):
        load(path)


@pytest.mark.parametrize(("field", "value"), [("settings", []), ("history", {}), ("evidence", 1)])
def test_a_field_of_another_type_is_named(tmp_path, field, value) -> None:
    path = make().save(tmp_path / "run.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(InputError, match=f"not a run record .*{field} is no"):
        load(path)


def test_missing_file_and_folder_are_no_records(tmp_path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="no record to read"):
            load(path)


# Found again


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text("width = 64\n")
    return path


def test_run_is_found_by_name_and_key(tmp_path) -> None:
    record = make(key="a" * 64)
    assert find(tmp_path, record) is None
    record.save(tmp_path / f"{record.stem}.json")
    assert find(tmp_path, make(key="a" * 64, results={}, evidence={})) == record
    assert find(tmp_path, make(key="a" * 64, name="other")) is None


@pytest.mark.parametrize("change", ["settings", "fingerprint", "source", "source name"])
def test_stale_run_is_never_found(tmp_path, source, change) -> None:
    settings, fingerprint = {"epochs": 2, "rate": 0.1}, "f00d"
    record = make(key=run_key(settings, fingerprint, [source]))
    record.save(tmp_path / f"{record.stem}.json")
    assert find(tmp_path, make(key=run_key(dict(settings), fingerprint, [source]))) == record
    if change == "settings":
        settings["rate"] = 0.2
    elif change == "fingerprint":
        fingerprint = "beef"
    elif change == "source":
        source.write_text("width = 65\n")
    else:
        source = source.rename(tmp_path / "loss.py")
    assert find(tmp_path, make(key=run_key(settings, fingerprint, [source]))) is None


def test_record_of_another_run_under_the_same_file_name_is_not_found(tmp_path) -> None:
    wanted = make(key="a" * 64)
    make(key="a" * 10 + "b" * 54).save(tmp_path / f"{wanted.stem}.json")
    assert find(tmp_path, wanted) is None


def test_key_depends_on_no_order_and_no_place(tmp_path, source) -> None:
    other = tmp_path / "augment.py"
    other.write_text("turns = 4\n")
    key = run_key({"a": 1, "b": 2}, "f00d", [source, other])
    assert key == run_key({"b": 2, "a": 1}, "f00d", [other, source])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = [path.rename(elsewhere / path.name) for path in (source, other)]
    assert key == run_key({"a": 1, "b": 2}, "f00d", moved)


def test_words_and_layout_make_no_code_stale(tmp_path) -> None:
    plain, told = tmp_path / "plain.py", tmp_path / "told.py"
    plain.write_text("width = 64\ndef double(x):\n    return 2 * x\n")
    told.write_text(
        '"""A module."""\n\nwidth = 64  # pixels\n"""Of an image."""\n\n\n'
        'def double(\n    x,\n):\n    """Twice x."""\n    return 2 * x\n'
    )
    assert code_sha256(plain) == code_sha256(told)
    told.write_text(told.read_text().replace("2 * x", "x * 2"))
    assert code_sha256(plain) != code_sha256(told)


def test_text_that_is_used_is_code(tmp_path) -> None:
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("mode = 'train'\n")
    second.write_text("mode = 'test'\n")
    assert code_sha256(first) != code_sha256(second)


def test_key_changes_with_the_schema(monkeypatch, source) -> None:
    before = run_key({}, "f00d", [source])
    monkeypatch.setattr(records, "SCHEMA", 2)
    assert run_key({}, "f00d", [source]) != before


# Written whole or not at all


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_crash_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, failing
) -> None:
    def crash(*_arguments) -> None:
        raise OSError("disk full")

    path = make().save(tmp_path / "one.json")
    monkeypatch.setattr(os, failing, crash)
    with pytest.raises(OSError, match="disk full"):
        make(seed=8).save(path)
    assert load(path) == make()
    assert os.listdir(tmp_path) == ["one.json"]


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch) -> None:
    done, path = [], tmp_path / "new" / "one.bin"
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    write_atomically(path, b"content")
    assert done == ["fsync", "replace"]
    assert path.read_bytes() == b"content"


# Provenance


def test_provenance_is_complete() -> None:
    found = provenance()
    assert set(found) == {"command", "commit", "versions", "hardware"} and all(found.values())
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"python", *records.PACKAGES} == set(found["versions"])
    assert found["hardware"]["device"] and found["hardware"]["count"] >= 1
    assert RunRecord("unet", {}, {}, 0, **found).commit == found["commit"]


@pytest.mark.parametrize(
    ("program", "profile", "expected"),
    [
        ("/somewhere/hw3/__main__.py", None, "python -m hw3 train unet --note 'a b'"),
        ("hw3/__main__.py", "smoke", "HW3_PROFILE=smoke python -m hw3 train unet --note 'a b'"),
        ("/usr/bin/pytest", None, "pytest train unet --note 'a b'"),
    ],
)
def test_command_is_what_one_would_type(monkeypatch, program, profile, expected) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "argv", [program, "train", "unet", "--note", "a b"])
    monkeypatch.delenv("HW3_PROFILE", raising=False)
    if profile:
        monkeypatch.setenv("HW3_PROFILE", profile)
    assert provenance()["command"] == expected


def test_command_has_no_folder_of_somebodys_machine(monkeypatch) -> None:
    typed = ["train", "unet", "--record", "/home/me/runs/first.json", "--data", "data/lgg"]
    typed += ["--runs=/home/me/runs/", "--note", "train/test", "--weights", "/top.pt"]
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "argv", ["/home/me/hw3/__main__.py", *typed])
    monkeypatch.delenv("HW3_PROFILE", raising=False)
    expected = "python -m hw3 train unet --record first.json --data data/lgg --runs=runs"
    expected += " --note train/test --weights top.pt"
    assert provenance()["command"] == expected


def test_command_of_a_notebook(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert provenance()["command"] == "a notebook of the book"


def answer(monkeypatch, head: str, status: str, own: str = "records.py\n") -> str:
    def run(command: list[str], **_options) -> subprocess.CompletedProcess:
        out = {"rev-parse": head, "status": status, "ls-files": own}[command[1]]
        return subprocess.CompletedProcess(command, 0, stdout=out)

    monkeypatch.setattr(subprocess, "run", run)
    return provenance()["commit"]


def test_commit_says_whether_the_package_was_changed_since(monkeypatch) -> None:
    assert answer(monkeypatch, "abc\n", "") == "abc"
    assert answer(monkeypatch, "abc\n", " M hw3/records.py\n") == "abc with changes"
    assert answer(monkeypatch, "", "", own="") == "unknown"


def test_commit_of_a_repository_that_merely_surrounds_the_package_is_not_taken(monkeypatch) -> None:
    assert answer(monkeypatch, "abc\n", "", own="") == "unknown"


def test_commit_is_unknown_without_git(monkeypatch) -> None:
    def run(*_arguments, **_options) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", run)
    assert provenance()["commit"] == "unknown"


def test_sha256_of_a_file(tmp_path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert file_sha256(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_samples_are_those_of_all_epochs():
    record = records.RunRecord("unet", settings={}, data={}, seed=0)
    assert record.samples == 0
    record.history = [{"samples": 7}, {"samples": 5}]
    assert record.samples == 12


def test_device_minutes_count_every_device():
    record = RunRecord("unet", settings={}, data={}, seed=0, seconds_training=120.0)
    record.hardware = {"device": "A100", "count": 4}
    assert record.device_minutes == 8
    record.history = [{"device_seconds": 90.0}, {"device_seconds": 30.0}]  # resumed elsewhere
    assert record.device_minutes == 2
    record.history[0] = {}
    assert record.device_minutes == 8
