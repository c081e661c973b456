"""Thinning of thin, branching objects in large volumes to lines one voxel wide.

The method is that of Lee, Kashyap and Chu [1]_, voxel by voxel the same result as scikit-image's
``skeletonize``, but the work grows with the voxels of the object and not with its box: a neuron
that runs through a volume of 400x700x700 fills a thousandth of it. The object is a list of voxels
in raster order, and a volume in tiles of 8x8x8 of which only those it touches exist.

A voxel on a border is taken away if it is no end of a line and if neither the number of objects,
nor that of holes and cavities changes. All candidates of one of the six directions are found first
and then looked at again one after the other.

References
----------
.. [1] Lee, Kashyap and Chu, Building skeleton models via 3-D medial surface/axis thinning
   algorithms, 1994, https://doi.org/10.1006/cgip.1994.1042
"""

from __future__ import annotations

import itertools

import numba as nb
import numpy as np
from numpy.typing import NDArray

_OFFSETS = np.array([d for d in itertools.product((-1, 0, 1), repeat=3) if any(d)], np.int64)
"""Neighbours of a voxel; bit n of a neighbourhood stands for the n-th of them."""

_SIDES = np.array([[0, -1, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0]], np.int64)
"""Directions in the order in which the object is thinned."""


def _bit(offset: tuple[int, ...]) -> int:
    """Return the bit of a neighbour, 0 for the voxel itself."""
    if not any(offset):
        return 0
    return 1 << int(np.flatnonzero((np.array(offset) == _OFFSETS).all(axis=1))[0])


def _adjacent() -> NDArray[np.int64]:
    """Return, for every neighbour, those of the neighbours that touch it."""
    near = np.abs(_OFFSETS[:, None] - _OFFSETS[None]).max(axis=2) == 1
    return np.array([sum(1 << int(j) for j in np.flatnonzero(row)) for row in near], np.int64)


def _cells() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the neighbours that share each corner, edge and face of a voxel, and a sign for each.

    A corner, edge or face belongs to the voxel alone where none of them is there; it then goes away
    together with the voxel.
    """
    masks, signs = [], []
    for cell in itertools.product((-1, 0, 1), repeat=3):
        fixed = sum(map(abs, cell))
        if fixed:
            sides = [(0, c) if c else (0,) for c in cell]
            masks.append(sum(_bit(offset) for offset in itertools.product(*sides)))
            signs.append({1: 1, 2: -1, 3: 1}[fixed])
    return np.array(masks, np.int64), np.array(signs, np.int64)


_ADJACENT = _adjacent()
_CELL_MASKS, _CELL_SIGNS = _cells()


def thin_volume(voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which voxels of an object are left when it is thinned to lines.

    Parameters
    ----------
    voxels : ndarray of int64, (V, 3)
        The object's voxels z, y, x in raster order.

    Returns
    -------
    ndarray of bool, (V,)
        True for voxels of the lines; none is left of some small objects (a cube of 2x2x2).

    Examples
    --------
    >>> bar = np.argwhere(np.ones((3, 3, 7), bool))
    >>> bar[thin_volume(bar)].tolist()
    [[1, 1, 1], [1, 1, 2], [1, 1, 3], [1, 1, 4], [1, 1, 5]]
    """
    if len(voxels) == 0:
        return np.zeros(0, bool)
    # one voxel of space on every side
    inside = np.ascontiguousarray(voxels - voxels.min(axis=0) + 1)
    tiles = (inside.max(axis=0) + 1) // 8 + 1
    place = np.ravel_multi_index(tuple((inside // 8).T), tuple(tiles))
    used = np.unique(place)
    table = np.zeros(tuple(tiles.tolist()), np.int32)
    table.reshape(-1)[used] = np.arange(1, len(used) + 1)
    values = np.zeros((len(used) + 1, 512), np.uint8)
    return np.asarray(_thin(inside, table, values))


@nb.njit(cache=True, nogil=True, inline="always")
def _cell(z: int, y: int, x: int) -> int:
    """Return the place of a voxel in its tile."""
    return ((z & 7) << 6) | ((y & 7) << 3) | (x & 7)


@nb.njit(cache=True, nogil=True)
def _neighbourhood(
    table: NDArray[np.int32], values: NDArray[np.uint8], z: int, y: int, x: int
) -> int:
    """Return the neighbours of a voxel that belong to the object, one bit each."""
    found, bit = 0, 1
    for i in range(len(_OFFSETS)):
        a, b, c = z + _OFFSETS[i, 0], y + _OFFSETS[i, 1], x + _OFFSETS[i, 2]
        if values[table[a >> 3, b >> 3, c >> 3], _cell(a, b, c)]:
            found |= bit
        bit <<= 1
    return found


@nb.njit(cache=True, nogil=True)
def _keeps_euler(neighbours: int) -> bool:
    """Return whether corners - edges + faces - 1 that go away with the voxel are 0."""
    change = -1
    for i in range(len(_CELL_MASKS)):
        if neighbours & _CELL_MASKS[i] == 0:
            change += _CELL_SIGNS[i]
    return change == 0


@nb.njit(cache=True, nogil=True)
def _connected(neighbours: int) -> bool:
    """Return whether the neighbours hang together without the voxel."""
    reached, before = neighbours & -neighbours, 0
    while before != reached:
        before = reached
        for i in range(len(_ADJACENT)):
            if reached >> i & 1:
                reached |= neighbours & int(_ADJACENT[i])
    return reached == neighbours


@nb.njit(cache=True, nogil=True)
def _thin(
    voxels: NDArray[np.int64], table: NDArray[np.int32], values: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return which voxels are left; `voxels` leave a voxel of space on every side."""
    for first in range(len(voxels)):
        z, y, x = voxels[first]
        values[table[z >> 3, y >> 3, x >> 3], _cell(z, y, x)] = 1
    kept: NDArray[np.bool_] = np.ones(len(voxels), np.bool_)
    left = np.arange(len(voxels))
    candidates = np.empty(len(voxels), np.int64)
    unchanged = 0
    while unchanged < len(_SIDES):
        unchanged = 0
        for side in range(len(_SIDES)):
            found = 0
            for i in left:
                z, y, x = voxels[i]
                a, b, c = z + _SIDES[side, 0], y + _SIDES[side, 1], x + _SIDES[side, 2]
                if kept[i] and not values[table[a >> 3, b >> 3, c >> 3], _cell(a, b, c)]:
                    near = _neighbourhood(table, values, z, y, x)
                    # a single neighbour: the end of a line
                    if near & (near - 1) and _keeps_euler(near) and _connected(near):
                        candidates[found] = i
                        found += 1
            changed = False
            for i in candidates[:found]:
                z, y, x = voxels[i]
                if _connected(_neighbourhood(table, values, z, y, x)):
                    values[table[z >> 3, y >> 3, x >> 3], _cell(z, y, x)] = 0
                    kept[i] = False
                    changed = True
            unchanged += not changed
        left = left[kept[left]]
    return kept
