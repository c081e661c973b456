"""Targets of one crop: blobs around sites, and vectors to presynaptic sites.

Everything is computed from where the sites are in the crop, after it was deformed; see
:mod:`instaseg.data.points` for the layers that show them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instaseg.data.points import CLEFT_LAYER, PARTNER_LAYER, POST_LAYER, PRE_LAYER

LAYER_OF = {"pre": PRE_LAYER, "post": POST_LAYER, "cleft": CLEFT_LAYER}
SIGMAS = 2.0
"""Standard deviations of a blob's bell curve in its radius."""


@dataclass(frozen=True)
class Sites:
    """The sites a layer shows.

    Parameters
    ----------
    labels : (n,) int64
        Ascending.
    places : (n, axes) float64
        Centroids in voxels.
    """

    labels: NDArray[np.int64]
    places: NDArray[np.float64]


def find_sites(layer: NDArray[np.integer]) -> Sites:
    """Return the labels of a layer ``([z,] y, x)`` and their centroids."""
    voxels = np.nonzero(layer)
    labels, number = np.unique(layer[voxels], return_inverse=True)
    sizes = np.bincount(number, minlength=len(labels))
    places = [np.bincount(number, axis, minlength=len(labels)) / sizes for axis in voxels]
    return Sites(labels.astype(np.int64), np.stack(places, axis=1))


def reach(radius: float, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return the whole voxels per axis within a physical distance, and one for cut cubes."""
    return tuple(math.floor(radius / size) + 1 for size in spacing)


def windows(
    places: NDArray[np.float64], radius: float, *, shape: Sequence[int], spacing: Sequence[float]
) -> Iterator[tuple[int, tuple[slice, ...], NDArray[np.float64]]]:
    """Yield for each place the box within `radius` of it, cut to `shape`, and the steps there.

    Yields
    ------
    number : int
        Of the place.
    box : tuple of slice
        Not empty.
    steps : (axes, *box) float64
        Physical vectors from the voxels to the place.
    """
    sizes = np.asarray(spacing, dtype=np.float64)
    for number, place in enumerate(places):
        low = np.maximum(np.ceil(place - radius / sizes), 0).astype(int)
        high = np.minimum(np.floor(place + radius / sizes) + 1, shape).astype(int)
        if (high <= low).any():
            continue
        box = tuple(slice(b, e) for b, e in zip(low, high, strict=True))
        axes = [
            (p - np.arange(b, e)) * size
            for p, b, e, size in zip(place, low, high, sizes, strict=True)
        ]
        yield number, box, np.stack(np.meshgrid(*axes, indexing="ij"))


def blobs(
    places: NDArray[np.float64], radius: float, *, shape: Sequence[int], spacing: Sequence[float]
) -> NDArray[np.float32]:
    """Return blobs around places: bell curves of height 1 cut off at `radius`; the highest counts.

    Their standard deviation is half of the radius, so that blobs of sites that are close to each
    other still have a peak each.

    Examples
    --------
    >>> blobs(np.array([[1.0]]), 2.0, shape=(5,), spacing=(1.0,)).round(2).tolist()
    [0.6100000143051147, 1.0, 0.6100000143051147, 0.14000000059604645, 0.0]
    """
    result = np.zeros(tuple(shape), np.float32)
    for _, box, steps in windows(places, radius, shape=shape, spacing=spacing):
        squared = (steps**2).sum(axis=0)
        bell = np.exp(squared * (-0.5 * (SIGMAS / radius) ** 2)).astype(np.float32)
        bell[squared > radius**2] = 0
        np.maximum(result[box], bell, out=result[box])
    return result


@dataclass(frozen=True)
class VectorTargets:
    """Vectors to presynaptic sites.

    Parameters
    ----------
    vectors : (axes, [z,] y, x) float32
        From the voxel to the presynaptic site: to be added to the voxel's position.
    known : (1, [z,] y, x) bool
        Where they count.
    """

    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]


def vectors(
    post: NDArray[np.float64],
    pre: NDArray[np.float64],
    radius: float,
    *,
    shape: Sequence[int],
    spacing: Sequence[float],
) -> VectorTargets:
    """Return the vectors around postsynaptic sites; a voxel follows the nearest one.

    Parameters
    ----------
    post, pre : (n, axes) float64
        Places in voxels of sites that belong together, row by row; NaN where the presynaptic one
        is not known: vectors around such a site do not count.
    radius : float
        Physical distance from a postsynaptic site up to which vectors count.
    shape : sequence of int
        Voxels of the result.
    spacing : sequence of float
        Size of a voxel per axis.

    Returns
    -------
    VectorTargets
        Physical vectors.
    """
    nearest = np.full(tuple(shape), np.inf)
    whose = np.full(tuple(shape), -1)
    for number, box, steps in windows(post, radius, shape=shape, spacing=spacing):
        squared = (steps**2).sum(axis=0)
        closer = (squared <= radius**2) & (squared < nearest[box])
        nearest[box][closer] = squared[closer]
        whose[box][closer] = number
    known = np.zeros(tuple(shape), bool)
    result = np.zeros((len(shape), *shape), np.float32)
    voxels = np.argwhere(whose >= 0)
    ends = pre[whose[tuple(voxels.T)]]
    good = np.isfinite(ends).all(axis=1)
    place = tuple(voxels[good].T)
    known[place] = True
    steps = (ends[good] - voxels[good]) * np.asarray(spacing, dtype=np.float64)
    result[(slice(None), *place)] = steps.T
    return VectorTargets(result, known[np.newaxis])


def partners_of(layers: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the postsynaptic sites of a crop and their presynaptic partners are.

    Parameters
    ----------
    layers : (4, [z,] y, x) int
        See :mod:`instaseg.data.points`.

    Returns
    -------
    post, pre : (n, axes) float64
        In voxels; NaN where there is no partner in the crop.
    """
    post, pre = find_sites(layers[POST_LAYER]), find_sites(layers[PRE_LAYER])
    voxels = np.nonzero(layers[POST_LAYER])
    own, theirs = layers[POST_LAYER][voxels], layers[PARTNER_LAYER][voxels]
    partner = np.zeros(len(post.labels), np.int64)
    # where cubes of two sites meet, both layers show the same one
    partner[np.searchsorted(post.labels, own)] = theirs
    ends = np.full(post.places.shape, np.nan)
    number = np.minimum(np.searchsorted(pre.labels, partner), max(len(pre.labels) - 1, 0))
    if len(pre.labels):
        there = pre.labels[number] == partner
        ends[there] = pre.places[number[there]]
    return post.places, ends


def point_targets(
    layers: NDArray[np.integer],
    sites: Sequence[str],
    radius: float,
    *,
    context: Sequence[int],
    spacing: Sequence[float],
) -> NDArray[np.float32]:
    """Return one channel of blobs for each of the sites, without the context."""
    inner = tuple(n - 2 * c for n, c in zip(layers.shape[1:], context, strict=True))
    return np.stack(
        [
            blobs(
                find_sites(layers[LAYER_OF[site]]).places - np.array(context),
                radius,
                shape=inner,
                spacing=spacing,
            )
            for site in sites
        ]
    )
