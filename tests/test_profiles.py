from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path

import pytest

from hw3 import profiles
from hw3.errors import InputError
from hw3.profiles import FULL, PROFILES, SAMPLE, SMOKE, active, data_folder, runs_folder


@pytest.mark.parametrize("name", ["smoke", "sample", "start", "full"])
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


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_profiles_are_frozen(profile) -> None:
    with pytest.raises(FrozenInstanceError):
        profile.patients = 1
    with pytest.raises(FrozenInstanceError):
        profile.segmentation.epochs = 1
    assert hash(profile) == hash(replace(profile))


def test_full_has_the_settings_of_the_report() -> None:
    settings = FULL.segmentation
    assert not FULL.simulated
    assert (settings.batch_size, settings.epochs) == (20, 20)
    assert (settings.loss, settings.split) == ("dice", "slice")
    assert settings.encoder_weights == "imagenet"
    assert settings.augment and settings.schedule == "constant"
    assert settings.image_size == 256  # as published


def test_profiles_differ_in_sizes_steps_and_data_alone() -> None:
    alike = ("split", "loss", "augment", "mixed_precision", "seed")
    for profile in (SMOKE, SAMPLE):
        assert profile.simulated and profile.segmentation.encoder_weights == "random"
        for name in alike:
            assert getattr(profile.segmentation, name) == getattr(FULL.segmentation, name)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_image_sizes_fit_the_network(profile) -> None:
    assert profile.segmentation.image_size % 16 == 0
    assert profile.segmentation.image_size <= profile.slice_size


@pytest.mark.parametrize("crop_size", [0, -16, 100, 272])
def test_a_crop_that_does_not_fit_is_refused(crop_size: int) -> None:
    replace(FULL.segmentation, crop_size=256).check()
    with pytest.raises(InputError, match=f"crop_size is {crop_size}: .* at most image_size 256"):
        replace(FULL.segmentation, crop_size=crop_size).check()


@pytest.mark.parametrize(("crop_size", "crops"), [(None, 8), (128, 0), (128, -1)])
def test_a_number_of_crops_needs_crops(crop_size, crops) -> None:
    replace(FULL.segmentation, crop_size=128, crops=8).check()
    with pytest.raises(InputError, match=f"crops is {crops}: choose 1 or more, with a crop_size"):
        replace(FULL.segmentation, crop_size=crop_size, crops=crops).check()


def test_one_file_says_how_the_unet_starts() -> None:
    settings = replace(FULL.segmentation, weights="run.safetensors")
    settings.check()
    with pytest.raises(InputError, match="weights and encoder_weights both name a file"):
        replace(settings, encoder_weights="vgg16.safetensors").check()


@pytest.mark.parametrize(("sign_share", "hard_share"), [(0.8, 0.3), (-0.1, 0.5), (0.5, -0.1)])
def test_shares_of_crops_add_up_to_one_at_most(sign_share, hard_share) -> None:
    settings = replace(
        FULL.faster_rcnn, weights="run.safetensors", image_size=None, crop_size=160, crops=8
    )
    replace(settings, sign_share=0.75, hard_share=0.25).check()
    with pytest.raises(InputError, match=f"sign_share is {sign_share} and hard_share is"):
        replace(settings, sign_share=sign_share, hard_share=hard_share).check()


@pytest.mark.parametrize(
    "change",
    [{"crop_size": None}, {"weights": "coco"}, {"weights": "random"}, {"weights": "imagenet"}],
)
def test_hard_crops_need_a_crop_size_and_a_trained_detector(change) -> None:
    settings = replace(
        FULL.ssd300,
        hard_share=0.2,
        weights="run.safetensors",
        tiles=True,
        crop_size=300,
        crops=8,
    )
    settings.check()
    with pytest.raises(InputError, match=r"hard_share is 0\.2: it needs a crop_size, and weights"):
        replace(settings, **change).check()


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("segmentation", "tumour_share", 7.0),
        ("segmentation", "weight_decay", -1.0),
        ("segmentation", "learning_rate", float("nan")),
        ("segmentation", "schedule", "cosine"),
        ("segmentation", "split", None),
        ("faster_rcnn", "max_gradient_norm", float("inf")),
        ("faster_rcnn", "group", "yield"),
        ("faster_rcnn", "backbone", "resnet18-fpn"),
        ("ssd300", "mining", "Batch"),
        ("segmentation", "decoder_channels", (0, 8, 8, 8)),
        ("faster_rcnn", "score_threshold", 2.0),
        ("faster_rcnn", "sign_share", float("nan")),
        ("faster_rcnn", "frozen_blocks", -1),
        ("faster_rcnn", "frozen_blocks", 6),
        ("faster_rcnn", "anchor_sizes", (16, 24, 32)),
        ("faster_rcnn", "anchor_sizes", (16, 0)),
        ("faster_rcnn", "anchor_sizes", ()),
        ("faster_rcnn", "image_size", (1333, 800)),
        ("faster_rcnn", "image_size", (0, 800)),
        ("faster_rcnn", "crops", 480),
        ("faster_rcnn", "proposals", 0),
        ("ssd300", "frozen_convolutions", -1),
    ],
)
def test_what_no_setting_can_be_is_refused_by_name(model, field, value) -> None:
    settings = getattr(FULL, model)
    settings.check()
    with pytest.raises(InputError, match=f"{field} is .*choose"):
        replace(settings, **{field: value}).check()


@pytest.mark.parametrize(
    ("model", "field"), [("faster_rcnn", "frozen_blocks"), ("ssd300", "frozen_convolutions")]
)
def test_layers_that_nothing_has_trained_are_not_frozen(model, field) -> None:
    settings = replace(getattr(FULL, model), weights="random", **{field: 0})
    settings.check()
    with pytest.raises(InputError, match=f"{field} is 1: with random weights choose 0"):
        replace(settings, **{field: 1}).check()


@pytest.mark.parametrize(
    "change", [{"tiles": True}, {"crop_size": 300, "crops": 8}], ids=["tiles", "crops"]
)
def test_ssd_is_tested_as_it_was_trained(change) -> None:
    replace(FULL.ssd300, tiles=True, crop_size=300, crops=8).check()
    with pytest.raises(InputError, match=r"tiles is .*, crop_size .*: .* give both or neither"):
        replace(FULL.ssd300, **change).check()


def test_crops_are_trained_on_at_the_scale_at_which_images_are_seen() -> None:
    two_stage = replace(FULL.faster_rcnn, image_size=None, crop_size=256, crops=8)
    two_stage.check()
    with pytest.raises(InputError, match=r"image_size is \(800, 1333\), with a crop_size: .* None"):
        replace(two_stage, image_size=(800, 1333)).check()
    with pytest.raises(InputError, match="crop_size is 600: another crop than a tile's 300 pixels"):
        replace(FULL.ssd300, tiles=True, crop_size=600, crops=8).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 10**20}, r"seed is 1000+: choose a number below 2\*\*32"),
        ({"width": 0.001}, r"width is 0\.001: choose 0\.015625 or more"),
        ({"crop_size": 16, "batch_size": 1}, "batch_size is 1, crop_size 16: the coarsest map"),
    ],
)
def test_settings_that_fail_deep_inside_are_refused(change, message) -> None:
    with pytest.raises(InputError, match=message):
        replace(FULL.segmentation, **change).check()
    replace(FULL.segmentation, seed=2**32 - 1, width=1 / 64, crop_size=16, batch_size=2).check()


def test_every_setting_is_plain_data_for_a_record() -> None:
    settings = asdict(FULL.segmentation)
    assert list(settings) == [field.name for field in fields(FULL.segmentation)]
    assert all(isinstance(value, str | int | float | tuple | None) for value in settings.values())


@pytest.mark.parametrize(
    ("variable", "folder", "default"),
    [("HW3_DATA", data_folder, "data"), ("HW3_RUNS", runs_folder, "runs")],
)
def test_folders(monkeypatch, tmp_path, variable, folder, default) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, str(tmp_path / "here"))
    assert folder() == tmp_path / "here"
    monkeypatch.setenv(variable, "~/there")
    assert folder() == tmp_path / "there"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv(variable)
        else:
            monkeypatch.setenv(variable, unset)
        assert folder() == tmp_path / ".cache" / "hw3" / default


def test_no_other_module_reads_the_variables() -> None:
    package = Path(profiles.__file__).parent
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if '"HW3_' in path.read_text()
    }
    assert readers <= {"profiles.py", "records.py"}  # a record names the profile in its command
