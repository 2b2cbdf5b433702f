import math

import pytest
import torch
from monai.losses import DiceLoss, TverskyLoss

from hw3.errors import InputError
from hw3.segmentation.losses import LOSSES, dice_bce_loss, dice_loss, tversky_loss

SHAPE = (2, 1, 3, 4)
EVERYWHERE, NOWHERE = torch.full(SHAPE, 40.0), torch.full(SHAPE, -40.0)
ALL, NONE = torch.ones(SHAPE), torch.zeros(SHAPE)
PIXELS = 24


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 1, 16, 16, generator=generator)
    return logits, (torch.rand(4, 1, 16, 16, generator=generator) > 0.8).float()


def tiny(mask: list[float], probabilities: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor(probabilities, dtype=torch.float64).logit()
    return logits.view(1, 1, 1, -1), torch.tensor(mask).view(1, 1, 1, -1)


def test_hand_computed_values() -> None:
    # P M = 0.8 + 0.5 = 1.3; P = 2.0; M = 2.
    logits, mask = tiny([1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2])
    assert dice_loss(logits, mask).item() == pytest.approx(1 - 3.6 / 5, rel=1e-6)
    # TP = 1.3, FP = 0.7, FN = 0.7.
    assert tversky_loss(logits, mask).item() == pytest.approx(1 - 1.8 / 2.5, rel=1e-6)
    entropy = -(math.log(0.8) + math.log(0.5) + math.log(0.5) + math.log(0.8)) / 4
    assert dice_bce_loss(logits, mask).item() == pytest.approx(1 - 3.6 / 5 + entropy, rel=1e-6)


def test_tversky_prices_each_kind_of_error() -> None:
    # TP = 0.9, FP = 0.6, FN = 0.1: 1 - 1.4 / (1.4 + 0.3 x 0.6 + 0.7 x 0.1).
    logits, mask = tiny([1, 0], [0.9, 0.6])
    assert tversky_loss(logits, mask).item() == pytest.approx(1 - 1.4 / 1.65, rel=1e-6)
    swapped = tversky_loss(logits, mask, false_positive_weight=0.7, false_negative_weight=0.3)
    assert swapped.item() == pytest.approx(1 - 1.4 / 1.85, rel=1e-6)


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


def test_tversky_at_the_extremes() -> None:
    assert tversky_loss(NOWHERE, NONE).item() == pytest.approx(0, abs=1e-6)
    false_tumour, missed = tversky_loss(EVERYWHERE, NONE), tversky_loss(NOWHERE, ALL)
    assert false_tumour.item() == pytest.approx(1 - 0.5 / (0.3 * PIXELS + 0.5))
    assert missed.item() == pytest.approx(1 - 0.5 / (0.7 * PIXELS + 0.5))


def test_all_wrong() -> None:
    mask = NONE.clone()
    mask[..., :2] = 1
    logits = torch.where(mask > 0, -40.0, 40.0)
    assert dice_loss(logits, mask).item() == pytest.approx(1 - 1 / (PIXELS + 1))


def test_dice_is_tversky_with_equal_prices_of_a_half(pair) -> None:
    assert dice_loss(*pair).equal(tversky_loss(*pair, 0.5, 0.5))


def test_pooled_over_the_batch_and_not_averaged(pair) -> None:
    logits, mask = pair
    flat = dice_loss(logits.view(1, 1, 1, -1), mask.view(1, 1, 1, -1))
    assert dice_loss(logits, mask).item() == pytest.approx(flat.item(), rel=1e-6)


@pytest.mark.parametrize("empty", [False, True])
def test_agrees_with_monai(pair, empty) -> None:
    logits, mask = pair[0], torch.zeros_like(pair[1]) if empty else pair[1]
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)
    half_a_pixel = {"smooth_nr": 0.5, "smooth_dr": 0.5}
    tversky = TverskyLoss(sigmoid=True, batch=True, alpha=0.3, beta=0.7, **half_a_pixel)
    torch.testing.assert_close(dice_loss(logits, mask), dice(logits, mask))
    torch.testing.assert_close(tversky_loss(logits, mask), tversky(logits, mask))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite(pair, loss, scale, empty) -> None:
    logits, mask = (scale * pair[0]).requires_grad_(), pair[1] * (not empty)
    value = loss(logits, mask)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert scale > 1 or logits.grad.any()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_step_against_the_gradient_lowers_the_loss(pair, loss) -> None:
    logits, mask = pair[0].requires_grad_(), pair[1]
    value = loss(logits, mask)
    (gradient,) = torch.autograd.grad(value, logits)
    assert loss(logits - 10 * gradient, mask) < value


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.float64])
def test_masks_of_any_type(pair, loss, kind) -> None:
    logits, mask = pair
    assert loss(logits, mask.to(kind)).item() == pytest.approx(loss(logits, mask).item())


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_half_precision_logits_are_summed_in_single_precision(loss) -> None:
    logits, mask = torch.full((1, 1, 512, 512), 4.0), torch.ones(1, 1, 512, 512)
    value = loss(logits.bfloat16(), mask)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits, mask).item(), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 1, 16, 8), (1, 1, 16, 16)], ids=str)
def test_other_shapes_are_refused(pair, loss, shape) -> None:
    with pytest.raises(InputError, match=r"logits \(4, 1, 16, 16\) and mask .* differ in shape"):
        loss(pair[0], torch.zeros(shape))
