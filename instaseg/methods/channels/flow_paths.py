"""Instances from flows: voxels follow the flow, and those that end together belong together.

Every voxel of the mask is a particle that takes steps along the flow, which is interpolated between
voxels. How many particles end at each voxel makes a map of hits; its peaks are the instances, and
each particle belongs to the peak that its end is flooded from::

    flow, mask --follow--> ends --hits--> peaks --flood over hits--> instances

The method is that of Cellpose (Stringer, Wang, Michaelos and Pachitariu, Nature Methods 18 (2021),
https://doi.org/10.1038/s41592-020-01018-x, Methods, "Gradient tracking"); ends are grouped by
flooding instead of by growing windows around peaks, so that the result does not depend on an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.blockwise.components import local_labels
from instaseg.regions.flood import flood

_LOOK_BACK = 8
"""Steps after which a particle that came nowhere stops; sinks make particles go to and fro."""
_STANDS = 0.5
"""Voxels that count as nowhere."""
_PEAK = 5
"""Side in voxels of the box in which a peak of hits is the largest."""
_GATHER = 3
"""Side in voxels of the box whose ends are counted together."""
PEAK_HALO = _GATHER // 2 + _PEAK // 2
"""Voxels around a voxel whose hits decide whether it is a peak."""


def follow(
    flow: NDArray[np.floating], mask: NDArray[np.bool_], *, steps: int, spacing: Sequence[float]
) -> NDArray[np.int64]:
    """Return where the voxels of a mask end after some steps along the flow.

    Parameters
    ----------
    flow : ndarray of float, (ndim, [z,] y, x)
        Direction in physical space, one component per axis in the order of the axes; a vector of
        length 1 is a step of the smallest side of a voxel. Outside the mask it counts as 0.
    mask : ndarray of bool, ([z,] y, x)
        Voxels that are followed.
    steps : int
        Most steps; a particle that does not get on stops earlier.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.

    Returns
    -------
    ndarray of int64, (n,)
        For each voxel of the mask in raster order, the index of the voxel nearest its end in the
        flattened array.

    Examples
    --------
    >>> flow = np.array([[[0, 0, 0, 0]], [[1, 1, 0, -1]]], dtype=np.float32)
    >>> follow(flow, np.ones((1, 4), bool), steps=10, spacing=(1, 1)).tolist()
    [2, 2, 2, 2]
    """
    field = field_of(flow, mask, spacing)
    particles = particles_at(mask)
    move(particles, field, (0,) * mask.ndim, mask.shape, steps=steps)
    return ends_of(particles, mask.shape)


def field_of(
    flow: NDArray[np.floating], mask: NDArray[np.bool_], spacing: Sequence[float]
) -> NDArray[np.float32]:
    """Return what :func:`move` follows, in voxels: ``(z, y, x, 3)``, 0 outside the mask.

    Parameters
    ----------
    flow, mask, spacing
        As for :func:`follow`.
    """
    lift = (1,) * (3 - mask.ndim)
    scale = np.array([min(spacing) / one for one in spacing], np.float32)
    field = np.zeros((3, *lift, *mask.shape), np.float32)
    inside = np.where(mask, flow, 0).astype(np.float32)
    axes = (slice(None), *(None,) * mask.ndim)
    field[3 - mask.ndim :] = (inside * scale[axes]).reshape(mask.ndim, *lift, *mask.shape)
    # components side by side: one voxel is one place in memory
    return np.ascontiguousarray(np.moveaxis(field, 0, -1))


@dataclass(frozen=True)
class Particles:
    """Particles under way; :func:`move` changes the arrays.

    A place is a voxel and the way from its centre towards the next one along each axis, so that
    particles take the same way, to the last bit, wherever an array begins.

    Parameters
    ----------
    voxels : ndarray of int64, (n, 3)
        Of the volume; z is 0 in images.
    parts : ndarray of float32, (n, 3)
        From 0 to 1.
    old_voxels, old_parts : ndarray
        The place when it was last looked at whether the particle gets on.
    steps : ndarray of int64, (n,)
        Steps taken.
    """

    voxels: NDArray[np.int64]
    parts: NDArray[np.float32]
    old_voxels: NDArray[np.int64]
    old_parts: NDArray[np.float32]
    steps: NDArray[np.int64]


def particles_at(mask: NDArray[np.bool_], begin: Sequence[int] = ()) -> Particles:
    """Return a particle at rest on each voxel of a mask, in raster order.

    Parameters
    ----------
    mask : ndarray of bool, ([z,] y, x)
    begin : sequence of int, optional
        The voxel of the volume where the mask begins; the first one where it is left out.
    """
    voxels = np.zeros((np.count_nonzero(mask), 3), np.int64)
    voxels[:, 3 - mask.ndim :] = np.argwhere(mask) + np.array(begin or (0,) * mask.ndim)
    parts = np.zeros(voxels.shape, np.float32)
    return Particles(voxels, parts, voxels.copy(), parts.copy(), np.zeros(len(voxels), np.int64))


def move(
    particles: Particles,
    field: NDArray[np.float32],
    begin: Sequence[int],
    shape: Sequence[int],
    *,
    steps: int,
) -> NDArray[np.bool_]:
    """Move particles as far as they come; return which of them stand.

    Others have left what the field covers, and go on in another one.

    Parameters
    ----------
    particles : Particles
        Their arrays are changed.
    field : ndarray of float32, (z, y, x, 3)
        What :func:`field_of` gives for a part of the volume.
    begin : sequence of int
        The voxel of the volume where this part begins.
    shape : sequence of int
        Of the volume, ``([z,] y, x)``.
    steps : int
        Most steps.
    """
    lift = 3 - len(shape)
    return np.asarray(
        _move(
            (particles.voxels, particles.parts),
            (particles.old_voxels, particles.old_parts, particles.steps),
            field,
            np.array([0] * lift + list(begin), np.int64),
            np.array([1] * lift + list(shape), np.int64),
            steps,
        ),
        dtype=bool,
    )


def ends_of(particles: Particles, shape: Sequence[int]) -> NDArray[np.int64]:
    """Return the voxel nearest each particle, as an index into the flattened volume."""
    nearest = particles.voxels + (particles.parts >= np.float32(0.5))
    ends = np.ravel_multi_index(tuple(nearest[:, 3 - len(shape) :].T), tuple(shape))
    return np.asarray(ends, dtype=np.int64)


@nb.njit(cache=True, nogil=True, fastmath=False)
def _move(places: Any, looked: Any, field: Any, begin: Any, shape: Any, most: int) -> Any:
    voxels, parts = places
    old_voxels, old_parts, steps = looked
    (zb, yb, xb), (zn, yn, xn) = begin, shape
    # voxels from which on the field does not cover the next one, with which it is interpolated
    ze, ye, xe = _covered(field.shape[:3], begin, shape)
    stands = np.zeros(len(voxels), np.bool_)
    for i in range(len(voxels)):
        z, y, x = voxels[i]
        fz, fy, fx = parts[i]
        while steps[i] < most and zb <= z < ze and yb <= y < ye and xb <= x < xe:
            dz, dy, dx = _between(field, z - zb, y - yb, x - xb, fz, fy, fx)
            z, fz = _step(z, fz + dz, zn)
            y, fy = _step(y, fy + dy, yn)
            x, fx = _step(x, fx + dx, xn)
            steps[i] += 1
            if steps[i] % _LOOK_BACK == 0:
                far = abs(z - old_voxels[i, 0] + (fz - old_parts[i, 0]))
                far += abs(y - old_voxels[i, 1] + (fy - old_parts[i, 1]))
                far += abs(x - old_voxels[i, 2] + (fx - old_parts[i, 2]))
                old_voxels[i] = z, y, x
                old_parts[i] = fz, fy, fx
                if far < _STANDS:
                    stands[i] = True
                    break
        voxels[i] = z, y, x
        parts[i] = fz, fy, fx
        stands[i] = stands[i] or steps[i] >= most
    return stands


@nb.njit(cache=True, nogil=True)
def _covered(field: Any, begin: Any, shape: Any) -> Any:
    """Return the voxel after the last that a field covers with the one behind, per axis."""
    ends = np.empty(3, np.int64)
    for axis in range(3):
        ends[axis] = begin[axis] + field[axis]
        if ends[axis] < shape[axis]:
            ends[axis] -= 1
    return ends[0], ends[1], ends[2]


@nb.njit(cache=True, nogil=True, inline="always")
def _step(voxel: int, part: Any, size: int) -> Any:
    """Return a place along an axis, not beyond the centres of the first and the last voxel."""
    whole = np.floor(part)
    voxel, part = voxel + int(whole), part - whole
    if part >= np.float32(1):  # the difference was rounded up
        voxel, part = voxel + 1, np.float32(0)
    if voxel < 0:
        return 0, np.float32(0)
    if voxel >= size - 1:
        return size - 1, np.float32(0)
    return voxel, part


@nb.njit(cache=True, nogil=True, inline="always")
def _between(field: Any, z0: int, y0: int, x0: int, fz: Any, fy: Any, fx: Any) -> Any:
    """Return the flow between voxels, linear along each axis."""
    depth, height, width, _ = field.shape
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dz, dy, dx = np.float32(0), np.float32(0), np.float32(0)
    one = np.float32(1)
    for up in range(2):
        wz = fz if up else one - fz
        if wz == 0:
            continue
        zz = min(z0 + up, depth - 1)
        a, b = wz * (one - fy) * (one - fx), wz * (one - fy) * fx
        c, d = wz * fy * (one - fx), wz * fy * fx
        dz += a * field[zz, y0, x0, 0] + b * field[zz, y0, x1, 0]
        dz += c * field[zz, y1, x0, 0] + d * field[zz, y1, x1, 0]
        dy += a * field[zz, y0, x0, 1] + b * field[zz, y0, x1, 1]
        dy += c * field[zz, y1, x0, 1] + d * field[zz, y1, x1, 1]
        dx += a * field[zz, y0, x0, 2] + b * field[zz, y0, x1, 2]
        dx += c * field[zz, y1, x0, 2] + d * field[zz, y1, x1, 2]
    return dz, dy, dx


def count_hits(ends: NDArray[np.int64], shape: Sequence[int]) -> NDArray[np.int32]:
    """Return how many particles end at each voxel of an array of `shape`."""
    size = int(np.prod(shape))
    return np.bincount(ends, minlength=size).astype(np.int32).reshape(tuple(shape))


def gather(hits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the hits in the box of 3 voxels a side around every voxel."""
    from scipy.ndimage import convolve1d

    found = hits
    for axis in range(hits.ndim):
        ones = np.ones(_GATHER, np.int32)
        found = convolve1d(found, ones, axis=axis, mode="constant", output=np.int32)
    return found


def peaks(gathered: NDArray[np.int32], least: int) -> NDArray[np.bool_]:
    """Return the voxels of most hits in a box of 5 voxels a side, where there are enough.

    Parameters
    ----------
    gathered : ndarray of int32, ([z,] y, x)
        What :func:`gather` gives.
    least : int
        Hits a peak must have.
    """
    from scipy.ndimage import maximum_filter

    largest = maximum_filter(gathered, size=_PEAK, mode="constant")
    return np.asarray((gathered == largest) & (gathered >= least), dtype=bool)


def group_ends(hits: NDArray[np.int32], least: int) -> NDArray[np.int32]:
    """Return the instance whose particles end at each voxel.

    Parameters
    ----------
    hits : ndarray of int32, ([z,] y, x)
        Particles that end at each voxel.
    least : int
        Particles that must end around a voxel to make it the peak of an instance.

    Returns
    -------
    ndarray of int32, ([z,] y, x)
        Labels; 0 where no way over voxels with hits leads to a peak.
    """
    gathered = gather(hits)
    seeds = local_labels(peaks(gathered, least)).astype(np.int32)
    return flood(-gathered.astype(np.float32), seeds, mask=gathered > 0, neighbours="all")


def label_ends(
    ends: NDArray[np.int64], mask: NDArray[np.bool_], groups: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the instance of every voxel of a mask: that of the place where it ends.

    Parameters
    ----------
    ends : ndarray of int64, (n,)
        What :func:`follow` gives for the mask.
    mask : ndarray of bool, ([z,] y, x)
    groups : ndarray of int32, ([z,] y, x)
        What :func:`group_ends` gives.
    """
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = groups.reshape(-1)[ends]
    return labels


def flow_errors(
    labels: NDArray[np.int32], flow: NDArray[np.floating], own: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return for labels 0, 1, 2 ... the mean squared difference of two flows; 0 for label 0.

    Parameters
    ----------
    labels : ndarray of int32, ([z,] y, x)
    flow, own : ndarray of float, (ndim, [z,] y, x)
        The predicted flow, and that of the labels themselves.
    """
    squared = np.zeros(labels.shape, np.float64)
    for predicted, true in zip(flow, own, strict=True):
        squared += (predicted.astype(np.float64) - true) ** 2
    flat = labels.reshape(-1)
    count = np.bincount(flat)
    errors = np.bincount(flat, weights=squared.reshape(-1)) / np.maximum(count, 1)
    errors[:1] = 0
    return errors
