"""Distances between voxels' centres in physical units, and the nearest labelled voxel.

Euclidean and exact: nothing is approximated by steps of a chamfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import edt
import numba as nb
import numpy as np
from numpy.typing import NDArray

Border = Literal["open", "wall"]

_LINES = 16
"""Lines of a pass along an axis that are worked on together."""


def distance_inside(
    mask: NDArray[np.bool_], spacing: Sequence[float], *, border: Border = "open"
) -> NDArray[np.float32]:
    """Return the distance of every True voxel to the nearest False one; 0 elsewhere.

    Parameters
    ----------
    mask : ndarray of bool, ([z,] y, x)
        Any number of regions; they are not told apart.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    border : {"open", "wall"}
        What lies beyond the array: nothing, or False voxels.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        Physical units; infinite where the array has no False voxel and the border is open.

    Examples
    --------
    >>> distance_inside(np.array([[True, True, False]]), (1, 0.5)).tolist()
    [[1.0, 0.5, 0.0]]
    """
    return _distances(np.asarray(mask, dtype=bool), spacing, border)


def distance_per_label(
    labels: NDArray[np.integer], spacing: Sequence[float], *, border: Border = "open"
) -> NDArray[np.float32]:
    """Return the distance of every labelled voxel to the nearest one of another label or none.

    All labels are measured in one pass.

    Parameters
    ----------
    labels : ndarray of int, ([z,] y, x)
        0 is background.
    spacing, border
        As for :func:`distance_inside`.

    Returns
    -------
    ndarray of float32, ([z,] y, x)
        Physical units, 0 in the background; infinite where a label fills the whole array and the
        border is open.
    """
    return _distances(labels, spacing, border)


def _distances(
    values: NDArray[Any], spacing: Sequence[float], border: Border
) -> NDArray[np.float32]:
    if not values.size:
        return np.zeros(values.shape, np.float32)
    found: NDArray[np.float32] = edt.edt(
        np.ascontiguousarray(values),
        anisotropy=tuple(float(one) for one in spacing),
        black_border=border == "wall",
        parallel=1,
    )
    return found


def nearest(
    labels: NDArray[np.integer], spacing: Sequence[float], *, most: float | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return for every voxel the label of the nearest labelled voxel, and how far that is.

    Of labels that are equally near, the smallest. What a voxel gets depends on the labelled voxels
    around it only, so a part of an array that reaches `most` around a voxel gives the same.

    Parameters
    ----------
    labels : ndarray of int, ([z,] y, x)
        0 is background.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    most : float, optional
        Voxels further away than this, in physical units, keep label 0; any by default.

    Returns
    -------
    grown : ndarray of int32, ([z,] y, x)
        Labels; labelled voxels keep theirs.
    distance : ndarray of float32, ([z,] y, x)
        Physical units; infinite where `grown` is 0.

    Examples
    --------
    >>> grown, distance = nearest(np.array([[5, 0, 0, 0, 3]]), (1, 1), most=2)
    >>> grown.tolist(), distance.tolist()
    ([[5, 5, 3, 3, 3]], [[0.0, 1.0, 2.0, 1.0, 0.0]])
    """
    grown = np.array(labels, dtype=np.int32, order="C")
    squared = np.where(grown > 0, 0.0, np.inf)
    limit = np.inf if most is None else inclusive(most) ** 2
    for axis in reversed(range(grown.ndim)):
        ahead = int(np.prod(grown.shape[:axis], dtype=np.int64))
        lines = (ahead, grown.shape[axis], -1) if grown.size else (0, grown.shape[axis], 0)
        _pass(squared.reshape(lines), grown.reshape(lines), float(spacing[axis]), limit)
    far = squared > limit
    grown[far], squared[far] = 0, np.inf
    return grown, np.sqrt(squared).astype(np.float32)


def inclusive(radius: float) -> float:
    """Return a radius that includes voxels at exactly this distance, however sums are rounded."""
    return radius * (1 + 3e-6)


@nb.njit(cache=True, nogil=True)
def _pass(squared: Any, labels: Any, spacing: float, limit: float) -> None:
    """Replace what lines along axis 1 hold by the least over each line of value + distance².

    The least over one axis after the other is the least over all voxels, since adding a distance
    keeps the order; sums are always formed in the same order, so no rounding depends on where the
    array begins.
    """
    ahead, size, behind = squared.shape
    before = np.empty((size, _LINES), np.float64)
    named = np.empty((size, _LINES), np.int32)
    best = np.empty(_LINES, np.float64)
    label = np.empty(_LINES, np.int32)
    for a in range(ahead):
        for begin in range(0, behind, _LINES):
            n = min(_LINES, behind - begin)
            for i in range(size):
                for j in range(n):
                    before[i, j] = squared[a, i, begin + j]
                    named[i, j] = labels[a, i, begin + j]
            for i in range(size):
                for j in range(n):
                    best[j], label[j] = before[i, j], named[i, j]
                _look_along(before, named, i, n, spacing, limit, best, label)
                for j in range(n):
                    squared[a, i, begin + j] = best[j]
                    labels[a, i, begin + j] = label[j]


@nb.njit(cache=True, nogil=True)
def _look_along(
    before: Any, named: Any, i: int, n: int, spacing: float, limit: float, best: Any, label: Any
) -> None:
    """Look at the places around place `i` of `n` lines until none can be nearer."""
    size = before.shape[0]
    for k in range(1, max(i, size - 1 - i) + 1):
        away = (k * spacing) * (k * spacing)
        worst = best[0]
        for j in range(1, n):
            worst = max(worst, best[j])
        if away > worst or away > limit:
            return
        for other in (i - k, i + k):
            if 0 <= other < size:
                for j in range(n):
                    sum_ = before[other, j] + away
                    if sum_ < best[j] or (
                        sum_ == best[j] and sum_ < np.inf and named[other, j] < label[j]
                    ):
                        best[j], label[j] = sum_, named[other, j]
