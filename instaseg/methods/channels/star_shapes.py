"""Instances from rays: star shapes, of which the less probable one of two that overlap is dropped.

A voxel's rays end at the corners of a polygon, or of a polyhedron whose faces are those of the
convex hull of the directions. A voxel lies in the shape if it lies in one of the simplices that the
middle forms with the faces::

    rays at candidates --corners--> shapes --drop overlapping, best first--> paint, best on top

U. Schmidt et al., Cell detection with star-convex polygons, MICCAI 2018, arXiv:1806.03535;
M. Weigert et al., Star-convex polyhedra for 3D object detection, WACV 2020, arXiv:1908.03636.
There, overlap is measured against the smaller shape; here as intersection over union of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from instaseg.methods.channels.targets_rays import directions

_SLACK = 1e-4
"""Voxels on the surface of a shape are part of it."""


@dataclass(frozen=True)
class Shapes:
    """Star shapes, the most probable first.

    Parameters
    ----------
    middles : ndarray of int64, (n, 3)
        Voxels; z is 0 in images.
    scores : ndarray of float32, (n,)
        Descending; equal ones by raster order of the middles.
    corners : ndarray of float32, (n, rays, 3)
        Seen from the middle, in voxels.
    faces : ndarray of int64, (m, 3)
        Corners of each face of the surface; in images two, and -1.
    """

    middles: NDArray[np.int64]
    scores: NDArray[np.float32]
    corners: NDArray[np.float32]
    faces: NDArray[np.int64]


def shapes_at(
    chosen: NDArray[np.bool_],
    score: NDArray[np.float32],
    rays: NDArray[np.floating],
    spacing: Sequence[float],
) -> Shapes:
    """Return the star shapes of some voxels, the most probable first.

    Parameters
    ----------
    chosen : ndarray of bool, ([z,] y, x)
        Voxels that may be middles.
    score : ndarray of float32, ([z,] y, x)
        Which shapes are better.
    rays : ndarray of float, (number, [z,] y, x)
        Distance to the border along each of :func:`~.targets_rays.directions`, in physical units.
    spacing : sequence of float
        Size of a voxel along each axis, in physical units.
    """
    ndim = chosen.ndim
    places = np.flatnonzero(chosen)
    scores = score.reshape(-1)[places].astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    places, scores = places[order], scores[order]
    middles = np.zeros((len(places), 3), np.int64)
    middles[:, 3 - ndim :] = np.stack(np.unravel_index(places, chosen.shape), axis=1)
    number = len(rays)
    lengths = np.maximum(rays.reshape(number, -1)[:, places].T.astype(np.float32), 0)
    units = directions(number, ndim) / np.array(spacing)
    corners = np.zeros((len(places), number, 3), np.float32)
    corners[:, :, 3 - ndim :] = lengths[:, :, None] * units
    return Shapes(middles, scores, corners, faces_of(number, ndim))


def faces_of(number: int, ndim: int) -> NDArray[np.int64]:
    """Return the faces between directions: neighbours in a circle, or triangles on a sphere.

    Examples
    --------
    >>> faces_of(3, 2).tolist()
    [[0, 1, -1], [1, 2, -1], [2, 0, -1]]
    """
    if ndim == 2:
        first = np.arange(number)
        return np.stack([first, (first + 1) % number, np.full(number, -1)], axis=1)
    from scipy.spatial import ConvexHull

    found: NDArray[np.int64] = ConvexHull(directions(number, 3)).simplices.astype(np.int64)
    return np.ascontiguousarray(found)


def drop_overlapping(shapes: Shapes, shape: Sequence[int], most: float) -> Shapes:
    """Return the shapes that remain when each drops those after it which overlap it too much.

    Parameters
    ----------
    shapes : Shapes
        The best first.
    shape : sequence of int
        Of the image, ``([z,] y, x)``: what lies outside does not count.
    most : float
        Intersection over union, in voxels, above which two shapes are one instance.
    """
    kept = _suppress(shapes.middles, shapes.corners, shapes.faces, _lifted(shape), most)
    return Shapes(shapes.middles[kept], shapes.scores[kept], shapes.corners[kept], shapes.faces)


def paint(shapes: Shapes, shape: Sequence[int]) -> NDArray[np.int32]:
    """Return labels 1, 2, 3 ... of shapes in their order; the better one is on top.

    Parameters
    ----------
    shapes : Shapes
        The best first.
    shape : sequence of int
        Of the labels, ``([z,] y, x)``.
    """
    labels = np.zeros(_lifted(shape), np.int32)
    _paint(shapes.middles, shapes.corners, shapes.faces, labels)
    return labels.reshape(tuple(shape))


def bounding_boxes(shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first voxels of shapes and those after the last, per axis, ``(n, 3)``.

    They may lie outside the image.
    """
    corners = shapes.corners.astype(np.float64)
    low = np.ceil(corners.min(axis=1, initial=0) - _SLACK).astype(np.int64)
    high = np.floor(corners.max(axis=1, initial=0) + _SLACK).astype(np.int64)
    return shapes.middles + low, shapes.middles + high + 1


def _lifted(shape: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (1,) * (3 - len(shape)) + tuple(shape)
    return z, y, x


@nb.njit(cache=True, nogil=True)
def _suppress(middles: Any, corners: Any, faces: Any, shape: Any, most: float) -> Any:
    """Return which shapes are kept."""
    n = len(middles)
    kept = np.zeros(n, np.bool_)
    boxes = np.empty((n, 6), np.int64)
    begins = np.empty(n + 1, np.int64)
    begins[0] = 0
    voxels = np.empty(1024, np.int64)
    accepted = 0
    for i in range(n):
        box = _box(middles[i], corners[i], shape)
        buffer = _fill(middles[i], corners[i], faces, box)
        size = buffer.sum()
        if size == 0 or _is_covered(
            buffer, box, size, boxes, begins, voxels, accepted, shape, most
        ):
            continue
        kept[i] = True
        begin = begins[accepted]
        while begin + size > len(voxels):
            larger = np.empty(2 * len(voxels), np.int64)
            larger[:begin] = voxels[:begin]
            voxels = larger
        begins[accepted + 1] = _list(buffer, box, shape, voxels, begin)
        boxes[accepted] = box
        accepted += 1
    return kept


@nb.njit(cache=True, nogil=True)
def _is_covered(
    buffer: Any,
    box: Any,
    size: int,
    boxes: Any,
    begins: Any,
    voxels: Any,
    accepted: int,
    shape: Any,
    most: float,
) -> bool:
    """Return whether a shape overlaps one of the accepted ones too much."""
    _, height, width = shape
    for k in range(accepted):
        other = boxes[k]
        apart = False
        for axis in range(3):
            if other[axis] >= box[3 + axis] or other[3 + axis] <= box[axis]:
                apart = True
        if apart:
            continue
        shared = 0
        for at in range(begins[k], begins[k + 1]):
            x = voxels[at] % width - box[2]
            rest = voxels[at] // width
            y, z = rest % height - box[1], rest // height - box[0]
            if (
                0 <= z < buffer.shape[0]
                and 0 <= y < buffer.shape[1]
                and 0 <= x < buffer.shape[2]
                and buffer[z, y, x]
            ):
                shared += 1
        if shared > most * (size + begins[k + 1] - begins[k] - shared):
            return True
    return False


@nb.njit(cache=True, nogil=True)
def _list(buffer: Any, box: Any, shape: Any, voxels: Any, at: int) -> int:
    """Append a shape's voxels, as indices into the flattened image; return where they end."""
    for z in range(buffer.shape[0]):
        for y in range(buffer.shape[1]):
            for x in range(buffer.shape[2]):
                if buffer[z, y, x]:
                    row = (z + box[0]) * shape[1] + y + box[1]
                    voxels[at] = row * shape[2] + x + box[2]
                    at += 1
    return at


@nb.njit(cache=True, nogil=True)
def _paint(middles: Any, corners: Any, faces: Any, labels: Any) -> None:
    for i in range(len(middles)):
        box = _box(middles[i], corners[i], labels.shape)
        buffer = _fill(middles[i], corners[i], faces, box)
        for z in range(buffer.shape[0]):
            for y in range(buffer.shape[1]):
                for x in range(buffer.shape[2]):
                    if buffer[z, y, x] and labels[z + box[0], y + box[1], x + box[2]] == 0:
                        labels[z + box[0], y + box[1], x + box[2]] = i + 1


@nb.njit(cache=True, nogil=True)
def _box(middle: Any, corners: Any, shape: Any) -> Any:
    """Return the first voxel and the one after the last of a shape's bounding box."""
    box = np.empty(6, np.int64)
    for axis in range(3):
        low, high = 0.0, 0.0
        for k in range(len(corners)):
            low, high = min(low, corners[k, axis]), max(high, corners[k, axis])
        box[axis] = max(0, middle[axis] + int(np.ceil(low - _SLACK)))
        box[3 + axis] = min(shape[axis], middle[axis] + int(np.floor(high + _SLACK)) + 1)
    return box


@nb.njit(cache=True, nogil=True)
def _fill(middle: Any, corners: Any, faces: Any, box: Any) -> Any:
    """Return which voxels of a box lie in a shape."""
    buffer = np.zeros((box[3] - box[0], box[4] - box[1], box[5] - box[2]), np.bool_)
    for f in range(len(faces)):
        if faces[f, 2] < 0:
            _fill_triangle(buffer, box, middle, corners[faces[f, 0]], corners[faces[f, 1]])
        else:
            _fill_tetrahedron(
                buffer,
                box,
                middle,
                corners[faces[f, 0]],
                corners[faces[f, 1]],
                corners[faces[f, 2]],
            )
    return buffer


@nb.njit(cache=True, nogil=True, inline="always")
def _span(box: Any, middle: Any, axis: int, a: float, b: float, c: float) -> Any:
    """Return the voxels of a box, along an axis, that a simplex may reach; in the buffer."""
    low, high = min(0.0, a, b, c), max(0.0, a, b, c)
    first = max(box[axis], middle[axis] + int(np.ceil(low - _SLACK))) - box[axis]
    last = min(box[3 + axis], middle[axis] + int(np.floor(high + _SLACK)) + 1) - box[axis]
    return first, last


@nb.njit(cache=True, nogil=True)
def _fill_triangle(buffer: Any, box: Any, middle: Any, a: Any, b: Any) -> None:
    """Set the voxels of a triangle between the middle and two corners, in the plane z = 0."""
    area = a[1] * b[2] - a[2] * b[1]
    first_y, last_y = _span(box, middle, 1, a[1], b[1], 0.0)
    first_x, last_x = _span(box, middle, 2, a[2], b[2], 0.0)
    thin = abs(area) < 1e-12
    for j in range(first_y, last_y):
        y = j + box[1] - middle[1]
        for i in range(first_x, last_x):
            x = i + box[2] - middle[2]
            if thin:
                inside = x == 0 and y == 0
            else:
                s, t = (y * b[2] - x * b[1]) / area, (a[1] * x - a[2] * y) / area
                inside = s >= -_SLACK and t >= -_SLACK and s + t <= 1 + _SLACK
            if inside:
                buffer[0, j, i] = True


@nb.njit(cache=True, nogil=True)
def _fill_tetrahedron(buffer: Any, box: Any, middle: Any, a: Any, b: Any, c: Any) -> None:
    """Set the voxels of a tetrahedron between the middle and three corners."""
    # rows of the inverse of the matrix with columns a, b, c, times its determinant
    bc0, bc1, bc2 = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
    ca0, ca1, ca2 = c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0]
    ab0, ab1, ab2 = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    volume = a[0] * bc0 + a[1] * bc1 + a[2] * bc2
    first_z, last_z = _span(box, middle, 0, a[0], b[0], c[0])
    first_y, last_y = _span(box, middle, 1, a[1], b[1], c[1])
    first_x, last_x = _span(box, middle, 2, a[2], b[2], c[2])
    thin = abs(volume) < 1e-12
    for k in range(first_z, last_z):
        z = k + box[0] - middle[0]
        for j in range(first_y, last_y):
            y = j + box[1] - middle[1]
            for i in range(first_x, last_x):
                x = i + box[2] - middle[2]
                if thin:
                    inside = x == 0 and y == 0 and z == 0
                else:
                    s = (z * bc0 + y * bc1 + x * bc2) / volume
                    t = (z * ca0 + y * ca1 + x * ca2) / volume
                    u = (z * ab0 + y * ab1 + x * ab2) / volume
                    inside = (
                        s >= -_SLACK and t >= -_SLACK and u >= -_SLACK and s + t + u <= 1 + _SLACK
                    )
                if inside:
                    buffer[k, j, i] = True
