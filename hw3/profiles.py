"""Three sizes of the same report: smoke (tests), sample (no download, no GPU), full (real data).

A profile changes sizes, steps and where the data come from, and nothing else. Three environment
variables are read, here and nowhere else: `HW3_PROFILE`, `HW3_DATA` and `HW3_RUNS`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hw3.errors import InputError


@dataclass(frozen=True)
class SegmentationSettings:
    """Everything that decides a U-Net run on LGG; the defaults are the report's own settings."""

    split: Literal["slice", "patient"] = "slice"
    """By slice as in the report (slices of one patient leak across), or whole patients held out."""
    image_size: int = 256
    """Side in pixels to which slices are resized for the network; divisible by 16."""
    encoder_weights: str = "imagenet"
    """Frozen VGG16: "imagenet" (torchvision), "random", or a safetensors or state-dict file."""
    decoder_channels: tuple[int, int, int, int] = (256, 128, 64, 32)
    """Channels of the four decoder levels, coarse to fine."""
    loss: Literal["dice", "dice_bce", "tversky"] = "dice"
    """Dice loss as in the report, Dice plus cross-entropy, or soft Tversky."""
    augment: bool = True
    """The report's five random transforms, on the training slices only."""
    epochs: int = 20
    """Passes over the training slices."""
    batch_size: int = 20
    """Slices a step, over all processes."""
    learning_rate: float = 1e-3
    """Adam's step size (not stated in the report); the peak where the schedule is one_cycle."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Learning rate over the run."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """auto: bf16 or fp16 on a GPU that has it, float32 on a CPU."""
    seed: int = 0
    """Seed of the split, the weights, the order of slices and the augmentation."""


@dataclass(frozen=True)
class Profile:
    """One size of the whole report."""

    name: Literal["smoke", "sample", "full"]
    simulated: bool
    """Simulated data made on the spot, or the real data sets."""
    patients: int
    """Simulated patients (unused for real data)."""
    slices: int | None
    """Simulated slices a patient; None: as many as the anatomy gives."""
    slice_size: int
    """Side of a simulated slice in pixels."""
    segmentation: SegmentationSettings


SMOKE = Profile(
    name="smoke",
    simulated=True,
    patients=6,
    slices=6,
    slice_size=64,
    segmentation=SegmentationSettings(
        image_size=32,
        encoder_weights="random",
        decoder_channels=(16, 8, 8, 8),
        epochs=2,
        batch_size=8,
        learning_rate=3e-3,
    ),
)
SAMPLE = Profile(
    name="sample",
    simulated=True,
    patients=24,
    slices=None,
    slice_size=256,
    segmentation=SegmentationSettings(
        image_size=128,
        encoder_weights="random",
        decoder_channels=(64, 48, 32, 16),
        epochs=6,
        batch_size=8,
        learning_rate=3e-3,
        schedule="one_cycle",
    ),
)
FULL = Profile(
    name="full",
    simulated=False,
    patients=0,
    slices=None,
    slice_size=256,
    segmentation=SegmentationSettings(),
)
PROFILES = {profile.name: profile for profile in (SMOKE, SAMPLE, FULL)}


def active() -> Profile:
    """The profile that `HW3_PROFILE` names; sample when it is not set.

    Raises:
        InputError: if the variable names no profile.
    """
    name = os.environ.get("HW3_PROFILE") or "sample"
    if name not in PROFILES:
        raise InputError(f"HW3_PROFILE is {name!r}: set it to one of {', '.join(PROFILES)}")
    return PROFILES[name]


def data_folder() -> Path:
    """Where data sets and their caches are kept: `HW3_DATA`, or `~/.cache/hw3/data`."""
    return Path(os.environ.get("HW3_DATA") or Path.home() / ".cache/hw3/data").expanduser()


def runs_folder() -> Path:
    """Where runs leave records, weights, checkpoints: `HW3_RUNS`, or `~/.cache/hw3/runs`."""
    return Path(os.environ.get("HW3_RUNS") or Path.home() / ".cache/hw3/runs").expanduser()
