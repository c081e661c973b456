"""Targets of all channels of a configuration, from labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.geometry import voxel_sides
from instaseg.methods.channels import targets_centres as centres
from instaseg.methods.channels import targets_contours as contours
from instaseg.methods.channels import targets_distances as distances
from instaseg.methods.channels.config import ChannelsSettings
from instaseg.methods.channels.instances import Instances
from instaseg.methods.channels.legacy import Generation
from instaseg.methods.channels.registry import Channel, channels_of
from instaseg.methods.channels.targets_flows import flow
from instaseg.methods.channels.targets_rays import rays


def channels_from_labels(
    labels: NDArray[np.integer],
    channels: str | Sequence[str],
    spacing: Sequence[float] | None = None,
    *,
    letters: Generation = "biapy_before_3.0",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> NDArray[np.float32]:
    """Return the targets of some channels.

    Parameters
    ----------
    labels : ndarray of int, ([z,] y, x)
        0 is background.
    channels : str or sequence of str
        Names, or letters of BiaPy such as ``"BCD"`` or ``["B", "C"]``.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in physical units; 1 where it is left out.
    letters : str
        The versions of BiaPy whose letters they are.
    settings : mapping, optional
        Tables below ``[method]`` by name, for example ``{"contour": {"mode": "inner"}}``.

    Returns
    -------
    ndarray of float32, (k, [z,] y, x)
        One or more components for each channel, in the order asked for.

    Raises
    ------
    DataError
        If the labels are no image or volume of whole numbers from 0 on, or `spacing` is not a
        number above 0 for each axis.
    ValueError, ConfigError
        If a channel is unknown, or does not fit the axes.

    Examples
    --------
    >>> channels_from_labels(np.array([[0, 1, 1, 1, 2]]), ["interior", "contour"])[:, 0].tolist()
    [[0.0, 0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0, 1.0]]
    """
    found = ChannelsSettings.model_validate(
        {"channels": channels, "letters": letters, **(settings or {})}
    )
    instances = Instances(_checked(labels), voxel_sides(spacing, labels.ndim))
    parts = [target(one, instances, found) for one in channels_of(found, labels.ndim)]
    return np.concatenate([part.astype(np.float32) for part in parts])


def _checked(labels: NDArray[Any]) -> NDArray[np.integer]:
    """Return labels that are some."""
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iu":
        raise DataError(
            "labels: expected whole numbers with axes (y, x) or (z, y, x), found"
            f" {labels.dtype} of shape {list(labels.shape)}"
        )
    if labels.size and labels.min() < 0:
        raise DataError(f"labels: expected numbers from 0 on, found {labels.min()}")
    return labels


def target(channel: Channel, instances: Instances, settings: ChannelsSettings) -> Target:
    """Return the target of one channel.

    Parameters
    ----------
    channel : Channel
        Which one.
    instances : Instances
        Labels and spacing; what channels share is computed once.
    settings : ChannelsSettings
        Tables of all channels.

    Returns
    -------
    ndarray of float32 or bool, (channel.channels, [z,] y, x)
    """
    if channel.name in _SEVERAL:
        return _SEVERAL[channel.name](channel, instances, settings)
    find = _ONE[channel.name]
    return find(instances, settings)[np.newaxis]


Target = NDArray[np.float32] | NDArray[np.bool_]

_SEVERAL: dict[str, Callable[[Channel, Instances, ChannelsSettings], Target]] = {
    "flow": lambda _channel, labels, _settings: flow(labels),
    "rays": lambda channel, labels, _settings: rays(labels, channel.channels),
    "affinities": lambda channel, labels, settings: contours.affinities(
        labels, channel.offsets, settings.affinities.widen_borders
    ),
}
"""Targets with components."""

_ONE: dict[str, Callable[[Instances, ChannelsSettings], Target]] = {
    "foreground": lambda labels, _: labels.foreground,
    "background": lambda labels, _: ~labels.foreground,
    "interior": lambda labels, own: contours.interior(labels, own.contour),
    "contour": lambda labels, own: contours.contour(labels, own.contour),
    "touching": lambda labels, own: contours.touching(labels, own.touching),
    "distance": lambda labels, own: distances.distance(labels, own.distance, own.contour),
    "signed_distance": lambda labels, own: distances.signed_distance(labels, own.signed_distance),
    "ridge": lambda labels, own: distances.ridge(labels, own.ridge, own.contour),
    "neighbour_distance": lambda labels, own: distances.neighbour_distance(
        labels, own.neighbour_distance
    ),
    "centre": lambda labels, own: centres.centre(labels, own.centre),
    "centre_distance": lambda labels, own: centres.centre_distance(labels, own.centre_distance),
    "offset_z": lambda labels, own: centres.offset(labels, own.offset, labels.ndim - 3),
    "offset_y": lambda labels, own: centres.offset(labels, own.offset, labels.ndim - 2),
    "offset_x": lambda labels, own: centres.offset(labels, own.offset, labels.ndim - 1),
}
"""Targets without."""
