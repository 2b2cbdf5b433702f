"""Starting weights: VGG16's convolutions for both questions, and weights files of any network."""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, WeightsEnum
from torchvision.models.vgg import cfgs, make_layers

from hw3.data import InputError, expanded, file_sha256, write_atomically

WEIGHTS = Path(__file__).parent / "weights"
VGG16_MEAN = (0.48235, 0.45882, 0.40784)
VGG16_STD = (1 / 255, 1 / 255, 1 / 255)
"""The original Oxford weights see (images - VGG16_MEAN) / VGG16_STD, for RGB in [0, 1]."""


def vgg16_features(weights: str, width: float = 1.0) -> nn.Sequential:
    """The convolutional part of VGG16 (Simonyan and Zisserman 2015), as torchvision builds it.

    Args:
        weights: "imagenet" (the original Oxford weights), "random" (He initialisation, drawn from
            torch's global generator), or a safetensors or state-dict file with keys
            `features.N.weight` or `N.weight`; a `classifier` in it is not read.
        width: share of VGG16's channels; published weights fit 1 alone.
    """
    channels = [size if size == "M" else round(width * size) for size in cfgs["D"]]
    features = make_layers(channels, batch_norm=False)
    if weights == "random":
        he_initialise(features)
        return features
    imagenet = VGG16_Weights.IMAGENET1K_FEATURES
    state = fetch_state(imagenet) if weights == "imagenet" else read_state(Path(weights))
    names = (name for name in state if not name.startswith("classifier."))
    load_state(features, {name.removeprefix("features."): state[name] for name in names}, weights)
    return features


def he_initialise(module: nn.Module) -> None:
    """Draw the weights of all convolutions for ReLU (He et al. 2015, fan-out); biases are zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def fetch_state(weights: WeightsEnum) -> dict[str, Tensor]:
    """torchvision's published state dict, downloaded once; else an InputError."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(weights.url).path).name
    try:
        state = weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True)
        # Of a file that was there already torch checks nothing; its name ends in its hash.
        if not file_sha256(file).startswith(file.stem.rpartition("-")[2]):
            raise ValueError("another hash")
        return state
    except Exception as error:  # a damaged file raises almost anything
        if file.exists():  # torch moves a download there once its hash is right
            raise InputError(f"{file} is damaged: delete {file}, and run again") from None
        remedy = f"put it into {folder}, or name one: --encoder-weights of unet, else --weights"
        raise InputError(f"{weights}: no download from {weights.url} ({error}); {remedy}") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict from `torch.save`; else InputError."""
    path = expanded(path)
    try:
        if path.suffix == ".safetensors":
            # By content, since its path may be no UTF-8; the order would be another every time.
            state = dict(sorted(safetensors.torch.load(path.read_bytes()).items()))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        fault = _fault(state)
    except FileNotFoundError:
        raise InputError(f"{path}: no such weights file") from None
    except Exception as error:  # torch.load raises almost anything on a foreign file
        fault = type(error).__name__
    if fault:
        remedy = "give one that save_weights wrote"
        raise InputError(f"{path}: not usable as weights ({fault}); {remedy}")
    return {name: value.detach() for name, value in state.items()}


def _fault(state: Any) -> str | None:
    if not isinstance(state, dict):
        return f"a {type(state).__name__} instead of a state dict"
    for name, value in state.items():
        if not isinstance(name, str) or not name.isprintable():
            return f"the key {name!r} is no name"
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            return f"{name} is no dense tensor"
        if not value.isfinite().all():
            return f"{name} holds numbers that are not finite"
    return None


def load_state(module: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Copy all of `state` into all of `module`; InputError names `source` and every misfit."""
    own = module.state_dict()
    faults = [
        f"{name} has shape {tuple(value.shape)} where {tuple(own[name].shape)} is needed"
        for name, value in state.items()
        if name in own and own[name].shape != value.shape
    ]
    if not faults:
        result = module.load_state_dict(state, strict=False)
        faults += [f"{name} is missing" for name in result.missing_keys]
        faults += [f"{name} is unexpected" for name in result.unexpected_keys]
    if faults:
        faults[8:] = [f"and {len(faults) - 8} more"] if len(faults) > 8 else []
        remedy = "give others, or the settings that they were trained with"
        raise InputError(f"{source}: not this network's weights, {remedy}: {'; '.join(faults)}")


def load_weights(module: nn.Module, path: Path) -> None:
    """Read a safetensors or state-dict file into `module`, strictly as `load_state` does."""
    load_state(module, read_state(path), path)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the state dict of `module` to the safetensors file `path`, whole or not at all."""
    state = {name: value.cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state))
