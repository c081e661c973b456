"""Flooding where steps along the axes have different lengths; see :mod:`instaseg.regions.flood`.

Lengths are whole numbers, so sums are exact. Within a level, voxels wait in a ring of lists, one
for each length up to the longest step (R. B. Dial, Algorithm 360, Communications of the ACM 12,
1969, doi:10.1145/363269.363610)::

    length now   7       a step of 2   a step of 5
    lists       [7]  8   [9]  10  11   [12]  13           the list after the last is the first
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

_NOTHING = -1
_LEVEL, _LENGTH, _VIA_LEVEL, _VIA_LENGTH, _LABEL = 0, 1, 2, 3, 4
"""What is known of a voxel: its cost, the cost of the neighbour over which it is reached, its
label; of two ways the one that is less in this order counts."""


@nb.njit(cache=True, nogil=True)
def grow_by_length(known: Any, ranks: Any, begins: Any, sources: Any, steps: Any) -> None:
    """Flood level by level, and each level by length.

    Parameters
    ----------
    known : ndarray of int32, (n, 5)
        Flattened array with a rim, filled in: level, length, those of the neighbour before, label.
        The level is -1 where no source reaches; the labels of sources are set.
    ranks : ndarray of int32, (n,)
        Rank of the height of each voxel that is flooded; -1 of all others.
    begins : ndarray of int64, (levels + 1,)
        Where the voxels of each rank begin in a list of all voxels that are flooded.
    sources : tuple of ndarray
        Places, ranks and lengths by ascending cost.
    steps : tuple of ndarray
        Distances of a voxel's neighbours in the flattened array, and how long the way there is.
    """
    places, source_ranks, source_lengths = sources
    waiting, ends = np.empty(begins[-1], np.int64), begins[:-1].copy()
    # a voxel is in one list at most; links are to those before and behind it
    heads = np.full(steps[1].max() + 1, _NOTHING, np.int64)
    links = np.full((len(known), 2), _NOTHING, np.int64)
    lists = (heads, links, waiting, ends)
    source = 0
    for level in range(len(begins) - 1):
        now, inside = 0, ends[level] - begins[level]
        for at in range(begins[level], ends[level]):
            _link(waiting[at], known[waiting[at], _LENGTH], lists)
        while inside or (source < len(places) and source_ranks[source] == level):
            if not inside:
                now = source_lengths[source]
            while (
                source < len(places)
                and source_ranks[source] == level
                and source_lengths[source] == now
            ):
                known[places[source], _LEVEL], known[places[source], _LENGTH] = level, now
                _link(places[source], now, lists)
                source, inside = source + 1, inside + 1
            # no step is shorter than 1, so nothing is added to the list that is worked on
            slot = now % len(heads)
            while heads[slot] != _NOTHING:
                voxel = heads[slot]
                _unlink(voxel, now, lists)
                ranks[voxel] = -1  # it is not reached again
                inside += _spread(voxel, known, ranks, steps, lists) - 1
            now += 1


@nb.njit(cache=True, nogil=True)
def _spread(voxel: Any, known: Any, ranks: Any, steps: Any, lists: Any) -> int:
    """Reach the neighbours of a voxel; return how many more voxels are in the lists of lengths."""
    offsets, lengths = steps
    waiting, ends = lists[2], lists[3]
    level, now = np.int64(known[voxel, _LEVEL]), np.int64(known[voxel, _LENGTH])
    label = np.int64(known[voxel, _LABEL])
    more = 0
    for way in range(len(offsets)):
        other = voxel + offsets[way]
        rank = np.int64(ranks[other])
        if rank < 0:
            continue
        reached = max(rank, level)
        length = (now if rank <= level else 0) + np.int64(lengths[way])
        first = known[other, _LEVEL] < 0
        if not first and not _is_less((reached, length, level, now, label), known[other]):
            continue
        shorter = first or length < known[other, _LENGTH]
        if reached > level:
            if first:
                waiting[ends[reached]] = other
                ends[reached] += 1
        elif shorter:
            if not first:
                _unlink(other, known[other, _LENGTH], lists)
            _link(other, length, lists)
            more += first
        known[other, _LEVEL], known[other, _LENGTH] = reached, length
        known[other, _VIA_LEVEL], known[other, _VIA_LENGTH] = level, now
        known[other, _LABEL] = label
    return more


@nb.njit(cache=True, nogil=True)
def _is_less(new: Any, old: Any) -> bool:
    for part in range(5):
        if new[part] != old[part]:
            return bool(new[part] < old[part])
    return False


@nb.njit(cache=True, nogil=True)
def _link(voxel: Any, length: Any, lists: Any) -> None:
    """Put a voxel at the head of the list of a length."""
    heads, links, _, _ = lists
    slot = length % len(heads)
    after = heads[slot]
    links[voxel, 0], links[voxel, 1] = _NOTHING, after
    if after != _NOTHING:
        links[after, 0] = voxel
    heads[slot] = voxel


@nb.njit(cache=True, nogil=True)
def _unlink(voxel: Any, length: Any, lists: Any) -> None:
    """Take a voxel out of the list of its length."""
    heads, links, _, _ = lists
    before, after = links[voxel]
    if before == _NOTHING:
        heads[length % len(heads)] = after
    else:
        links[before, 1] = after
    if after != _NOTHING:
        links[after, 0] = before


def step_lengths(spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return the lengths of steps along each axis, in sixteenths of the shortest, divided out.

    Examples
    --------
    >>> step_lengths((1.0, 1.0)), step_lengths((4.0, 1.0, 1.0)), step_lengths((1.75, 0.8, 0.8))
    ((1, 1), (4, 1, 1), (35, 16, 16))
    """
    whole = np.rint(16 * np.array(spacing) / min(spacing)).astype(np.int64)
    return tuple(int(n) for n in whole // np.gcd.reduce(whole))


def way_lengths(ways: NDArray[np.integer], lengths: tuple[int, ...]) -> NDArray[np.int32]:
    """Return how long ways ``(n, axes)`` of one step along some axes are; 1 where all are alike."""
    if len(set(lengths)) == 1:
        return np.ones(len(ways), np.int32)
    away = np.linalg.norm(ways * np.array(lengths), axis=1)
    return np.asarray(np.rint(away), np.int32)
