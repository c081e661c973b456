"""Where voxels of a crop are read: rotation, zoom, shear, elastic deformation, misalignment.

All of them give one field of positions, so that an image is interpolated once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from instaseg.data.config import ElasticSettings, MisalignmentSettings
from instaseg.errors import DataError
from instaseg.geometry import Box


def deform(image: NDArray[Any], coordinates: NDArray[np.float32], order: int) -> NDArray[Any]:
    """Return `image` sampled at `coordinates`.

    Parameters
    ----------
    image : ndarray
        Its last axes are spatial; leading ones are channels.
    coordinates : ndarray of float32
        Positions in voxels, ``(d, *shape)``.
    order : {0, 1}
        Nearest voxel or linear interpolation.

    Returns
    -------
    ndarray
        Leading axes of `image`, then `shape`; same dtype.
    """
    ndim = coordinates.shape[0]
    channels = image.reshape(-1, *image.shape[image.ndim - ndim :])
    sampled = [
        ndimage.map_coordinates(c, coordinates, order=order, mode="nearest", prefilter=False)
        if c.any()
        else np.zeros(coordinates.shape[1:], dtype=image.dtype)
        for c in channels
    ]
    return np.stack(sampled).reshape(*image.shape[: image.ndim - ndim], *coordinates.shape[1:])


def draw_deformation(
    rng: np.random.Generator,
    settings: ElasticSettings,
    box: Box,
    resolution: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return where the voxels of a box are read: turned, slanted, zoomed about its centre, moved.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of angles, zoom and jitter.
    settings : ElasticSettings
        Ranges.
    box : Box
        Voxels to compute.
    resolution : ndarray
        Physical size of a voxel per axis; rotation and shear are in physical space.

    Returns
    -------
    ndarray of float32
        Positions in voxels, ``(d, *box.shape)``.
    """
    ndim = len(box.begin)
    angle = np.deg2rad(rng.uniform(settings.rotation_min, settings.rotation_max))
    matrix = np.eye(ndim)
    matrix[-2:, -2:] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    if settings.shear != (0, 0):
        slant = np.eye(ndim)
        slant[-1, -2] = np.tan(np.deg2rad(rng.uniform(*settings.shear)))
        matrix = matrix @ slant
    matrix = matrix * resolution[np.newaxis, :] / resolution[:, np.newaxis]
    matrix = matrix / rng.uniform(*settings.zoom)
    centre = np.array([(b + e - 1) / 2 for b, e in zip(box.begin, box.end, strict=True)])
    axes = [
        (np.arange(b, e) - c).astype(np.float32)
        for b, e, c in zip(box.begin, box.end, centre, strict=True)
    ]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = np.empty((ndim, *box.shape), dtype=np.float32)
    for row in range(ndim):
        field[row] = sum(np.float32(matrix[row, k]) * grid[k] for k in range(ndim))
        field[row] += np.float32(centre[row])
    spacing = per_axis(settings.control_point_spacing, ndim)
    for row, sigma in enumerate(per_axis(settings.jitter_sigma, ndim)):
        if sigma > 0:
            field[row] += smooth_noise(rng, box.shape, spacing) * np.float32(sigma)
    return field


def undeformed(box: Box) -> NDArray[np.float32]:
    """Return where every voxel of a box is read if nothing moves, ``(d, *box.shape)``."""
    begin = np.array(box.begin, np.float32).reshape(-1, *(1,) * len(box.begin))
    return np.indices(box.shape, dtype=np.float32) + begin


def draw_misalignment(
    rng: np.random.Generator, settings: MisalignmentSettings, sections: int
) -> NDArray[np.float32]:
    """Return how far beside its place every section is read, in voxels, ``(sections, 2)``.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of section, direction and kind.
    settings : MisalignmentSettings
        Kind and greatest movement.
    sections : int
        How many there are.

    Returns
    -------
    ndarray of float32
        Whole numbers for y and x: 0 but for one section, or for all from one section on. A single
        section stays where it is.

    Notes
    -----
    Faults of serial sections, as simulated by Lee et al. 2017 (arXiv:1706.00120).
    """
    moved = np.zeros((sections, 2), np.float32)
    if sections < 2:
        return moved
    first = int(rng.integers(1, sections))
    kind = settings.kind
    if kind == "either":
        kind = "one_section" if rng.random() < 0.5 else "from_section"
    last = first + 1 if kind == "one_section" else sections
    moved[first:last] = rng.integers(-settings.max_shift, settings.max_shift + 1, 2)
    return moved


def per_axis(values: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Return one value per axis; a single one counts for all."""
    if len(values) == 1:
        return values * ndim
    if len(values) != ndim:
        raise DataError(
            f"[training.augmentation.elastic]: expected 1 or {ndim} numbers in"
            f" control_point_spacing and jitter_sigma (data.ndim = {ndim}), found {list(values)}"
        )
    return values


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[int]
) -> NDArray[np.float32]:
    """Return standard normal values at control points, interpolated smoothly to every voxel.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the values.
    shape : sequence of int
        Voxels per axis.
    spacing : sequence of int
        Voxels between control points per axis.

    Returns
    -------
    ndarray of float32
        Array of `shape`.

    Notes
    -----
    Cubic interpolation through the points (Catmull and Rom 1974), axis by axis.
    """
    weights = [_cubic_weights(n, s) for n, s in zip(shape, spacing, strict=True)]
    values = rng.standard_normal([w.shape[1] for w in weights]).astype(np.float32)
    for axis, weight in enumerate(weights):
        lines = np.moveaxis(values, axis, 0)
        # einsum, not matmul: for so little work BLAS threads cost more than they save.
        mixed = np.einsum("ij,jk->ik", weight, lines.reshape(len(lines), -1))
        values = np.moveaxis(mixed.reshape(len(mixed), *lines.shape[1:]), 0, axis)
    return values


def _cubic_weights(size: int, spacing: int) -> NDArray[np.float32]:
    """Return ``(size, points)``: how much each control point of an axis counts at each voxel."""
    position = np.arange(size) / spacing
    left = position.astype(int)
    t = position - left
    # The points lie at -1, 0, 1, 2 around the interval [0, 1] that t is in.
    columns = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    weights = np.zeros((size, int(left[-1]) + 4), dtype=np.float32)
    for k, column in enumerate(columns):
        weights[np.arange(size), left + k] = column
    return weights
