"""Losses on logits. All are pooled over the batch and defined where a batch has no tumour.

Where several processes share a batch, each pools its own part, and their gradients are averaged:
the result is close to that of one process, but not the same.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hw3.errors import InputError

SMOOTH = 1.0
"""Pixels added to numerator and denominator, so that an empty mask predicted empty has loss 0."""


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (2 sum(P M) + 1) / (sum(P) + sum(M) + 1) over the whole batch.

    Like Milletari et al. (2016), who have squares below the line where this has plain sums.

    Args:
        logits: (batch, 1, height, width); P is their sigmoid.
        mask: same shape, values 0 and 1.

    Returns:
        Scalar in [0, 1).

    Example:
        One of two tumour pixels found, no false one: 1 - (2 + 1) / (1 + 2 + 1).

        >>> import torch
        >>> logits = torch.tensor([[[[100.0, -100.0, -100.0]]]])
        >>> dice_loss(logits, torch.tensor([[[[1, 1, 0]]]]))
        tensor(0.2500)
    """
    return tversky_loss(logits, mask, false_positive_weight=0.5, false_negative_weight=0.5)


def tversky_loss(
    logits: Tensor,
    mask: Tensor,
    false_positive_weight: float = 0.3,
    false_negative_weight: float = 0.7,
) -> Tensor:
    """Soft Tversky loss: Dice with a price of its own for each kind of error (Salehi et al. 2017).

    1 - (TP + s) / (TP + a FP + b FN + s) with soft counts over the whole batch and s half a pixel,
    so that a = b = 0.5 is the Dice loss.

    Args:
        logits: (batch, 1, height, width).
        mask: same shape, values 0 and 1.
        false_positive_weight: a.
        false_negative_weight: b; larger than a where a missed tumour is worse than a false one.

    Example:
        One of two tumour pixels found, no false one: 1 - (1 + 0.5) / (1 + 0.7 + 0.5).

        >>> import torch
        >>> logits = torch.tensor([[[[100.0, -100.0, -100.0]]]])
        >>> tversky_loss(logits, torch.tensor([[[[1, 1, 0]]]]))
        tensor(0.3182)
    """
    _check(logits, mask)
    probability, mask = logits.float().sigmoid(), mask.float()
    true_positive = (probability * mask).sum()
    false_positive = probability.sum() - true_positive
    false_negative = mask.sum() - true_positive
    errors = false_positive_weight * false_positive + false_negative_weight * false_negative
    return 1 - (true_positive + SMOOTH / 2) / (true_positive + errors + SMOOTH / 2)


def dice_bce_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice loss plus mean binary cross-entropy: the second also pulls at confident errors.

    Args:
        logits: (batch, 1, height, width).
        mask: same shape, values 0 and 1.

    Example:
        A tumour pixel at probability 0.5: 1 - (1 + 1) / (0.5 + 1 + 1), plus log 2.

        >>> import torch
        >>> dice_bce_loss(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
        tensor(0.8931)
    """
    return dice_loss(logits, mask) + binary_cross_entropy_with_logits(logits.float(), mask.float())


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice": dice_loss,
    "dice_bce": dice_bce_loss,
    "tversky": tversky_loss,
}


def _check(logits: Tensor, mask: Tensor) -> None:
    if logits.shape != mask.shape:
        raise InputError(
            f"logits {tuple(logits.shape)} and mask {tuple(mask.shape)} differ in shape"
        )
