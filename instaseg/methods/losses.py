"""Parts of losses that several methods have.

Shapes: ``B`` batch, ``C`` classes, ``ZYX`` space (``YX`` in 2-D).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def weighted_mean(each: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of `each` by `weight`, of the same shape; 0 without any weight."""
    total = weight.sum()
    return (each * weight).sum() / torch.where(total > 0, total, 1.0)


def class_entropy(
    logits: Tensor, classes: Tensor, weight: Tensor, class_weights: Sequence[float] | None
) -> Tensor:
    """Return the weighted mean cross entropy.

    Parameters
    ----------
    logits : Tensor
        ``(B, 1, ZYX)`` of two classes, else ``(B, C, ZYX)``.
    classes : Tensor
        ``(B, ZYX)`` integers; may be anything where `weight` is 0.
    weight : Tensor
        ``(B, ZYX)``.
    class_weights : sequence of float, optional
        One per class.
    """
    target = classes.clamp(min=0).long()
    if logits.shape[1] == 1:
        each = binary_cross_entropy_with_logits(
            logits[:, 0].float(), target.float(), reduction="none"
        )
    else:
        each = cross_entropy(logits.float(), target, reduction="none")
    if class_weights is not None:
        weight = weight * torch.tensor(class_weights, device=weight.device)[target]
    return weighted_mean(each, weight)
