import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from hw3 import settings
from hw3.data import InputError
from hw3.settings import (
    OURS,
    PROFILES,
    REPORT,
    SAMPLE,
    active,
    data_folder,
    recipe,
    runs_folder,
)


@pytest.mark.parametrize("name", PROFILES)
def test_variable_chooses_the_profile(monkeypatch, name) -> None:
    monkeypatch.setenv("HW3_PROFILE", name)
    assert active() is PROFILES[name]
    assert active().name == name


@pytest.mark.parametrize("value", [None, ""])
def test_sample_is_the_default(monkeypatch, value) -> None:
    monkeypatch.delenv("HW3_PROFILE", raising=False)
    if value is not None:
        monkeypatch.setenv("HW3_PROFILE", value)
    assert active() is SAMPLE


def test_unknown_profile_is_refused_with_the_known_ones(monkeypatch) -> None:
    monkeypatch.setenv("HW3_PROFILE", "Full")
    with pytest.raises(InputError, match=r"HW3_PROFILE is 'Full'.*smoke, sample, start, full"):
        active()


def test_report_has_the_settings_of_the_report() -> None:
    unet, two_stage, one_stage = (REPORT[name] for name in ("unet", "faster-rcnn", "ssd300"))
    assert (unet.batch_size, unet.epochs, unet.loss, unet.split) == (20, 20, "dice", "slice")
    assert (unet.encoder_weights, unet.image_size, unet.crop_size) == ("imagenet", 256, None)
    assert (two_stage.backbone, two_stage.epochs, one_stage.epochs) == ("resnet50-fpn", 10, 40)
    for own in (two_stage, one_stage):
        assert (own.split, own.weights, own.crops) == ("random", "coco", None)
    for own in REPORT.values():
        assert (own.schedule, own.weight_decay, own.width, own.seed) == ("constant", 0, 1, 0)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("model", OURS)
def test_a_profile_is_the_recipe_ours_at_another_size(monkeypatch, profile, model) -> None:
    monkeypatch.setenv("HW3_PROFILE", profile)
    assert recipe(model) == recipe(model, "ours")
    assert type(recipe(model)) is type(OURS[model]) and recipe(model).model == model
    if profile == "full":
        assert recipe(model) is not REPORT[model] and recipe(model) == OURS[model]
        assert recipe(model, "report") == recipe(model, full="report") == REPORT[model]
    else:
        assert recipe(model, full="report") == recipe(model)
        with pytest.raises(InputError, match=f"profile {profile} .*: set HW3_PROFILE=full, or"):
            recipe(model, "report")
    with pytest.raises(InputError, match="recipe is theirs: choose report or ours"):
        recipe(model, "theirs")


def test_settings_are_frozen_and_checked_again_when_changed() -> None:
    unet = REPORT["unet"]
    with pytest.raises(ValidationError, match="frozen"):
        unet.epochs = 1
    changed = unet.but(epochs=3, crop_size=64)
    assert (changed.epochs, changed.crop_size, unet.epochs) == (3, 64, 20)
    with pytest.raises(InputError, match="crop_size is 272: choose at most image_size 256"):
        unet.but(crop_size=272)


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("unet", {"epochs": 0}),
        ("unet", {"epochs": 10**30}),
        ("unet", {"epochs": [[[[[[[[1]]]]]]]] * 1000}),
        ("unet", {"learning_rate": float("nan")}),
        ("unet", {"split": None}),
        ("unet", {"seed": 2**32}),
        ("unet", {"width": 0.001}),
        ("unet", {"image_size": 40}),
        ("unet", {"crop_size": 100}),
        ("unet", {"crops": 8}),
        ("unet", {"crops": 0, "crop_size": 128}),
        ("unet", {"batch_size": 1, "crop_size": 16}),
        ("faster-rcnn", {"backbone": "resnet18-fpn"}),
        ("faster-rcnn", {"frozen_blocks": 1, "weights": "random"}),
        ("faster-rcnn", {"crop_size": 1}),
        ("faster-rcnn", {"sign_share": float("nan")}),
        ("ssd300", {"sign_share": 1.1}),
        ("ssd300", {"mining": "Batch"}),
        ("ssd300", {"momentum": 0.9}),
        ("ssd300", {"a\nb": "\ud800"}),
        ("ssd300", {"self": 1}),
    ],
    ids=lambda own: next(iter(own)) if isinstance(own, dict) else own,
)
def test_what_no_setting_can_be_is_refused_by_name_in_one_line(model, change) -> None:
    with pytest.raises(InputError) as caught:
        REPORT[model].but(**change)
    line = str(caught.value)
    assert len(line) < 300 and line.isprintable()
    assert repr(next(iter(change)))[1:-1] in line
    assert any(word in line for word in ("should", "choose", "is no setting", "enlarge"))


def test_the_limits_themselves_can_be_chosen() -> None:
    REPORT["unet"].but(seed=2**32 - 1, width=1 / 64, crop_size=16, batch_size=2, crops=1)
    REPORT["ssd300"].but(sign_share=1, crops=8, frozen_blocks=0)


@pytest.mark.parametrize("own", [*REPORT.values(), *OURS.values()], ids=lambda own: own.model)
def test_settings_survive_json(own) -> None:
    assert type(own)(**json.loads(json.dumps(own.model_dump(mode="json")))) == own


@pytest.mark.parametrize(
    ("variable", "folder", "default"),
    [("HW3_DATA", data_folder, "data"), ("HW3_RUNS", runs_folder, "runs")],
)
def test_folders(monkeypatch, tmp_path, variable, folder, default) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, expected in {
        str(tmp_path / "here"): tmp_path / "here",
        "~/there": tmp_path / "there",
        "": tmp_path / ".cache/hw3" / default,
    }.items():
        monkeypatch.setenv(variable, value)
        assert folder() == expected
    monkeypatch.delenv(variable)
    assert folder() == tmp_path / ".cache/hw3" / default
    monkeypatch.setenv(variable, "~nosuchuser/x")
    with pytest.raises(InputError, match="no such user"):
        folder()


def test_no_other_module_reads_the_variables() -> None:
    package = Path(settings.__file__).parent
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if 'environ.get("HW3_' in path.read_text()
    }
    assert readers <= {"settings.py", "records.py"}  # a record names the profile
