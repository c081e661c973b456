"""The loss of semantic segmentation beside cross entropy: soft Dice, and the error of every crop.

Shapes: ``B`` batch, ``C`` classes, ``ZYX`` space (``YX`` in 2-D). Logits of two classes have one
channel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from instaseg.methods.known import known_weight

SMOOTH = 1e-5
"""Added to both sides of the Dice quotient, so that a batch without a class has one."""


def voxel_weight(classes: Tensor, mask: Tensor, mask_bg_weight: float) -> Tensor:
    """Return how much each voxel counts: 1, less for background that may be none, 0 for no class.

    Parameters
    ----------
    classes : Tensor
        ``(B, ZYX)`` integers, negative where there is no class.
    mask : Tensor
        ``(B, ZYX)`` bool, True where labels are complete.
    mask_bg_weight : float
        Weight of background elsewhere.
    """
    return torch.where(classes < 0, 0.0, known_weight(classes, mask, mask_bg_weight))


def dice_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Return one minus the soft Dice coefficient of the batch, mean over all classes but 0.

    Parameters
    ----------
    logits, classes, weight
        As for :func:`instaseg.methods.losses.class_entropy`.

    References
    ----------
    Milletari, Navab and Ahmadi, V-Net, 3DV 2016, https://doi.org/10.1109/3DV.2016.79; with sums
    instead of sums of squares.
    """
    probability = class_probabilities(logits)[:, 1:]
    target = one_hot(classes.clamp(min=0).long(), probability.shape[1] + 1).movedim(-1, 1)[:, 1:]
    counted = weight[:, None]
    space = (0, *range(2, probability.ndim))
    shared = (probability * target * counted).sum(space)
    both = ((probability + target) * counted).sum(space)
    return (1 - (2 * shared + SMOOTH) / (both + SMOOTH)).mean()


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the probability of every class ``(B, C, ZYX)``, also where there are two."""
    if logits.shape[1] > 1:
        return logits.float().softmax(dim=1)
    one = logits.float().sigmoid()
    return torch.cat([1 - one, one], dim=1)


@torch.no_grad()
def crop_error(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Return one minus the IoU of a crop, mean over crops and classes but 0, for the log.

    A class that a crop shows on neither side is left out; 0 where nothing is left. Voxels of weight
    0 are not counted.
    """
    found = class_probabilities(logits).argmax(dim=1)
    count = logits.shape[1] if logits.shape[1] > 1 else 2
    counted = weight > 0
    space = tuple(range(1, found.ndim))
    errors = []
    for number in range(1, count):
        true, predicted = (classes == number) & counted, (found == number) & counted
        both, either = (true & predicted).sum(space), (true | predicted).sum(space)
        errors.append((1 - both / either)[either > 0])
    together = torch.cat(errors)
    return together.mean() if len(together) else together.sum()
