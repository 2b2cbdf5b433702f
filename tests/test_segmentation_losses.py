import math

import pytest
import torch
from monai.losses import DiceLoss

from hw3.data import InputError
from hw3.segmentation.losses import LOSSES, dice_bce_loss, dice_loss

SHAPE = (2, 1, 3, 4)
EVERYWHERE, NOWHERE = torch.full(SHAPE, 40.0), torch.full(SHAPE, -40.0)
ALL, NONE = torch.ones(SHAPE), torch.zeros(SHAPE)
PIXELS = 24
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 1, 16, 16, generator=generator)
    return logits, (torch.rand(4, 1, 16, 16, generator=generator) > 0.8).float()


def test_hand_computed_values() -> None:
    # P M = 0.8 + 0.5 = 1.3; P = 2.0; M = 2.
    probability = torch.tensor([0.8, 0.5, 0.5, 0.2], dtype=torch.float64)
    logits, mask = probability.logit().view(1, 1, 1, 4), torch.tensor([[[[1.0, 1, 0, 0]]]])
    assert dice_loss(logits, mask).item() == pytest.approx(1 - 3.6 / 5, rel=1e-6)
    entropy = -(math.log(0.8) + math.log(0.5) + math.log(0.5) + math.log(0.8)) / 4
    assert dice_bce_loss(logits, mask).item() == pytest.approx(1 - 3.6 / 5 + entropy, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "mask", "dice", "entropy"),
    [
        (NOWHERE, NONE, 0.0, 0.0),
        (EVERYWHERE, ALL, 0.0, 0.0),
        (EVERYWHERE, NONE, 1 - 1 / (PIXELS + 1), 40.0),
        (NOWHERE, ALL, 1 - 1 / (PIXELS + 1), 40.0),
    ],
    ids=["empty left empty", "full found", "empty marked full", "full missed"],
)
def test_extremes(logits, mask, dice, entropy) -> None:
    assert dice_loss(logits, mask).item() == pytest.approx(dice, abs=1e-6)
    assert dice_bce_loss(logits, mask).item() == pytest.approx(dice + entropy, abs=1e-4)


@pytest.mark.parametrize("empty", [False, True])
def test_agrees_with_monai(pair, empty) -> None:
    logits, mask = pair[0], pair[1] * (not empty)
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)
    torch.testing.assert_close(dice_loss(logits, mask), dice(logits, mask))


@each_loss
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite(pair, loss, scale, empty) -> None:
    logits, mask = (scale * pair[0]).requires_grad_(), pair[1] * (not empty)
    value = loss(logits, mask)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert scale > 1 or logits.grad.any()


@each_loss
def test_masks_of_any_type_and_logits_of_half_precision(pair, loss) -> None:
    expected = loss(*pair).item()
    for kind in (torch.bool, torch.uint8, torch.int64, torch.float64):
        assert loss(pair[0], pair[1].to(kind)).item() == pytest.approx(expected)
    logits, mask = torch.full((1, 1, 512, 512), 4.0), torch.ones(1, 1, 512, 512)
    value = loss(logits.bfloat16(), mask)  # summed in it, 512 x 512 would not be reached
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits, mask).item(), rel=1e-4)


@each_loss
@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 1, 16, 8), (1, 1, 16, 16)], ids=str)
def test_other_shapes_are_refused(pair, loss, shape) -> None:
    with pytest.raises(InputError, match=r"logits \(4, 1, 16, 16\) and mask .* differ in shape"):
        loss(pair[0], torch.zeros(shape))
