"""What is known of the ground truth in a batch: how many instances, and where that is sure.

Shapes: ``B`` batch, ``L`` layers of labels (no two instances of a layer overlap), ``ZYX`` space
(``YX`` in 2-D).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def inner_labels(labels: Tensor, context: Sequence[int]) -> Tensor:
    """Return labels ``(B, L, ZYX + 2 * context)`` without their context."""
    index = tuple(slice(c, n - c) for c, n in zip(context, labels.shape[2:], strict=True))
    return labels[(slice(None), slice(None), *index)]


def instance_count(labels: Tensor, context: Sequence[int]) -> Tensor:
    """Return the number of instances ``(B, ZYX)`` at the voxels inside the context."""
    return (inner_labels(labels, context) > 0).sum(dim=1)


def inside_image(labels: Tensor, context: Sequence[int]) -> Tensor:
    """Return where labels ``(B, ZYX)`` inside the context are known, as they are in the image."""
    return (inner_labels(labels, context) >= 0).all(dim=1)


def known_weight(count: Tensor, mask: Tensor, mask_bg_weight: float) -> Tensor:
    """Return how much each voxel counts: 1, or less for background that may not be one.

    Parameters
    ----------
    count : Tensor
        ``(B, ZYX)`` instances at a voxel.
    mask : Tensor
        ``(B, ZYX)`` bool, True where labels are complete.
    mask_bg_weight : float
        Weight of background elsewhere.
    """
    known = mask.bool() | (count > 0)
    return torch.where(known, 1.0, mask_bg_weight)
