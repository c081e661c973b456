"""Where the voxels of a patch lie, and how pairs of voxels are numbered.

Everything below this package's public functions is 3-D; 2-D arrays get a z axis of length one.

A pair ``(p, q)`` with ``q`` after ``p`` in raster order needs one number, the same in every patch
that sees both. Lay the patch out in rows as wide as the window of pairs (``2 P - 1``), zero in
between; here a 1-D-like patch of 3 in rows of 5, and a 3x3 patch::

      . . . . .         0  1  2  .  .
      0 1 2 . .         5  6  7  .  .
                       10 11 12

Then ``flat(q) - flat(p)`` depends on ``q - p`` alone, differs for different ``q - p``, and runs
from 1 to ``flat(last voxel)``: exactly one number per half of the window. All pairs of ``p`` in one
patch are one contiguous run, ``patch[flat(p):]``, which is what the kernels stream over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instaseg.errors import DataError
from instaseg.methods.patches.config import LONGEST


@dataclass(frozen=True)
class Window:
    """The voxels of a patch in 3-D and the numbers of their pairs.

    Parameters
    ----------
    shape : (3,) tuple of int
        Sides of the patch in voxels, odd; the first is 1 for 2-D data.
    """

    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Number of voxels of a patch, `K`."""
        return math.prod(self.shape)

    @property
    def radius(self) -> tuple[int, int, int]:
        """Voxels from the centre to the patch's border, per axis."""
        z, y, x = self.shape
        return z // 2, y // 2, x // 2

    @property
    def strides(self) -> tuple[int, int, int]:
        """Steps of the flat pair number for one voxel along each axis."""
        _, y, x = self.shape
        return (2 * y - 1) * (2 * x - 1), 2 * x - 1, 1

    @property
    def length(self) -> int:
        """Numbers of pairs, 0 (a voxel with itself) included."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    def offsets(self) -> NDArray[np.int64]:
        """Return ``(K, 3)`` offsets of the patch's voxels from its centre, in raster order."""
        grid = np.indices(self.shape).reshape(3, -1).T
        return np.ascontiguousarray(grid - np.array(self.radius), dtype=np.int64)

    def flat(self) -> NDArray[np.int64]:
        """Return ``(K,)`` flat positions of the patch's voxels, in raster order."""
        strides = np.array(self.strides, dtype=np.int64)
        return np.asarray((self.offsets() + np.array(self.radius)) @ strides, dtype=np.int64)

    def pair(self, offset: Sequence[int]) -> int:
        """Return the number of the pair ``(p, p + offset)``; negative where `p` comes second."""
        return sum(o * s for o, s in zip(offset, self.strides, strict=True))


def window(patch_shape: Sequence[int]) -> Window:
    """Return the window of a patch of 2 or 3 odd sides.

    Raises
    ------
    DataError
        If a side is even, not positive, or there are not 2 or 3 of them.
    """
    sides = tuple(int(side) for side in patch_shape)
    if len(sides) not in (2, 3) or any(side < 1 or side % 2 == 0 for side in sides):
        raise DataError(
            f"patch_shape must be two or three odd sides in voxels; got {sides}: "
            "choose odd sides such as (25, 25)"
        )
    if max(sides) > LONGEST:
        raise DataError(
            f"patch_shape must have sides of at most {LONGEST} voxels; got {sides}: use smaller "
            "patches, or images of lower resolution"
        )
    z, y, x = (1,) * (3 - len(sides)) + sides
    return Window((z, y, x))


def lift(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Return a view of `array` with a z axis of length one before y and x if `ndim` is 2."""
    return np.expand_dims(array, -3) if ndim == 2 else array


def drop_flat_axis(patch_shape: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return `patch_shape` without a leading 1 where the data are 2-D."""
    sides = tuple(int(side) for side in patch_shape)
    return sides[1:] if len(sides) == 3 and ndim == 2 and sides[0] == 1 else sides


def complete(shape: Sequence[int], radius: Sequence[int]) -> NDArray[np.bool_]:
    """Return where a patch lies inside a volume of `shape`: at least `radius` from every face."""
    mask = np.zeros(tuple(shape), dtype=bool)
    mask[
        tuple(
            slice(r, n - r) if n > 2 * r else slice(0) for n, r in zip(shape, radius, strict=True)
        )
    ] = True
    return mask
