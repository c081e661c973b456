"""Targets of distances to borders and to other instances, and weights between instances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.methods.channels.config import (
    BorderWeightSettings,
    ContourSettings,
    DistanceSettings,
    NeighbourDistanceSettings,
    RidgeSettings,
    SignedDistanceSettings,
)
from instaseg.methods.channels.instances import Instances, extremes, finite_distance
from instaseg.methods.channels.nearest_two import nearest_two
from instaseg.methods.channels.targets_contours import contour
from instaseg.regions.distance import distance_inside

# exp(-6² / 2) is no more than 2e-8.
_SIGMAS = 6.0


def distance(
    instances: Instances, settings: DistanceSettings, contours: ContourSettings
) -> NDArray[np.float32]:
    """Return the distance to the border of the own instance; 0 in the background.

    Parameters
    ----------
    instances : Instances
        Labels and spacing.
    settings : DistanceSettings
        Scale, polarity, and whether contours belong to an instance.
    contours : ContourSettings
        What they are.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        Physical units, or 0 to 1 in each instance; where all voxels of one are equally deep, all
        are at its centre.
    """
    if settings.border_of == "instance":
        away = instances.distance
    else:
        core = np.where(contour(instances, contours), 0, instances.labels)
        away = finite_distance(core, instances.spacing)
    values = away[instances.places].astype(np.float64)
    owners = instances.owners
    least, largest = extremes(owners, values, instances.count)
    if settings.scale == "instance":
        values = _scaled(values, least[owners], largest[owners], flat=1.0)
        largest = np.ones_like(largest)
    if settings.polarity == "low_inside":
        values = largest[owners] - values
    return instances.painted(values)


def _scaled(
    values: NDArray[np.float64],
    least: NDArray[np.float64],
    largest: NDArray[np.float64],
    *,
    flat: float,
) -> NDArray[np.float64]:
    """Return values from 0 for the least to 1 for the largest; `flat` where they are the same."""
    span = largest - least
    return np.where(span > 0, (values - least) / np.where(span > 0, span, 1.0), flat)


def signed_distance(instances: Instances, settings: SignedDistanceSettings) -> NDArray[np.float32]:
    """Return the distance to the border, negative outside; see :class:`SignedDistanceSettings`."""
    inside = instances.distance[instances.places].astype(np.float64)
    if settings.scale == "instance":
        _, largest = extremes(instances.owners, inside, instances.count)
        return instances.painted(inside / largest[instances.owners], background=-1.0)
    if not instances.count:
        return np.full(instances.labels.shape, -1.0, np.float32)
    signed = instances.painted(inside) - distance_inside(~instances.foreground, instances.spacing)
    alpha = np.float32(settings.length("alpha", instances.spacing))
    found: NDArray[np.float32] = np.tanh(signed / alpha)
    return found


def ridge(
    instances: Instances, settings: RidgeSettings, contours: ContourSettings
) -> NDArray[np.float32]:
    """Return what is 1 on contours and falls to 0 inside instances and away from them.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        0 to 1. With the scale `image`, inside and outside are divided by the largest distance in
        the image, so that instances smaller than the largest do not reach 0.
    """
    outside = distance_inside(~instances.foreground, instances.spacing)
    inside = instances.distance[instances.places].astype(np.float64)
    if settings.scale == "instance":
        _, largest = extremes(instances.owners, inside, instances.count)
        inner = 1 - inside / largest[instances.owners]
        cap = settings.length("cap", instances.spacing)
        outer = 1 - np.minimum(outside, cap) / cap
    else:
        inner = 1 - inside / inside.max(initial=0.0) if instances.count else inside
        # in an empty image nothing is near, in a full one nothing is far
        finite = np.where(np.isfinite(outside), outside, 1.0)
        outer = 1 - finite / max(finite.max(initial=0.0), np.finfo(np.float32).tiny)
    found = outer.astype(np.float32)
    found[instances.places] = inner
    found[contour(instances, contours)] = 1.0
    return found


def neighbour_distance(
    instances: Instances, settings: NeighbourDistanceSettings
) -> NDArray[np.float32]:
    """Return how near another instance is: 1 next to it, 0 far away and in the background.

    Where there is no other instance, 0.
    """
    cap = settings.length("cap", instances.spacing)
    limit = cap if settings.scale == "physical" else np.inf
    away = nearest_two(instances.labels, instances.spacing, most=limit).second
    values = away[instances.places].astype(np.float64)
    owners = instances.owners
    values[np.isinf(values)] = limit
    most = np.full(len(values), cap)
    if settings.scale == "instance":
        most = extremes(owners, values, instances.count)[1][owners]
    known = np.isfinite(most)
    near = np.zeros(len(values))
    near[known] = 1 - values[known] / most[known]
    image = instances.painted(near)
    if settings.closing > 1:
        image = ndimage.grey_closing(image, (settings.closing,) * image.ndim)
        image[~instances.foreground] = 0.0
    return image ** np.float32(settings.power)


def border_weight(instances: Instances, settings: BorderWeightSettings) -> NDArray[np.float32]:
    """Return the weight that background between instances has in addition.

    ``strength * exp(-(d1 + d2)² / (2 sigma²))`` with the distances to the two nearest instances
    (Ronneberger et al. 2015, arXiv:1505.04597, eq. 2); never more than the strength.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        0 in instances, and where there are fewer than two.
    """
    sigma = settings.length("sigma", instances.spacing)
    found = nearest_two(instances.labels, instances.spacing, most=_SIGMAS * sigma)
    total = (found.first + found.second).astype(np.float64)
    weight = settings.strength * np.exp(-(total**2) / (2 * sigma**2))
    return np.where(instances.foreground, 0.0, weight).astype(np.float32)
