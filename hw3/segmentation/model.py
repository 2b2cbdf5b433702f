"""U-Net whose contracting path is VGG16, frozen."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hw3.backbones import VGG16_MEAN, VGG16_STD, vgg16_features
from hw3.data import InputError

BLOCK_ENDS = (4, 9, 16, 23, 30)
"""Where torchvision's vgg16().features ends its five blocks; each pools first, except block 1."""
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
"""What the five blocks give at width 1."""


class UNetVGG16(nn.Module):
    """Segments one class in RGB images (Ronneberger et al. 2015; Simonyan and Zisserman 2015).

    The encoder keeps its weights: its parameters need no gradients, `train()` leaves it in
    evaluation mode, and it runs without a gradient graph. Its feature maps are normalised by
    BatchNorm without parameters, since VGG16 has no normalisation of its own and its activations
    reach hundreds.

    Args:
        encoder_weights: see `hw3.backbones.vgg16_features`.
        decoder_channels: of the four decoder levels, at 1/8, 1/4, 1/2 and full resolution.
        width: share of VGG16's channels, below 1 for quick runs with weights of no publisher.

    Example:
        >>> model = UNetVGG16("random", decoder_channels=(16, 8, 8, 8), width=0.25)
        >>> model(torch.zeros(2, 3, 32, 48)).shape
        torch.Size([2, 1, 32, 48])
    """

    def __init__(
        self,
        encoder_weights: str = "imagenet",
        decoder_channels: tuple[int, int, int, int] = (256, 128, 64, 32),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        features = vgg16_features(encoder_weights, width)
        outputs = [round(width * channels) for channels in BLOCK_CHANNELS]
        blocks = map(slice, (0, *BLOCK_ENDS[:-1]), BLOCK_ENDS)
        self.encoder = nn.ModuleList(features[block] for block in blocks)
        self.encoder.requires_grad_(False)
        self.normalisation = nn.ModuleList(nn.BatchNorm2d(own, affine=False) for own in outputs)
        self.decoder, below = nn.ModuleList(), outputs[-1]
        for skip, channels in zip(outputs[-2::-1], decoder_channels, strict=True):
            self.decoder.append(_two_convolutions(below + skip, channels))
            below = channels
        self.head = nn.Conv2d(decoder_channels[-1], 1, kernel_size=1)
        # Start at a probability near tumour's share of the pixels (after Lin et al. 2017, "Focal
        # Loss"): from 0.5 everywhere, the Dice loss first spends epochs on learning to be quiet.
        nn.init.constant_(self.head.bias, -4.0)
        self.register_buffer("mean", torch.tensor(VGG16_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(VGG16_STD).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "UNetVGG16":
        """Set the mode of everything but the encoder, which is always in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 1, height, width) of images in [0, 1] with sides divisible by 16."""
        good = images.ndim == 4 and images.shape[1] == 3
        if not good or images.shape[2] % 16 or images.shape[3] % 16:
            expected = "(batch, 3, height, width) with height and width divisible by 16"
            raise InputError(f"images have shape {tuple(images.shape)}: expected {expected}")
        features = self.encode(images)
        normalised = [norm(map_) for norm, map_ in zip(self.normalisation, features, strict=True)]
        out = normalised.pop()
        for level in self.decoder:
            out = level(torch.cat([interpolate(out, scale_factor=2.0), normalised.pop()], dim=1))
        return self.head(out)

    @torch.no_grad()
    def encode(self, images: Tensor) -> list[Tensor]:
        """VGG16's last feature map of each block, at strides 1, 2, 4, 8 and 16."""
        features, out = [], (images - self.mean) / self.std
        for block in self.encoder:
            out = block(out)
            features.append(out)
        return features

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that an optimiser should get: the decoder's and the head's."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
