"""The loss of channels: each compared as it is predicted, where it means something.

Shapes: ``B`` batch, ``k`` components of a channel, ``ZYX`` space (``YX`` in 2-D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from instaseg.methods.channels.config import ChannelsSettings
from instaseg.methods.channels.registry import Channel
from instaseg.methods.losses import weighted_mean

BORDER_WEIGHT = "border_weight"
"""Name in a batch of the weights of background between instances."""


def channel_loss(channel: Channel, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean error of one channel.

    Parameters
    ----------
    channel : Channel
        Activation and kind of loss.
    logits : Tensor
        ``(B, k, ZYX)``, the network's output.
    target : Tensor
        ``(B, k, ZYX)``.
    weight : Tensor
        ``(B, k or 1, ZYX)`` how much each value counts.

    Returns
    -------
    Tensor
        A scalar; 0 where nothing counts.
    """
    logits, target = logits.float(), target.float()
    if channel.loss == "bce":
        each = binary_cross_entropy_with_logits(logits, target, reduction="none")
    else:
        found = torch.sigmoid(logits) if channel.activation == "sigmoid" else logits
        error = channel.factor * (found - target)
        each = error.abs() if channel.loss == "l1" else error.square()
    return weighted_mean(each, weight.expand_as(each))


def value_weights(
    channel: Channel,
    target: Tensor,
    known: Tensor,
    *,
    foreground: Tensor,
    settings: ChannelsSettings,
    border: Tensor | None = None,
) -> Tensor:
    """Return how much each value of a channel counts in the loss.

    Parameters
    ----------
    channel : Channel
        Where it is learnt, and whether it is binary.
    target : Tensor
        ``(B, k, ZYX)``.
    known : Tensor
        ``(B, ZYX)`` 1, or less for background where labels are incomplete.
    foreground : Tensor
        ``(B, ZYX)`` bool.
    settings : ChannelsSettings
        Class balance.
    border : Tensor, optional
        ``(B, 1, ZYX)`` weights that are added.

    Returns
    -------
    Tensor
        ``(B, k or 1, ZYX)``.
    """
    weight = known[:, None]
    if channel.learnt == "foreground":
        weight = weight * foreground[:, None]
    each = torch.ones_like(weight)
    if channel.binary and settings.class_balance == "batch":
        each = balance(target, weight, settings.class_balance_limit)
    if border is not None:
        each = each + border
    return weight * each


def balance(target: Tensor, weight: Tensor, limit: float) -> Tensor:
    """Return a factor for every value of a binary target: more than 1 on the rarer side.

    Parameters
    ----------
    target : Tensor
        ``(B, k, ZYX)`` of 0 and 1.
    weight : Tensor
        ``(B, 1, ZYX)``: values that count.
    limit : float
        Largest factor.

    Returns
    -------
    Tensor
        ``(B, k, ZYX)``: the ratio of the two sides in a component of the batch, 1 on the more
        frequent side, and everywhere where one side is missing.
    """
    axes = tuple(axis for axis in range(target.ndim) if axis != 1)
    positive = target > 0.5
    share = (positive * weight).sum(axes, keepdim=True) / weight.sum().clamp(min=1e-12)
    rarer = torch.minimum(share, 1 - share)
    factor = ((1 - rarer) / rarer.clamp(min=1e-12)).clamp(max=limit)
    factor = torch.where(rarer > 0, factor, 1.0)
    return torch.where(positive == (share < 0.5), factor, 1.0)


def total_loss(parts: Mapping[str, Tensor], settings: ChannelsSettings) -> Tensor:
    """Return the sum of the channels' losses by their weights."""
    weights = settings.weights or (1.0,) * len(settings.channels)
    terms = [weight * parts[name] for name, weight in zip(settings.channels, weights, strict=True)]
    return torch.stack(terms).sum()
