"""Boxes, tiles and symmetries on integer grids, in 2-D and 3-D alike.

A block is the box a worker writes; its halo is what it reads around it::

      read   |hhhh|wwwwwwww|hhhh|
      next             |hhhh|wwwwwwww|hhhh|
                       (read boxes overlap, write boxes never do)

Promise: the write boxes of :func:`grid` tile the volume, so every voxel is written exactly once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError

Coordinate = tuple[int, ...]


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels ``[begin, end)``; coordinates may lie outside a volume.

    Parameters
    ----------
    begin, end : tuple of int
        First voxel, and the voxel after the last, per axis.
    """

    begin: Coordinate
    end: Coordinate

    @property
    def shape(self) -> Coordinate:
        """Extent in voxels per axis."""
        return tuple(e - b for b, e in zip(self.begin, self.end, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index; only for boxes without negative coordinates."""
        return tuple(slice(b, e) for b, e in zip(self.begin, self.end, strict=True))

    def grow(self, margin: Sequence[int]) -> Box:
        """Return the box extended by `margin` voxels on both sides of each axis."""
        return Box(
            tuple(b - m for b, m in zip(self.begin, margin, strict=True)),
            tuple(e + m for e, m in zip(self.end, margin, strict=True)),
        )

    def shift(self, offset: Sequence[int]) -> Box:
        """Return the box moved by `offset` voxels."""
        return Box(
            tuple(b + o for b, o in zip(self.begin, offset, strict=True)),
            tuple(e + o for e, o in zip(self.end, offset, strict=True)),
        )

    def relative_to(self, other: Box) -> Box:
        """Return the box as seen from the first voxel of another one.

        Examples
        --------
        >>> Box((5, 2), (7, 4)).relative_to(Box((4, 0), (9, 9)))
        Box(begin=(1, 2), end=(3, 4))
        """
        return self.shift([-b for b in other.begin])

    def intersect(self, other: Box) -> Box:
        """Return the common part; its shape has a zero where the boxes do not meet."""
        begin = tuple(max(a, b) for a, b in zip(self.begin, other.begin, strict=True))
        end = tuple(min(a, b) for a, b in zip(self.end, other.end, strict=True))
        return Box(begin, tuple(max(b, e) for b, e in zip(begin, end, strict=True)))


def voxel_sides(spacing: Sequence[float] | NDArray[Any] | None, ndim: int) -> tuple[float, ...]:
    """Return the size of a voxel along each axis; 1 where none is given.

    Raises
    ------
    DataError
        If it is not a number above 0 for each axis.
    """
    sides = (1.0,) * ndim if spacing is None else tuple(map(float, spacing))
    if len(sides) != ndim or not all(0 < side < math.inf for side in sides):
        raise DataError(
            f"spacing: expected {ndim} numbers above 0, one for each axis, found {list(sides)}"
        )
    return sides


def whole(shape: Sequence[int]) -> Box:
    """Return the box of a volume of `shape`."""
    return Box((0,) * len(shape), tuple(shape))


def box_of(index: Sequence[slice], shape: Sequence[int]) -> Box:
    """Return the box that one slice per axis, without steps, means in a volume of `shape`.

    It lies in the volume, as with numpy; a slice that ends before it begins is empty.

    Examples
    --------
    >>> box_of((slice(1, 3), slice(None), slice(-2, 9), slice(4, 2)), (5, 6, 7, 8))
    Box(begin=(1, 0, 5, 4), end=(3, 6, 7, 4))
    """
    ranges = [part.indices(n) for part, n in zip(index, shape, strict=True)]
    return Box(tuple(b for b, _, _ in ranges), tuple(max(b, e) for b, e, _ in ranges))


def bounding_box(places: Iterable[NDArray[np.integer]]) -> Box:
    """Return the smallest box that holds some voxels.

    Parameters
    ----------
    places : iterable of ndarray of int, (n,)
        Their indices along each axis, as ``numpy.nonzero`` gives them; at least one voxel.

    Examples
    --------
    >>> bounding_box(np.nonzero(np.array([[0, 0, 1, 0], [0, 1, 0, 0]])))
    Box(begin=(0, 1), end=(2, 3))
    """
    ends = [(int(axis.min()), int(axis.max()) + 1) for axis in places]
    return Box(tuple(begin for begin, _ in ends), tuple(end for _, end in ends))


def grid(box: Box, block_shape: Sequence[int]) -> Iterator[Box]:
    """Yield the blocks that tile `box`, in raster order; the last ones of an axis are cut.

    Parameters
    ----------
    box : Box
        What is to be covered.
    block_shape : sequence of int
        Shape of a whole block in voxels, positive.

    Yields
    ------
    Box
        Write boxes, disjoint, whose union is `box`.
    """
    starts = [range(b, e, s) for b, e, s in zip(box.begin, box.end, block_shape, strict=True)]
    for begin in itertools.product(*starts):
        end = tuple(min(b + s, e) for b, s, e in zip(begin, block_shape, box.end, strict=True))
        yield Box(begin, end)


def grid_box(box: Box, block_shape: Sequence[int], number: int) -> Box:
    """Return the block of a number, from 0, among those that :func:`grid` yields.

    Examples
    --------
    >>> grid_box(whole((5, 5)), (2, 4), 3)
    Box(begin=(2, 4), end=(4, 5))
    """
    counts = [math.ceil(n / s) for n, s in zip(box.shape, block_shape, strict=True)]
    place = [int(n) for n in np.unravel_index(number, counts)]
    begin = tuple(b + p * s for b, p, s in zip(box.begin, place, block_shape, strict=True))
    end = tuple(min(b + s, e) for b, s, e in zip(begin, block_shape, box.end, strict=True))
    return Box(begin, end)


def grid_size(box: Box, block_shape: Sequence[int]) -> int:
    """Return the number of blocks :func:`grid` yields."""
    return math.prod(math.ceil(n / s) for n, s in zip(box.shape, block_shape, strict=True))


def partners(
    shape: Sequence[int], offset: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return which voxels of an array have one at an offset inside the array, and those others.

    Parameters
    ----------
    shape : sequence of int
        Of the array.
    offset : sequence of int
        The other voxel, seen from the first; in voxels per axis.

    Returns
    -------
    here, there : tuple of slice
        Indices of equal shape, in the same order of voxels; both empty where the offset leads out
        of the array from everywhere.

    Examples
    --------
    >>> line = np.arange(4)
    >>> here, there = partners(line.shape, (1,))
    >>> line[here].tolist(), line[there].tolist()
    ([0, 1, 2], [1, 2, 3])
    >>> here, there = partners(line.shape, (-9,))
    >>> line[here].tolist(), line[there].tolist()
    ([], [])
    """
    image = whole(shape)
    here = image.intersect(image.shift([-o for o in offset]))
    return here.slices, here.shift(offset).slices


def reflected_indices(begin: int, end: int, size: int) -> NDArray[np.intp]:
    """Return the indices into an axis of `size` voxels that ``[begin, end)`` shows when mirrored.

    Mirroring is that of ``numpy.pad(mode="reflect")``: the border voxel is not repeated. An axis
    of one voxel repeats it.

    Examples
    --------
    >>> reflected_indices(-2, 5, 3).tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    index = np.arange(begin, end)
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index)


@dataclass(frozen=True)
class Symmetry:
    """A flip and permutation of spatial axes: first axes are permuted, then flipped.

    Parameters
    ----------
    permutation : tuple of int
        ``numpy.transpose`` argument for the spatial axes.
    flips : tuple of bool
        Whether each axis, after the permutation, is reversed.
    """

    permutation: Coordinate
    flips: tuple[bool, ...]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of `array`, whose last axes are the spatial ones, turned."""
        lead = array.ndim - len(self.permutation)
        axes = (*range(lead), *(lead + p for p in self.permutation))
        index = (slice(None),) * lead + tuple(slice(None, None, -1 if f else 1) for f in self.flips)
        return array.transpose(axes)[index]

    def turn_vectors(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return vectors ``(ndim, ..., [z,] y, x)`` as they are in the turned image.

        They move with the image, and their components change place and sign.
        """
        moved = self.apply(vectors)[list(self.permutation)]
        signs = np.where(self.flips, -1, 1).astype(vectors.dtype)
        turned: NDArray[Any] = moved * signs.reshape(-1, *(1,) * (vectors.ndim - 1))
        return turned

    def inverse(self) -> Symmetry:
        """Return the symmetry that undoes this one."""
        back = tuple(int(i) for i in np.argsort(self.permutation))
        return Symmetry(back, tuple(self.flips[p] for p in back))


def identity(ndim: int) -> Symmetry:
    """Return the symmetry that changes nothing."""
    return Symmetry(tuple(range(ndim)), (False,) * ndim)


def flips(ndim: int) -> list[Symmetry]:
    """Return all ``2^ndim`` combinations of flips, the identity first."""
    return [
        Symmetry(tuple(range(ndim)), choice)
        for choice in itertools.product((False, True), repeat=ndim)
    ]


def plane_rotations_and_flips(ndim: int) -> list[Symmetry]:
    """Return the 8 symmetries of the last two axes (z is left alone), the identity first."""
    lead = tuple(range(ndim - 2))
    return [
        Symmetry((*lead, *plane), (*(False for _ in lead), *choice))
        for plane in ((ndim - 2, ndim - 1), (ndim - 1, ndim - 2))
        for choice in itertools.product((False, True), repeat=2)
    ]
