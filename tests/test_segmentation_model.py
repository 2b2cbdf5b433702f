import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights

from hw3.data import InputError
from hw3.segmentation.model import BLOCK_CHANNELS, UNetVGG16

CHANNELS = (16, 8, 8, 8)


def make() -> UNetVGG16:
    torch.manual_seed(0)
    return UNetVGG16("random", CHANNELS)


@pytest.fixture(scope="module")
def model() -> UNetVGG16:
    """In evaluation mode; tests that change it take a copy."""
    return make().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_logits_have_one_channel_and_the_images_size(width) -> None:
    model = UNetVGG16("random", CHANNELS, width).eval()
    for shape in ((16, 16), (32, 48), (64, 16)):
        with torch.inference_mode():
            logits = model(torch.rand(2, 3, *shape))
        assert logits.shape == (2, 1, *shape)
        assert logits.min() < 0  # logits, not probabilities
    found = [features.shape[1] for features in model.encode(torch.zeros(1, 3, 16, 16))]
    assert found == [width * channels for channels in BLOCK_CHANNELS]


@pytest.mark.parametrize(
    "shape", [(1, 3, 32, 40), (1, 3, 24, 32), (1, 1, 32, 32), (1, 4, 32, 32), (3, 32, 32)], ids=str
)
def test_another_shape_is_refused(model, shape) -> None:
    with pytest.raises(InputError, match=r"expected \(batch, 3, height, width\).*divisible by 16"):
        model(torch.zeros(shape))


def test_only_the_decoders_and_the_heads_parameters_are_trained(model) -> None:
    expected = [*model.decoder.parameters(), *model.head.parameters()]
    assert set(map(id, model.trained_parameters())) == set(map(id, expected))
    assert not list(model.normalisation.parameters())
    # Two convolutions without bias and two BatchNorms a level; below + skip channels come in.
    inputs = (512 + 512, 16 + 256, 8 + 128, 8 + 64)
    levels = (9 * c * (i + c) + 4 * c for i, c in zip(inputs, CHANNELS, strict=True))
    assert sum(parameter.numel() for parameter in expected) == sum(levels) + 8 + 1


def test_the_encoder_stays_in_evaluation_mode_without_a_gradient_graph(images) -> None:
    model = make().train()
    assert model.decoder.training and model.normalisation.training
    assert not any(module.training for module in model.encoder.modules())
    images.requires_grad_()
    assert not any(features.requires_grad for features in model.encode(images))
    model(images).sum().backward()
    assert images.grad is None
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert not any(module.training for module in model.eval().modules())


def test_features_are_vgg16s_on_images_normalised_as_its_weights_ask(model, images) -> None:
    asked = VGG16_Weights.IMAGENET1K_FEATURES.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (asked.mean, asked.std))
    with torch.inference_mode():
        expected, out = [], (images - mean) / std
        for layer in (own for block in model.encoder for own in block):
            if isinstance(layer, nn.MaxPool2d):
                expected.append(out.clone())
            out = layer(out)
        found = model.encode(images)
    strides = [(32 // features.shape[2], 48 // features.shape[3]) for features in found]
    assert strides == [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)]
    for one, other in zip(found, [*expected, out], strict=True):
        torch.testing.assert_close(one, other)
