"""What a run is: its settings, the two recipes, and the four profiles that say how large.

A recipe is a named set of settings, `report` or `ours`. A profile chooses the data (simulated or
real) and the size. Three environment variables decide: `HW3_PROFILE`, `HW3_DATA` and `HW3_RUNS`.
"""

import os
import reprlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hw3.data import InputError, expanded

NAMED_WEIGHTS = ("coco", "imagenet", "simulated", "random")
"""What a network can start from besides a file."""
# Bounds keep what a record of unknown origin says from filling the memory.
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0, le=10**6)]
Channels = Annotated[int, Field(gt=0, le=2048)]
Side = Annotated[int, Field(gt=0, le=1024, multiple_of=16)]
Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """What runs of both questions have in common; unusable values raise an InputError."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    model: ClassVar[str]

    width: Annotated[float, Field(ge=1 / 64, le=1)] = 1.0
    """Share of the backbone's channels, below 1 for quick runs."""
    epochs: Count
    """Passes over the training samples."""
    batch_size: Count
    """Samples a step, over all processes."""
    learning_rate: Positive
    """Adam's step size (not stated in the report); the peak where the schedule is one_cycle."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's; 0 is the report's Adam."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Learning rate over the run."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """With auto, bf16 or fp16 on a GPU that has it, float32 on a CPU."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the split, the weights, the order of samples and the augmentation."""

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(told(error)) from None

    def but(self, /, **changes: Any) -> Self:
        """These settings with some changed, checked again."""
        return type(self)(**(self.model_dump() | changes))


class SegmentationSettings(Settings):
    """Everything that decides a U-Net run on LGG. What is not given is as in the report.

    Example:
        >>> SegmentationSettings(crop_size=64).loss
        'dice'
        >>> SegmentationSettings(epochs=0)
        Traceback (most recent call last):
        hw3.data.InputError: epochs is 0: it should be greater than 0
    """

    model: ClassVar[str] = "unet"

    split: Literal["slice", "fold0", "fold1", "fold2", "fold3", "fold4"] = "slice"
    """By slice as in the report (slices of one patient leak across), or one fifth of the patients
    held out, each patient by one of the five."""
    image_size: Side = 256
    """Side in pixels to which slices are resized for the network."""
    crop_size: Side | None = None
    """Side of the random crops that are trained on; None for whole slices."""
    crops: Count | None = None
    """Crops an epoch, of training slices drawn at random; None for as many as there are slices."""
    encoder_weights: str = "imagenet"
    """What the frozen VGG16 has, "imagenet", "random", or a safetensors or state-dict file."""
    decoder_channels: tuple[Channels, Channels, Channels, Channels] = (256, 128, 64, 32)
    """Channels of the four decoder levels, coarse to fine."""
    loss: Literal["dice", "dice_bce"] = "dice"
    """Dice loss as in the report, or Dice plus cross-entropy."""
    epochs: Count = 20
    batch_size: Count = 20
    learning_rate: Positive = 1e-3

    @model_validator(mode="after")
    def _check(self) -> Self:
        crop = self.crop_size
        if crop and crop > self.image_size:
            raise ValueError(f"crop_size is {crop}: choose at most image_size {self.image_size}")
        if self.crops and not crop:
            raise ValueError(f"crops is {self.crops}: choose a crop_size with it, or None")
        if self.batch_size * ((crop or self.image_size) // 16) ** 2 < 2:
            fault = f"batch_size is {self.batch_size}, crop_size {crop}"
            raise ValueError(f"{fault}: the coarsest map would be one number; enlarge either")
        return self


class DetectionSettings(Settings):
    """What both detectors' runs on GTSDB have in common. What is not given is as in the report."""

    weights: str = "coco"
    """What to start from, "coco", "imagenet" (backbone), "simulated" (comes with this package),
    "random", or a file of weights."""
    split: Literal["random", "official", "fold0", "fold1", "fold2"] = "random"
    """80 / 20 % at random as in the report, the competition's 600 / 300 images, or a third of the
    competition's training images held out, on which recipes are chosen."""
    crops: Count | None = None
    """Native crops an epoch; None for whole images, resized, as in the report."""
    sign_share: Share = 0.8
    """Share of the crops laid around a sign; the others lie anywhere."""
    frozen_blocks: Annotated[int, Field(ge=0, le=5)] = 2
    """Blocks of the backbone that are not trained (a BatchNorm's statistics still follow)."""
    epochs: Count = 10
    batch_size: Count = 8
    learning_rate: Positive = 1e-4

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weights == "random" and self.frozen_blocks:
            fault = f"frozen_blocks is {self.frozen_blocks}"
            raise ValueError(f"{fault}: with random weights choose 0, or they stay random")
        return self


class FasterRcnnSettings(DetectionSettings):
    """Two stages: Faster R-CNN on a feature pyramid."""

    model: ClassVar[str] = "faster-rcnn"

    backbone: Literal["resnet50-fpn", "vgg16-fpn"] = "resnet50-fpn"
    """ResNet50 as in the report, or VGG16."""
    crop_size: Annotated[int, Field(ge=32, le=1024)] = 224
    """Side of the crops."""
    fpn_channels: Channels = 256
    """Channels of the pyramid."""
    rois_per_image: Count = 512
    """Proposals drawn from an image for the box head's loss; fewer are enough for a crop."""
    proposals: Count = 2000
    """Best proposals of a training image to draw from. A whole image is searched with 1000, which
    is 60 for the area of a 256-pixel crop: with many more, the draw is of easier ones."""


class SsdSettings(DetectionSettings):
    """One stage: SSD300, on native 300-pixel tiles where there are `crops`, else whole images."""

    model: ClassVar[str] = "ssd300"

    epochs: Count = 40
    mining: Literal["image", "batch"] = "image"
    """The hardest background of each image is learned from, as in torchvision, or of the batch,
    to which images without signs then belong."""


class Profile(BaseModel):
    """One size of the whole report; the sizes of simulated data are unused for real data."""

    model_config = ConfigDict(frozen=True)

    name: Literal["smoke", "sample", "start", "full"]
    simulated: bool
    brains: dict[str, int] = {}
    """What `simulate_lgg` is given."""
    roads: dict[str, int] = {}
    """What `simulate_gtsdb` is given."""
    sizes: dict[str, dict[str, Any]] = {}
    """By model, what is smaller than in the recipe `ours`."""


REPORT: dict[str, Settings] = {
    own.model: own() for own in (SegmentationSettings, FasterRcnnSettings, SsdSettings)
}
"""What the report states; what it does not is torchvision's and Keras' default."""

_DETECTORS = {
    "weights": "simulated",
    "split": "official",
    "width": 0.25,
    "frozen_blocks": 0,
    "crops": 2000,
    "epochs": 10,
    "learning_rate": 1e-3,
    "schedule": "one_cycle",
}
OURS: dict[str, Settings] = {
    "unet": SegmentationSettings(
        crop_size=128,
        crops=6400,
        loss="dice_bce",
        epochs=8,
        batch_size=16,
        learning_rate=2e-3,
        weight_decay=1e-4,
        schedule="one_cycle",
    ),
    "faster-rcnn": FasterRcnnSettings(
        **_DETECTORS,
        backbone="vgg16-fpn",
        fpn_channels=64,
        rois_per_image=128,
        proposals=100,
        sign_share=0.3,
    ),
    "ssd300": SsdSettings(**_DETECTORS, mining="batch", sign_share=0.4),
}
"""One run from the weights that come with the package (detectors) or ImageNet's (U-Net)."""
RECIPES = {"report": REPORT, "ours": OURS}

_SMOKE = dict(weights="random", split="random", width=1 / 16, crops=8, epochs=2, batch_size=4)
SMOKE = Profile(
    name="smoke",
    simulated=True,
    brains=dict(patients=6, slices=6, size=64, seed=0),
    roads=dict(images=10, height=192, width=320, seed=0),
    sizes={
        "unet": {
            "image_size": 32,
            "crop_size": 32,
            "crops": None,
            "encoder_weights": "random",
            "width": 0.25,
            "decoder_channels": (16, 8, 8, 8),
            "epochs": 2,
            "batch_size": 8,
        },
        "faster-rcnn": _SMOKE | {"fpn_channels": 16, "crop_size": 96},
        "ssd300": _SMOKE,
    },
)
SAMPLE = Profile(
    name="sample",
    simulated=True,
    brains=dict(patients=24, seed=0),
    roads=dict(images=160, height=400, width=680, seed=0),
    sizes={
        "unet": {
            "image_size": 128,
            "crop_size": 64,
            "crops": None,
            "encoder_weights": "random",
            "width": 0.25,
            "decoder_channels": (64, 48, 32, 24),
            "epochs": 10,
            "batch_size": 8,
            "learning_rate": 3e-3,
        },
        "faster-rcnn": {
            "split": "random",
            "crop_size": 160,
            "crops": 300,
            "epochs": 2,
            "rois_per_image": 64,
            "learning_rate": 5e-4,
        },
        "ssd300": {"split": "random", "crops": 160, "epochs": 2, "learning_rate": 5e-4},
    },
)
_START = dict(weights="random", split="random", sign_share=0.8, epochs=4, learning_rate=2e-3)
START = SAMPLE.model_copy(
    update={
        "name": "start",
        "brains": dict(patients=72, seed=1),
        "roads": SAMPLE.roads | dict(images=800, seed=1),
        "sizes": {
            "unet": SAMPLE.sizes["unet"] | {"epochs": 8, "seed": 1},
            "faster-rcnn": SAMPLE.sizes["faster-rcnn"]
            | _START
            | {"proposals": 2000, "crops": 2400, "seed": 1},
            "ssd300": _START | {"mining": "image", "crops": 1200, "batch_size": 4, "seed": 1},
        },
    }
)
"""Longer runs on other simulated data: the detectors' start weights `simulated` are theirs."""
FULL = Profile(name="full", simulated=False)
PROFILES = {profile.name: profile for profile in (SMOKE, SAMPLE, START, FULL)}


def active() -> Profile:
    """The profile that `HW3_PROFILE` names; sample when it is not set."""
    name = os.environ.get("HW3_PROFILE") or "sample"
    if name not in PROFILES:
        raise InputError(f"HW3_PROFILE is {name!r}: set it to one of {', '.join(PROFILES)}")
    return PROFILES[name]


def recipe(model: str, name: str | None = None, full: str = "ours") -> Settings:
    """The settings of a recipe in the active profile; an InputError if it has none.

    Args:
        model: unet, faster-rcnn or ssd300.
        name: report or ours. If it is not given, `full` with real data and ours with simulated.
        full: the recipe of profile full.

    Example:
        >>> os.environ["HW3_PROFILE"] = "full"
        >>> recipe("ssd300", "report").epochs, recipe("ssd300").crops
        (40, 2000)
    """
    profile = active()
    name = name or ("ours" if profile.simulated else full)
    if name not in RECIPES:
        raise InputError(f"recipe is {name}: choose {' or '.join(RECIPES)}")
    if model not in REPORT:
        raise InputError(f"model is {model}: choose {' or '.join(REPORT)}")
    if name == "report" and profile.simulated:
        remedy = "set HW3_PROFILE=full, or choose ours"
        fault = f"recipe is report, but profile {profile.name} is a reduced ours"
        raise InputError(f"{fault}: {remedy}")
    return RECIPES[name][model].but(**profile.sizes.get(model, {}))


def data_folder() -> Path:
    """Where data sets and their caches are kept: `HW3_DATA`, or `~/.cache/hw3/data`."""
    return expanded(os.environ.get("HW3_DATA") or "~/.cache/hw3/data")


def runs_folder() -> Path:
    """Where runs leave records, weights, checkpoints: `HW3_RUNS`, or `~/.cache/hw3/runs`."""
    return expanded(os.environ.get("HW3_RUNS") or "~/.cache/hw3/runs")


def told(error: ValidationError, shown: int = 3) -> str:
    """pydantic's faults as one line: field, value, what it should be."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] == "missing")
    lines = [_line(fault) for fault in faults]
    more = [f"and {len(lines) - shown} more"] if len(lines) > shown else []
    return "; ".join(lines[:shown] + more)


def _line(fault: dict[str, Any]) -> str:
    field, message = repr(".".join(map(str, fault["loc"])))[1:-1] or "it", fault["msg"]
    if fault["type"] == "value_error":
        where = f"{field}: " if fault["loc"] else ""
        return where + message.removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{field} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{field} is no setting"
    message = message.replace("Input should", "it should")
    return f"{field} is {reprlib.repr(fault['input'])}: {message[0].lower()}{message[1:]}"
