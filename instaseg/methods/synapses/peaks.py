"""Peaks of a probability: regional maxima, found in blocks or whole with the same result.

A peak is a voxel, or a plateau of equal voxels, with no higher voxel beside it (corners count).
What a block can say of its voxels needs two voxels around it::

    block grown by 2   values are read
    block grown by 1   whether a voxel is as high as all beside it: a candidate
    block              whether a candidate has an equal voxel beside it that is none: then its
                       plateau has a higher voxel somewhere beside it, and is no peak

Candidates are few, so those of all blocks are put together and joined to plateaus in one go.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from instaseg.regions.groups import group_linked

HALO = 2
"""Voxels around a block that its candidates depend on."""


@dataclass(frozen=True)
class Candidates:
    """Voxels above a threshold that are at least as high as all voxels beside them.

    Parameters
    ----------
    voxels : (n, axes) int64
        Positions.
    values : (n,) float32
        Probabilities.
    open : (n,) bool
        Whether a voxel beside it is as high but no candidate.
    """

    voxels: NDArray[np.int64]
    values: NDArray[np.float32]
    open: NDArray[np.bool_]


def find_candidates(
    values: NDArray[np.float32], threshold: float, *, inner: Sequence[slice] | None = None
) -> Candidates:
    """Return the candidates of a block.

    Parameters
    ----------
    values : ([z,] y, x) float32
        The block with two voxels around it, as far as the volume goes.
    threshold : float
        Candidates are higher.
    inner : sequence of slice, optional
        The block in `values`; all of it if left out.

    Returns
    -------
    Candidates
        Those of the block, in raster order; voxels count from the begin of `values`.
    """
    part = tuple(inner) if inner is not None else (slice(None),) * values.ndim
    above = values > threshold
    if not above[part].any():
        none = np.zeros((0, values.ndim), np.int64)
        return Candidates(none, np.zeros(0, np.float32), np.zeros(0, bool))
    highest = ndimage.maximum_filter(values, size=3, mode="constant", cval=-np.inf)
    candidate = above & (values == highest)
    # the highest voxel beside an equal one that is no candidate is as high as the candidate
    others = np.where(candidate, -np.inf, values)
    beside = ndimage.maximum_filter(others, size=3, mode="constant", cval=-np.inf)
    chosen = np.zeros_like(candidate)
    chosen[part] = candidate[part]
    voxels = np.argwhere(chosen)
    return Candidates(voxels, values[chosen], (beside == values)[chosen])


@dataclass(frozen=True)
class Peaks:
    """Peaks of one channel.

    Parameters
    ----------
    voxels : (n, axes) int64
        Positions.
    values : (n,) float32
        Probabilities.
    """

    voxels: NDArray[np.int64]
    values: NDArray[np.float32]

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Peaks:
        return Peaks(self.voxels[chosen], self.values[chosen])


def join_plateaus(
    found: Sequence[Candidates], spacing: Sequence[float]
) -> tuple[Peaks, NDArray[np.intp]]:
    """Return one peak for each plateau without a higher voxel beside it.

    Parameters
    ----------
    found : sequence of Candidates
        Of all blocks, in any order; voxels count from the begin of the volume.
    spacing : sequence of float
        Size of a voxel per axis.

    Returns
    -------
    peaks : Peaks
        In raster order; of a plateau its voxel nearest to its centroid, the first of several.
    numbers : (n,) intp
        Which of the candidates, counted through `found`, each peak is.
    """
    voxels = np.concatenate([one.voxels for one in found])
    values = np.concatenate([one.values for one in found])
    is_open = np.concatenate([one.open for one in found])
    order = np.lexsort(voxels.T[::-1])
    voxels, values, is_open = voxels[order], values[order], is_open[order]
    plateau = _touching(voxels)
    count = int(plateau.max(initial=-1)) + 1
    sizes = np.bincount(plateau, minlength=count)
    physical = voxels * np.asarray(spacing, dtype=np.float64)
    centroids = np.stack(
        [np.bincount(plateau, axis, minlength=count) / sizes for axis in physical.T], axis=1
    )
    distance = ((physical - centroids[plateau]) ** 2).sum(axis=1)
    closed = np.bincount(plateau, is_open, minlength=count) == 0
    by_plateau = np.lexsort((np.arange(len(voxels)), np.round(distance, 9), plateau))
    firsts = by_plateau[np.flatnonzero(np.diff(plateau[by_plateau], prepend=-1))]
    kept = np.sort(firsts[closed])
    return Peaks(voxels[kept], values[kept]), order[kept]


def _touching(voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the groups 0, 1, 2 ... of voxels that touch, corners included.

    Voxels are in raster order.
    """
    if not len(voxels):
        return np.zeros(0, np.int64)
    first = voxels.min(axis=0) - 1
    # a rim of one voxel, so that no step leads from one line into the next
    shape = tuple(voxels.max(axis=0) - first + 2)
    flat = np.ravel_multi_index(tuple((voxels - first).T), shape)
    steps = [s for s in itertools.product((-1, 0, 1), repeat=len(shape)) if s > (0,) * len(shape)]
    pairs = []
    for step in steps:
        wanted = flat + np.ravel_multi_index([s + 1 for s in step], shape) - _centre(shape)
        place = np.minimum(np.searchsorted(flat, wanted), len(flat) - 1)
        there = np.flatnonzero(flat[place] == wanted)
        pairs.append(np.stack([there, place[there]], axis=1))
    return group_linked(np.concatenate(pairs), len(flat))


def _centre(shape: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index((1,) * len(shape), shape))


def suppress(peaks: Peaks, min_distance: float, spacing: Sequence[float]) -> NDArray[np.intp]:
    """Return which peaks are kept: the highest first, each unless one was kept near it.

    Parameters
    ----------
    peaks : Peaks
        In raster order, which decides between equally high ones.
    min_distance : float
        Physical distance; a peak at most this far from a kept one is dropped.
    spacing : sequence of float
        Size of a voxel per axis.

    Returns
    -------
    (m,) intp
        Ascending.
    """
    if not len(peaks.values):
        return np.zeros(0, np.intp)
    places = peaks.voxels * np.asarray(spacing, dtype=np.float64)
    tree = cKDTree(places)
    dropped = np.zeros(len(places), bool)
    kept = []
    for number in np.argsort(-peaks.values, kind="stable").tolist():
        if dropped[number]:
            continue
        kept.append(number)
        dropped[tree.query_ball_point(places[number], min_distance)] = True
    return np.sort(np.array(kept, dtype=np.intp))
