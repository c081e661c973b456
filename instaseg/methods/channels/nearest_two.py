"""The two nearest instances of every voxel, exactly and in one pass along each axis.

For ``N`` instances this replaces ``N`` distance transforms. What is kept at a voxel are the two
nearest distinct labels along the axes seen so far; no other label of that line can be among the two
nearest of any voxel later, since two are nearer from everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.regions.distance import inclusive


@dataclass(frozen=True)
class NearestTwo:
    """Distances in physical units, infinite where there is no such instance within reach.

    Parameters
    ----------
    first : ndarray of float32, ([z,] y, x)
        To the nearest instance; 0 inside of one.
    second : ndarray of float32, ([z,] y, x)
        To the nearest one other than that.
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]


def nearest_two(
    labels: NDArray[np.int32], spacing: Sequence[float], *, most: float = np.inf
) -> NearestTwo:
    """Return the distances to the two nearest instances.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
        0 is background.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    most : float
        Instances further away are not seen.
    """
    owner = np.stack([labels, np.zeros_like(labels)])
    squared = np.full(owner.shape, np.inf)
    squared[0][labels > 0] = 0.0
    limit = inclusive(most) ** 2
    for axis, size in enumerate(spacing):
        moved = np.ascontiguousarray(np.moveaxis(owner, axis + 1, -1))
        away = np.ascontiguousarray(np.moveaxis(squared, axis + 1, -1))
        n = moved.shape[-1]
        new_owner, new_away = np.empty_like(moved), np.empty_like(away)
        _along(
            moved.reshape(2, -1, n),
            away.reshape(2, -1, n),
            float(size),
            limit,
            new_owner.reshape(2, -1, n),
            new_away.reshape(2, -1, n),
        )
        owner = np.moveaxis(new_owner, -1, axis + 1)
        squared = np.moveaxis(new_away, -1, axis + 1)
    first, second = np.sqrt(squared).astype(np.float32)
    return NearestTwo(np.ascontiguousarray(first), np.ascontiguousarray(second))


@nb.njit(cache=True, nogil=True)
def _along(
    owner: Any, squared: Any, size: float, limit: float, new_owner: Any, new_squared: Any
) -> None:
    """Take the two nearest of each line, from the two of each of its places."""
    lines, n = owner.shape[1:]
    for line in range(lines):
        owners, away = owner[:, line], squared[:, line]
        for i in range(n):
            two = owners[0, i], away[0, i], owners[1, i], away[1, i]
            for step in range(1, n):
                along = (step * size) ** 2
                if along >= two[3] or along > limit:
                    break
                for j in (i - step, i + step):
                    if 0 <= j < n:
                        two = _with_those_at(j, two, owners, away, along, limit)
            new_owner[0, line, i], new_squared[0, line, i] = two[0], two[1]
            new_owner[1, line, i], new_squared[1, line, i] = two[2], two[3]


@nb.njit(cache=True, nogil=True, inline="always")
def _with_those_at(j: int, two: Any, owners: Any, away: Any, along: float, limit: float) -> Any:
    """Return the two nearest with those of place `j` of a line, which is `along` away, squared."""
    for k in range(2):
        if away[k, j] + along <= limit:
            two = _nearest(two, owners[k, j], away[k, j] + along)
    return two


@nb.njit(cache=True, nogil=True, inline="always")
def _nearest(two: Any, label: Any, away: float) -> Any:
    """Return the nearest label, how far away, the second nearest, how far, with one more label."""
    first, first_away, second, second_away = two
    if label == 0 or away >= second_away:
        return two
    if label == first:
        return first, min(first_away, away), second, second_away
    if away < first_away:
        return label, away, first, first_away
    return first, first_away, label, away
