"""Targets of contours, what they leave of instances, touching voxels, and affinities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.geometry import partners
from instaseg.methods.channels.config import ContourSettings, TouchingSettings
from instaseg.methods.channels.instances import Instances
from instaseg.methods.channels.nearest_two import nearest_two
from instaseg.regions.distance import distance_inside, distance_per_label, inclusive


def contour(instances: Instances, settings: ContourSettings) -> NDArray[np.bool_]:
    """Return where contours are.

    Parameters
    ----------
    instances : Instances
        Labels and spacing.
    settings : ContourSettings
        Mode and thickness. Without a thickness, modes `thick`, `inner` and `outer` are those of
        ``skimage.segmentation.find_boundaries``.

    Returns
    -------
    ndarray of bool, ([z,] y, x)
    """
    foreground = instances.foreground
    match settings.mode:
        case "dense":
            return _grown_in_plane(foreground) & ~foreground
        case "dense_legacy":
            return ~(foreground & ~_grown_in_plane(_borders(instances.labels)))
        case "outer":
            near = _near_border(instances, settings.thickness)
            touched = touching(instances, TouchingSettings(thickness=settings.thickness))
            return near & (~foreground | touched)
        case "inner":
            return _near_border(instances, settings.thickness) & foreground
        case "thick":
            return _near_border(instances, settings.thickness)


def interior(instances: Instances, settings: ContourSettings) -> NDArray[np.bool_]:
    """Return the foreground without contours."""
    return instances.foreground & ~contour(instances, settings)


def touching(instances: Instances, settings: TouchingSettings) -> NDArray[np.bool_]:
    """Return the voxels of instances that are next to another instance.

    Next to it are face, edge and corner neighbours, or what is not further away than the thickness.
    """
    labels = instances.labels
    if settings.thickness is not None:
        other = nearest_two(labels, instances.spacing, most=settings.thickness).second
        return instances.foreground & np.isfinite(other)
    found = np.zeros(labels.shape, bool)
    for offset in itertools.product((-1, 0, 1), repeat=labels.ndim):
        if offset > (0,) * labels.ndim:
            here, there = partners(labels.shape, offset)
            meet = (labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0)
            found[here] |= meet
            found[there] |= meet
    return found


def affinities(
    instances: Instances, offsets: Sequence[Sequence[int]], widen: int
) -> NDArray[np.bool_]:
    """Return whether voxels and those at some offsets belong to the same instance.

    Parameters
    ----------
    instances : Instances
        Labels.
    offsets : sequence of offsets
        The other voxel, seen from the one that holds the value; False where it lies outside.
    widen : int
        Voxels whose square of ``2 * widen + 1`` sides in the plane shows two instances count as
        background.

    Returns
    -------
    ndarray of bool, (len(offsets), [z,] y, x)
    """
    labels = _without_borders(instances.labels, widen) if widen else instances.labels
    found = np.zeros((len(offsets), *labels.shape), bool)
    for channel, offset in zip(found, offsets, strict=True):
        here, there = partners(labels.shape, offset)
        channel[here] = (labels[here] == labels[there]) & (labels[here] > 0)
    return found


def _without_borders(labels: NDArray[np.int32], widen: int) -> NDArray[np.int32]:
    """Return labels without voxels that see two instances in a square in the plane."""
    side = (1,) * (labels.ndim - 2) + (2 * widen + 1,) * 2
    largest = ndimage.maximum_filter(labels, side, mode="nearest")
    top = np.iinfo(np.int32).max
    least = ndimage.minimum_filter(np.where(labels > 0, labels, top), side, mode="nearest")
    return np.where(least < largest, 0, labels).astype(np.int32)


def _near_border(instances: Instances, thickness: float | None) -> NDArray[np.bool_]:
    """Return voxels on both sides of borders, as far from them as the thickness."""
    if thickness is None:
        return _borders(instances.labels)
    limit = np.float32(inclusive(thickness))
    away = distance_per_label(instances.labels, instances.spacing)
    inside = instances.foreground & (away <= limit)
    if not instances.count:
        return inside
    background = ~instances.foreground
    return inside | (background & (distance_inside(background, instances.spacing) <= limit))


def _borders(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return voxels with a face neighbour of another label."""
    found = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        offset = tuple(int(a == axis) for a in range(labels.ndim))
        here, there = partners(labels.shape, offset)
        differs = labels[here] != labels[there]
        found[here] |= differs
        found[there] |= differs
    return found


def _grown_in_plane(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask with its face neighbours along y and x."""
    grown = mask.copy()
    for axis in (mask.ndim - 2, mask.ndim - 1):
        offset = tuple(int(a == axis) for a in range(mask.ndim))
        here, there = partners(mask.shape, offset)
        grown[here] |= mask[there]
        grown[there] |= mask[here]
    return grown
