"""Losses on logits, pooled over the batch and defined where a batch has no tumour.

Where several processes share a batch, each pools its own part, and their gradients are averaged:
the result is close to that of one process, but not the same.
"""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hw3.data import InputError

SMOOTH = 1.0
"""Pixels added to numerator and denominator, so that an empty mask predicted empty has loss 0."""


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - (2 sum(P M) + 1) / (sum(P) + sum(M) + 1) over the whole batch; P is the logits' sigmoid.

    Like Milletari et al. (2016), who have squares below the line where this has plain sums.

    Example:
        One of two tumour pixels found, no false one: 1 - (2 + 1) / (1 + 2 + 1).

        >>> import torch
        >>> logits = torch.tensor([[[[100.0, -100.0, -100.0]]]])
        >>> dice_loss(logits, torch.tensor([[[[1, 1, 0]]]]))
        tensor(0.2500)
    """
    if logits.shape != mask.shape:
        shapes = f"logits {tuple(logits.shape)} and mask {tuple(mask.shape)}"
        raise InputError(f"{shapes} differ in shape")
    probability, mask = logits.float().sigmoid(), mask.float()
    both, total = (probability * mask).sum(), probability.sum() + mask.sum()
    return 1 - (2 * both + SMOOTH) / (total + SMOOTH)


def dice_bce_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice loss plus mean binary cross-entropy: the second also pulls at confident errors."""
    return dice_loss(logits, mask) + binary_cross_entropy_with_logits(logits.float(), mask.float())


LOSSES = {"dice": dice_loss, "dice_bce": dice_bce_loss}
