"""Losses of the method ``synapses``. Shapes: B batch, C channels, Z Y X space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from instaseg.methods.losses import weighted_mean


def blob_loss(logits: Tensor, target: Tensor, mask: Tensor, positive_share: float) -> Tensor:
    """Return the cross entropy of a probability whose target is 0 nearly everywhere.

    The means over the voxels inside of blobs (target above 0) and over all others are weighted with
    `positive_share` and the rest, so that it does not matter how few sites there are.

    Parameters
    ----------
    logits, target : (B, C, [Z,] Y, X)
        Network output, and probabilities between 0 and 1.
    mask : (B, [Z,] Y, X) bool
        Where the ground truth is known.
    positive_share : float
        Between 0 and 1.
    """
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), target.float(), reduction="none"
    )
    known = mask[:, None].expand_as(target)
    inside = (target > 0) & known
    return positive_share * mean_where(losses, inside) + (1 - positive_share) * mean_where(
        losses, known & ~inside
    )


def vector_loss(vectors: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return the mean length of the vectors' errors where they are known, 0 where none are.

    Parameters
    ----------
    vectors, target : (B, axes, [Z,] Y, X)
        Predicted and true vectors.
    known : (B, 1, [Z,] Y, X) bool
        Where they count.
    """
    squared = (vectors.float() - target.float()).square().sum(dim=1, keepdim=True)
    # the root has no gradient at 0
    return mean_where(torch.sqrt(squared + 1e-12), known)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values, 0 if none is."""
    return weighted_mean(values, chosen.to(values.dtype))
