"""How much of the machine's arithmetic training uses: each network, direct and by Winograd.

    python benchmarks/training_rate.py --write

Steps of the U-Net and of both detectors, on random pixels with random weights, as the runs on real
data take them: crops of 128, 256 and 300 pixels. The operations of a step are those of its direct
convolutions and matrix products, forwards and backwards, two for a multiplication with its
addition; the machine's rate is that of one large matrix product. Winograd's method takes fewer
operations, so that a step can be faster than that rate allows. `--write` writes
book/training_rate.json, which a section of chapter 3 shows; start it on a machine that does nothing
else.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hw3 import profiles, records, training
from hw3.detection import experiment as detection
from hw3.segmentation import experiment as segmentation
from hw3.segmentation.losses import dice_bce_loss
from hw3.winograd import WinogradConv2d

TARGET = Path(__file__).resolve().parent.parent / "book/training_rate.json"
BATCH = 4
MATRIX = 2048
"""Side of the square matrices whose product is timed."""


def main() -> None:
    """Print a line for each network; write the file if that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed, after a first")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name}")
    options = parser.parse_args()
    training.make_accelerator("no")  # it also decides how memory is kept
    torch.manual_seed(0)
    rate = matrix_rate(options.steps)
    rows = []
    for name, step in steps():
        with direct(), FlopCounterMode(display=False) as counter:
            step()
        row = {"network": name, "gigaflop": round(counter.get_total_flops() / BATCH / 1e9, 2)}
        row["winograd"] = round(seconds(step, options.steps) / BATCH, 4)
        with direct():
            row["direct"] = round(seconds(step, options.steps) / BATCH, 4)
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.write:
        made = {"steps": options.steps, "batch_size": BATCH, "gigaflop_per_second": round(rate, 1)}
        made |= {**records.provenance(), "networks": rows}
        TARGET.write_text(json.dumps(made, indent=1) + "\n")


def matrix_rate(repeats: int) -> float:
    """10^9 operations a second in a product of two square float32 matrices."""
    one, other = torch.rand(2, MATRIX, MATRIX)
    return 2 * MATRIX**3 / seconds(lambda: one @ other, repeats) / 1e9


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    """Each network's training step, forwards and backwards, by name."""
    unet = segmentation.build(profiles.FULL.segmentation, "random").train()
    images = torch.randint(0, 256, (BATCH, 3, 128, 128), dtype=torch.uint8)
    batch = {"image": images, "mask": (images[:, :1] > 250).to(torch.uint8)}
    yield "U-Net", once(unet, lambda: segmentation.train_step(unet, batch, dice_bce_loss)["loss"])
    full = profiles.FULL
    faster_rcnn = replace(
        full.faster_rcnn,
        backbone="vgg16-fpn",
        anchor_sizes=(16, 24, 32, 48, 64, 96, 128, 192),
        image_size=None,
        fpn_channels=128,
        rois_per_image=128,
    )
    for name, settings, side in (
        ("Faster R-CNN, VGG16-FPN", faster_rcnn, 256),
        ("SSD300, VGG16", full.ssd300, 300),
    ):
        yield name, detector_step(settings, side)


def detector_step(settings: profiles.DetectionSettings, side: int) -> Callable[[], None]:
    """A detector's step on crops of that side, each with one sign."""
    model = detection.build(settings, "random").train()
    batch = {
        "image": [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(BATCH)],
        "boxes": [torch.tensor([[50.0, 50.0, 90.0, 90.0]])] * BATCH,
        "labels": [torch.tensor([1])] * BATCH,
    }
    return once(model, lambda: detection.train_step(model, batch)["loss"])


def once(model: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Loss and gradients, without the optimiser's update."""

    def step() -> None:
        model.zero_grad()
        loss().backward()

    return step


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median time of an action, after a first."""
    found = []
    for _ in range(repeats + 1):
        clock = perf_counter()
        action()
        found.append(perf_counter() - clock)
    return median(found[1:])


@contextmanager
def direct() -> Iterator[None]:
    """All convolutions as torch makes them."""
    with patch.object(WinogradConv2d, "forward", nn.Conv2d.forward):
        yield


if __name__ == "__main__":
    main()
