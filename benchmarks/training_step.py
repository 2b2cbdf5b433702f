"""Seconds per image of one training step: this U-Net beside segmentation_models_pytorch's.

Both have VGG16 as encoder, with random and frozen weights, and are trained with the same loss and
optimiser, in one process, in turn: step by step, so that a busy machine slows all alike.

    python benchmarks/training_step.py
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from hw3.profiles import SegmentationSettings
from hw3.segmentation.experiment import build
from hw3.segmentation.losses import dice_loss


def main() -> None:
    """Time all candidates and print one line for each."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = torch.rand(options.batch_size, 3, options.size, options.size)
    mask = torch.rand(options.batch_size, 1, options.size, options.size) > 0.99
    chosen = candidates()
    steps = {name: partial(step, *candidate, images, mask) for name, candidate in chosen.items()}
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}; batch {options.batch_size} of "
        f"{options.size} x {options.size}; median of {options.steps} steps"
    )
    for name, seconds in time_in_turn(steps, options.warm_up, options.steps).items():
        trained = sum(p.numel() for p in chosen[name][0].parameters() if p.requires_grad)
        print(
            f"{seconds / options.batch_size:8.4f} s an image  "
            f"{trained / 1e6:5.2f} million trained parameters  {name}"
        )


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=16, help="images a step")
    parser.add_argument("--steps", type=int, default=7, help="steps that are timed")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them")
    parser.add_argument("--threads", type=int, help="torch's, if not its own choice")
    return parser.parse_args()


def candidates() -> dict[str, tuple[nn.Module, torch.optim.Optimizer, torch.dtype]]:
    """Network, optimiser and precision, by name."""
    ours = SegmentationSettings()
    narrow = replace(ours, decoder_channels=(128, 64, 32, 16))
    networks = {
        "ours": (build(ours, "random"), torch.float32),
        "ours, bf16": (build(ours, "random"), torch.bfloat16),
        "ours, each resolution with as many channels as theirs": (
            build(narrow, "random"),
            torch.float32,
        ),
    }
    try:
        from segmentation_models_pytorch import Unet
    except ImportError:
        print("not compared: pip install segmentation-models-pytorch")
    else:
        plain, channels_last = (Unet("vgg16", encoder_weights=None) for _ in range(2))
        channels_last.to(memory_format=torch.channels_last)
        networks |= {
            "segmentation_models_pytorch": (plain, torch.float32),
            "segmentation_models_pytorch, channels last": (channels_last, torch.float32),
        }
    return {
        name: (network, optimiser(network), precision)
        for name, (network, precision) in networks.items()
    }


def optimiser(network: nn.Module) -> torch.optim.Optimizer:
    """Freeze the encoder, and give Adam the rest."""
    network.train()
    network.encoder.requires_grad_(False)
    return torch.optim.Adam(p for p in network.parameters() if p.requires_grad)


def step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    precision: torch.dtype,
    images: Tensor,
    mask: Tensor,
) -> None:
    """One step as `hw3.training.fit` does it, without data loading."""
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        loss = dice_loss(network(images), mask)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def time_in_turn(
    steps: dict[str, Callable[[], None]], warm_up: int, repeats: int
) -> dict[str, float]:
    """Median seconds of each, after warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(warm_up + repeats):
        for name, run in steps.items():
            clock = perf_counter()
            run()
            seconds[name].append(perf_counter() - clock)
    return {name: median(own[warm_up:]) for name, own in seconds.items()}


if __name__ == "__main__":
    main()
