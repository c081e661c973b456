"""The loss of patches: targets are cut from the labels here, on the device, never stored.

Shapes: ``B`` batch, ``K`` patch voxels, ``N`` pixels that count, ``ZYX`` space (``YX`` in 2-D).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def inner_labels(labels: Tensor, context: Sequence[int]) -> Tensor:
    """Return labels ``(B, ZYX + 2 * context)`` without their context."""
    index = tuple(slice(c, n - c) for c, n in zip(context, labels.shape[1:], strict=True))
    return labels[(slice(None), *index)]


def patch_targets(labels: Tensor, patch_shape: Sequence[int], chosen: Tensor) -> Tensor:
    """Return the true patches of chosen pixels.

    Parameters
    ----------
    labels : Tensor
        ``(B, ZYX + patch_shape - 1)`` integers, 0 background: with half a patch of context.
    patch_shape : sequence of int
        Odd sides in voxels.
    chosen : Tensor
        ``(B, ZYX)`` bool.

    Returns
    -------
    Tensor
        ``(N, K)`` bool: whether each voxel of the patch, in raster order, has the label of its
        centre and that is not background; one row per chosen pixel, in raster order.

    Notes
    -----
    Target of the patch head, ``L(p + o) == L(p)`` (Hirsch et al. 2020, arXiv:2001.07626, eq. 1).
    """
    windows = labels
    for axis, side in enumerate(patch_shape, start=1):
        windows = windows.unfold(axis, side, 1)
    patches = windows[chosen].flatten(1)
    centre = patches[:, patches.shape[1] // 2, None]
    return (patches == centre) & (centre > 0)


def patch_loss(
    logits: Tensor, labels: Tensor, *, patch_shape: Sequence[int], chosen: Tensor
) -> Tensor:
    """Return the mean binary cross entropy of the patches of chosen pixels.

    Parameters
    ----------
    logits : Tensor
        ``(B, K, ZYX)`` output of the patch head.
    labels : Tensor
        ``(B, ZYX + patch_shape - 1)`` integers.
    patch_shape : sequence of int
        Odd sides in voxels.
    chosen : Tensor
        ``(B, ZYX)`` bool: pixels whose patch counts.

    Returns
    -------
    Tensor
        A scalar; 0 where no pixel is chosen.
    """
    rows = logits.movedim(1, -1)[chosen].float()
    if not len(rows):
        return logits.sum() * 0.0
    target = patch_targets(labels, patch_shape, chosen)
    return binary_cross_entropy_with_logits(rows, target.float())


def foreground_loss(logits: Tensor, foreground: Tensor, mask: Tensor) -> Tensor:
    """Return the mean binary cross entropy of a foreground head.

    Parameters
    ----------
    logits : Tensor
        ``(B, 1, ZYX)``.
    foreground, mask : Tensor
        ``(B, ZYX)`` bool: the truth, and where it is known.
    """
    each = binary_cross_entropy_with_logits(
        logits[:, 0].float(), foreground.float(), reduction="none"
    )
    return (each * mask).sum() / torch.clamp(mask.sum(), min=1)
