"""Four sizes of the same report: smoke (tests), sample (no download, no GPU), start (the weights
that sample's detectors begin with), full (real data).

A profile changes sizes, steps and where the data come from. Three environment variables choose:
`HW3_PROFILE`, `HW3_DATA` and `HW3_RUNS`. They are read here; a record also notes the first.
"""

import os
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from hw3.errors import InputError

NAMED_WEIGHTS = ("coco", "imagenet", "random")
"""What a network can start from besides a file."""
NARROWEST = 1 / 64
"""Share of a backbone's channels; below it the first layer would have none."""
TILE = 300
"""Side in pixels of what SSD300 looks at."""
# Where `tools/start_weights.py` keeps weights. No description: it would show this machine's path.
DETECTION = Path(__file__).parent / "detection"


def _check(settings: object, *positive: str) -> None:
    """Refuse settings with which nothing could be trained."""
    faults = [
        f"{name} is {getattr(settings, name)}"
        for name in positive
        if not 0 < getattr(settings, name) < inf  # nor is nan
    ]
    faults += [f"seed is {settings.seed}"] if settings.seed < 0 else []
    if faults:
        raise InputError(f"{', '.join(faults)}: choose a number above 0 (a seed may be 0)")
    _check_choices(settings)
    if settings.seed >= 2**32:
        raise InputError(f"seed is {settings.seed}: choose a number below 2**32")
    if settings.width < NARROWEST:
        raise InputError(f"width is {settings.width}: choose {NARROWEST} or more")


def _check_choices(settings: object) -> None:
    """Refuse what a `Literal` does not name; the command line does so itself."""
    for name, kind in get_type_hints(type(settings)).items():
        literal = next((own for own in (kind, *get_args(kind)) if get_origin(own) is Literal), None)
        value, members = getattr(settings, name), get_args(literal)
        left_open = value is None and kind is not literal  # `Literal[...] | None`
        if members and value not in members and not left_open:
            raise InputError(f"{name} is {value}: choose {' or '.join(members)}")


def _check_range(settings: object, low: float, high: float, *names: str) -> None:
    faults = [
        f"{name} is {getattr(settings, name)}"
        for name in names
        if not low <= getattr(settings, name) <= high
    ]
    if faults:
        raise InputError(f"{', '.join(faults)}: choose {low} to {high}")


def _check_frozen(settings: object, name: str) -> None:
    """Refuse to keep layers as they are that nothing has trained."""
    if settings.weights == "random" and getattr(settings, name):
        fault = f"{name} is {getattr(settings, name)}"
        raise InputError(f"{fault}: with random weights choose 0, or they stay random")


def _check_count(name: str, value: int | None) -> None:
    if value is not None and value < 0:
        raise InputError(f"{name} is {value}: choose 0 or more, or None")


@dataclass(frozen=True)
class SegmentationSettings:
    """Everything that decides a U-Net run on LGG. What is not given is as in the report.

    Example:
        >>> settings = SegmentationSettings(image_size=128, crop_size=64)
        >>> settings.loss, settings.epochs
        ('dice', 20)
    """

    split: Literal["slice", "patient", "leaking"] = "slice"
    """By slice as in the report (slices of one patient leak across), or whole patients held out, or
    held out but for half of their slices, to measure what a leak is worth."""
    image_size: int = 256
    """Side in pixels to which slices are resized for the network; divisible by 16."""
    crop_size: int | None = None
    """Side of the random crops that are trained on, divisible by 16; None for whole slices."""
    crops: int | None = None
    """Crops an epoch, of training slices drawn at random; None for one of each."""
    tumour_share: float = 0.5
    """Share of the crops laid around a tumour pixel."""
    train_patients: int | None = None
    """Slices of so many of the training patients, drawn by the seed; of two such draws the larger
    holds the smaller. None for all; with 0 the weights are scored as they are at the start."""
    encoder_weights: str = "imagenet"
    """Of the frozen VGG16, "imagenet", "random", or a safetensors or state-dict file."""
    weights: str | None = None
    """The whole network's at the start, the file of a run; None for a new decoder."""
    width: float = 1.0
    """Share of VGG16's channels, below 1 for quick runs."""
    decoder_channels: tuple[int, int, int, int] = (256, 128, 64, 32)
    """Channels of the four decoder levels, coarse to fine."""
    loss: Literal["dice", "dice_bce", "tversky"] = "dice"
    """Dice loss as in the report, Dice plus cross-entropy, or soft Tversky."""
    augment: bool = True
    """The report's five random transforms, on the training slices only."""
    without: tuple[str, ...] = ()
    """Of these transforms, the ones to leave out, by their names in `augment.TRANSFORMS`."""
    epochs: int = 20
    """Passes over the training slices."""
    batch_size: int = 20
    """Slices a step, over all processes."""
    learning_rate: float = 1e-3
    """Adam's step size (not stated in the report); the peak where the schedule is one_cycle."""
    weight_decay: float = 0.0
    """AdamW's; 0 is the report's Adam."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Learning rate over the run."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """With auto, bf16 or fp16 on a GPU that has it, float32 on a CPU."""
    seed: int = 0
    """Seed of the split, the weights, the order of slices and the augmentation."""

    def check(self) -> None:
        """Refuse numbers with which nothing could be trained, with an InputError.

        Example:
            >>> SegmentationSettings(epochs=0).check()
            Traceback (most recent call last):
            hw3.errors.InputError: epochs is 0: choose a number above 0 (a seed may be 0)
        """
        _check(self, "width", "image_size", "epochs", "batch_size", "learning_rate")
        _check_range(self, 0, 1, "tumour_share", "weight_decay")
        if min(self.decoder_channels) <= 0:
            raise InputError(f"decoder_channels is {self.decoder_channels}: choose numbers above 0")
        crop = self.crop_size
        if crop is not None and (crop % 16 or not 0 < crop <= self.image_size):
            limits = f"a multiple of 16, at most image_size {self.image_size}"
            raise InputError(f"crop_size is {crop}: choose {limits}, or None")
        coarsest = ((crop or self.image_size) // 16) ** 2
        if self.batch_size * coarsest < 2:
            fault = f"batch_size is {self.batch_size}, crop_size {crop}"
            raise InputError(f"{fault}: the coarsest map would be one number; enlarge either")
        if self.crops is not None and (crop is None or self.crops <= 0):
            raise InputError(f"crops is {self.crops}: choose 1 or more, with a crop_size, or None")
        _check_count("train_patients", self.train_patients)
        if self.weights and self.encoder_weights not in ("imagenet", "random"):
            raise InputError("weights and encoder_weights both name a file: the first holds both")


@dataclass(frozen=True)
class DetectionSettings:
    """What both detectors' runs on GTSDB have in common. What is not given is as in the report.

    Example:
        >>> DetectionSettings(split="official", crop_size=256, crops=480).sign_share
        0.8
    """

    weights: str = "coco"
    """At the start, "coco", "imagenet" (backbone), "random", or a weights file."""
    split: Literal["random", "official"] = "random"
    """80 / 20 % at random as in the report, or the competition's 600 / 300 images."""
    train_images: int | None = None
    """So many of the training images, drawn by the seed; of two such draws the larger holds the
    smaller. None for all; with 0 the weights are scored as they are at the start."""
    group: Literal["prohibitory", "mandatory", "danger", "other"] | None = None
    """The only group of signs to find, in training and in testing; all others are background then.
    None for all four."""
    width: float = 1.0
    """Share of the channels of the backbone, below 1 for quick runs."""
    crop_size: int | None = None
    """Side of the native crops that are trained on; None for whole images, as in the report."""
    crops: int = 0
    """Crops an epoch."""
    sign_share: float = 0.8
    """Share of the crops laid around a sign."""
    hard_share: float = 0.0
    """Share of the crops laid around a false alarm (a score of at least 0.2 on no annotated sign)
    that the starting weights, a detector's file, raise in a training image: hard negatives. The
    crops that are left lie anywhere."""
    balance_groups: bool = False
    """Signs to lay crops around come from each of the four groups equally often."""
    augment: bool = True
    """Jitter of brightness and colour."""
    epochs: int = 10
    """Passes over the training images, or over so many crops."""
    batch_size: int = 8
    """Images or crops a step, over all processes."""
    learning_rate: float = 1e-4
    """Adam's step size (not stated in the report); the peak where the schedule is one_cycle."""
    weight_decay: float = 0.0
    """AdamW's; 0 is the report's Adam."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Learning rate over the run."""
    max_gradient_norm: float = 5.0
    """Larger gradients are scaled down to it."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """With auto, bf16 or fp16 on a GPU that has it, float32 on a CPU."""
    score_threshold: float = 0.05
    """Detections below it are not kept."""
    seed: int = 0
    """Seed of the split, the weights, the crops and the augmentation."""

    def check(self) -> None:
        """Refuse numbers with which nothing could be trained, with an InputError.

        Example:
            >>> DetectionSettings(crop_size=256).check()
            Traceback (most recent call last):
            hw3.errors.InputError: crop_size 256 needs crops above 0, not 0
        """
        _check(self, "width", "epochs", "batch_size", "learning_rate", "max_gradient_norm")
        _check_range(self, 0, 1, "weight_decay", "score_threshold")
        if self.crop_size is not None and min(self.crop_size, self.crops) <= 0:
            raise InputError(f"crop_size {self.crop_size} needs crops above 0, not {self.crops}")
        if self.hard_share and (self.crop_size is None or self.weights in NAMED_WEIGHTS):
            needs = "a crop_size, and weights from a file of a trained detector"
            raise InputError(f"hard_share is {self.hard_share}: it needs {needs}")
        shares = {"sign_share": self.sign_share, "hard_share": self.hard_share}
        if not (min(shares.values()) >= 0 and sum(shares.values()) <= 1):
            stated = " and ".join(f"{name} is {share}" for name, share in shares.items())
            raise InputError(f"{stated}: choose shares from 0, of no more than 1 together")
        _check_count("train_images", self.train_images)
        if self.crop_size is None and self.crops:
            raise InputError(f"crops is {self.crops}: without a crop_size, choose 0")


@dataclass(frozen=True)
class FasterRcnnSettings(DetectionSettings):
    """Two stages: Faster R-CNN on a feature pyramid.

    Example:
        >>> FasterRcnnSettings(backbone="vgg16-fpn").frozen_blocks
        2
    """

    backbone: Literal["resnet50-fpn", "vgg16-fpn"] = "resnet50-fpn"
    """ResNet50 as in the report, or VGG16."""
    anchor_sizes: tuple[int, ...] = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
    """Sides of the square anchors in pixels, two a level, ten for ResNet50, eight for VGG16."""
    image_size: tuple[int, int] | None = None
    """Shortest and longest side to resize to; None for native pixels."""
    fpn_channels: int = 256
    """Channels of the pyramid."""
    fpn_norm: bool = False
    """BatchNorm after the pyramid's convolutions; for a ResNet50 that starts at random."""
    rois_per_image: int = 512
    """Proposals drawn from an image for the box head's loss; fewer are enough for a crop."""
    proposals: int = 2000
    """Best proposals of a training image to draw from. A whole image is searched with 1000, which
    is 60 for the area of a 256-pixel crop: with many more, the draw is of easier ones."""
    frozen_blocks: int = 2
    """Blocks of the backbone that are not trained (a BatchNorm's statistics still follow)."""

    def check(self) -> None:
        """Refuse numbers with which nothing could be trained, with an InputError.

        Example:
            >>> FasterRcnnSettings(frozen_blocks=6).check()
            Traceback (most recent call last):
            hw3.errors.InputError: frozen_blocks is 6: choose 0 to 5
        """
        super().check()
        _check(self, "fpn_channels", "rois_per_image", "proposals")
        _check_range(self, 0, 5, "frozen_blocks")
        _check_frozen(self, "frozen_blocks")
        if self.image_size and self.crop_size:
            rule = (
                "crops would be trained on at another scale than images are looked at; choose None"
            )
            raise InputError(f"image_size is {self.image_size}, with a crop_size: {rule}")
        if self.image_size and not 0 < self.image_size[0] <= self.image_size[1]:
            order = "choose the shortest side, then the longest, or None"
            raise InputError(f"image_size is {self.image_size}: {order}")
        if len(self.anchor_sizes) % 2 or min(self.anchor_sizes, default=0) <= 0:
            sizes = ", ".join(map(str, self.anchor_sizes))
            raise InputError(f"anchor_sizes is {sizes}: choose two numbers above 0 a level")


@dataclass(frozen=True)
class SsdSettings(DetectionSettings):
    """One stage: SSD300.

    Example:
        >>> replace(SsdSettings(), tiles=True, crop_size=300, crops=640).weights
        'coco'
    """

    tiles: bool = False
    """Native 300-pixel tiles, or the whole image made 300 x 300, as in the report."""
    frozen_convolutions: int = 4
    """Convolutions that are not trained, from the first (a BatchNorm after one still is)."""
    mining: Literal["image", "batch"] = "image"
    """The hardest background of each image is learned from, as in torchvision, or of the batch,
    to which images without signs then belong."""

    def check(self) -> None:
        """Refuse numbers with which nothing could be trained, with an InputError.

        Example:
            >>> SsdSettings(frozen_convolutions=-1).check()
            Traceback (most recent call last):
            hw3.errors.InputError: frozen_convolutions is -1: choose 0 to 23
        """
        super().check()
        _check_range(self, 0, 23, "frozen_convolutions")
        _check_frozen(self, "frozen_convolutions")
        if self.tiles != (self.crop_size is not None):
            rule = "tiles are trained on crops and whole images without: give both or neither"
            raise InputError(f"tiles is {self.tiles}, crop_size {self.crop_size}: {rule}")
        if self.tiles and self.crop_size != TILE:
            rule = f"another crop than a tile's {TILE} pixels would be trained on at another scale"
            raise InputError(f"crop_size is {self.crop_size}: {rule}; choose {TILE}")


@dataclass(frozen=True)
class Profile:
    """One size of the whole report. The sizes of simulated data are unused for real data.

    Example:
        >>> SAMPLE.simulated, SAMPLE.images, FULL.simulated
        (True, 200, False)
    """

    name: Literal["smoke", "sample", "start", "full"]
    simulated: bool
    """Simulated data made on the spot, or the real data sets."""
    patients: int
    """Simulated patients."""
    slices: int | None
    """Simulated slices a patient; None for as many as the anatomy gives."""
    slice_size: int
    """Side of a simulated slice in pixels."""
    images: int
    """Simulated roads."""
    image_width: int
    """Of a simulated road, in pixels."""
    image_height: int
    """Of a simulated road, in pixels."""
    segmentation: SegmentationSettings
    faster_rcnn: FasterRcnnSettings
    ssd300: SsdSettings


SMOKE = Profile(
    name="smoke",
    simulated=True,
    patients=6,
    slices=6,
    slice_size=64,
    images=10,
    image_width=320,
    image_height=192,
    segmentation=SegmentationSettings(
        image_size=32,
        encoder_weights="random",
        width=0.25,
        decoder_channels=(16, 8, 8, 8),
        epochs=2,
        batch_size=8,
        learning_rate=3e-3,
    ),
    faster_rcnn=FasterRcnnSettings(
        weights="random",
        width=0.0625,
        fpn_channels=16,
        rois_per_image=128,
        frozen_blocks=0,
        crop_size=96,
        crops=8,
        epochs=1,
        batch_size=4,
    ),
    ssd300=SsdSettings(
        weights="random",
        width=0.0625,
        tiles=True,
        frozen_convolutions=0,
        crop_size=300,
        crops=8,
        epochs=1,
        batch_size=4,
    ),
)
SAMPLE = Profile(
    name="sample",
    simulated=True,
    patients=24,
    slices=None,
    slice_size=256,
    images=200,
    image_width=680,
    image_height=400,
    segmentation=SegmentationSettings(
        image_size=128,
        crop_size=64,
        encoder_weights="random",
        width=0.25,
        decoder_channels=(64, 48, 32, 24),
        epochs=12,
        batch_size=8,
        learning_rate=3e-3,
        schedule="one_cycle",
    ),
    faster_rcnn=FasterRcnnSettings(
        weights=f"{DETECTION}/start_faster_rcnn.safetensors",
        backbone="vgg16-fpn",
        anchor_sizes=(16, 24, 32, 48, 64, 96, 128, 192),
        width=0.25,
        fpn_channels=64,
        rois_per_image=64,
        proposals=100,
        crop_size=160,
        crops=300,
        sign_share=0.25,
        epochs=2,
        learning_rate=5e-4,
        schedule="one_cycle",
    ),
    ssd300=SsdSettings(
        weights=f"{DETECTION}/start_ssd300.safetensors",
        width=0.25,
        tiles=True,
        mining="batch",
        crop_size=300,
        crops=160,
        sign_share=0.25,
        epochs=2,
        batch_size=4,
        learning_rate=5e-4,
        schedule="one_cycle",
    ),
)
START = replace(
    SAMPLE,
    name="start",
    patients=72,
    images=800,
    segmentation=replace(SAMPLE.segmentation, epochs=8, seed=1),
    faster_rcnn=replace(
        SAMPLE.faster_rcnn,
        weights="random",
        proposals=2000,
        frozen_blocks=0,
        crops=2400,
        sign_share=0.8,
        epochs=4,
        learning_rate=2e-3,
        seed=1,
    ),
    ssd300=replace(
        SAMPLE.ssd300,
        weights="random",
        mining="image",
        frozen_convolutions=0,
        crops=1200,
        sign_share=0.8,
        epochs=4,
        learning_rate=2e-3,
        seed=1,
    ),
)
"""Longer runs on other simulated data: the weights from which sample's detectors start are theirs,
and those of the U-Net of simulated brains that is tried on real ones."""
FULL = Profile(
    name="full",
    simulated=False,
    patients=0,
    slices=None,
    slice_size=256,
    images=0,
    image_width=1360,
    image_height=800,
    segmentation=SegmentationSettings(),
    faster_rcnn=FasterRcnnSettings(image_size=(800, 1333)),
    ssd300=SsdSettings(epochs=40),
)
PROFILES = {profile.name: profile for profile in (SMOKE, SAMPLE, START, FULL)}


def active() -> Profile:
    """The profile that `HW3_PROFILE` names; sample when it is not set.

    Raises:
        InputError: if the variable names no profile.

    Example:
        >>> os.environ["HW3_PROFILE"] = "smoke"
        >>> active().name
        'smoke'
    """
    name = os.environ.get("HW3_PROFILE") or "sample"
    if name not in PROFILES:
        raise InputError(f"HW3_PROFILE is {name!r}: set it to one of {', '.join(PROFILES)}")
    return PROFILES[name]


def data_folder() -> Path:
    """Where data sets and their caches are kept: `HW3_DATA`, or `~/.cache/hw3/data`.

    Example:
        >>> os.environ["HW3_DATA"] = "/large/disk"
        >>> data_folder().as_posix()
        '/large/disk'
    """
    return Path(os.environ.get("HW3_DATA") or Path.home() / ".cache/hw3/data").expanduser()


def runs_folder() -> Path:
    """Where runs leave records, weights, checkpoints: `HW3_RUNS`, or `~/.cache/hw3/runs`.

    Example:
        >>> os.environ["HW3_RUNS"] = "/large/disk/runs"
        >>> runs_folder().as_posix()
        '/large/disk/runs'
    """
    return Path(os.environ.get("HW3_RUNS") or Path.home() / ".cache/hw3/runs").expanduser()
