"""Morphology with balls of a physical radius, by distance: any radius at the same cost.

Nothing lies beyond an array: regions are neither eroded from its border nor grown across it. What
a voxel becomes depends on voxels within the radius only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instaseg.geometry import Coordinate
from instaseg.regions.distance import distance_inside, distance_per_label, inclusive, nearest


def reach(radius: float, spacing: Sequence[float]) -> Coordinate:
    """Return how many voxels a ball of a physical radius reaches along each axis.

    Examples
    --------
    >>> reach(3.0, (4.0, 1.0, 1.0))
    (0, 3, 3)
    """
    return tuple(math.floor(inclusive(radius) / one) for one in spacing)


def dilate(mask: NDArray[np.bool_], radius: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return where a True voxel is at most `radius` away.

    Parameters
    ----------
    mask : ndarray of bool, ([z,] y, x)
    radius : float
        In physical units; 0 changes nothing.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    """
    mask = np.asarray(mask, dtype=bool)
    if radius <= 0:
        return mask.copy()
    return np.asarray(distance_inside(~mask, spacing) <= np.float32(inclusive(radius)), dtype=bool)


def erode(mask: NDArray[np.bool_], radius: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return the True voxels that have no False one at most `radius` away; see :func:`dilate`."""
    mask = np.asarray(mask, dtype=bool)
    if radius <= 0:
        return mask.copy()
    return np.asarray(distance_inside(mask, spacing) > np.float32(inclusive(radius)), dtype=bool)


def opening(mask: NDArray[np.bool_], radius: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return the mask without parts that hold no ball: eroded, then dilated; see :func:`dilate`."""
    return dilate(erode(mask, radius, spacing), radius, spacing)


def closing(mask: NDArray[np.bool_], radius: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return the mask without gaps that hold no ball: dilated, then eroded; see :func:`dilate`."""
    return erode(dilate(mask, radius, spacing), radius, spacing)


def erode_labels(
    labels: NDArray[np.integer], radius: float, spacing: Sequence[float]
) -> NDArray[np.int32]:
    """Return each label without voxels that have another label, or none, within `radius`.

    Parameters
    ----------
    labels : ndarray of int, ([z,] y, x)
        0 is background.
    radius : float
        In physical units; 0 changes nothing.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    """
    kept = labels.astype(np.int32)
    if radius > 0:
        kept[distance_per_label(labels, spacing) <= np.float32(inclusive(radius))] = 0
    return kept


def dilate_labels(
    labels: NDArray[np.integer], radius: float, spacing: Sequence[float]
) -> NDArray[np.int32]:
    """Return labels grown by `radius` into the background; where they meet, the nearest wins.

    Parameters
    ----------
    labels, radius, spacing
        As for :func:`erode_labels`.
    """
    if radius <= 0:
        return labels.astype(np.int32)
    return nearest(labels, spacing, most=radius)[0]
