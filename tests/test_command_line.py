import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

import hw3.__main__ as command_line
from hw3 import profiles, records, training
from hw3.__main__ import compare, main
from hw3.segmentation import experiment

ROOT = Path(profiles.__file__).parents[1]
COMMANDS = {
    ("data", "lgg"): command_line.data_lgg,
    ("data", "gtsdb"): command_line.data_gtsdb,
    ("train", "unet"): command_line.train_unet,
    ("train", "faster-rcnn"): command_line.train_faster_rcnn,
    ("train", "ssd300"): command_line.train_ssd300,
    ("evaluate",): command_line.evaluate,
    ("predict",): command_line.predict,
}


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


def altered(path: Path, to: Path, change: Callable[[dict], None]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    to.write_text(json.dumps(content))
    return to


# Help and usage


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_explains_every_option(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    text, function = capsys.readouterr().out, COMMANDS[words]
    names = []
    for name, parameter in inspect.signature(function).parameters.items():
        grouped = is_dataclass(parameter.annotation)
        names += [field.name for field in fields(parameter.annotation)] if grouped else [name]
    positional = {"evaluate": "record", "predict": "images"}.get(words[0])
    wanted = [f"--{name.replace('_', '-')}" for name in names if name != positional]
    assert ended.value.code == 0
    assert [option for option in wanted if not re.search(rf"{option}\b[ ,]", text)] == []
    assert inspect.getdoc(function).splitlines()[0] in text
    explained = " ".join(text.replace("│", " ").split())
    for line in inspect.getdoc(function).partition("Args:\n")[2].splitlines():
        assert line.partition(": ")[2].rstrip(".") in explained


@pytest.mark.parametrize("words", [[], ["data"], ["train"]], ids=["overview", "data", "train"])
def test_help_of_a_group_names_its_commands(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    inside = [full[len(words)] for full in COMMANDS if list(full[: len(words)]) == words]
    assert all(word in text for word in inside)


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_help_shows_the_defaults_of_the_profile(capsys, monkeypatch, profile) -> None:
    monkeypatch.setenv("HW3_PROFILE", profile)
    with pytest.raises(SystemExit):
        main(["train", "unet", "--help"])
    size = profiles.PROFILES[profile].segmentation.batch_size
    assert f"over all processes. (default: {size})" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["train"],
        ["nonsense"],
        ["evaluate"],
        ["train", "unet", "--epochs", "many"],
        ["train", "unet", "--nonsense", "1"],
        ["train", "unet", "--split", "year"],
    ],
    ids=" ".join,
)
def test_wrong_usage_has_exit_status_2(capsys, words) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert words[-1:] == [] or words[-1] in err or words[-2] in err
    assert not out and "Traceback" not in err


def test_unknown_profile_is_one_line(capsys, monkeypatch) -> None:
    monkeypatch.setenv("HW3_PROFILE", "huge")
    assert "'huge'" in refused(capsys, "evaluate", "record.json")


# data


def test_data_counts_what_a_folder_holds(capsys, tiny_lgg) -> None:
    assert main(["data", "lgg", "--source", str(tiny_lgg)]) == 0
    counted, remedy = capsys.readouterr().out.splitlines()
    assert counted == f"{tiny_lgg}: 36 slices of 6 patients, each with its mask"
    assert remedy == f"train on them with --data {tiny_lgg}"


def test_data_unpacks_the_zip_where_it_is_told(capsys, tiny_lgg, tmp_path) -> None:
    archive = shutil.make_archive(tmp_path / "archive", "zip", tiny_lgg.parent, "kaggle_3m")
    assert main(["data", "lgg", "--source", archive, "--to", str(tmp_path / "here")]) == 0
    assert "36 slices of 6 patients" in capsys.readouterr().out
    assert len(list((tmp_path / "here").rglob("*_mask.tif"))) == 36


def test_data_that_is_not_there(capsys, tmp_path) -> None:
    assert "nowhere" in refused(capsys, "data", "lgg", "--source", tmp_path / "nowhere")
    assert str(tmp_path) in refused(capsys, "data", "lgg", "--source", tmp_path)


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
    assert record.weights["sha256"] == records.file_sha256(weights)


def test_record_of_the_run_is_complete(trained, folders) -> None:
    record = records.load(trained)
    # --record was given an absolute path; the record keeps the file's name alone.
    assert record.command == "HW3_PROFILE=smoke python -m hw3 train unet --record copy.json"
    assert all(getattr(record, field.name) for field in fields(record) if field.name != "seed")
    assert record.data["kind"] == "simulated" and record.data["slices"] == 36
    slices = [len(own) for part in record.data["split"].values() for own in part.values()]
    assert sum(slices) == 36
    assert [entry["epoch"] for entry in record.history] == [1, 2]
    assert set(record.results) == {"train", "validation", "test"}
    assert record.settings["batch_size"] == profiles.SMOKE.segmentation.batch_size


def test_training_again_finds_the_finished_run(capsys, monkeypatch, trained, tmp_path) -> None:
    def fit(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("trained again")

    before = trained.read_bytes()
    monkeypatch.setattr(training, "fit", fit)
    assert main(["train", "unet", "--record", str(tmp_path / "copy.json")]) == 0
    assert f"record: {trained}\n" in capsys.readouterr().out
    assert trained.read_bytes() == before == (tmp_path / "copy.json").read_bytes()
    with pytest.raises(AssertionError, match="trained again"):
        main(["train", "unet", "--learning-rate", "0.004"])


def test_interrupted_training_goes_on_to_the_same_weights(
    capsys, monkeypatch, trained, tmp_path
) -> None:
    words, step, calls = ["train", "unet", "--runs", str(tmp_path)], experiment.train_step, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "train_step", interrupted)
        assert main(words) == 130
    error = capsys.readouterr().err
    assert "Run the same command again" in error and error.count("\n") == 1
    assert not list(tmp_path.glob("*.json"))
    assert main(words) == 0
    record = records.load(tmp_path / trained.name)
    assert record.weights == records.load(trained).weights
    assert record.results == records.load(trained).results


@pytest.mark.parametrize("size", ["0", "1000"])
def test_train_with_a_batch_size_that_cannot_be(capsys, tiny_lgg, tmp_path, size) -> None:
    error = refused(capsys, "train", "unet", "--batch-size", size, "--runs", tmp_path)
    assert f"batch_size is {size}" in error


def test_train_with_other_faults_of_the_user(capsys, tiny_lgg, tmp_path) -> None:
    assert "image_size is 40" in refused(capsys, "train", "unet", "--image-size", "40")
    error = refused(capsys, "train", "unet", "--encoder-weights", tmp_path / "none.pth")
    assert "none.pth" in error
    (tmp_path / "file").write_text("")
    assert "epochs is 0" in refused(capsys, "train", "unet", "--epochs", "0")
    assert "workers is -1" in refused(capsys, "train", "unet", "--workers", "-1")
    error = refused(capsys, "train", "unet", "--epochs", "1", "--runs", tmp_path / "file" / "runs")
    assert str(tmp_path / "file") in error


def test_ctrl_c_outside_of_training_is_one_line(capsys, monkeypatch) -> None:
    def stop(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "prepare", stop)
    assert main(["train", "unet"]) == 130
    assert capsys.readouterr().err == "stopped\n"


# evaluate


def test_evaluate_agrees_with_the_record(capsys, trained) -> None:
    assert main(["evaluate", str(trained)]) == 0
    assert "every entry of the results agrees" in capsys.readouterr().out


def test_evaluate_predicts_anew(capsys, trained, tiny_lgg) -> None:
    weights = trained.with_suffix(".safetensors")
    words = ["evaluate", str(trained), "--data", str(tiny_lgg), "--weights", str(weights)]
    assert main(words) == 0
    assert "agrees" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("where", "named"),
    [
        (("results", "test", "dice"), "test.dice:"),
        (("results", "validation", "accuracy_interval", 1), "validation.accuracy_interval.1:"),
        (("evidence", "train", None, "true_positive", 0), "train.dice:"),
    ],
)
def test_evaluate_names_what_was_altered(capsys, trained, tmp_path, where, named) -> None:
    def change(content: dict) -> None:
        for key in where[:-1]:
            content = next(iter(content.values())) if key is None else content[key]
        content[where[-1]] += 0.5 if where[0] == "results" else 7

    path = altered(trained, tmp_path / "altered.json", change)
    assert main(["evaluate", str(path)]) == 2
    out, err = capsys.readouterr()
    assert named in out and err.startswith(f"error: {path}: ")
    if where[0] == "results":
        assert out.count("\n") == 1 and f"{path}: 1 entries differ" in err


def test_evaluate_within_a_tolerance(capsys, trained, tmp_path) -> None:
    def change(content: dict) -> None:
        content["results"]["test"]["dice"] += 0.01

    path = altered(trained, tmp_path / "altered.json", change)
    assert main(["evaluate", str(path), "--tolerance", "0.02"]) == 0
    assert "agrees within 0.02" in capsys.readouterr().out
    assert "differ by more than 0.005" in refused(capsys, "evaluate", path, "--tolerance", "0.005")
    for tolerance in ("-1", "nan"):
        assert "choose 0 or more" in refused(capsys, "evaluate", path, "--tolerance", tolerance)


def test_evaluate_with_what_does_not_belong_together(capsys, trained, tiny_lgg, tmp_path) -> None:
    weights = trained.with_suffix(".safetensors")
    assert "--weights" in refused(capsys, "evaluate", trained, "--data", tiny_lgg)
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    error = refused(capsys, "evaluate", trained, "--data", tiny_lgg, "--weights", other)
    assert "other.safetensors: these are not the weights" in error
    fewer = shutil.copytree(tiny_lgg, tmp_path / "kaggle_3m")
    shutil.rmtree(next(path for path in fewer.iterdir() if path.is_dir()))
    error = refused(capsys, "evaluate", trained, "--data", fewer, "--weights", weights)
    assert "these are not the data of record unet" in error


def test_evaluate_what_is_no_record(capsys, trained, tmp_path) -> None:
    assert "no record to read" in refused(capsys, "evaluate", tmp_path / "none.json")
    assert "no record to read" in refused(capsys, "evaluate", tmp_path)
    assert "not a run record" in refused(capsys, "evaluate", trained.with_suffix(".safetensors"))


@pytest.mark.parametrize(
    ("field", "content", "fault"),
    [
        ("settings", {"model": "yolo"}, "its model is yolo; known are unet, faster-rcnn, ssd300"),
        ("settings", {}, "its model is None"),
        ("evidence", {}, "its evidence is incomplete or faulty (KeyError"),
        ("evidence", {"pixels_per_slice": 1, "test": []}, "its evidence is incomplete or faulty ("),
    ],
)
def test_evaluate_a_record_with_something_else_in_it(
    capsys, trained, tmp_path, field, content, fault
) -> None:
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(json.loads(trained.read_text()) | {field: content}))
    assert fault in refused(capsys, "evaluate", path)


def test_compare_names_every_leaf_that_differs() -> None:
    before = {"a": {"x": 1.0, "y": [1, 2.0]}, "b": None, "c": float("nan"), "d": 0.0}
    after = {"a": {"x": 1.0 + 5e-7, "y": [1, 2.1]}, "b": None, "c": float("nan"), "e": 0.0}
    assert [path for path, _, _ in compare(before, after)] == ["a.y.1", "c", "d", "e"]
    assert compare([1, 2], [1, 2, 3]) == [("2", None, 3)]
    assert compare({"n": 1}, {"n": None}) == [("n", 1, None)]
    assert compare(before | {"c": 0}, before | {"c": 0}) == []


# predict


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(48, 80, 3) uint8 RGB without any pure red."""
    return np.random.default_rng(0).integers(10, 200, (48, 80, 3), dtype=np.uint8)


def test_predict_writes_mask_and_overlay_at_the_native_size(
    capsys, trained, tmp_path, picture
) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), picture[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), picture[..., 0])
    tifffile.imwrite(tmp_path / "two.tif", picture, photometric="rgb")
    images = [str(tmp_path / name) for name in ("one.png", "grey.png", "two.tif")]
    to = tmp_path / "new" / "folder"
    assert main(["predict", *images, "--record", str(trained), "--to", str(to)]) == 0
    kinds = ("predicted", "overlay")
    expected = [to / f"{stem}_{kind}.png" for stem in ("one", "grey", "two") for kind in kinds]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in expected]
    read = {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in expected}
    for stem in ("one", "grey", "two"):
        assert read[f"{stem}_predicted"].shape == (48, 80)
        assert set(np.unique(read[f"{stem}_predicted"])) <= {0, 255}
        assert read[f"{stem}_overlay"].shape == (48, 80, 3)
    assert (read["one_predicted"] == read["two_predicted"]).all()
    assert (read["one_overlay"] == read["two_overlay"]).all()


def test_overlay_is_the_image_with_the_outline_of_the_mask(
    monkeypatch, trained, tmp_path, picture
) -> None:
    probability = np.zeros((1, 48, 80), np.float32)
    probability[0, 10:20, 30:60] = 0.9
    monkeypatch.setattr(experiment, "predict", lambda model, images, native: probability)
    path = tmp_path / "one.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    assert main(["predict", str(path), "--record", str(trained), "--to", str(tmp_path)]) == 0
    mask = cv2.imread(str(tmp_path / "one_predicted.png"), cv2.IMREAD_UNCHANGED)
    assert (mask == 255 * (probability[0] > 0)).all()
    border = (probability[0] > 0).copy()
    border[11:19, 31:59] = False
    overlay = cv2.imread(str(tmp_path / "one_overlay.png"))[..., ::-1]
    assert (overlay[~border] == picture[~border]).all()
    assert (overlay[border] == overlay[10, 30]).all()
    assert overlay[10, 30, 0] > 200 > overlay[10, 30, 2]  # reddish


def test_predict_with_unusable_images_writes_nothing(capsys, trained, tmp_path, picture) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", picture.astype(np.uint16), photometric="rgb")
    cv2.imwrite(str(tmp_path / "deep.png"), picture.astype(np.uint16))
    four = np.dstack([picture, picture[..., :1]])
    tifffile.imwrite(tmp_path / "four.tif", four, photometric="rgb")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and no more")
    (tmp_path / "text.png").write_text("not an image")
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), picture)
    to = tmp_path / "out"
    for name, fault in {
        "deep.tif": "uint16",
        "deep.png": "not 8 bits a channel",
        "four.tif": "(48, 80, 4)",
        "broken.tif": "no image in it",
        "text.png": "decoded",
        "none.png": "no such file; name images",
        "none.tif": "no such file",
    }.items():
        error = refused(capsys, "predict", good, tmp_path / name, "--record", trained, "--to", to)
        assert name in error and fault in error
    assert not to.exists()


def test_predict_without_what_it_needs(capsys, trained, tmp_path, picture) -> None:
    image = tmp_path / "one.png"
    cv2.imwrite(str(image), picture)
    assert "no images given" in refused(capsys, "predict", "--record", trained)
    alone = shutil.copy(trained, tmp_path / "alone.json")
    assert "alone.safetensors" in refused(capsys, "predict", image, "--record", alone)
    assert str(image) in refused(capsys, "predict", image, "--record", trained, "--to", image)
