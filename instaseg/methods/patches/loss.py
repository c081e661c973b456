"""The loss of patches: targets are cut from the labels here, on the device, never stored.

Shapes: ``B`` batch, ``L`` layers of labels (no two instances of a layer overlap), ``K`` voxels of
a patch, ``N`` voxels that count, ``ZYX`` space (``YX`` in 2-D).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from instaseg.methods.known import inner_labels
from instaseg.methods.losses import weighted_mean


def draw_sites(chosen: Tensor, most: int | None, seed: int) -> Tensor:
    """Return positions of chosen voxels, at most so many of each batch element.

    Parameters
    ----------
    chosen : Tensor
        ``(B, ZYX)`` bool, on the CPU.
    most : int, optional
        Largest number for each element; those that stay are drawn at random. None keeps all.
    seed : int
        Of the drawing.

    Returns
    -------
    Tensor
        ``(N,)`` int64, ascending, in the raveled array.
    """
    each = [row.nonzero()[:, 0] for row in chosen.flatten(1)]
    size = math.prod(chosen.shape[1:])
    random = torch.Generator().manual_seed(seed)
    drawn = []
    for element, sites in enumerate(each):
        kept = sites
        if most is not None and len(sites) > most:
            kept = sites[torch.randperm(len(sites), generator=random)[:most]].sort().values
        drawn.append(kept + element * size)
    return torch.cat(drawn)


def patch_targets(labels: Tensor, patch_shape: Sequence[int], sites: Tensor) -> Tensor:
    """Return the true patches of some voxels.

    Parameters
    ----------
    labels : Tensor
        ``(B, L, ZYX + patch_shape - 1)`` integers, 0 background: with half a patch of context.
    patch_shape : sequence of int
        Odd sides in voxels.
    sites : Tensor
        ``(N,)`` positions in the raveled ``(B, ZYX)``.

    Returns
    -------
    Tensor
        ``(N, K)`` bool: whether each voxel of the patch, in raster order, belongs to the one
        instance at its centre; nowhere where there is none or more than one.

    Notes
    -----
    Target of the patch head, ``L(p + o) == L(p)`` (Hirsch et al. 2020, arXiv:2001.07626, eq. 1).
    """
    windows = labels
    for axis, side in enumerate(patch_shape, start=2):
        windows = windows.unfold(axis, side, 1)
    space = windows.shape[2 : 2 + len(patch_shape)]
    element, *place = torch.unravel_index(sites, (labels.shape[0], *space))
    inner = inner_labels(labels, [side // 2 for side in patch_shape])
    own = rows_at(inner, sites)  # (N, L)
    layer = own.argmax(dim=1)  # labels are not negative: where there is one, it is the largest
    alone = (own > 0).sum(dim=1) == 1
    centre = own.gather(1, layer[:, None])
    return (windows[(element, layer, *place)].flatten(1) == centre) & alone[:, None]


def patch_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    patch_shape: Sequence[int],
    sites: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the mean binary cross entropy of the patches of some voxels.

    Parameters
    ----------
    logits : Tensor
        ``(N, K)`` of the patches at `sites`.
    labels : Tensor
        ``(B, L, ZYX + patch_shape - 1)`` integers.
    patch_shape : sequence of int
        Odd sides in voxels.
    sites : Tensor
        ``(N,)`` positions in the raveled ``(B, ZYX)``.
    weight : Tensor, optional
        ``(B, ZYX)`` how much a voxel's patch counts; all count the same where left out.

    Returns
    -------
    Tensor
        A scalar; 0 where there are no sites.
    """
    if not len(sites):
        return logits.sum() * 0.0
    target = patch_targets(labels, patch_shape, sites).float()
    if weight is None:
        return binary_cross_entropy_with_logits(logits.float(), target)
    each = binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(dim=1)
    return weighted_mean(each, weight.flatten()[sites])


def rows_at(logits: Tensor, sites: Tensor) -> Tensor:
    """Return the values ``(N, channels)`` of an output ``(B, channels, ZYX)`` at some voxels."""
    return logits.movedim(1, -1).flatten(0, -2).index_select(0, sites)


def foreground_loss(logits: Tensor, foreground: Tensor, weight: Tensor) -> Tensor:
    """Return the mean binary cross entropy of a foreground head.

    Parameters
    ----------
    logits : Tensor
        ``(B, 1, ZYX)``.
    foreground : Tensor
        ``(B, ZYX)`` bool, the truth.
    weight : Tensor
        ``(B, ZYX)``, see :func:`instaseg.methods.known.known_weight`.
    """
    each = binary_cross_entropy_with_logits(
        logits[:, 0].float(), foreground.float(), reduction="none"
    )
    return weighted_mean(each, weight)


def count_loss(logits: Tensor, count: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross entropy of a head of instance counts.

    Parameters
    ----------
    logits : Tensor
        ``(B, most + 1, ZYX)``; channel ``i`` for ``i`` instances, the last for `most` and more.
    count : Tensor
        ``(B, ZYX)`` integers, the truth.
    weight : Tensor
        ``(B, ZYX)``, see :func:`instaseg.methods.known.known_weight`.
    """
    target = count.clamp(max=logits.shape[1] - 1).long()
    return weighted_mean(cross_entropy(logits.float(), target, reduction="none"), weight)
