from pathlib import Path

import pytest
from pydantic import ValidationError

from hw3.data import InputError
from hw3.settings import OURS, PROFILES, REPORT, SAMPLE, active, data_folder, recipe, runs_folder


def test_the_variable_chooses_the_profile_and_sample_is_the_default(monkeypatch) -> None:
    for name in PROFILES:
        monkeypatch.setenv("HW3_PROFILE", name)
        assert active() is PROFILES[name] and active().name == name
    monkeypatch.setenv("HW3_PROFILE", "")
    assert active() is SAMPLE
    monkeypatch.delenv("HW3_PROFILE")
    assert active() is SAMPLE
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
    assert type(recipe(model)) is type(OURS[model])
    assert (recipe(model) == OURS[model]) == (profile == "full")
    if profile == "full":
        assert recipe(model, "report") == recipe(model, full="report") == REPORT[model]
    else:
        assert recipe(model, full="report") == recipe(model)


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
        ("unet", {"epochs": 10**30}),
        ("unet", {"epochs": [[[[[[[[1]]]]]]]] * 1000}),
        ("unet", {"learning_rate": float("nan")}),
        ("unet", {"split": None}),
        ("unet", {"seed": 2**32}),
        ("unet", {"width": 0.001}),
        ("unet", {"image_size": 40}),
        ("unet", {"decoder_channels": [10**9] * 4}),
        ("unet", {"crops": 8}),
        ("unet", {"crops": 0, "crop_size": 128}),
        ("unet", {"batch_size": 1, "crop_size": 16}),
        ("faster-rcnn", {"frozen_blocks": 1, "weights": "random"}),
        ("faster-rcnn", {"crop_size": 1}),
        ("ssd300", {"sign_share": 1.1}),
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


@pytest.mark.parametrize("name", ["data", "runs"])
def test_folders(monkeypatch, tmp_path, name) -> None:
    variable, folder = f"HW3_{name.upper()}", {"data": data_folder, "runs": runs_folder}[name]
    monkeypatch.setenv("HOME", str(tmp_path))
    default = tmp_path / ".cache/hw3" / name
    for value, expected in (("/here", Path("/here")), ("~/it", tmp_path / "it"), ("", default)):
        monkeypatch.setenv(variable, value)
        assert folder() == expected
    monkeypatch.delenv(variable)
    assert folder() == default
