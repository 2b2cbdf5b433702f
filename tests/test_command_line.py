import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

import hw3.__main__ as command_line
from hw3 import records, settings, training
from hw3.__main__ import compare, main
from hw3.backbones import vgg16_features
from hw3.data import file_sha256
from hw3.segmentation import experiment
from hw3.simulated.roads import simulate_gtsdb

ROOT = Path(settings.__file__).parents[1]
COMMANDS = ["data lgg", "data gtsdb", "train unet", "train faster-rcnn", "train ssd300", "evaluate"]
COMMANDS += ["predict unet", "predict faster-rcnn", "predict ssd300"]


@pytest.fixture(autouse=True)
def smoke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW3_PROFILE", "smoke")


@pytest.fixture(scope="module")
def typed(tiny_lgg: Path, folders: Path) -> subprocess.CompletedProcess:
    """The smoke profile's U-Net, trained as a user would: its files are in `folders / "runs"`."""
    return subprocess.run(
        [sys.executable, "-m", "hw3", "train", "unet", "--record", folders / "copy.json"],
        env=os.environ | {"HW3_PROFILE": "smoke", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(typed: subprocess.CompletedProcess, folders: Path) -> Path:
    """The path of its record."""
    assert typed.returncode == 0, typed.stderr
    [path] = (folders / "runs").glob("unet-*.json")
    return path


def refused(capsys: pytest.CaptureFixture, *arguments: str | Path) -> str:
    """The one line that a command with unusable input leaves, with exit status 2."""
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.fixture
def image(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((32, 32, 3), np.uint8))
    return tmp_path / "one.png"


def altered(path: Path, to: Path, change: Callable[[dict], None]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    to.write_text(json.dumps(content))
    return to


# Help and usage


@pytest.mark.parametrize("words", COMMANDS)
def test_help_says_what_the_descriptions_say(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    command = {"data": words.replace(" ", "_")}.get(words.split()[0], words.split()[0])
    described = inspect.getdoc(getattr(command_line, command))
    assert described.splitlines()[0] in text
    for entry in re.split(r"\n {4}(?=\w+: )", described.partition("Args:")[2])[1:]:
        assert " ".join(entry.partition(": ")[2].split()).rstrip(".") in text


@pytest.mark.parametrize(
    ("profile", "recipe", "batch_size"),
    [("smoke", [], 8), ("full", [], 16), ("full", ["--recipe=report"], 20)],
)
def test_help_shows_the_recipes_defaults(capsys, monkeypatch, profile, recipe, batch_size) -> None:
    monkeypatch.setenv("HW3_PROFILE", profile)
    with pytest.raises(SystemExit):
        main(["train", "unet", *recipe, "--help"])
    assert f"over all processes. (default: {batch_size})" in capsys.readouterr().out


USAGE = ["", "predict", "predict photo.jpg", "nonsense", "evaluate", "train unet --epochs many"]


@pytest.mark.parametrize("words", [*USAGE, "train unet --nonsense 1"])
def test_wrong_usage_has_exit_status_2(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and not out and "Traceback" not in err
    assert all(word in err for word in words.split()[2:3])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("train unet --recipe report", "profile smoke is a reduced ours: set HW3_PROFILE=full, or"),
        ("train unet --recipe=ours --recipe report", "set HW3_PROFILE=full, or"),
        ("train unet --recipe=theirs", "recipe is theirs: choose report or ours"),
        ("train unet --data=", "a path is empty"),
        ("train unet --name a/../../up", "name is 'a/../../up': choose letters"),
        ("train unet --epochs 0", "epochs is 0"),
        ("train unet --batch-size 1000", "batch_size is 1000: choose 1 to the 28"),
        ("train unet --workers -1", "workers is -1"),
        ("train unet --encoder-weights none.pth", "none.pth is no file"),
        ("train unet --data nowhere", "nowhere: give `kaggle`"),
        ("train unet --epochs 1 --runs FILE/runs", "FILE/runs: cannot be written to"),
        ("train unet --epochs 1 --record FILE/run.json", "FILE: cannot be written to"),
        ("train unet --record .", "--record is ., a folder"),
        ("train unet --data ~nosuchuser/x", "~nosuchuser/x: there is no such user"),
        ("evaluate none.json", "none.json: no record to read"),
        ("predict unet --record none.json", "no images given"),
    ],
)
def test_faults_of_the_user_are_one_line(capsys, monkeypatch, tmp_path, words, fault) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    monkeypatch.setattr(experiment, "train_step", None)  # none of them takes a step
    assert fault in refused(capsys, *words.split())
    assert os.listdir() == ["FILE"]


def test_another_fault_of_a_disk_names_the_file_and_what_to_do(capsys, monkeypatch) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr(records, "load", full)
    fault = refused(capsys, "evaluate", "record.json")
    assert "/disk/file: No space left on device; make room or choose another" in fault


# data


def test_data_are_counted_and_decoded(capsys, tiny_lgg, tmp_path) -> None:
    assert main(["data", "lgg", "--source", str(tiny_lgg)]) == 0
    counted, remedy = capsys.readouterr().out.splitlines()
    assert counted == f"{tiny_lgg}: 36 slices of 6 patients, each with its mask"
    assert remedy == f"train on them: HW3_PROFILE=full python -m hw3 train unet --data {tiny_lgg}"
    archive = shutil.make_archive(tmp_path / "archive", "zip", tiny_lgg.parent, "kaggle_3m")
    to = tmp_path / "here"
    assert main(["data", "lgg", "--source", archive, "--to", str(to), "--quick"]) == 0
    assert "36 slices of 6 patients" in capsys.readouterr().out
    [image, *_] = sorted(path for path in to.rglob("*.tif") if not path.stem.endswith("_mask"))
    image.write_bytes(image.read_bytes()[:300])
    assert main(["data", "lgg", "--source", str(to), "--quick"]) == 0
    assert main(["data", "lgg", "--source", str(to)]) == 2
    assert image.name in capsys.readouterr().err

    roads = simulate_gtsdb(tmp_path / "roads", images=3, width=160, height=96, seed=0)
    assert main(["data", "gtsdb", "--source", str(roads)]) == 0
    assert f"{roads}: 3 images, " in capsys.readouterr().out
    for stem in ("00000", "00001"):  # headers alone tell their sizes
        pixels = cv2.imread(str(roads / f"{stem}.ppm"))
        (roads / f"{stem}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1][:2000].tobytes())
        (roads / f"{stem}.ppm").unlink()
    assert main(["data", "gtsdb", "--source", str(roads), "--quick"]) == 0
    assert main(["data", "gtsdb", "--source", str(roads)]) == 2
    first, *faults = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {roads}: 2 fault(s)")
    assert ["00000.jpg" in faults[0], "00001.jpg" in faults[1]] == [True, True]


# train


def test_train_leaves_record_and_weights_and_says_where(typed, trained, folders) -> None:
    record, weights = records.load(trained), trained.with_suffix(".safetensors")
    assert "|" not in typed.stderr  # no progress bar in a log
    starts = [line.split("  ")[0].split(": ")[0] for line in typed.stdout.splitlines()]
    assert starts[:2] == ["epoch 1/2", "epoch 2/2"]
    assert starts[2:] == ["record", "record", "weights", "train", "validation", "test"]
    assert f"record: {trained}\n" in typed.stdout and f"weights: {weights}\n" in typed.stdout
    assert f"test: dice {record.results['test']['dice']:.4f}" in typed.stdout
    assert (folders / "copy.json").read_bytes() == trained.read_bytes()
    assert record.weights["sha256"] == file_sha256(weights)
    # --record was given an absolute path; the record keeps the file's name alone.
    assert record.command == "HW3_PROFILE=smoke python -m hw3 train unet --record copy.json"
    assert all(getattr(record, field.name) for field in fields(record) if field.name != "seed")


@pytest.mark.parametrize("reason", ["", "stopped; state saved"])
def test_ctrl_c_is_one_line(capsys, monkeypatch, reason) -> None:
    def stop(*_arguments: Any) -> None:
        raise training.Interrupted(reason)

    monkeypatch.setattr(experiment, "prepare", stop)
    assert main(["train", "unet"]) == 130
    assert capsys.readouterr().err == f"{reason or 'stopped'}\n"


# evaluate


def test_evaluate_agrees_with_the_record_and_predicts_anew(capsys, trained, tiny_lgg) -> None:
    assert main(["evaluate", str(trained)]) == 0
    assert "every entry of the results agrees" in capsys.readouterr().out
    weights = trained.with_suffix(".safetensors")
    words = ["evaluate", str(trained), "--data", str(tiny_lgg), "--weights", str(weights)]
    assert main(words) == 0
    assert "agrees" in capsys.readouterr().out
    assert "--weights" in refused(capsys, *words[:-2])


def test_evaluate_names_what_was_altered(capsys, trained, tmp_path) -> None:
    def change_results(content: dict) -> None:
        content["results"]["validation"]["accuracy_interval"][1] += 0.5

    def change_evidence(content: dict) -> None:
        next(iter(content["evidence"]["train"].values()))["false_positive"][0] += 7

    path = altered(trained, tmp_path / "altered.json", change_results)
    assert main(["evaluate", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("validation.accuracy_interval.1: ") and out.count("\n") == 1
    assert err.startswith(f"error: {path}: 1 entries differ")
    assert main(["evaluate", str(path), "--tolerance", "0.6"]) == 0
    for tolerance in ("-1", "nan"):
        assert "choose 0 or more" in refused(capsys, "evaluate", path, "--tolerance", tolerance)
    assert main(["evaluate", str(altered(trained, path, change_evidence))]) == 2
    assert "train.accuracy: " in capsys.readouterr().out


def test_evaluate_a_record_of_another_network_or_without_results(capsys, trained, tmp_path) -> None:
    path = tmp_path / "altered.json"
    altered(trained, path, lambda own: own["settings"].update(model="yolo"))
    fault = "its model is 'yolo'; known are unet, faster-rcnn, ssd300"
    assert fault in refused(capsys, "evaluate", path)
    altered(trained, path, lambda own: own["results"].clear())
    assert "holds no results" in refused(capsys, "evaluate", path)


def test_compare_names_every_recorded_leaf_that_differs() -> None:
    before = {"a": {"x": 1.0, "y": [1, 2.0]}, "b": None, "c": float("nan"), "d": 0.0}
    after = {"a": {"x": 1.0 + 5e-7, "y": [1, 2.1]}, "b": None, "c": float("nan"), "e": 0.0}
    assert [path for path, _, _ in compare(before, after)] == ["a.y.1", "c", "d"]
    assert compare([1, 2], [1, 2, 3]) == [("", [1, 2], [1, 2, 3])]
    assert compare({"n": 1}, {"n": None}) == [("n", 1, None)]
    assert compare({"n": {"m": 1}}, {"n": 1}) == [("n", {"m": 1}, 1)]


# predict


def test_predict_takes_files_folders_and_patterns(capsys, monkeypatch, trained, image) -> None:
    home, kinds = image.parent, ("predicted", "overlay")
    given, to = home / "given", home / "new/folder"
    given.mkdir()
    for name in ("given/first.png", "given/old_overlay.png", "two.png"):
        shutil.copy(image, home / name)
    monkeypatch.setenv("HOME", str(home))
    options = ["--record", str(trained), "--to=~/new/folder"]
    assert main(["predict", "unet", str(given), "~/tw*.png", *options]) == 0
    results = [str(to / f"{stem}_{kind}.png") for stem in ("first", "two") for kind in kinds]
    assert capsys.readouterr().out.splitlines()[1:] == results  # an older result is left out
    (given / "broken.tif").write_bytes(b"II*\0 and no more")
    (given / "empty.png").touch()
    assert main(["predict", "unet", str(given), *options]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == results[:2]
    first, second, last = err.splitlines()
    assert "broken.tif" in first and "empty.png" in second
    assert last == "error: 2 of 3 images cannot be read; the others are done"
    assert main(["predict", "unet", str(given / "empty.png"), *options]) == 2
    assert capsys.readouterr().err.endswith("error: 1 of 1 images cannot be read\n")


def test_names_that_standard_output_has_no_letters_for(capsys, trained, image, tmp_path) -> None:
    path = image.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    arguments = ["predict", "unet", str(path), f"--record={trained}", f"--to={tmp_path}"]
    assert main(arguments) == 0
    assert r"caf\udce9_overlay.png" in capsys.readouterr().out


def test_predict_without_its_weights_or_over_its_input(capsys, trained, image) -> None:
    alone = shutil.copy(trained, image.with_name("alone.json"))
    assert "alone.safetensors" in refused(capsys, "predict", "unet", image, "--record", alone)
    options = ["--record", trained, "--to", image]
    assert str(image) in refused(capsys, "predict", "unet", image, *options)
    assert "not faster-rcnn or ssd300" in refused(capsys, "predict", "ssd300", image, *options)
    options = ["--record", records.shipped("faster-rcnn"), "--to", image.parent]
    fault = refused(capsys, "predict", "ssd300", image, *options)
    assert "a record of faster-rcnn, not of ssd300" in fault


def test_predict_with_an_encoder_that_would_not_be_used(capsys, trained, image) -> None:
    words = [image, "--encoder-weights", "vgg16.safetensors"]
    assert "only unet takes it" in refused(capsys, "predict", "ssd300", *words)
    assert "holds its encoder" in refused(capsys, "predict", "unet", *words, "--record", trained)


@pytest.mark.parametrize("model", ["faster-rcnn", "ssd300"])
def test_predict_finds_signs_with_the_weights_that_come_with_the_package(model, tmp_path) -> None:
    road = ROOT / "book/_static/road.jpg"
    assert main(["predict", model, str(road), "--to", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "road_signs.json").read_text())
    sure = sorted(own["group"] for own in found if own["score"] >= 0.9)
    assert sure == ["danger", "danger", "other", "prohibitory"]


def test_predict_without_imagenets_weights(capsys, monkeypatch, image, tmp_path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _unreachable)
    fault = refused(capsys, "predict", "unet", image, "--to", tmp_path)
    assert "no network" in fault and "--encoder-weights" in fault
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(vgg16_features("random").state_dict(), other)
    options = ["--encoder-weights", other, "--to", tmp_path]
    assert "not the encoder" in refused(capsys, "predict", "unet", image, *options)


def _unreachable(*_arguments: Any, **_named: Any) -> None:
    raise OSError("no network")
