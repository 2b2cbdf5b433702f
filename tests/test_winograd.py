"""Winograd's convolution beside torch's own: outputs, gradients, and which layers it takes."""

import pytest
import torch
from torch import nn

from hw3 import winograd
from hw3.winograd import WinogradConv2d, use_winograd


def both(layer: WinogradConv2d, images: torch.Tensor, gradient: torch.Tensor) -> list:
    """Outputs and all gradients, by Winograd's method and by torch's."""
    results = []
    for forward in (layer.forward, lambda own: nn.Conv2d.forward(layer, own)):
        own = images.clone().requires_grad_()
        outputs = forward(own)
        parameters = [parameter for parameter in layer.parameters()]
        found = torch.autograd.grad(outputs, [own, *parameters], gradient)
        results.append([outputs.detach(), *found])
    return results


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 5), (8, 8), (13, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_agreement_with_torch(size, bias) -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(5, 7, kernel_size=3, padding=1, bias=bias)
    images, gradient = torch.randn(2, 5, *size), torch.randn(2, 7, *size)
    for own, theirs in zip(*both(layer, images, gradient), strict=True):
        assert own.shape == theirs.shape
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


def test_a_kernel_of_one_in_the_middle_copies_the_image() -> None:
    layer = WinogradConv2d(1, 1, kernel_size=3, padding=1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()[0, 0, 1, 1] = 1
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    torch.testing.assert_close(layer(image), image, rtol=1e-5, atol=1e-4)


def test_wide_layers_in_channels_last_agree_to_float32s_rounding() -> None:
    torch.manual_seed(0)
    layer = WinogradConv2d(256, 256, kernel_size=3, padding=1)
    images = torch.randn(1, 256, 16, 16).to(memory_format=torch.channels_last)
    own, theirs = layer(images), nn.Conv2d.forward(layer, images)
    assert (own - theirs).abs().max() < 5e-5 * theirs.abs().max()
    assert own.is_contiguous(memory_format=torch.channels_last)


def test_narrow_layers_take_winograds_way_only_when_trained(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("by Winograd's method")

    monkeypatch.setattr(winograd._Convolution, "apply", refuse)
    image = torch.zeros(1, 128, 4, 4)
    narrow, wide = (WinogradConv2d(128, own, 3, padding=1) for own in (128, 256))
    with torch.no_grad():
        assert narrow(image).shape == (1, 128, 4, 4)
    for layer in (narrow, wide.requires_grad_(False)):
        with pytest.raises(AssertionError, match="Winograd"):
            layer(image)
    assert narrow.requires_grad_(False)(image).shape == (1, 128, 4, 4)


def test_a_frozen_layer_gets_no_gradient_and_passes_one_on() -> None:
    layer = WinogradConv2d(3, 256, kernel_size=3, padding=1).requires_grad_(False)
    images = torch.randn(1, 3, 6, 6, requires_grad=True)
    layer(images).relu_().sum().backward()  # VGG16's activations work in place
    assert layer.weight.grad is None
    assert images.grad.abs().sum() > 0


def test_other_types_and_empty_batches_take_the_direct_way() -> None:
    layer = WinogradConv2d(3, 4, kernel_size=3, padding=1)
    assert layer(torch.zeros(0, 3, 8, 8)).shape == (0, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.zeros(1, 3, 8, 8)).dtype == torch.bfloat16
    assert layer.double()(torch.zeros(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_a_second_derivative_is_refused_not_wrong() -> None:
    network = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1))
    use_winograd(network)
    images = torch.rand(1, 128, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_only_layers_of_the_right_kind_are_replaced_and_keep_their_weights() -> None:
    wide = nn.Conv2d(128, 128, 3, padding=1)
    others = [
        nn.Conv2d(64, 128, 3, padding=1),
        nn.Conv2d(128, 64, 3, padding=1),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 1),
    ]
    network = nn.Sequential(nn.Sequential(wide), *others)
    names = list(network.state_dict())
    use_winograd(network)
    assert isinstance(network[0][0], WinogradConv2d)
    assert network[0][0].weight is wide.weight
    assert list(network[1:]) == others
    assert list(network.state_dict()) == names
