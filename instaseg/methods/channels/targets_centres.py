"""Targets of the middle of instances: where it is, how far away, and in which direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from instaseg.methods.channels.config import (
    CentreDistanceSettings,
    CentreSettings,
    OffsetSettings,
)
from instaseg.methods.channels.instances import Instances, extremes
from instaseg.regions.distance import distance_inside, inclusive


def centre(instances: Instances, settings: CentreSettings) -> NDArray[np.float32]:
    """Return where the middle of each instance is; nothing reaches into other instances.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        1 in balls and tubes and 0 outside, or ``exp(-d² / (2 radius²))``.
    """
    if settings.kind == "skeleton":
        away = _to_skeleton(instances)
    else:
        away = np.sqrt(instances.squared_distance_to(instances.middles))
    radius = settings.length("radius", instances.spacing)
    if settings.kind == "gauss":
        return instances.painted(np.exp(-(away**2) / (2 * radius**2)))
    return instances.painted(away <= inclusive(radius))


def centre_distance(instances: Instances, settings: CentreDistanceSettings) -> NDArray[np.float32]:
    """Return the distance to the centre of mass or the skeleton; 0 in the background.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        Physical units, or 0 for the least to 1 for the largest distance in each instance.
    """
    if settings.kind == "skeleton":
        away = _to_skeleton(instances)
    else:
        away = np.sqrt(instances.squared_distance_to(instances.centres))
    if settings.scale == "instance":
        least, largest = extremes(instances.owners, away, instances.count)
        span = (largest - least)[instances.owners]
        away = np.divide(
            away - least[instances.owners], span, out=np.zeros_like(away), where=span > 0
        )
    return instances.painted(away)


def offset(instances: Instances, settings: OffsetSettings, axis: int) -> NDArray[np.float32]:
    """Return how far a voxel lies from the centre of mass of its instance along one axis.

    Parameters
    ----------
    instances : Instances
        Labels and spacing.
    settings : OffsetSettings
        Scale.
    axis : int
        Axis of the labels.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        Positive behind the centre, negative before it, 0 in the background: physical units, or -1
        and 1 at the ends of each instance.
    """
    owners = instances.owners
    away = (instances.places[axis] - instances.centres[owners, axis]) * instances.spacing[axis]
    if settings.scale == "instance":
        least, largest = extremes(owners, away, instances.count)
        ends = np.where(away < 0, -least[owners], largest[owners])
        # centres of mass are sums: what is 0 in truth is about 1e-15 here
        away = np.divide(away, ends, out=np.zeros_like(away), where=ends > 1e-9)
    return instances.painted(away)


def _to_skeleton(instances: Instances) -> NDArray[np.float64]:
    """Return the distance of every foreground voxel to the skeleton of its instance."""
    image = np.zeros(instances.labels.shape, np.float64)
    for number, box in instances.wanted:
        own = instances.labels[box] == number
        skeleton = skeletonize(np.pad(own, 1))[(slice(1, -1),) * own.ndim]
        if not skeleton.any():
            begin = [one.start for one in box]
            skeleton[tuple(instances.middles[number] - begin)] = True
        image[box][own] = distance_inside(~skeleton, instances.spacing)[own]
    found: NDArray[np.float64] = image[instances.places]
    return found
