"""Quality of predicted channels themselves, against those made from the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.io.quantise import dequantise
from instaseg.methods.channels.config import ChannelsSettings
from instaseg.methods.channels.instances import Instances
from instaseg.methods.channels.registry import Channel
from instaseg.methods.channels.targets import target
from instaseg.methods.quality import compare, instance_channels, ratios


def quality_name(channel: Channel) -> str:
    """Return the dotted name of a channel's score; the highest is the best.

    Examples
    --------
    >>> quality_name(Channel("contour", binary=True)), quality_name(Channel("rays"))
    ('contour.IoU', 'rays.minus_mae')
    """
    return f"{channel.name}.{'IoU' if channel.binary else 'minus_mae'}"


def quality(
    prediction: Mapping[str, NDArray[Any]],
    truth: NDArray[Any],
    mask: NDArray[Any] | None,
    *,
    channels: Sequence[Channel],
    settings: ChannelsSettings,
    spacing: Sequence[float],
) -> dict[str, float]:
    """Return one score for each channel of a sample's prediction.

    Parameters
    ----------
    prediction : mapping of str to ndarray
        ``(k, [z,] y, x)`` by channel, as stored.
    truth : ndarray, ([z,] y, x) or (n, [z,] y, x)
        Labels or instance channels; voxels of several instances are left out.
    mask : ndarray, ([z,] y, x), optional
        Not 0 where labels are complete; background elsewhere is left out.
    channels : sequence of Channel
        What is predicted.
    settings : ChannelsSettings
        How targets are made.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.

    Returns
    -------
    dict
        Intersection over union of binary channels above 0.5, and minus the mean absolute error of
        all others, where they are learnt; left out where no voxel counts.
    """
    layers = instance_channels(truth, len(spacing))
    count = np.count_nonzero(layers, axis=0)
    counts = (count == 1) | ((count == 0) & ((mask != 0) if mask is not None else True))
    instances = Instances(_flat(layers), spacing)
    scores: dict[str, float] = {}
    for channel in channels:
        where = counts & (count > 0) if channel.learnt == "foreground" else counts
        found = dequantise(prediction[channel.name])[:, where]
        true = target(channel, instances, settings)[:, where]
        if not found.size:
            continue
        if channel.binary:
            scores[quality_name(channel)] = ratios(*compare(found > 0.5, true > 0.5).tolist())[
                "IoU"
            ]
        else:
            scores[quality_name(channel)] = -float(np.abs(found - true).mean())
    return scores


def _flat(layers: NDArray[Any]) -> NDArray[Any]:
    """Return labels ``([z,] y, x)`` of labels or instance channels ``(n, [z,] y, x)``."""
    if len(layers) == 1:
        flat: NDArray[Any] = layers[0]
        return flat
    there = layers != 0
    return np.where(there.any(axis=0), there.argmax(axis=0) + 1, 0)
