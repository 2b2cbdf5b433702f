"""3x3 convolutions by Winograd's method, for training on a CPU.

Winograd's F(4x4, 3x3) makes 16 outputs from a tile of 6 x 6 inputs with 36 multiplications a pair
of channels instead of 144 (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308). Both transforms
are matrix products, and so is what lies between them: the gradients take the same route. With many
channels that is faster than a CPU's direct convolution, most of all backwards.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

CHANNELS = 128
"""Layers with fewer channels stay direct: there the transforms cost more than they save. With so
many and not more, only the way back is worth it."""

# Lavin and Gray's matrices for the points 0, 1, -1, 2, -2 and infinity. The two-dimensional
# transforms are Kronecker products, so that one matrix product transforms a flattened tile.
_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
_OUTPUT = torch.tensor(
    [
        [1.0, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
)
INPUT, KERNEL, OUTPUT = (torch.kron(own, own) for own in (_INPUT, _KERNEL, _OUTPUT))
"""(36, 36), (36, 9) and (16, 36) float32."""


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution with stride 1 and padding 1, by Winograd's method where that is faster.

    It has the weights, the names and, within float32's rounding, the outputs of `nn.Conv2d`. On
    other devices, in other types and under autocast it is one, and in narrow layers that are not
    trained.

    Example:
        >>> layer = WinogradConv2d(128, 128, kernel_size=3, padding=1)
        >>> images = torch.randn(1, 128, 10, 7)
        >>> torch.allclose(layer(images), nn.Conv2d.forward(layer, images), atol=1e-4)
        True
    """

    def forward(self, images: Tensor) -> Tensor:
        """(n, in_channels, height, width) to (n, out_channels, height, width).

        Example:
            >>> WinogradConv2d(1, 2, kernel_size=3, padding=1)(torch.zeros(4, 1, 5, 6)).shape
            torch.Size([4, 2, 5, 6])
        """
        usable = images.device.type == "cpu" and images.dtype == torch.float32
        usable = usable and images.numel() > 0 and not torch.is_autocast_enabled("cpu")
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        if not (usable and (trained or max(self.weight.shape) > CHANNELS)):
            return super().forward(images)
        outputs = _Convolution.apply(images.permute(0, 2, 3, 1), self.weight)
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs.permute(0, 3, 1, 2)


def use_winograd(module: nn.Module, channels: int = CHANNELS) -> None:
    """Replace the layers of `module` that Winograd's method makes faster, with their weights.

    Args:
        module: any network; layers that are not 3x3 with stride, dilation and groups of 1 and
            padding of 1 with zeros, or have fewer than `channels` inputs or outputs, stay as they
            are.
        channels: see `CHANNELS`.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 256, 3, 1, 1))
        >>> use_winograd(network)
        >>> [type(layer).__name__ for layer in network]
        ['Conv2d', 'WinogradConv2d']
    """
    for name, layer in module.named_children():
        if type(layer) is nn.Conv2d and _fits(layer, channels):
            sizes = (layer.in_channels, layer.out_channels, 3)
            faster = WinogradConv2d(*sizes, padding=1, device="meta")
            faster.weight, faster.bias = layer.weight, layer.bias
            setattr(module, name, faster)
        else:
            use_winograd(layer, channels)


def _fits(layer: nn.Conv2d, channels: int) -> bool:
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    plain = geometry == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and layer.padding_mode == "zeros"
    return plain and min(layer.in_channels, layer.out_channels) >= channels


class _Convolution(torch.autograd.Function):
    """Images (n, height, width, channels) and a weight (outputs, inputs, 3, 3), without a bias."""

    @staticmethod
    def forward(context, images: Tensor, weight: Tensor) -> Tensor:
        outputs, inputs = weight.shape[:2]
        tiles = (INPUT @ _cut(images)).view(36, -1, inputs)
        kernel = (KERNEL @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(36, inputs, outputs)
        context.save_for_backward(tiles, kernel)
        context.shape = images.shape
        return _join(OUTPUT @ torch.bmm(tiles, kernel).view(36, -1), (*images.shape[:3], outputs))

    @staticmethod
    @once_differentiable  # a second derivative would be wrong
    def backward(context, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        tiles, kernel = context.saved_tensors
        products = (OUTPUT.T @ _separate(gradient)).view(36, -1, kernel.shape[2])
        of_kernel = KERNEL.T @ torch.bmm(tiles.transpose(1, 2), products).view(36, -1)
        of_weight = of_kernel.view(3, 3, *kernel.shape[1:]).permute(3, 2, 0, 1)
        if not context.needs_input_grad[0]:
            return None, of_weight
        of_tiles = torch.bmm(products, kernel.transpose(1, 2)).view(36, -1)
        return _add_up(INPUT.T @ of_tiles, context.shape), of_weight


def _grid(height: int, width: int) -> tuple[int, int]:
    """Tiles down and across; each makes 4 x 4 outputs."""
    return -(-height // 4), -(-width // 4)


def _cut(images: Tensor) -> Tensor:
    """(36, n * tiles * channels): tiles of 6 x 6 pixels that overlap by 2, with a border of 0."""
    count, height, width, channels = images.shape
    down, across = _grid(height, width)
    padded = pad(images, (0, 0, 1, 1 + 4 * across - width, 1, 1 + 4 * down - height))
    n, y, x, c = padded.stride()
    size, stride = (6, 6, count, down, across, channels), (y, x, n, 4 * y, 4 * x, c)
    return padded.as_strided(size, stride).reshape(36, -1)


def _add_up(tiles: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `_cut`: each pixel is the sum of its copies in the tiles."""
    count, height, width, channels = shape
    down, across = _grid(height, width)
    tiles = tiles.view(6, 6, count, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    total = tiles.new_zeros(count, down + 1, 4, across + 1, 4, channels)
    total[:, :down, :, :across] += tiles[:, :, :4, :, :4]
    total[:, 1:, :2, :across] += tiles[:, :, 4:, :, :4]
    total[:, :down, :, 1:, :2] += tiles[:, :, :4, :, 4:]
    total[:, 1:, :2, 1:, :2] += tiles[:, :, 4:, :, 4:]
    total = total.view(count, 4 * (down + 1), 4 * (across + 1), channels)
    return total[:, 1 : height + 1, 1 : width + 1]


def _join(tiles: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Images (n, height, width, channels) from (16, ...) tiles of 4 x 4 pixels side by side."""
    count, height, width, channels = shape
    down, across = _grid(height, width)
    tiles = tiles.view(4, 4, count, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    return tiles.reshape(count, 4 * down, 4 * across, channels)[:, :height, :width]


def _separate(images: Tensor) -> Tensor:
    """The transpose of `_join`: (16, n * tiles * channels)."""
    count, height, width, channels = images.shape
    down, across = _grid(height, width)
    padded = pad(images, (0, 0, 0, 4 * across - width, 0, 4 * down - height))
    tiles = padded.view(count, down, 4, across, 4, channels).permute(2, 4, 0, 1, 3, 5)
    return tiles.reshape(16, -1)
