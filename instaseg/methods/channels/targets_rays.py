"""Targets of star-convex shapes: how far the border is in fixed directions.

U. Schmidt et al., Cell detection with star-convex polygons, MICCAI 2018, arXiv:1806.03535;
M. Weigert et al., Star-convex polyhedra for 3D object detection, WACV 2020, arXiv:1908.03636.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.channels.instances import Instances

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def directions(number: int, ndim: int) -> NDArray[np.float64]:
    """Return unit vectors of rays in physical space, axes in the order of an array's.

    Parameters
    ----------
    number : int
        Of rays.
    ndim : {2, 3}
        Evenly spaced angles from the x axis towards the y axis, or the points of a Fibonacci
        sphere.

    Returns
    -------
    ndarray of float64, (number, ndim)

    Examples
    --------
    >>> np.round(directions(4, 2)).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, -0.0]]
    """
    index = np.arange(number)
    if ndim == 2:
        angle = 2 * math.pi * index / number
        return np.stack([np.sin(angle), np.cos(angle)], axis=1)
    height = 1 - (2 * index + 1) / number
    radius = np.sqrt(1 - height**2)
    turned = _GOLDEN_ANGLE * index
    return np.stack([height, radius * np.sin(turned), radius * np.cos(turned)], axis=1)


def rays(instances: Instances, number: int) -> NDArray[np.float32]:
    """Return the distance of every voxel to the border of its instance along each ray.

    A ray advances one voxel at a time along its steepest axis until the nearest voxel is not of
    the instance, or lies outside the array; the border is half a step before.

    Parameters
    ----------
    instances : Instances
        Labels and spacing.
    number : int
        Of rays; see :func:`directions`.

    Returns
    -------
    ndarray of float32, (number, [z,] y, x)
        Physical units; 0 in the background, and outside of the inner part.
    """
    spacing = np.array(instances.spacing)
    steps: NDArray[Any] = directions(number, instances.ndim) / spacing
    steps = steps / np.abs(steps).max(axis=1, keepdims=True)
    lengths = np.linalg.norm(steps * spacing, axis=1)
    # a frame of one voxel ends every ray: none moves further than one voxel along any axis
    labels = np.pad(instances.labels, 1, constant_values=-1)
    strides = np.array(labels.strides) // labels.itemsize
    reach = np.arange(1, max(labels.shape) + 1)
    # halves are rounded up, whatever the last bit of a sine says
    moves = np.floor(np.round(reach[:, None, None] * steps, 9) + 0.5).astype(np.int64) @ strides
    begin = [part.start + 1 for part in instances.inner]
    inside = np.nonzero(instances.foreground[instances.inner])
    places = np.ravel_multi_index(
        tuple(axis + b for axis, b in zip(inside, begin, strict=True)), labels.shape
    )
    found = np.zeros((number, *instances.labels.shape), np.float32)
    counts = _march(labels.reshape(-1), places, np.ascontiguousarray(moves.T))
    for image, count, length in zip(found, counts, lengths, strict=True):
        image[instances.inner][inside] = (count - 0.5) * length
    return found


@nb.njit(cache=True, nogil=True)
def _march(labels: Any, places: Any, moves: Any) -> Any:
    """Return the number of steps ``(rays, n)`` after which each ray has left its instance.

    Parameters
    ----------
    labels : ndarray, flat
        With a frame of another value.
    places : ndarray of int, (n,)
        Where rays begin.
    moves : ndarray of int, (rays, steps)
        Where they are after each step, seen from there.
    """
    counts = np.empty((moves.shape[0], places.size), np.int32)
    for ray in range(moves.shape[0]):
        for i in range(places.size):
            own = labels[places[i]]
            n = 0
            while labels[places[i] + moves[ray, n]] == own:
                n += 1
            counts[ray, i] = n + 1
    return counts
