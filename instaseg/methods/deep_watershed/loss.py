"""The losses of the deep watershed, as published and balanced.

Shapes: ``B`` batch, ``D`` spatial axes, ``K`` edges between levels, ``ZYX`` space. Weights say how
much a voxel counts and are 0 where labels are incomplete.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    max_pool2d,
    max_pool3d,
    one_hot,
)

from instaseg.methods.deep_watershed.targets import CELL, WALL
from instaseg.methods.losses import weighted_mean

_LARGEST = {2: max_pool2d, 3: max_pool3d}
_PUBLISHED_LEVEL_WEIGHTS = (3.0, 3.0, 3.0, 2.0)
"""How much the first levels count as outputs; the others count 1."""
_DICE_SMOOTHING = 1e-3


def foreground_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross entropy of the foreground.

    Parameters
    ----------
    logits : Tensor
        ``(B, 1, ZYX)`` of foreground, or ``(B, 3, ZYX)`` of background, cell and wall.
    classes : Tensor
        ``(B, ZYX)`` integers, see :mod:`instaseg.methods.deep_watershed.targets`.
    weight : Tensor
        ``(B, ZYX)``.
    """
    if logits.shape[1] == 1:
        target = (classes > 0).float()
        each = binary_cross_entropy_with_logits(logits[:, 0].float(), target, reduction="none")
    else:
        each = cross_entropy(logits.float(), classes.long(), reduction="none")
    return weighted_mean(each, weight)


def published_foreground_loss(logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Return 0.6 cross entropy + 0.2 Dice of cells + 0.2 Dice of walls, over the whole batch.

    With one channel 0.5 cross entropy + 0.5 Dice of the foreground.
    """
    entropy = foreground_loss(logits, classes, weight)
    if logits.shape[1] == 1:
        probability = logits[:, 0].float().sigmoid()
        return 0.5 * entropy + 0.5 * dice_loss(probability, classes > 0, weight)
    probabilities = logits.float().softmax(dim=1)
    dice = sum(dice_loss(probabilities[:, kind], classes == kind, weight) for kind in (CELL, WALL))
    return 0.6 * entropy + 0.2 * dice


def dice_loss(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - the soft Dice coefficient ``(2 sum(p t) + s) / (sum(p) + sum(t) + s)``."""
    target = target.float()
    shared = (weight * probability * target).sum()
    total = (weight * (probability + target)).sum()
    return 1 - (2 * shared + _DICE_SMOOTHING) / (total + _DICE_SMOOTHING)


def direction_loss(vectors: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of 1 - cosine over the voxels that have a direction.

    Parameters
    ----------
    vectors, target : Tensor
        ``(B, D, ZYX)`` of length 1; target 0 where there is no direction, which does not count.
    weight : Tensor
        ``(B, ZYX)``.
    """
    known = weight * (target != 0).any(dim=1)
    return weighted_mean(1 - (vectors.float() * target).sum(dim=1), known)


def published_direction_loss(
    vectors: Tensor, target: Tensor, areas: Tensor, weight: Tensor
) -> Tensor:
    """Return the squared angles in radians over the square root of the instance's area.

    Parameters
    ----------
    vectors, target : Tensor
        ``(B, D, ZYX)`` of length 1, or 0.
    areas : Tensor
        ``(B, ZYX)`` voxels of a voxel's instance, 0 for background, which does not count.
    weight : Tensor
        ``(B, ZYX)``.

    Notes
    -----
    The sum is divided by the number of voxels of instances (and 1), not by their weights. Voxels
    without a true direction are left out: as constants they would only hide progress.
    """
    known = weight * (target != 0).any(dim=1)
    cosine = (vectors.float() * target).sum(dim=1) * 0.999999  # the angle has no slope at 0
    weighted = torch.arccos(cosine.clamp(-0.999999, 0.999999)) ** 2 * area_weight(areas) * known
    return weighted.sum() / ((known * (areas > 0)).sum() + 1)


def area_weight(areas: Tensor) -> Tensor:
    """Return 1 over the square root of areas, 0 for an area of 0."""
    return torch.where(areas > 0, areas.clamp(min=1).rsqrt(), 0.0)


def depth_loss(logits: Tensor, levels: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross entropy of depths, over edges too where these are predicted.

    Parameters
    ----------
    logits : Tensor
        ``(B, K, ZYX)`` that the depth exceeds each edge; or ``(B, K + 1, ZYX)`` of each level,
        which :func:`class_depth_loss` takes.
    levels : Tensor
        ``(B, ZYX)`` integers, 0 to K.
    weight : Tensor
        ``(B, ZYX)``.
    """
    edges = torch.arange(logits.shape[1], device=logits.device)
    edges = edges.reshape(1, -1, *(1 for _ in levels.shape[1:]))
    target = (levels[:, None] > edges).float()
    each = binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return weighted_mean(each.mean(dim=1), weight)


def class_depth_loss(logits: Tensor, levels: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross entropy of levels ``(B, ZYX)``, logits ``(B, K + 1, ZYX)``."""
    return weighted_mean(cross_entropy(logits.float(), levels.long(), reduction="none"), weight)


def published_depth_loss(logits: Tensor, levels: Tensor, areas: Tensor, weight: Tensor) -> Tensor:
    """Return the cross entropy of each level against all others, weighted by level and area.

    Parameters
    ----------
    logits : Tensor
        ``(B, K + 1, ZYX)``; a softmax makes them probabilities.
    levels : Tensor
        ``(B, ZYX)`` integers, 0 to K.
    areas : Tensor
        ``(B, ZYX)``; voxels count 1 over the square root of their instance's area, background that
        of all background in the batch.
    weight : Tensor
        ``(B, ZYX)``.

    Notes
    -----
    The first levels count 3, 3, 3, 2 as *outputs*, whatever the true level is.
    """
    # log(1 - p) from the logits of all the others, so that it is exact for p near 1
    logits = logits.float()
    total = logits.logsumexp(dim=1, keepdim=True)
    own = logits - total
    other = torch.log1p(-own.exp().clamp(max=1 - 1e-6))
    target = one_hot(levels.long(), logits.shape[1]).movedim(-1, 1)
    channel = logits.new_ones(logits.shape[1])
    first = min(len(_PUBLISHED_LEVEL_WEIGHTS), len(channel))
    channel[:first] = channel.new_tensor(_PUBLISHED_LEVEL_WEIGHTS[:first])
    channel = channel.reshape(1, -1, *(1 for _ in levels.shape[1:]))
    each = -(channel * torch.where(target > 0, own, other)).sum(dim=1)
    background = (weight * (areas == 0)).sum()
    counted = weight * area_weight(torch.where(areas > 0, areas, background))
    return (each * counted).sum() / (counted.sum() + 1)


def rim_weight(levels: Tensor, classes: Tensor, rim: float) -> Tensor:
    """Return how much each voxel's depth counts: `rim` at the rim of instances, else 1.

    Parameters
    ----------
    levels, classes : Tensor
        ``(B, ZYX)`` integers.
    rim : float
        For the first two levels of instances, walls, and background at most 2 voxels away.
    """
    inside = classes > 0
    near = _LARGEST[levels.ndim - 1](inside[:, None].float(), 5, stride=1, padding=2)[:, 0] > 0
    at_rim = (inside & (levels <= 2)) | (near & ~inside)
    return torch.where(at_rim, rim, 1.0)
