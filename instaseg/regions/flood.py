"""Seeded watershed that depends on the surface only, not on the order of its computation.

The cost of a path from a seed to a voxel is a pair: the highest surface value on it, both ends
included, and the length of the way since that height was reached. A step of length ``l``, 1 unless
voxels are not as long along all axes, to a voxel of height ``h`` extends a cost ``(m, k)`` to

    ``(m, k + l)`` if ``h <= m``, else ``(h, l)``;

a seed costs ``(its own height, 0)``, and costs are compared by height, then by length. The cost of
a voxel is the least over all paths to it; it takes the label of the neighbour over which that path
comes. Of several such neighbours, the one of least cost counts, then the smallest label.

Costs never shrink along a path and keep their order when extended, so the least costs are the one
solution of "each voxel's cost is the least extension of its neighbours'", and labels follow along
growing costs: see ``docs/decisions/0008-flooding-in-blocks.md``. Where no two heights are equal
this is what flooding from a priority queue gives (F. Meyer, Color image segmentation, Int. Conf. on
Image Processing 1992, pp. 303-306), and with equal heights plateaus are divided in the middle.

Where all steps are alike, voxels are flooded level by level, and each level in waves of one step,
without a priority queue; :mod:`instaseg.regions.flood_lengths` has the other case:

    heights   1 . 2 . 3 ......        one bucket of voxels for each height that occurs
    level 2   seeds of height 2, then the bucket and what lies lower behind it, step by step
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.regions.flood_lengths import grow_by_length, step_lengths, way_lengths

__all__ = ["Flooded", "Neighbours", "Sources", "flood", "flood_from", "step_lengths"]

Neighbours = Literal["faces", "all"]

_TOUCHED, _LABEL, _RANK = 0, 1, 2
"""What is known of a voxel: by which wave it was touched, its label, the rank of its height.

Touched is 0 where nothing was, then the wave that reached it first and, from its own wave ``w``
on, ``-2 - w``.
"""

_CLOSED = -1
"""In place of a wave: a voxel that is not flooded."""

_DIGIT = 11
"""Bits that a pass of the sort looks at."""


@dataclass(frozen=True)
class Sources:
    """Voxels from which a surface is flooded, whose costs and labels are known.

    Parameters
    ----------
    places : ndarray of int, (n,)
        Indices into the flattened array, each once.
    labels : ndarray of int32, (n,)
        Positive.
    heights : ndarray of float32, (n,)
        Highest surface value on the way from the seed.
    steps : ndarray of int32, (n,)
        Length of the way since that height was reached; 0 for a seed.
    """

    places: NDArray[np.integer]
    labels: NDArray[np.int32]
    heights: NDArray[np.float32]
    steps: NDArray[np.int32]


@dataclass(frozen=True)
class Flooded:
    """Labels of a flooded surface, and what they cost.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
        0 where no source reaches.
    heights : ndarray of float32, ([z,] y, x)
        Highest surface value on the way; infinite where no source reaches.
    steps : ndarray of int32, ([z,] y, x)
        Length of the way since that height was reached; 0 where no source reaches.
    """

    labels: NDArray[np.int32]
    heights: NDArray[np.float32]
    steps: NDArray[np.int32]


def flood(
    surface: NDArray[np.floating],
    seeds: NDArray[np.integer],
    *,
    mask: NDArray[np.bool_] | None = None,
    neighbours: Neighbours = "faces",
    lengths: Sequence[int] | None = None,
) -> NDArray[np.int32]:
    """Return for every voxel of the mask the seed that reaches it at least cost.

    Parameters
    ----------
    surface : ndarray of float32, ([z,] y, x)
        Finite heights; low ones are flooded first.
    seeds : ndarray of int, ([z,] y, x)
        Labels; 0 where there is no seed. They need not be connected.
    mask : ndarray of bool, ([z,] y, x), optional
        Where labels may grow; seeds outside are dropped. Everywhere by default.
    neighbours : {"faces", "all"}
        Whether voxels that share an edge or a corner are neighbours too.
    lengths : sequence of int, optional
        How long a step along each axis is, see :func:`step_lengths`; all alike by default.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels; 0 outside the mask and where no seed reaches.

    Examples
    --------
    >>> surface = np.array([[0, 1, 2, 3, 1, 0]], dtype=np.float32)
    >>> flood(surface, np.array([[1, 0, 0, 0, 0, 2]])).tolist()
    [[1, 1, 1, 2, 2, 2]]
    """
    inside = np.ones(surface.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    surface = np.ascontiguousarray(surface, dtype=np.float32)
    started = inside & (seeds > 0)
    places = np.flatnonzero(started)
    sources = Sources(
        places=places,
        labels=seeds[started].astype(np.int32),
        heights=surface.reshape(-1)[places],
        steps=np.zeros(len(places), np.int32),
    )
    empty = inside & ~started
    if lengths is not None and len(set(lengths)) > 1:
        return _by_length(surface, empty, sources, neighbours, lengths).labels
    voxels, *_ = _grow(surface, empty, sources, neighbours)
    return _without_rim(voxels[:, _LABEL], surface.shape)


def flood_from(
    surface: NDArray[np.float32],
    empty: NDArray[np.bool_],
    sources: Sources,
    *,
    neighbours: Neighbours = "faces",
    lengths: Sequence[int] | None = None,
) -> Flooded:
    """Return what grows from sources into the voxels that are `empty`, with costs.

    Parameters
    ----------
    surface : ndarray of float32, ([z,] y, x)
        Finite heights; those of sources and outside `empty` are not used.
    empty : ndarray of bool, ([z,] y, x)
        Voxels that are flooded; no source is among them.
    sources : Sources
        Keep their labels and costs.
    neighbours, lengths
        As for :func:`flood`.
    """
    surface = np.ascontiguousarray(surface, dtype=np.float32)
    if lengths is not None and len(set(lengths)) > 1:
        return _by_length(surface, empty, sources, neighbours, lengths)
    shape = surface.shape
    voxels, heights, steps = _grow(surface, empty, sources, neighbours)
    touched = _without_rim(voxels[:, _TOUCHED], shape)
    reached = touched < _CLOSED
    wave = np.where(reached, -2 - touched, 0)
    cost = np.where(reached, heights[wave], np.float32(np.inf)), np.where(reached, steps[wave], 0)
    for values, known in zip(cost, (sources.heights, sources.steps), strict=True):
        values.reshape(-1)[sources.places] = known
    return Flooded(_without_rim(voxels[:, _LABEL], shape), *cost)


def _grow(
    surface: NDArray[np.float32],
    empty: NDArray[np.bool_],
    sources: Sources,
    neighbours: Neighbours,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Flood an array; return its flattened voxels, with a rim of one, and the costs of waves."""
    shape = tuple(n + 2 for n in surface.shape)
    index = np.int32 if np.prod(shape, dtype=float) < 2**31 else np.int64
    offsets = _distances(_ways(len(shape), neighbours), shape).astype(index)
    places = np.flatnonzero(np.pad(empty, 1)).astype(index)
    entered = _with_rim(sources.places, np.array(surface.shape)).astype(index)
    # what is known of a voxel lies together in memory, where the kernel needs it together
    voxels = np.zeros((int(np.prod(shape)), 3), np.int32)
    voxels[:, _TOUCHED] = _CLOSED
    voxels[places, _TOUCHED] = 0
    voxels[entered, _LABEL] = sources.labels
    used = _beside_empty(voxels, entered, offsets)
    levels = _levels(surface[empty], sources.heights[used])
    voxels[places, _RANK] = levels.empty
    wave_rank, wave_steps = _flood(
        voxels, levels.begins, levels.by_cost(entered[used], sources.steps[used]), offsets
    )
    return voxels, levels.heights[wave_rank], wave_steps


@dataclass(frozen=True)
class _Levels:
    """Heights as whole numbers: the level of each empty voxel and of each source.

    Parameters
    ----------
    empty, sources : ndarray of int32, (n,)
        Levels, counted from the lowest.
    begins : ndarray of int64, (levels + 1,)
        How many empty voxels lie below each level.
    heights : ndarray of float32, (levels,)
    """

    empty: NDArray[np.int32]
    sources: NDArray[np.int32]
    begins: NDArray[np.int64]
    heights: NDArray[np.float32]

    def by_cost(
        self, places: NDArray[np.integer], steps: NDArray[np.int32]
    ) -> tuple[NDArray[np.integer], NDArray[np.int32], NDArray[np.int32]]:
        """Return places, levels and steps of the sources in the order of their costs.

        All of one cost are treated alike, so their order is of no account.
        """
        order = np.argsort(self.sources.astype(np.int64) << 32 | steps)
        return places[order], self.sources[order], steps[order]


def _levels(empty: NDArray[np.float32], sources: NDArray[np.float32]) -> _Levels:
    """Rank the heights of empty voxels and of sources together."""
    given = np.concatenate([empty, sources])
    ranks, highest = _ranked(_sortable(given))
    below = len(empty)
    begins = np.zeros(highest + 2, np.int64)
    np.cumsum(np.bincount(ranks[:below], minlength=highest + 1), out=begins[1:])
    heights = np.zeros(highest + 1, np.float32)
    heights[ranks] = given
    return _Levels(ranks[:below], ranks[below:], begins, heights)


def _by_length(
    surface: NDArray[np.float32],
    empty: NDArray[np.bool_],
    sources: Sources,
    neighbours: Neighbours,
    lengths: Sequence[int],
) -> Flooded:
    """Flood an array in which steps along the axes differ in length."""
    shape = tuple(n + 2 for n in surface.shape)
    ways = _ways(len(shape), neighbours)
    places = np.flatnonzero(np.pad(empty, 1))
    entered = _with_rim(sources.places, np.array(surface.shape))
    levels = _levels(surface[empty], sources.heights)
    ranks, known = (
        np.full(math.prod(shape), -1, np.int32),
        np.zeros((math.prod(shape), 5), np.int32),
    )
    known[:, 0] = -1
    ranks[places], known[entered, 4] = levels.empty, sources.labels
    by_cost, source_ranks, source_steps = levels.by_cost(entered, sources.steps)
    grow_by_length(
        known,
        ranks,
        levels.begins,
        (by_cost, source_ranks, source_steps.astype(np.int64)),
        (_distances(ways, shape), way_lengths(ways, tuple(lengths))),
    )
    level, length, _, _, labels = known.T
    reached = level >= 0
    heights = np.where(reached, levels.heights[level], np.float32(np.inf))
    cost = heights, np.where(reached, length, 0)
    costs = [_without_rim(part, surface.shape) for part in cost]
    for values, known in zip(costs, (sources.heights, sources.steps), strict=True):
        values.reshape(-1)[sources.places] = known
    return Flooded(_without_rim(labels, surface.shape), costs[0], costs[1])


@nb.njit(cache=True, nogil=True)
def _with_rim(places: Any, shape: Any) -> Any:
    """Return indices into a flattened array as those into the array with a rim of one voxel."""
    moved = np.empty(len(places), np.int64)
    for at in range(len(places)):
        rest, place, stride = np.int64(places[at]), np.int64(0), np.int64(1)
        for axis in range(len(shape) - 1, -1, -1):
            place += (rest % shape[axis] + 1) * stride
            rest //= shape[axis]
            stride *= shape[axis] + 2
        moved[at] = place
    return moved


def _without_rim(flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    core = (slice(1, -1),) * len(shape)
    return np.ascontiguousarray(flat.reshape([n + 2 for n in shape])[core])


def _ways(ndim: int, neighbours: Neighbours) -> NDArray[np.int64]:
    """Return the ways from a voxel to its neighbours, one step or none along each axis."""
    ways = np.array(list(itertools.product((-1, 0, 1), repeat=ndim)))
    number = np.abs(ways).sum(axis=1)
    return np.asarray(ways[number == 1 if neighbours == "faces" else number > 0])


def _distances(ways: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the distances of a voxel's neighbours in the flattened array."""
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    return np.asarray(ways @ strides, dtype=np.int64)


def _sortable(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return whole numbers in the order of finite values; -0 and 0 are equal."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


@nb.njit(cache=True, nogil=True)
def _beside_empty(voxels: Any, places: Any, offsets: Any) -> Any:
    """Return which places have an empty neighbour."""
    found = np.zeros(len(places), np.bool_)
    for at in range(len(places)):
        for offset in offsets:
            if voxels[places[at] + offset, _TOUCHED] == 0:
                found[at] = True
                break
    return found


@nb.njit(cache=True, nogil=True)
def _ranked(keys: Any) -> Any:
    """Return the ranks of keys, from 0 without gaps, and the highest rank."""
    n, values = len(keys), 1 << _DIGIT
    order, other = np.arange(n).astype(np.int32), np.empty(n, np.int32)
    for shift in range(0, 32, _DIGIT):
        ends = np.zeros(values + 1, np.int64)
        for key in keys:
            ends[((key >> shift) & (values - 1)) + 1] += 1
        for digit in range(values):
            ends[digit + 1] += ends[digit]
        for i in order:
            digit = (keys[i] >> shift) & (values - 1)
            other[ends[digit]] = i
            ends[digit] += 1
        order, other = other, order
    ranks, rank = np.zeros(n, np.int32), 0
    for at in range(n):
        if at and keys[order[at]] != keys[order[at - 1]]:
            rank += 1
        ranks[order[at]] = rank
    return ranks, rank


@nb.njit(cache=True, nogil=True)
def _flood(voxels: Any, begins: Any, sources: Any, offsets: Any) -> Any:
    """Flood level by level, wave by wave; return rank and steps of every wave.

    `voxels` holds what is known of each voxel; `begins` where each rank's bucket begins, and the
    number of voxels in all; `sources` places, ranks and steps by ascending cost.
    """
    places, ranks, source_steps = sources
    bucket, ends = np.empty(begins[-1], offsets.dtype), begins[:-1].copy()
    queue = np.empty(begins[-1] + len(places), offsets.dtype)
    wave_rank, wave_steps = np.zeros(len(queue) + 1, np.int32), np.zeros(len(queue) + 1, np.int32)
    wave, source, begin, end = 0, 0, 0, 0
    for level in range(len(begins) - 1):
        steps = 0
        while True:
            # the wave: what the one before reached, sources of its cost, the level's bucket
            while source < len(places) and ranks[source] == level and source_steps[source] == steps:
                queue[end] = places[source]
                source, end = source + 1, end + 1
            if steps == 1:
                for at in range(begins[level], ends[level]):
                    queue[end] = bucket[at]
                    end += 1
            if begin < end:
                wave += 1
                wave_rank[wave], wave_steps[wave] = level, steps
                stop = _spread(queue, (begin, end), (wave, level), voxels, (bucket, ends), offsets)
                begin, end = end, stop
                steps += 1
            elif steps == 0 and ends[level] > begins[level]:
                steps = 1
            elif source < len(places) and ranks[source] == level:
                steps = source_steps[source]
            else:
                break
    return wave_rank[: wave + 1], wave_steps[: wave + 1]


@nb.njit(cache=True, nogil=True)
def _spread(queue: Any, part: Any, now: Any, voxels: Any, buckets: Any, offsets: Any) -> Any:
    """Reach the neighbours of a wave: higher ones wait in their bucket, others are next."""
    bucket, ends = buckets
    wave, level = now
    stop = part[1]
    for at in range(part[0], part[1]):
        voxel = queue[at]
        label = voxels[voxel, _LABEL]
        voxels[voxel, _TOUCHED] = -2 - wave
        for offset in offsets:
            other = voxel + offset
            touched = voxels[other, _TOUCHED]
            if touched == 0:
                voxels[other, _TOUCHED], voxels[other, _LABEL] = wave, label
                rank = voxels[other, _RANK]
                if rank > level:
                    bucket[ends[rank]] = other
                    ends[rank] += 1
                else:
                    queue[stop] = other
                    stop += 1
            elif touched == wave and label < voxels[other, _LABEL]:
                voxels[other, _LABEL] = label
    return stop
